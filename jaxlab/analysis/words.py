"""Numbers and names as people read them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_LABELS = {"l1": "L1", "l2": "L2", "mae": "MAE", "rmse": "RMSE", "init_scale": "initialisation scale"}


def label(name: str) -> str:
    """A name in words: ``learning_rate`` is "learning rate", ``l2`` is "L2"."""
    return _LABELS.get(name, name.replace("_", " "))


def number(value: Any) -> str:
    """Three digits; "-" for NaN; words as they are."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if math.isnan(value):
        return "-"
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e6 else f"{value:.3g}"


def percent(value: float, digits: int = 0) -> str:
    """A share in percent; "-" for NaN."""
    return "-" if math.isnan(value) else f"{100 * value:.{digits}f} %"


def amount(value: float, metric: str, units: str) -> str:
    """A metric's value: accuracies in percent, the rest with their units."""
    if metric.endswith("accuracy"):
        return percent(value, 1)
    return number(value) if units == "1" or math.isnan(value) else f"{number(value)} {units}"


def difference(value: float, metric: str, units: str) -> str:
    """A difference of two values of a metric: accuracies in percentage points."""
    if metric.endswith("accuracy") and not math.isnan(value):
        return f"{round(100 * value, 1) + 0.0:.1f} points"  # + 0.0: no "-0.0"
    return amount(value, metric, units)


def setting(values: Mapping[str, Any]) -> str:
    """A setting in words, the learning rate first: "learning rate 0.01, L2 0.0001"."""
    names = sorted(values, key=lambda name: name != "learning_rate")
    return ", ".join(f"{label(name)} {number(values[name])}" for name in names)


def counted(count: int, word: str) -> str:
    """ "1 seed", "2 seeds"."""
    return f"{count} {word}{'' if count == 1 else 's'}"
