"""The loss and the metrics of a group, by name or custom, and the settings that they read by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlab import losses, metrics
from jaxlab.datasets import Dataset
from jaxlab.errors import InputError
from jaxlab.metrics import BETTER, Metric, SetMetric, Targets
from jaxlab.settings import Configuration, named_parameters
from jaxlab.study.custom import errors_in_one_line, guarded, named, wrong_result

_PAIR = ("outputs", "targets")


def loss_of(configuration: Configuration, data: Dataset) -> Callable[..., jax.Array]:
    """The loss of a group, ``(outputs, targets, **settings) -> values_B``.

    Raises:
        InputError: it does not suit the targets, is not a function of a batch, or has not one weight for each class.
    """
    _check_targets(
        "loss", (configuration.loss,), losses.OF_LABELS if data.classes else losses.OF_NUMBERS, data
    )
    loss = (
        losses.LOSSES.get(configuration.loss) if isinstance(configuration.loss, str) else configuration.loss
    )
    if loss not in losses.LOSSES.values():
        loss = _per_example("loss", loss)
    weights = configuration.get("class_weights")
    return loss if weights is None else _weighted(loss, _class_weights(weights, data))


def metrics_of(configuration: Configuration, data: Dataset) -> dict[str, Metric | SetMetric]:
    """The metrics of a group by name.

    Raises:
        InputError: one does not suit the targets, is not a metric, or does not declare which direction is better.
    """
    given = configuration.metrics
    _check_targets("metrics", given, metrics.OF_LABELS if data.classes else metrics.OF_NUMBERS, data)
    targets = Targets(data.outputs, data.class_names)
    return {name: _metric(each, targets) for name, each in named("metrics", given, "loss").items()}


def settings_read(configuration: Configuration, declared: Collection[str], data: Dataset) -> frozenset[str]:
    """Names of the declared settings that the loss and the metrics of a configuration read.

    Raises:
        InputError: a function has a parameter without a default whose name is not declared.
    """
    loss, found = loss_of(configuration, data), set()
    readers = [("loss", configuration.loss, named_parameters(loss, 2))]
    for given, metric in zip(configuration.metrics, metrics_of(configuration, data).values(), strict=True):
        if isinstance(metric, SetMetric):
            read = named_parameters(metric.update, 4) | named_parameters(metric.finish, 1)
        else:
            read = named_parameters(metric.example, 2)
        readers.append(("metrics", given, read))
    for field, given, read in readers:
        for name, required in read.items():
            if name in declared:
                found.add(name)
            elif required:
                remedy = f"reads {name}, which is not declared: declare it under hyperparameters"
                raise InputError(f"configuration.{field}", given, remedy)
    return frozenset(found)


def may_read(given: Any) -> bool:
    """Whether a loss or a metric, or one in a list, is a custom function with parameters that may be settings."""
    if isinstance(given, tuple | list):
        return any(map(may_read, given))
    return callable(given) and (_makes_metric(given) or bool(named_parameters(given, 2)))


def _check_targets(field: str, given: tuple, suited: Collection[str], data: Dataset) -> None:
    """Raise InputError for a built-in part that does not suit the targets: class labels or numbers."""
    for name in given:
        if isinstance(name, str) and name not in suited:
            kind = "labels" if data.classes else "numbers"
            remedy = f"the targets of {data.name} are {kind}: take one of {', '.join(suited)}"
            raise InputError(f"configuration.{field}", name, remedy)


def _per_example(field: str, given: Callable) -> Callable:
    return guarded(f"configuration.{field}", given, _PAIR, "one value per example [B]", named=True)


def _weighted(loss: Callable, weights_K: np.ndarray) -> Callable:
    """A loss of class labels times the weight of each example's class, to the power ``class_weight_exponent``."""

    @wraps(loss)
    def weighted(outputs: Any, labels_B: Any, class_weight_exponent: Any = 1.0, **settings: Any) -> jax.Array:
        weights_B = jnp.take(jnp.asarray(weights_K) ** class_weight_exponent, labels_B, mode="clip")
        return loss(outputs, labels_B, **settings) * weights_B

    signature = inspect.signature(loss)
    exponent = inspect.Parameter("class_weight_exponent", inspect.Parameter.KEYWORD_ONLY, default=1.0)
    weighted.__signature__ = signature.replace(parameters=[*signature.parameters.values(), exponent])
    return weighted


def _class_weights(given: str | tuple[float, ...], data: Dataset) -> np.ndarray:
    """One weight for each class; "balanced": examples / (classes * examples of the class), as in scikit-learn."""
    if not data.classes:
        raise InputError(
            "configuration.class_weights", given, f"the targets of {data.name} are numbers: remove it"
        )
    if given == "balanced":
        counts = np.bincount(data.train.targets, minlength=data.classes)
        return (len(data.train.targets) / (data.classes * np.maximum(counts, 1))).astype(np.float32)
    if len(given) != data.classes:
        remedy = f"give one weight for each of the {data.classes} classes of {data.name}"
        raise InputError("configuration.class_weights", given, remedy)
    return np.asarray(given, np.float32)


def _metric(given: str | Callable, targets: Targets) -> Metric | SetMetric:
    """A metric by name; or of a custom function, either of ``(outputs, targets)`` or of `Targets`."""
    field = "configuration.metrics"
    if isinstance(given, str):
        known = metrics.METRICS[given]
        return known if isinstance(known, Metric) else known(targets)
    if _makes_metric(given):
        return _set_metric(field, given, targets)
    if getattr(given, "better", None) not in BETTER:
        remedy = (
            "does not declare which direction is better: decorate it with jaxlab.metrics.better('higher') "
        )
        remedy += "or ('lower')"
        raise InputError(field, given, remedy)
    return Metric(_per_example("metrics", given), given.better, getattr(given, "units", "1"))


def _makes_metric(given: Callable) -> bool:
    """Whether a custom function takes `Targets` alone, and so makes a `SetMetric`."""
    return len(named_parameters(given, 0)) == 1


def _set_metric(field: str, given: Callable, targets: Targets) -> SetMetric:
    with errors_in_one_line(field, given):
        metric = given(targets)
    if not isinstance(metric, SetMetric):
        raise wrong_result(field, given, metric, "a jaxlab.metrics.SetMetric, or take (outputs, targets)")
    if metric.better not in (*BETTER, ""):
        remedy = (
            f'returns a metric with better = {metric.better!r}: give "higher", "lower", or "" for neither'
        )
        raise InputError(field, given, remedy)
    return metric
