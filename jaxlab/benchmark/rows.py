"""Rows: what is measured, one thing each, as JSON holds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxlab.benchmark.timing import spread

Row = dict[str, Any]
#: The contender that the others are compared with, and whose losses are the reference.
OURS = "jaxlab"
#: From this number of trials on, means over cells are taken.
MANY = 16


def rate_columns(trial_steps: int, seconds: Sequence[float]) -> Row:
    """Trial-steps per second: median, quartiles, and the seconds of one call in each round."""
    rates = spread([trial_steps / each for each in seconds])
    return {
        "rate": rates.median,
        "rate_lower": rates.lower,
        "rate_upper": rates.upper,
        "trial_steps_per_call": trial_steps,
        "seconds": list(seconds),
    }
