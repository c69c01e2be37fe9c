"""Losses and metrics: one value per example of a batch.

``B`` is the batch size, ``K`` the number of network outputs. Every function returns ``values_B``, so that the
caller can mask the padding of a remainder batch before averaging. Arithmetic is in float32 or wider, whatever
the dtype of the outputs.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.errors import InputError


class Metric(NamedTuple):
    """A metric of a set of examples: ``finish(mean over examples of example(outputs, targets))``.

    Attributes:
        example: ``(outputs, targets) -> values_B``.
        finish: maps the mean over the set to the metric's value, e.g. a root; pure JAX.
        units: units of the value; ``"1"`` for a fraction.
        better: which direction is better, ``"higher"`` or ``"lower"``.
    """

    example: Callable
    finish: Callable
    units: str
    better: str


def cross_entropy(outputs_BxK: ArrayLike, labels_B: ArrayLike) -> jax.Array:
    """``-log softmax(outputs)[label]`` in nats, stable for logits of any size.

    Its gradient is softmax - one-hot. A label outside 0..K-1 gives NaN instead of another class's loss.

    Args:
        outputs_BxK: logits.
        labels_B: integer labels.

    Raises:
        InputError: the shapes are not [B, K] and [B], or the labels are not integers.
    """
    outputs_BxK, labels_B = _classes(outputs_BxK, labels_B)
    is_label_BxK = labels_B[:, None] == jnp.arange(outputs_BxK.shape[1])[None, :]
    log_likelihood_BxK = jax.nn.log_softmax(outputs_BxK, axis=-1)
    # A sum over one selected entry: unlike a gather's, its gradient needs no scatter.
    values_B = -jnp.sum(jnp.where(is_label_BxK, log_likelihood_BxK, 0), axis=-1)
    return jnp.where(jnp.any(is_label_BxK, axis=-1), values_B, jnp.nan)


def mse(outputs_BxK: ArrayLike, targets_BxK: ArrayLike) -> jax.Array:
    """Mean over K of ``error²``, without a factor ½, in the targets' units squared.

    Raises:
        InputError: outputs and targets differ in shape.
    """
    return _mean_outputs(jnp.square(_error(outputs_BxK, targets_BxK)))


def mae(outputs_BxK: ArrayLike, targets_BxK: ArrayLike) -> jax.Array:
    """Mean over K of ``|error|``, in the targets' units; the derivative at an error of 0 is 0.

    Raises:
        InputError: outputs and targets differ in shape.
    """
    error = _error(outputs_BxK, targets_BxK)
    # JAX differentiates abs to 1 at 0.
    return _mean_outputs(error * jax.lax.stop_gradient(jnp.sign(error)))


def huber(outputs_BxK: ArrayLike, targets_BxK: ArrayLike, delta: ArrayLike = 1.0) -> jax.Array:
    """Mean over K of ``½error²`` where |error| <= delta, ``delta·(|error| - ½delta)`` beyond (Huber, 1964).

    The form with ½, as in Optax and PyTorch: half of `mse` for small errors.

    Args:
        outputs_BxK: predictions.
        targets_BxK: targets.
        delta: where the parabola turns into a line, in the targets' units; > 0, may be traced.

    Raises:
        InputError: outputs and targets differ in shape, or ``delta`` is not traced and not > 0.
    """
    if not isinstance(delta, jax.core.Tracer) and not delta > 0:
        raise InputError("delta", delta, "give a number > 0")
    error = _error(outputs_BxK, targets_BxK)
    clipped = jnp.clip(error, -delta, delta)
    return _mean_outputs(clipped * (error - clipped / 2))


def _correct(outputs_BxK: ArrayLike, labels_B: ArrayLike) -> jax.Array:
    """1 if the largest output is that of the label (ties: the first), else 0; 0 if any output is not finite."""
    outputs_BxK, labels_B = _classes(outputs_BxK, labels_B)
    right_B = jnp.argmax(outputs_BxK, axis=-1) == labels_B
    # argmax takes a NaN for the largest entry, so that a diverged network would score by chance.
    finite_B = jnp.all(jnp.isfinite(outputs_BxK), axis=-1)
    return (right_B & finite_B).astype(outputs_BxK.dtype)


def _identity(mean: ArrayLike) -> jax.Array:
    return jnp.asarray(mean)


accuracy = Metric(_correct, _identity, "1", "higher")
mean_absolute_error = Metric(mae, _identity, "units of the targets", "lower")
root_mean_squared_error = Metric(mse, jnp.sqrt, "units of the targets", "lower")

LOSSES = {"cross_entropy": cross_entropy, "mse": mse, "mae": mae, "huber": huber}
METRICS = {"accuracy": accuracy, "mae": mean_absolute_error, "rmse": root_mean_squared_error}


def _classes(outputs_BxK: ArrayLike, labels_B: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Check logits and labels; return the logits in float32 or wider."""
    outputs_BxK, labels_B = _float(outputs_BxK), jnp.asarray(labels_B)
    if not jnp.issubdtype(labels_B.dtype, jnp.integer):
        remedy = "give integer class labels, or use a regression loss"
        raise InputError("targets", labels_B.dtype.name, remedy)
    if outputs_BxK.ndim != 2 or labels_B.shape != outputs_BxK.shape[:1]:
        shapes = {"outputs": outputs_BxK.shape, "targets": labels_B.shape}
        raise InputError("targets", shapes, "give outputs [B, K] and integer labels [B]")
    return outputs_BxK, labels_B


def _error(outputs_BxK: ArrayLike, targets_BxK: ArrayLike) -> jax.Array:
    outputs_BxK, targets_BxK = _float(outputs_BxK), _float(targets_BxK)
    if outputs_BxK.ndim == 0 or outputs_BxK.shape != targets_BxK.shape:
        shapes = {"outputs": outputs_BxK.shape, "targets": targets_BxK.shape}
        raise InputError("targets", shapes, "give targets of the outputs' shape [B, K]; nothing is broadcast")
    return outputs_BxK - targets_BxK


def _float(values: ArrayLike) -> jax.Array:
    values = jnp.asarray(values)
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def _mean_outputs(values: jax.Array) -> jax.Array:
    return jnp.mean(values, axis=tuple(range(1, values.ndim)))
