"""What a supervised trial is built from, and the state it carries."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax
from flax import nnx

from jaxlab.losses import Metric

#: How exactly products of float32 arrays are computed where a device offers a choice.
PRECISIONS = ("default", "tensorfloat32", "float32")


class Supervised(NamedTuple):
    """What the triple is built from; every field is static.

    Attributes:
        model: ``(configuration, hyperparameters, rngs) -> nnx.Module`` whose call returns outputs ``[B, K]`` or
            ``(outputs, activations)``, the latter a dict from a layer's name to its post-activations ``[B, ..., U]``.
        optimizer: ``(configuration, hyperparameters) -> optax.GradientTransformation``, called while tracing.
        loss: ``(outputs, targets) -> [B]``.
        metrics: by name.
        diagnostics: extra functions ``(outputs, activations, targets) -> array`` of a probe set, by name.
        augment: ``(key, inputs) -> inputs``, or None.
        convolution: how the model's convolutions are lowered, see `jaxlab.models.use_fast_convolutions`.
        precision: of products of float32 arrays, one of `PRECISIONS`; "default" is what JAX and the device take.
        batch_size: examples per step.
        microbatch: examples whose gradient is computed at once, a divisor of batch_size; None is all of them, or as
            many as cache allows if ``separable``.
        separable: neither model nor loss couples the examples of a minibatch, the model's state aside.
        evaluation_batch_size: examples evaluated at once; None: see `evaluation_size`.
        data_seed: seed of the minibatch order.
        own_order: each trial has its own order, from its seed.
        step_losses: record the loss of every step.
        update_cosine: record the share of consecutive updates at an obtuse angle (keeps one more copy of the weights).
        flat_zero: units can die: the activation is exactly zero on a whole interval.
        dormant_threshold: τ of the dormant units.
        probe: number of training examples that the extra diagnostics see.
        keep: weights to keep: "none", "last", or "best" (the best epoch's too, which takes one more copy of them).
    """

    model: Callable[..., nnx.Module]
    optimizer: Callable[..., optax.GradientTransformation]
    loss: Callable[..., jax.Array]
    metrics: Mapping[str, Metric]
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


class State(NamedTuple):
    """One trial's state. ``rest`` is the model's state other than parameters; ``dead`` remembers who was dead."""

    parameters: Any
    rest: Any
    optimizer: Any
    step: Any
    dead: dict[str, Any]
    last_update: Any
