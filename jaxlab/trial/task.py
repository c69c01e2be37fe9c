"""A supervised task and the state of its trials."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax
from flax import nnx

from jaxlab.metrics import Metric, SetMetric
from jaxlab.settings import Binder
from jaxlab.trial.protocol import PyTree

#: Precisions of products of float32 arrays, on devices that offer a choice.
PRECISIONS = ("default", "tensorfloat32", "float32")


class Supervised(NamedTuple):
    """A supervised task, from which `supervised` builds a trial; every field is static.

    Attributes:
        model: ``(configuration, hyperparameters, rngs) -> nnx.Module`` whose call returns outputs ``[B, K]`` or
            ``(outputs, activations)``, the latter a dict from a layer's name to its post-activations ``[B, ..., U]``.
        optimizer: ``(configuration, hyperparameters) -> optax.GradientTransformation``, called while tracing.
        loss: ``(outputs, targets) -> [B]``; further parameters are settings by name, as for metrics.
        metrics: metrics by name.
        diagnostics: additional functions ``(outputs, activations, targets) -> array`` on a probe set, by name.
        augment: ``(key, inputs) -> inputs``, or None.
        convolution: lowering of the model's convolutions, see `jaxlab.models.use_fast_convolutions`.
        precision: precision of products of float32 arrays, one of `PRECISIONS`; "default" is the choice of JAX.
        batch_size: examples per step.
        microbatch: examples whose gradient is computed at once, a divisor of ``batch_size``; None means all of them, or
            as many as fit in the cache if ``separable``.
        separable: whether neither model nor loss couples the examples of a minibatch, except through the model's state.
        evaluation_batch_size: examples evaluated at once; if None, see `evaluation_size`.
        data_seed: seed of the minibatch order.
        own_order: whether each trial has a separate minibatch order, derived from its seed.
        step_losses: whether to record the loss of every step.
        update_cosine: whether to record angles of consecutive updates, which needs one more copy of the weights.
        flat_zero: whether units can die, i.e. the activation is exactly zero on an interval.
        dormant_threshold: τ of the dormant units.
        probe: number of training examples for ``diagnostics``.
        keep: weights to keep: "none", "last", or "best" (also those of the best epoch, one more copy of the weights).
    """

    model: Callable[..., nnx.Module]
    optimizer: Callable[..., optax.GradientTransformation]
    loss: Callable[..., jax.Array]
    metrics: Mapping[str, Metric | SetMetric]
    diagnostics: Mapping[str, Callable[..., jax.Array]] = {}
    augment: Callable[..., jax.Array] | None = None
    convolution: str = "auto"
    precision: str = "default"
    batch_size: int = 64
    microbatch: int | None = None
    separable: bool = False
    evaluation_batch_size: int | None = None
    data_seed: int = 0
    own_order: bool = False
    step_losses: bool = False
    update_cosine: bool = False
    flat_zero: bool = True
    dormant_threshold: float = 0.025
    probe: int = 256
    keep: str = "none"

    def bound(self, bind: Binder) -> "Supervised":
        """Fix the settings that loss and metrics read by name."""
        metrics = {name: metric.bound(bind) for name, metric in self.metrics.items()}
        return self._replace(loss=bind(self.loss, 2), metrics=metrics)


class State(NamedTuple):
    """State of one trial. ``rest`` is the model's state except parameters; ``dead`` masks the dead units by layer."""

    parameters: PyTree
    rest: PyTree
    optimizer: PyTree
    step: Any
    dead: dict[str, Any]
    last_update: PyTree
