"""Random search: distributions, and settings drawn from them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from jaxlab.checks import number, whole
from jaxlab.errors import InputError
from jaxlab.space.space import Space, of_plain, row_tokens
from jaxlab.space.values import Number, Whole, at_least_one, axis, linear_between, log_between


@dataclass(frozen=True)
class uniform:
    """The uniform distribution on [low, high]; raises InputError unless both are finite and low < high."""

    low: Number
    high: Number

    def __post_init__(self):
        _set_ends(self, lambda field, value: float(number(field, value)))

    def at(self, parts: Sequence[int], whole: int) -> list[float]:
        """Quantiles of the distribution: the values at the fractions ``part / whole``, each part in [0, whole)."""
        return linear_between(self.low, self.high, parts, whole)


@dataclass(frozen=True)
class log_uniform:
    """The log-uniform distribution on [low, high]; raises InputError unless both are finite and 0 < low < high."""

    low: Number
    high: Number

    def __post_init__(self):
        _set_ends(self, lambda field, value: float(number(field, value)))
        if self.low <= 0:
            raise InputError("log_uniform.low", self.low, "give positive ends for a logarithmic distribution")

    def at(self, parts: Sequence[int], whole: int) -> list[float]:
        """Quantiles of the distribution: the values at the fractions ``part / whole``, each part in [0, whole)."""
        return log_between(self.low, self.high, parts, whole)


@dataclass(frozen=True)
class integers:
    """The uniform distribution on the integers low … high − 1, as in ``range``; raises InputError unless low < high."""

    low: Whole
    high: Whole

    def __post_init__(self):
        _set_ends(self, whole)

    def at(self, parts: Sequence[int], whole: int) -> list[int]:
        """Quantiles of the distribution: the values at the fractions ``part / whole``, each part in [0, whole)."""
        return [self.low + part * (self.high - self.low) // whole for part in parts]


@dataclass(frozen=True, init=False)
class choice:
    """The uniform distribution over values of any kind; raises InputError if there are none."""

    values: tuple

    def __init__(self, *values: Any):
        object.__setattr__(self, "values", axis("choice", values))

    def at(self, parts: Sequence[int], whole: int) -> list[Any]:
        """As for `uniform`, with the values in the order given."""
        return [self.values[part * len(self.values) // whole] for part in parts]


Distribution = uniform | log_uniform | integers | choice


def _set_ends(distribution: uniform | log_uniform | integers, convert: Callable) -> None:
    kind = type(distribution).__name__
    low, high = (convert(f"{kind}.{end}", getattr(distribution, end)) for end in ("low", "high"))
    if not low < high:
        raise InputError(kind, (low, high), "give low < high")
    object.__setattr__(distribution, "low", low)
    object.__setattr__(distribution, "high", high)


def random(samples: Whole, seed: Whole = 0, **distributions: Any) -> Space:
    """Draw settings at random, each name from an independent stream.

    A name's stream depends only on ``seed`` and the name: adding a name changes no draw, and drawing more samples
    extends the smaller draw. The draws are the same on every platform. A setting that is drawn twice, which only
    discrete distributions do, is one trial, so the space may be shorter than ``samples``.

    >>> random(3, learning_rate=log_uniform(1e-4, 1.0)) == random(9, learning_rate=log_uniform(1e-4, 1.0))[:3]
    True

    The ``seed`` of the trials is an axis of a grid: ``random(20, l2=uniform(0.0, 0.1)) * grid(seed=range(3))``.

    Args:
        samples: number of draws, 1 to 1,000,000.
        seed: seed of the draws, a whole number.
        **distributions: for each name, one of `uniform`, `log_uniform`, `integers`, `choice`.

    Raises:
        InputError: ``samples`` is out of range, ``seed`` is not a whole number, or a distribution is missing or of
            another type.
    """
    samples = at_least_one("random.samples", samples)
    seed = whole("random.seed", seed, remedy="give a whole number; the seed of the trials belongs in a grid")
    if not distributions:
        raise InputError("random", distributions, "give one distribution or more")
    columns = {}
    for name, distribution in distributions.items():
        if not isinstance(distribution, Distribution):
            remedy = "give uniform(low, high), log_uniform(low, high), integers(low, high) or choice(*values)"
            raise InputError(f"random.{name}", distribution, remedy)
        # Python documents this stream of multiples of 2**-53 as stable; it hashes the text with SHA-512.
        stream = Random(f"{seed}/{name}")
        columns[name] = distribution.at([int(stream.random() * 2**53) for _ in range(samples)], 2**53)
    rows: dict[Hashable, tuple] = {}
    for key, row in zip(row_tokens(columns), zip(*columns.values(), strict=True), strict=True):
        rows.setdefault(key, row)
    return of_plain(dict(zip(columns, row, strict=True)) for row in rows.values())
