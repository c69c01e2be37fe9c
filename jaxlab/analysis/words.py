"""Numbers, names and settings formatted for people."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxlab.errors import visible

_LABELS = {"l1": "L1", "l2": "L2", "mae": "MAE", "rmse": "RMSE", "init_scale": "initialisation scale"}


def label(name: str) -> str:
    """Format a name: ``learning_rate`` is "learning rate", ``l2`` is "L2"."""
    return _LABELS.get(name, visible(name.replace("_", " ")))


def number(value: Any, digits: int = 3) -> str:
    """Format a number with at least ``digits`` digits, all integer ones below a million; NaN is "-"; text stays."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return visible(value)
    if math.isnan(value):
        return "-"
    if abs(value) < 1e6 and (float(value).is_integer() or abs(value) >= 10**digits):
        return f"{value:.0f}"
    mantissa, mark, exponent = f"{value:.{digits}g}".partition("e+")
    return f"{mantissa}e{int(exponent)}" if mark else mantissa


def numbers(values: Sequence[Any]) -> list[str]:
    """Format numbers with as many digits as distinguish different values."""
    return _distinguished(values, number)


def percent(value: float, digits: int = 0) -> str:
    """Format a share in percent; NaN is "-"."""
    return number(value) if not math.isfinite(value) else f"{100 * value:.{digits}f} %"


def amount(value: float, metric: str, units: str) -> str:
    """Format a metric's value: accuracies in percent, others with their units."""
    if math.isinf(value):
        return "not finite"
    if metric.endswith("accuracy"):
        return percent(value, 1)
    return number(value) if units == "1" or math.isnan(value) else f"{number(value)} {units}"


def difference(value: float, metric: str, units: str) -> str:
    """Format a difference of two values of a metric: accuracies in percentage points."""
    if math.isinf(value):
        return "not finite"
    if metric.endswith("accuracy") and not math.isnan(value):
        return f"{round(100 * value, 1) + 0.0:.1f} points"  # + 0.0: no "-0.0"
    return amount(value, metric, units)


def setting(values: Mapping[str, Any], digits: int = 3) -> str:
    """Format a setting, the learning rate first, without unused names: "learning rate 0.01, L2 0.0001"."""
    used = [name for name, value in values.items() if value == value and value != ""]
    names = sorted(used, key=lambda name: name != "learning_rate")
    return ", ".join(f"{label(name)} {number(values[name], digits)}" for name in names)


def settings(values: Sequence[Mapping[str, Any]]) -> list[str]:
    """Format settings with as many digits as distinguish different ones."""
    return _distinguished(values, setting)


def _distinguished(values: Sequence[Any], text: Callable[[Any, int], str]) -> list[str]:
    different = len({str(value) for value in values})
    for digits in range(3, 18):
        texts = [text(value, digits) for value in values]
        if len(set(texts)) >= different:
            break
    return texts


def joined(names: Sequence[str]) -> str:
    """Format names as a list: "decay, L2 and momentum"."""
    words = [label(name) for name in names]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 2 else words)


def aligned(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a plain-text table: headings, a rule, and the rows, all columns aligned right."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in (headings, *rows)
    ]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


def counted(count: int, word: str) -> str:
    """Format a count with its noun: "1 seed", "2 seeds"."""
    return f"{count} {word}{'' if count == 1 else 's'}"
