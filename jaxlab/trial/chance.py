"""Chance levels: the scores of the best constant answer, which a network that has learned must beat."""

import math

import numpy as np

from jaxlab.datasets import Dataset
from jaxlab.losses import cross_entropy, huber, mae, mse
from jaxlab.metrics import Metric, accuracy, mean_absolute_error, root_mean_squared_error
from jaxlab.trial.task import Supervised


def chance_levels(task: Supervised, data: Dataset) -> dict[str, float]:
    """Scores of the best constant answer, by ``{split}_loss`` and ``{split}_{metric}``.

    The answer is chosen on the training targets and scored on those of each split. For labels it is given by their
    frequencies (accuracy: the most frequent label; cross entropy: minus the mean log frequency); for numbers it is,
    per output, the mean (mse, rmse), the median (mae), or the better of the two (huber). The loss is
    scored on standardised targets where the data set has them. User-defined functions are left out, and so are scores
    that are not finite, such as the cross entropy of a label without training examples.
    """
    levels = {}
    means = {name: metric for name, metric in task.metrics.items() if isinstance(metric, Metric)}
    for name, function in ({"loss": task.loss} | means).items():
        for split in ("train", "validation", "test"):
            sets = [data.train.targets, getattr(data, split).targets]
            if name == "loss":
                sets = [np.asarray(data.prepare_targets(targets)) for targets in sets]
            level = _level(function, *sets)
            if level is not None and math.isfinite(level):
                levels[f"{split}_{name}"] = level
    return levels


def _level(function: object, train: np.ndarray, targets: np.ndarray) -> float | None:
    labels = train.ndim == 1
    if labels and function in (accuracy, cross_entropy):
        counts = np.bincount(train, minlength=int(targets.max()) + 1)
        if function is cross_entropy:
            with np.errstate(divide="ignore"):
                return float(-np.mean(np.log(counts / len(train))[targets]))
        return float(np.mean(targets == counts.argmax()))
    if labels or function not in _ERRORS:
        return None
    measure, centres = _ERRORS[function]
    answers = [centre(train.astype(np.float64), axis=0) for centre in centres]
    best = min(answers, key=lambda answer: measure(train - answer))
    return float(measure(targets - best))


def _mean_huber(error: np.ndarray) -> float:
    clipped = np.clip(error, -1, 1)
    return np.mean(clipped * (error - clipped / 2))


_ERRORS = {
    mse: (lambda error: np.mean(error**2), [np.mean]),
    root_mean_squared_error: (lambda error: np.sqrt(np.mean(error**2)), [np.mean]),
    mae: (lambda error: np.mean(np.abs(error)), [np.median]),
    mean_absolute_error: (lambda error: np.mean(np.abs(error)), [np.median]),
    huber: (_mean_huber, [np.mean, np.median]),
}
