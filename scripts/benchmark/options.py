"""The options of the benchmark: what to measure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import jax

from benchmark.cells import AWKWARD, CELLS, chosen
from benchmark.problem import OURS
from benchmark.work import NAMES, PARTS
from jaxlab.errors import InputError

#: Default budget of a quick benchmark, in seconds.
QUICK_SECONDS = 180.0
#: Default folder of the tables, in this clone.
TABLES = Path(__file__).resolve().parents[2] / "docs" / "benchmarks"


@dataclass(frozen=True)
class Options:
    """What to measure; `options_from` parses it from text.

    Args:
        cells: names in `CELLS`.
        trials: numbers of trials, ascending; None until `filled`.
        contenders: names in `NAMES`, jaxlab first.
        parts: names in `PARTS`.
        rounds: number of timed rounds.
        out: folder to write to.
        width: trials side by side on each device in jaxlab's packs; None chooses it as a study does.
        quick: whether calls are short; the file names then end in ``-quick``.
        budget: seconds for everything; None for no limit. Measurements that do not fit are dropped, the least
            important first.
    """

    cells: tuple[str, ...]
    trials: tuple[int, ...] | None
    contenders: tuple[str, ...]
    parts: tuple[str, ...]
    rounds: int
    out: Path
    width: int | None
    quick: bool
    budget: float | None

    def filled(self) -> Options:
        """Fill in numbers of trials that suit this device, if none are given; starts JAX."""
        many = (1, 4, 16, 64) if jax.default_backend() == "cpu" else (1, 4, 16, 64, 256, 1024, 4096)
        return dataclasses.replace(self, trials=self.trials or many)


def options_from(
    *,
    cells: str | None = None,
    trials: str | None = None,
    contenders: str | None = None,
    parts: str | None = None,
    rounds: int | None = None,
    out: Path = TABLES,
    width: int | None = None,
    quick: bool = False,
    budget: str | None = None,
) -> Options:
    """Parse options from text: lists are comma-separated; ``quick`` changes the defaults.

    Raises:
        InputError: a name is unknown, a number is not a whole number >= 1, the budget is not a positive number, or
            the folder is a file.
    """

    def names(field: str, text: str | None, default: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
        return chosen(f"--{field}", default if text is None else _listed(text), known)

    named = names("cells", cells, ("8x8", "mnist1d") if quick else CELLS, CELLS)
    others = names("contenders", contenders, NAMES, NAMES)
    asked = names("parts", parts, PARTS[:-1] if quick else PARTS, PARTS)
    if "contenders" not in asked and set(named) <= set(AWKWARD):
        remedy = "the awkward cells only have contenders: add that part, or another cell"
        raise InputError("--parts", ",".join(asked), remedy)
    counts = ((4, 16) if quick else None) if trials is None else _whole("--trials", trials)
    for field, value in (("--rounds", rounds), ("--width", width)):
        if value is not None and value < 1:
            raise InputError(field, value, "give a whole number >= 1")
    seconds = (QUICK_SECONDS if quick else None) if budget is None else _seconds("--budget", budget)
    if out.exists() and not out.is_dir():
        raise InputError("--out", str(out), "give a folder")
    return Options(
        named,
        counts,
        tuple(dict.fromkeys((OURS, *others))),
        asked,
        rounds or (3 if quick else 5),
        out,
        width,
        quick,
        seconds,
    )


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _whole(field: str, text: str) -> tuple[int, ...]:
    parts = _listed(text)
    if not parts or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(field, text, "give whole numbers >= 1, separated by commas")
    return tuple(sorted({int(part) for part in parts}))


def _seconds(field: str, text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise InputError(field, text, "give seconds, a finite number > 0")
    return found
