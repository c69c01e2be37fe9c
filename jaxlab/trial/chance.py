"""What the best constant answer scores: a network that scores no better has not learned."""

import math

import numpy as np

from jaxlab.datasets import Dataset
from jaxlab.losses import (
    accuracy,
    cross_entropy,
    huber,
    mae,
    mean_absolute_error,
    mse,
    root_mean_squared_error,
)
from jaxlab.trial.task import Supervised


def chance_levels(task: Supervised, data: Dataset) -> dict[str, float]:
    """The score of the best constant answer by ``{split}_loss`` and ``{split}_{metric}``.

    The answer is chosen on the training targets and scored on each split's: for labels, their frequencies (accuracy:
    the most frequent one; cross entropy: minus the mean log frequency); for numbers, by output, the mean (mse, rmse),
    the median (mae), or whichever of the two is better (huber). Functions of the user are left out, and what is not
    finite, as the cross entropy of a label that no training example has.
    """
    levels = {}
    for name, function in ({"loss": task.loss} | dict(task.metrics)).items():
        for split in ("train", "validation", "test"):
            level = _level(function, data.train.targets, getattr(data, split).targets)
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


def _absolute(error: np.ndarray) -> float:
    return np.mean(np.abs(error))


def _square(error: np.ndarray) -> float:
    return np.mean(error**2)


def _root(error: np.ndarray) -> float:
    return np.sqrt(np.mean(error**2))


def _huber(error: np.ndarray) -> float:
    clipped = np.clip(error, -1, 1)
    return np.mean(clipped * (error - clipped / 2))


_ERRORS = {
    mse: (_square, [np.mean]),
    root_mean_squared_error: (_root, [np.mean]),
    mae: (_absolute, [np.median]),
    mean_absolute_error: (_absolute, [np.median]),
    huber: (_huber, [np.mean, np.median]),
}
