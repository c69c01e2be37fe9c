"""Losses: one value per example of a batch.

``B`` is the batch size, ``K`` the number of network outputs. Every function returns ``values_B``, so that the
caller can mask the padding of a remainder batch before averaging. Arithmetic is in float32 or wider, whatever
the dtype of the outputs.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.errors import InputError


def cross_entropy(
    outputs_BxK: ArrayLike, labels_B: ArrayLike, label_smoothing: ArrayLike | None = None
) -> jax.Array:
    """``-log softmax(outputs)[label]`` in nats, stable for logits of any size.

    Its gradient is softmax - one-hot. A label outside 0..K-1 gives NaN instead of another class's loss.

    With label smoothing ε, ``-sum_k q_k log softmax(outputs)_k`` where ``q = (1 - ε) one-hot + ε/K`` (Szegedy et al.
    2016).

    Args:
        outputs_BxK: logits.
        labels_B: integer labels.
        label_smoothing: ε in [0, 1), may be traced; None is 0.

    Raises:
        InputError: the shapes are not [B, K] and [B], or the labels are not integers.
    """
    log_likelihood_BxK, values_B = _log_likelihood(outputs_BxK, labels_B)
    if label_smoothing is None:
        return -values_B
    return -(values_B * (1 - label_smoothing) + jnp.mean(log_likelihood_BxK, axis=-1) * label_smoothing)


def focal(outputs_BxK: ArrayLike, labels_B: ArrayLike, gamma: ArrayLike = 2.0) -> jax.Array:
    """``-(1 - p)**gamma log p`` with ``p = softmax(outputs)[label]``.

    Examples that are classified well count less than in `cross_entropy` (Lin et al. 2017), which is ``gamma = 0``.

    Args:
        outputs_BxK: logits.
        labels_B: integer labels.
        gamma: focusing exponent >= 0, may be traced.

    Raises:
        InputError: the shapes are not [B, K] and [B], or the labels are not integers.
    """
    _, log_p_B = _log_likelihood(outputs_BxK, labels_B)
    rest_B = jnp.maximum(-jnp.expm1(log_p_B), jnp.finfo(log_p_B.dtype).tiny)  # a root has no gradient at 0
    return -(rest_B**gamma) * log_p_B


def _log_likelihood(outputs_BxK: ArrayLike, labels_B: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Log-likelihood of each class, and of the label; NaN for a label outside 0..K-1."""
    outputs_BxK, labels_B = check_labels(outputs_BxK, labels_B)
    is_label_BxK = labels_B[:, None] == jnp.arange(outputs_BxK.shape[1])[None, :]
    log_likelihood_BxK = jax.nn.log_softmax(outputs_BxK, axis=-1)
    # A sum over one selected entry: unlike a gather's, its gradient needs no scatter.
    values_B = jnp.sum(jnp.where(is_label_BxK, log_likelihood_BxK, 0), axis=-1)
    return log_likelihood_BxK, jnp.where(jnp.any(is_label_BxK, axis=-1), values_B, jnp.nan)


def mse(outputs_BxK: ArrayLike, targets_BxK: ArrayLike) -> jax.Array:
    """Mean over K of ``error²``, without a factor ½, in the targets' units squared.

    Raises:
        InputError: outputs and targets differ in shape.
    """
    return _mean_outputs(jnp.square(error(outputs_BxK, targets_BxK)))


def mae(outputs_BxK: ArrayLike, targets_BxK: ArrayLike) -> jax.Array:
    """Mean over K of ``|error|``, in the targets' units; the derivative at an error of 0 is 0.

    Raises:
        InputError: outputs and targets differ in shape.
    """
    errors = error(outputs_BxK, targets_BxK)
    # JAX differentiates abs to 1 at 0.
    return _mean_outputs(errors * jax.lax.stop_gradient(jnp.sign(errors)))


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
    errors = error(outputs_BxK, targets_BxK)
    clipped = jnp.clip(errors, -delta, delta)
    return _mean_outputs(clipped * (errors - clipped / 2))


#: Losses of class labels, and of numbers.
OF_LABELS = {"cross_entropy": cross_entropy, "focal": focal}
OF_NUMBERS = {"mse": mse, "mae": mae, "huber": huber}
LOSSES = OF_LABELS | OF_NUMBERS


def check_labels(outputs_BxK: ArrayLike, labels_B: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Check logits and labels; return the logits in float32 or wider."""
    outputs_BxK, labels_B = as_float(outputs_BxK), jnp.asarray(labels_B)
    if not jnp.issubdtype(labels_B.dtype, jnp.integer):
        remedy = "give integer class labels, or use a regression loss"
        raise InputError("targets", labels_B.dtype.name, remedy)
    if outputs_BxK.ndim != 2 or labels_B.shape != outputs_BxK.shape[:1]:
        shapes = {"outputs": outputs_BxK.shape, "targets": labels_B.shape}
        raise InputError("targets", shapes, "give outputs [B, K] and integer labels [B]")
    return outputs_BxK, labels_B


def error(outputs_BxK: ArrayLike, targets_BxK: ArrayLike) -> jax.Array:
    """Outputs minus targets in float32 or wider; raise InputError if their shapes differ."""
    outputs_BxK, targets_BxK = as_float(outputs_BxK), as_float(targets_BxK)
    if outputs_BxK.ndim == 0 or outputs_BxK.shape != targets_BxK.shape:
        shapes = {"outputs": outputs_BxK.shape, "targets": targets_BxK.shape}
        raise InputError("targets", shapes, "give targets of the outputs' shape [B, K]; nothing is broadcast")
    return outputs_BxK - targets_BxK


def as_float(values: ArrayLike) -> jax.Array:
    """Convert to float32, or keep a wider type."""
    values = jnp.asarray(values)
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def _mean_outputs(values: jax.Array) -> jax.Array:
    return jnp.mean(values, axis=tuple(range(1, values.ndim)))
