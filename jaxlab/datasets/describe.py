"""One-line description of a data set."""

from __future__ import annotations

from typing import Any

import numpy as np


def describe(data: Any) -> str:
    """Describe a data set in one line, see `Dataset.summary`."""
    inputs, targets = data.train
    words = [f"train {len(inputs):,} × {sizes(inputs.shape[1:])} {inputs.dtype.name} in {interval(inputs)}"]
    if (data.scale, data.shift) != (1, 0):
        words.append(f"seen as {interval(inputs, data.scale, data.shift)}")
    if data.classes is None:
        units = f" {data.target_units}" if data.target_units else ""
        number = targets.shape[1]
        words.append(f"{number} target{'s' * (number > 1)} in {interval(targets)}{units}")
    else:
        share = 100 * np.bincount(targets).max() / len(targets)
        words += [
            f"{data.classes:,} classes",
            f"largest {share:.0f} %" if share >= 1 else f"largest {share:.1g} %",
        ]
    others = [f"{field} {len(getattr(data, field).targets):,}" for field in ("validation", "test")]
    return "; ".join([", ".join(words), *others])


def sizes(shape: tuple[int, ...]) -> str:
    """Format a shape: ``(28, 28, 1)`` becomes "28×28×1"."""
    return "×".join(str(size) for size in shape)


def interval(array: np.ndarray, scale: float = 1.0, shift: float = 0.0) -> str:
    """Format the range of an array, after scale and shift: "[0, 1]"."""
    low, high = sorted(float(extreme) * scale + shift for extreme in (array.min(), array.max()))
    return f"[{low:.4g}, {high:.4g}]"
