"""Metrics of a set of examples: a mean of one value per example, or a function of sums over the set.

``B`` is the batch size, ``K`` the number of network outputs. A set is evaluated in batches, the last of which is
padded; the padding counts nowhere. Arithmetic is in float32 or wider, counts are int32. An example with an output that
is not finite is classified wrongly.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxlab.checks import one_of, whole
from jaxlab.losses import as_float, check_labels, error, mae, mse
from jaxlab.settings import Binder

BETTER = ("higher", "lower")
_Function = TypeVar("_Function", bound=Callable)


class Metric(NamedTuple):
    """A metric that is a mean: ``finish(mean over the set of example(outputs, targets))``.

    Attributes:
        example: ``(outputs, targets) -> values_B``.
        better: which direction is better, ``"higher"`` or ``"lower"``.
        units: units of the value; ``"1"`` for a fraction.
        finish: maps the mean over the set to the metric's value, such as a root.
    """

    example: Callable[..., jax.Array]
    better: str
    units: str = "1"
    finish: Callable[[jax.Array], jax.Array] = jnp.asarray

    def bound(self, bind: Binder) -> "Metric":
        """Fix the settings that the metric reads by name, see `jaxlab.settings.binder`."""
        return self._replace(example=bind(self.example, 2))


class SetMetric(NamedTuple):
    """A metric of sums: ``finish`` of a state to which ``update`` adds one batch after the other.

    >>> def specificity(targets):
    ...     def update(sums, outputs, labels, valid):
    ...         negative = valid & (labels == 0)
    ...         right = negative & (outputs.argmax(-1) == 0)
    ...         return sums + jnp.stack([right.sum(), negative.sum()])
    ...
    ...     return SetMetric(lambda: jnp.zeros(2, int), update, lambda sums: sums[0] / sums[1], better="higher")

    Attributes:
        init: ``() -> sums``, any pytree of arrays.
        update: ``(sums, outputs, targets, valid_B) -> sums`` adds the examples of a batch where ``valid_B`` is True;
            the others are padding. Structure, shapes and dtypes stay those of ``init()``.
        finish: ``sums -> value``, with one axis for each entry of ``coordinates``.
        better: which direction is better, ``"higher"`` or ``"lower"``; empty where neither is, as for a matrix.
        units: units of the value; ``"1"`` for a fraction.
        coordinates: labels along the axes of the value, by the axes' names; empty for a number.
    """

    init: Callable[[], Any]
    update: Callable[..., Any]
    finish: Callable[[Any], jax.Array]
    better: str
    units: str = "1"
    coordinates: Mapping[str, Sequence[str]] = {}

    def bound(self, bind: Binder) -> "SetMetric":
        """Fix the settings that the metric reads by name, see `jaxlab.settings.binder`."""
        return self._replace(update=bind(self.update, 4), finish=bind(self.finish, 1))


class Targets(NamedTuple):
    """What a set metric may know of the targets.

    Attributes:
        outputs: number of network outputs, K: classes, or numbers in one target.
        classes: names of the classes; empty for regression.
    """

    outputs: int
    classes: tuple[str, ...] = ()


def better(direction: str, units: str = "1") -> Callable[[_Function], _Function]:
    """Decorate a function ``(outputs, targets) -> values_B`` as a metric that says which direction is better.

    >>> @better("lower")
    ... def brier(outputs, labels):
    ...     return jnp.sum((jax.nn.softmax(outputs) - jax.nn.one_hot(labels, outputs.shape[-1])) ** 2, axis=-1)

    Args:
        direction: ``"higher"`` or ``"lower"``.
        units: units of the metric.

    Raises:
        InputError: ``direction`` is something else.
    """
    one_of("better", direction, BETTER)

    def decorate(function: _Function) -> _Function:
        function.better, function.units = direction, units
        return function

    return decorate


def _correct(outputs_BxK: ArrayLike, labels_B: ArrayLike) -> jax.Array:
    """1 if the largest output is that of the label (ties: the first), else 0; 0 if any output is not finite."""
    outputs_BxK, labels_B = check_labels(outputs_BxK, labels_B)
    right_B = jnp.argmax(outputs_BxK, axis=-1) == labels_B
    # argmax takes a NaN for the largest entry, so that a diverged network would score by chance.
    return (right_B & _finite(outputs_BxK)).astype(outputs_BxK.dtype)


def in_top(outputs_BxK: ArrayLike, labels_B: ArrayLike, k: int) -> jax.Array:
    """1 if fewer than ``k`` outputs are larger than that of the label, or equal and of a lower index; else 0.

    Args:
        outputs_BxK: logits.
        labels_B: integer labels.
        k: number of guesses.
    """
    outputs_BxK, labels_B = check_labels(outputs_BxK, labels_B)
    index_1xK = jnp.arange(outputs_BxK.shape[1])[None, :]
    is_label_BxK = labels_B[:, None] == index_1xK
    own_Bx1 = jnp.sum(jnp.where(is_label_BxK, outputs_BxK, 0), axis=-1, keepdims=True)
    before_BxK = (outputs_BxK > own_Bx1) | ((outputs_BxK == own_Bx1) & (index_1xK < labels_B[:, None]))
    found_B = (jnp.sum(before_BxK, axis=-1) < k) & jnp.any(is_label_BxK, axis=-1)
    return (found_B & _finite(outputs_BxK)).astype(outputs_BxK.dtype)


def top_k_accuracy(k: int) -> Metric:
    """The share of examples whose label is among the ``k`` largest outputs (ties: those of the lowest index)."""
    return Metric(partial(in_top, k=whole("k", k, 1)), "higher")


accuracy = Metric(_correct, "higher")
mean_absolute_error = Metric(mae, "lower", "units of the targets")
root_mean_squared_error = Metric(mse, "lower", "units of the targets", jnp.sqrt)


class Confusion(NamedTuple):
    """Counts of a set: ``pairs_KxK[i, j]`` examples of class i were taken for class j; ``support_K`` per class."""

    pairs_KxK: jax.Array
    support_K: jax.Array


def _of_confusion(
    targets: Targets, finish: Callable[[Confusion], jax.Array], better: str = "higher", **more: Any
) -> SetMetric:
    def init() -> Confusion:
        k = targets.outputs
        return Confusion(jnp.zeros((k, k), jnp.int32), jnp.zeros(k, jnp.int32))

    def update(sums: Confusion, outputs_BxK: jax.Array, labels_B: jax.Array, valid_B: jax.Array) -> Confusion:
        outputs_BxK, labels_B = check_labels(outputs_BxK, labels_B)
        is_label_BxK = _one_hot(labels_B, targets.outputs) * valid_B[:, None]
        taken_BxK = _one_hot(jnp.argmax(outputs_BxK, axis=-1), targets.outputs)
        # The products of zeros and ones are exact in every precision, and so is their sum over one batch.
        pairs_KxK = jnp.matmul(is_label_BxK.T, taken_BxK * _finite(outputs_BxK)[:, None])
        return Confusion(
            sums.pairs_KxK + jnp.rint(pairs_KxK).astype(jnp.int32),
            sums.support_K + jnp.sum(is_label_BxK, axis=0).astype(jnp.int32),
        )

    return SetMetric(init, update, finish, better, **more)


def confusion(targets: Targets) -> SetMetric:
    """The confusion matrix: the number of examples by their class (rows) and the class they are taken for (columns).

    An example with an output that is not finite is taken for no class.
    """
    coordinates = {"target_class": targets.classes, "predicted_class": targets.classes}
    return _of_confusion(targets, lambda sums: sums.pairs_KxK, "", units="examples", coordinates=coordinates)


def macro_f1(targets: Targets) -> SetMetric:
    """The mean of ``2 TP / (2 TP + FP + FN)`` over the classes that occur, as a label or as a prediction."""

    def finish(sums: Confusion) -> jax.Array:
        both_K = sums.support_K + jnp.sum(sums.pairs_KxK, axis=0)
        return _mean_where(both_K > 0, 2 * jnp.diagonal(sums.pairs_KxK), both_K)

    return _of_confusion(targets, finish)


def balanced_accuracy(targets: Targets) -> SetMetric:
    """The mean over the classes that occur of the share of their examples that are classified correctly."""

    def finish(sums: Confusion) -> jax.Array:
        return _mean_where(sums.support_K > 0, jnp.diagonal(sums.pairs_KxK), sums.support_K)

    return _of_confusion(targets, finish)


def _mean_where(present_K: jax.Array, count_K: jax.Array, total_K: jax.Array) -> jax.Array:
    """Mean of ``count / total`` over the classes that are present."""
    share_K = jnp.where(present_K, count_K / jnp.maximum(total_K, 1), 0)
    return jnp.sum(share_K) / jnp.sum(present_K)


_LOG_ODDS = 16.0
_AUC_STEPS = 2048


def auc(targets: Targets) -> SetMetric:
    """The area under the ROC curve of each class against the others, averaged over the classes.

    It is the probability that a random example of the class has higher log-odds than a random example of the others;
    ties count one half. Log-odds are rounded to steps of 1/64 in [-16, 16], which changes the area by at most half the
    share of pairs in one step. Classes without examples, and without others, are left out.
    """

    def init() -> jax.Array:
        return jnp.zeros((2, targets.outputs, _AUC_STEPS), jnp.int32)

    def update(sums: jax.Array, outputs_BxK: jax.Array, labels_B: jax.Array, valid_B: jax.Array) -> jax.Array:
        outputs_BxK, labels_B = check_labels(outputs_BxK, labels_B)
        class_1xK = jnp.arange(targets.outputs)[None, :]
        is_label_BxK = labels_B[:, None] == class_1xK
        step_BxK = jnp.floor((_log_odds(outputs_BxK) / _LOG_ODDS + 1) * (_AUC_STEPS / 2))
        worst_BxK = jnp.where(is_label_BxK, 0, _AUC_STEPS - 1)
        step_BxK = jnp.where(_finite(outputs_BxK)[:, None], step_BxK, worst_BxK)
        step_BxK = jnp.clip(step_BxK, 0, _AUC_STEPS - 1).astype(jnp.int32)
        return sums.at[is_label_BxK.astype(int), class_1xK, step_BxK].add(valid_B[:, None].astype(jnp.int32))

    def finish(sums: jax.Array) -> jax.Array:
        others_KxS, its_KxS = (each.astype(jnp.result_type(float)) for each in sums)
        below_KxS = jnp.cumsum(others_KxS, axis=-1) - others_KxS / 2
        pairs_K = jnp.sum(its_KxS, axis=-1) * jnp.sum(others_KxS, axis=-1)
        return _mean_where(pairs_K > 0, jnp.sum(its_KxS * below_KxS, axis=-1), pairs_K)

    return SetMetric(init, update, finish, "higher")


def _log_odds(outputs_BxK: jax.Array) -> jax.Array:
    """``log(p / (1 - p))`` of each class, exact for p near 1 too: its logit minus the log-sum-exp of the others."""
    nothing_Bx1 = jnp.full_like(outputs_BxK[:, :1], -jnp.inf)
    before_BxK = jnp.concatenate([nothing_Bx1, jax.lax.cumlogsumexp(outputs_BxK, axis=1)[:, :-1]], axis=1)
    after_BxK = jax.lax.cumlogsumexp(outputs_BxK, axis=1, reverse=True)[:, 1:]
    after_BxK = jnp.concatenate([after_BxK, nothing_Bx1], axis=1)
    return outputs_BxK - jnp.logaddexp(before_BxK, after_BxK)


_CALIBRATION_BINS = 15


def calibration_error(targets: Targets) -> SetMetric:
    """The expected calibration error: the mean distance between confidence and accuracy (Guo et al. 2017).

    ``sum over 15 bins of n_bin / n * |accuracy_bin - mean confidence_bin|``, where confidence is the largest softmax
    output and the bins are ``(0, 1/15], ..., (14/15, 1]``. An example with an output that is not finite counts as wrong
    with confidence 1.
    """

    def init() -> jax.Array:
        return jnp.zeros((3, _CALIBRATION_BINS), jnp.result_type(float))

    def update(sums: jax.Array, outputs_BxK: jax.Array, labels_B: jax.Array, valid_B: jax.Array) -> jax.Array:
        right_B = _correct(outputs_BxK, labels_B)
        outputs_BxK, labels_B = check_labels(outputs_BxK, labels_B)
        sure_B = jnp.where(_finite(outputs_BxK), jnp.max(jax.nn.softmax(outputs_BxK, axis=-1), axis=-1), 1)
        bin_B = jnp.clip(jnp.ceil(sure_B * _CALIBRATION_BINS).astype(int) - 1, 0, _CALIBRATION_BINS - 1)
        in_bin_BxN = _one_hot(bin_B, _CALIBRATION_BINS) * valid_B[:, None]
        each_3xB = jnp.stack([jnp.ones_like(sure_B), right_B, sure_B])
        return sums + jnp.sum(each_3xB[:, :, None] * in_bin_BxN[None], axis=1)

    def finish(sums: jax.Array) -> jax.Array:
        count_N, right_N, sure_N = sums
        return jnp.sum(jnp.abs(right_N - sure_N)) / jnp.sum(count_N)

    return SetMetric(init, update, finish, "lower")


class _Moments(NamedTuple):
    """Number of examples; per output the mean of the targets, their squared distance from it, and the squared error."""

    count: jax.Array
    mean_K: jax.Array
    spread_K: jax.Array
    error_K: jax.Array


def r2(targets: Targets) -> SetMetric:
    """The coefficient of determination ``1 - sum error**2 / sum (target - mean)**2``, averaged over the outputs.

    1 is perfect, and the mean of the set's targets scores 0. An output with constant targets counts as 1 if its errors
    are all 0, else as 0, as in scikit-learn.
    """

    def init() -> _Moments:
        zero_K = jnp.zeros(targets.outputs, jnp.result_type(float))
        return _Moments(jnp.zeros((), jnp.int32), zero_K, zero_K, zero_K)

    def update(sums: _Moments, outputs: jax.Array, numbers: jax.Array, valid_B: jax.Array) -> _Moments:
        error_BxK = error(outputs, numbers)
        numbers_BxK = as_float(numbers)
        valid_Bx1 = valid_B[:, None]
        count = jnp.sum(valid_B, dtype=jnp.int32)
        mean_K = jnp.sum(jnp.where(valid_Bx1, numbers_BxK, 0), axis=0) / jnp.maximum(count, 1)
        spread_K = jnp.sum(jnp.where(valid_Bx1, jnp.square(numbers_BxK - mean_K[None, :]), 0), axis=0)
        # Chan, Golub and LeVeque (1983): no difference of large sums.
        total = sums.count + count
        apart_K, share = mean_K - sums.mean_K, count / jnp.maximum(total, 1)
        return _Moments(
            total,
            sums.mean_K + apart_K * share,
            sums.spread_K + spread_K + jnp.square(apart_K) * sums.count * share,
            sums.error_K + jnp.sum(jnp.where(valid_Bx1, jnp.square(error_BxK), 0), axis=0),
        )

    def finish(sums: _Moments) -> jax.Array:
        constant_K = jnp.where(sums.error_K == 0, 1.0, 0.0)
        share_K = sums.error_K / jnp.where(sums.spread_K == 0, 1, sums.spread_K)
        return jnp.mean(jnp.where(sums.spread_K == 0, constant_K, 1 - share_K))

    return SetMetric(init, update, finish, "higher")


def _finite(outputs_BxK: jax.Array) -> jax.Array:
    return jnp.all(jnp.isfinite(outputs_BxK), axis=-1)


def _one_hot(index_B: jax.Array, size: int) -> jax.Array:
    return jax.nn.one_hot(index_B, size, dtype=jnp.result_type(float))


#: Metrics of class labels, and of numbers: a `Metric`, or a function of `Targets` that makes a `SetMetric`.
OF_LABELS: dict[str, Metric | Callable[[Targets], SetMetric]] = {
    "accuracy": accuracy,
    **{f"top_{k}_accuracy": top_k_accuracy(k) for k in (2, 3, 5)},
    "macro_f1": macro_f1,
    "balanced_accuracy": balanced_accuracy,
    "auc": auc,
    "calibration_error": calibration_error,
    "confusion": confusion,
}
OF_NUMBERS: dict[str, Metric | Callable[[Targets], SetMetric]] = {
    "mae": mean_absolute_error,
    "rmse": root_mean_squared_error,
    "r2": r2,
}
METRICS = OF_LABELS | OF_NUMBERS
