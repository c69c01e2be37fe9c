"""Options of every data set: fewer examples, wrong labels, outliers, rescaled inputs."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from jaxlab import checks
from jaxlab.datasets.dataset import Dataset, Split
from jaxlab.datasets.draws import permutation, stratified_order, uniform
from jaxlab.errors import InputError


def modify(
    dataset: Dataset,
    *,
    subset: Any = None,
    label_noise: Any = 0.0,
    outliers: Any = 0.0,
    outlier_size: Any = None,
    input_range: Any = None,
    standardize: Any = False,
    standardize_targets: Any = False,
    seed: Any = 0,
) -> Dataset:
    """Modify the training split of a data set (never validation or test), or how the network sees inputs and targets.

    The options apply in this order. Random choices depend on ``seed`` alone and are nested: a smaller subset or
    fraction is contained in a larger one with the same seed.

    - ``input_range=(low, high)``: the smallest and largest training inputs become low and high; or
      ``standardize=True``: the training inputs get mean 0 and standard deviation 1 over all their values;
      ``standardize="channels"``: in each channel, and so in each column of a table (a constant one becomes 0). All use
      the full training split, so a subset sees the same inputs. Only ``scale`` and ``shift`` change.
    - ``standardize_targets=True``: the network learns each regression target minus its mean over the full training
      split, divided by its standard deviation there. The loss is measured in these units; MAE, RMSE and other metrics
      stay in the units of the targets. Only ``target_mean`` and ``target_std`` change.
    - ``subset``: number of training examples to keep, stratified by class, in their original order.
    - ``label_noise``: fraction in [0, 1] of training labels to replace by another class, each equally likely.
    - ``outliers``: fraction in [0, 1] of training targets to which ``outlier_size`` is added, in units of the
      targets. All outliers are on one side: the mean of the targets moves by fraction × size, their median
      hardly at all.

    Both fractions are exact up to rounding to whole examples.

    Raises:
        InputError: a value is out of range; ``label_noise`` is given for regression, or ``outliers`` or
            ``standardize_targets`` for classification; or what is standardised is constant.
    """
    seed = checks.whole("seed", seed, 0)
    scale, shift = _scale_and_shift(dataset, input_range, standardize)
    mean, std = _mean_and_std(dataset, standardize_targets)
    train = _subsample(dataset.train, subset, seed)
    train = _mislabel(train, label_noise, dataset.classes, seed)
    train = _add_outliers(train, outliers, outlier_size, dataset.classes, seed)
    return dataclasses.replace(
        dataset, train=train, scale=scale, shift=shift, target_mean=mean, target_std=std
    )


def _scale_and_shift(dataset: Dataset, input_range: Any, standardize: Any) -> tuple[Any, Any]:
    standardize = checks.python(standardize)
    if not isinstance(standardize, bool) and standardize != "channels":
        raise InputError("standardize", standardize, 'give true, false or "channels"')
    if input_range is None and not standardize:
        return dataset.scale, dataset.shift
    if input_range is not None and standardize:
        raise InputError("standardize", standardize, "give input_range or standardize, not both")
    inputs = dataset.train.inputs
    if standardize == "channels":
        over = tuple(range(inputs.ndim - 1))
        means, deviations = inputs.mean(axis=over, dtype=np.float64), inputs.std(axis=over, dtype=np.float64)
        deviations[inputs.min(axis=over) == inputs.max(axis=over)] = 1
        return tuple((1 / deviations).tolist()), tuple((-means / deviations).tolist())
    least, greatest = float(inputs.min()), float(inputs.max())
    if least == greatest:
        raise InputError("train.inputs", least, "constant inputs cannot be rescaled; omit the option")
    if standardize:
        mean, deviation = float(inputs.mean(dtype=np.float64)), float(inputs.std(dtype=np.float64))
        return 1 / deviation, -mean / deviation
    low, high = _check_range(input_range)
    scale = (high - low) / (greatest - least)
    return scale, low - least * scale


def _mean_and_std(
    dataset: Dataset, standardize_targets: Any
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Mean and standard deviation of each regression target over the training split."""
    if not checks.flag("standardize_targets", standardize_targets):
        return dataset.target_mean, dataset.target_std
    if dataset.classes is not None:
        remedy = "omit it for classification, whose targets are labels"
        raise InputError("standardize_targets", standardize_targets, remedy)
    targets = dataset.train.targets.astype(np.float64)
    if (targets.min(axis=0) == targets.max(axis=0)).any():
        remedy = "a constant target cannot be standardised; omit the option"
        raise InputError("train.targets", targets.min().item(), remedy)
    return tuple(targets.mean(axis=0).tolist()), tuple(targets.std(axis=0).tolist())


def _check_range(input_range: Any) -> tuple[float, float]:
    remedy = "give two finite numbers (low, high) with low < high"
    try:
        low, high = (checks.number("input_range", bound) for bound in input_range)
    except (TypeError, ValueError):  # an InputError too, whose value is one of the two
        raise InputError("input_range", input_range, remedy) from None
    if not low < high:
        raise InputError("input_range", input_range, remedy)
    return float(low), float(high)


def _subsample(train: Split, subset: Any, seed: int) -> Split:
    if subset is None:
        return train
    n = len(train.targets)
    subset = checks.whole("subset", subset, 1, n, remedy=f"give a number of training examples, 1 to {n}")
    kept = np.sort(stratified_order(seed, "subset", train.targets)[:subset])
    return Split(train.inputs[kept], train.targets[kept])


def _mislabel(train: Split, fraction: Any, classes: int | None, seed: int) -> Split:
    chosen = _choose("label_noise", fraction, len(train.targets), seed)
    if not len(chosen):
        return train
    if classes is None:
        remedy = "omit it for regression, where outliers changes the targets"
        raise InputError("label_noise", fraction, remedy)
    # An offset of 1 to classes - 1, modulo classes, gives every other class equally often and never the old one.
    offsets = 1 + (uniform(seed, "wrong label", len(train.targets)) * (classes - 1)).astype(np.int32)
    targets = train.targets.copy()
    targets[chosen] = (targets[chosen] + offsets[chosen]) % classes
    return train._replace(targets=targets)


def _add_outliers(train: Split, fraction: Any, size: Any, classes: int | None, seed: int) -> Split:
    chosen = _choose("outliers", fraction, len(train.targets), seed)
    if not len(chosen):
        return train
    if classes is not None:
        remedy = "omit it for classification, where label_noise changes the labels"
        raise InputError("outliers", fraction, remedy)
    size = checks.number("outlier_size", size, remedy="give a finite number to add, in units of the targets")
    targets = train.targets.copy()
    targets[chosen] += np.float32(size)
    return train._replace(targets=targets)


def _choose(field: str, fraction: Any, n: int, seed: int) -> np.ndarray:
    """Indices of a random ``fraction`` of n examples."""
    fraction = checks.number(field, fraction, 0, 1, remedy="give a fraction between 0 and 1")
    return permutation(seed, field, n)[: round(fraction * n)]
