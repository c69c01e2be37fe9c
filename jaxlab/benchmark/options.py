"""What to measure, as a person chooses it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax

from jaxlab.benchmark.cells import AWKWARD, CELLS, chosen
from jaxlab.benchmark.rows import OURS
from jaxlab.benchmark.work import NAMES, PARTS
from jaxlab.errors import InputError

#: Seconds of a quick benchmark.
QUICK_SECONDS = 180.0


@dataclass(frozen=True)
class Options:
    """What to measure.

    Args:
        cells: names in `CELLS`.
        trials: numbers of trials N; by default 1, 4, 16, 64, and 256, 1024, 4096 as well on an accelerator.
        contenders: names in `NAMES`; ours is always among them.
        parts: names in `PARTS`; by default all, without the last if ``quick``.
        rounds: timed calls of each contender.
        out: folder of the two files that are written.
        width: trials side by side on each device in our packs; by default as a study chooses it.
        quick: a few cells and numbers of trials and short calls. Its files say so in their name.
        budget: seconds for everything; what there is no time for is dropped, the least important first. By default
            `QUICK_SECONDS` if ``quick``, and no limit otherwise.

    Raises:
        InputError: an unknown cell or contender, a number that is not a whole number >= 1, a budget that is
            not a positive number.
    """

    cells: Sequence[str] | None = None
    trials: Sequence[int] | None = None
    contenders: Sequence[str] | None = None
    parts: Sequence[str] | None = None
    rounds: int | None = None
    out: Path = Path("docs/benchmarks")
    width: int | None = None
    quick: bool = False
    budget: float | None = None

    def __post_init__(self):
        cells = chosen("--cells", ("8x8",) if self.cells is None else self.cells, CELLS)
        chosen("--contenders", NAMES if self.contenders is None else self.contenders, NAMES)
        parts = chosen("--parts", PARTS if self.parts is None else self.parts, PARTS)
        if "contenders" not in parts and set(cells) <= set(AWKWARD):
            remedy = "the awkward cells only have contenders: add them, or another cell"
            raise InputError("--parts", ",".join(parts), remedy)
        if self.trials is not None and not self.trials:
            raise InputError("--trials", self.trials, "give whole numbers >= 1, separated by commas")
        for field, values in (("trials", self.trials), ("rounds", [self.rounds]), ("width", [self.width])):
            for value in values or ():
                if value is not None and (type(value) is not int or value < 1):
                    raise InputError(f"--{field}", value, "give whole numbers >= 1")
        if self.budget is not None and (isinstance(self.budget, bool) or not 0 < self.budget < math.inf):
            raise InputError("--budget", self.budget, "give seconds, a finite number > 0")
        if self.out.exists() and not self.out.is_dir():
            raise InputError("--out", str(self.out), "give a folder")

    def filled(self) -> Options:
        """With the defaults of this device; starts JAX."""
        few = self.quick
        many = (1, 4, 16, 64) if jax.default_backend() == "cpu" else (1, 4, 16, 64, 256, 1024, 4096)
        cells = ("8x8", "mnist1d") if few else tuple(CELLS)
        contenders = dict.fromkeys((OURS, *(self.contenders or NAMES)))
        return dataclasses.replace(
            self,
            cells=chosen("--cells", self.cells or cells, CELLS),
            trials=sorted(set(self.trials or ((4, 16) if few else many))),
            contenders=tuple(contenders),
            parts=tuple(self.parts or (PARTS[:-1] if few else PARTS)),
            rounds=self.rounds or (3 if few else 5),
            budget=self.budget or (QUICK_SECONDS if few else None),
        )
