"""Interleaved rounds of timed calls, their median and quartiles, and the columns of a row that hold them."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

#: One measurement, JSON-serialisable.
Row = dict[str, Any]
#: Most seconds of all rounds of one contender; long calls get fewer rounds.
SECONDS_OF_ROUNDS = 12.0
FEWEST_ROUNDS = 2


class Plan(NamedTuple):
    """How thoroughly to time: the number of rounds, and the seconds of a timed entry in one round."""

    rounds: int
    target: float


class Timed(NamedTuple):
    """An entry to time: a blocking ``run(calls)``, the calls per round, and the number of rounds."""

    run: Callable[[int], Any]
    calls: int
    rounds: int


class Spread(NamedTuple):
    """Median and quartiles."""

    median: float
    lower: float
    upper: float


def seconds_of(run: Callable[[int], Any], calls: int) -> float:
    """Wall-clock seconds of ``run(calls)``."""
    began = time.perf_counter()
    run(calls)
    return time.perf_counter() - began


def plan(run: Callable[[int], Any], per_call: float, rounds: int, target: float) -> Timed:
    """Plan so many calls that a round lasts about ``target`` seconds, and fewer rounds if a call lasts much longer."""
    calls = max(1, round(target / max(per_call, 1e-6)))
    affordable = int(SECONDS_OF_ROUNDS / max(per_call * calls, 1e-6))
    return Timed(run, calls, min(rounds, max(FEWEST_ROUNDS, affordable)))


def interleaved(
    entries: Mapping[str, Timed],
    timed: Callable[[Callable[[int], Any], int], float] = seconds_of,
    more: Callable[[float], bool] = lambda seconds: True,
) -> dict[str, list[float]]:
    """Seconds of each entry in each round. Every round times all entries, in alternating order.

    Args:
        entries: by name.
        timed: ``(run, calls) -> seconds``.
        more: ``seconds of the first round -> whether there is time for another``; called before each round after the
            first `FEWEST_ROUNDS`. The first round is the longest.
    """
    seconds: dict[str, list[float]] = {name: [] for name in entries}
    for number in range(max((each.rounds for each in entries.values()), default=0)):
        if number >= FEWEST_ROUNDS and not more(sum(each[0] for each in seconds.values())):
            break
        for name in list(entries)[:: -1 if number % 2 else 1]:
            if number < entries[name].rounds:
                seconds[name].append(timed(entries[name].run, entries[name].calls))
    return seconds


def spread(values: Sequence[float]) -> Spread:
    """Median, first and third quartile, by linear interpolation."""
    lower, median, upper = np.percentile(np.asarray(values, float), [25, 50, 75])
    return Spread(float(median), float(lower), float(upper))


def rate_columns(trial_steps: int, seconds: Sequence[float]) -> Row:
    """Columns of a row: the median and quartiles of trial-steps per second, and the seconds of a call in each round."""
    rates = spread([trial_steps / each for each in seconds])
    return {
        "rate": rates.median,
        "rate_lower": rates.lower,
        "rate_upper": rates.upper,
        "trial_steps_per_call": trial_steps,
        "seconds": list(seconds),
    }
