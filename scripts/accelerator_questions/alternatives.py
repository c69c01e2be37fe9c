"""How fast are studies compared with the contenders of the benchmark: a loop, a scan, vmap of ``nnx.Conv``, PyTorch?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial

import jax

from accelerator_questions.asking import Answer, Asking, Row, Table
from accelerator_questions.measuring import IN_ORDER, ROUNDS, TARGET_SECONDS, TINY, by
from accelerator_questions.widths import best_width
from benchmark.cells import CELLS, Cell, step_flops
from benchmark.contenders import CONTENDERS, fused
from benchmark.contest import Earlier, contested
from benchmark.machine import Matmul, fastest_matmul
from benchmark.problem import OURS, Prepared, Problem
from benchmark.report import cell_table
from benchmark.summary import ratios, with_shares
from benchmark.timing import Plan

NAMES = (OURS, "loop", "scan", "vmap", "torch-loop", "torch-ensemble")
#: Width if `widths` has not been asked.
_WIDTH = 1024
_EXACT, _OWN = "float32", "the device's default precision"


def ask(asking: Asking) -> None:
    """Measure each cell at the device's default precision, and one with float32 products, whose losses must agree."""
    cells, numbers = ((TINY,), (2, 4)) if asking.small else (IN_ORDER, (16, 256, 1024, 4096))
    matmul = fastest_matmul()
    plan = [(cells[0], numbers[::2], _OWN), (cells[0], numbers[:1], _EXACT), (cells[0], numbers[1::2], _OWN)]
    plan += [(cell, part, _OWN) for part in (numbers[::2], numbers[1::2]) for cell in cells[1:]]
    for cell, counts, precision in asking.in_time(plan, _words):
        _measure(asking, cell, counts, precision, matmul)


def answer(rows: Sequence[Row]) -> Answer:
    """The speedup of studies by cell, and the benchmark's tables."""
    says, tables = [], []
    for cell, precision in dict.fromkeys((row["cell"], row["precision"]) for row in rows):
        own = sorted(by(rows, cell=cell, precision=precision), key=lambda row: row["trials"])
        own = with_shares(own, _flops())
        says += _said(cell, precision, own)
        tables.append(Table(*cell_table(own, cell), f"{cell} at {precision}:"))
    wrong = dict.fromkeys(row["contender"] for row in rows if row.get("wrong"))
    if wrong:
        says.append(f"Refused because of wrong losses: {', '.join(wrong)}.")
    return Answer(says, tables)


def _words(part: tuple[Cell, Sequence[int], str]) -> str:
    cell, counts, precision = part
    return f"{cell.name} with {' and '.join(map(str, counts))} trials at {precision}"


def _measure(asking: Asking, cell: Cell, counts: Sequence[int], precision: str, matmul: Matmul) -> None:
    """Measure one cell; the rows of each number of trials are written as soon as they are known."""
    ours = CONTENDERS[OURS]._replace(prepare=partial(_fused, best_width(asking.earlier, cell.name) or _WIDTH))
    contenders = {name: ours if name == OURS else CONTENDERS[name] for name in NAMES}
    how = Plan(1, 0.01) if asking.small else Plan(ROUNDS, TARGET_SECONDS)
    with _float32() if precision == _EXACT else contextlib.nullcontext():
        earlier = Earlier()
        for count in counts:
            for row in contested(cell, count, contenders, matmul, how, earlier):
                asking.row(precision=precision, **row)


def _fused(most: int, problem: Problem, steps: int) -> Prepared:
    return fused(problem, steps, width=min(most, problem.trials))


@contextlib.contextmanager
def _float32() -> Iterator[None]:
    """Compute products of float32 arrays in float32, in JAX and in PyTorch."""
    with jax.default_matmul_precision("float32"), contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError):
            import torch

            stack.callback(setattr, torch.backends.cudnn, "allow_tf32", torch.backends.cudnn.allow_tf32)
            torch.backends.cudnn.allow_tf32 = False
        yield


def _flops() -> dict[str, int]:
    return {cell.name: step_flops(cell) for cell in (*CELLS.values(), TINY)}


def _said(cell: str, precision: str, rows: Sequence[Row]) -> list[str]:
    """The speedup over the fastest other contender at each number of trials."""
    found = ratios(rows)
    best = {
        trials: min((ratio, name) for (_, count, name), ratio in found.items() if count == trials)
        for trials in dict.fromkeys(count for _, count, _ in found)
    }
    if not best:
        return []
    parts = [f"{ratio:.2f} × ({name}, N = {trials})" for trials, (ratio, name) in best.items()]
    return [
        f"{cell} at {precision}: jaxlab's speedup over the fastest other contender is {', '.join(parts)}."
    ]
