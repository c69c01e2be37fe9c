"""The report of a benchmark: JSON, and a Markdown page with tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.cells import Cell, step_flops
from benchmark.machine import MOST
from benchmark.problem import OURS, PROCESSES
from benchmark.summary import disturbed, ratios
from benchmark.timing import Row

_COLUMNS = (
    "trials",
    "contender",
    "trial-steps/s (quartiles)",
    f"{OURS}'s speedup",
    "of matmul",
    "compile",
    "memory",
    "remarks",
)
_NOTES = """\
A trial-step is one optimisation step of one trial. All contenders have the same initial weights, data, minibatches
and learning rates (one per trial, 1e-4 to 1e-2). Before anything is timed, the losses of the first steps must agree
within a relative 2e-4, or 0.1 where the device rounds the factors of its products. Rates are medians over rounds in
which all contenders take turns, with the quartiles; compilation is excluded. *jaxlab's speedup* is the median over
rounds of the ratio within a round; below 1, jaxlab is slower.
Contenders that train one trial after the other are timed with at most 4 trials, since their rate does not depend on the
number of trials; the remarks say so. A contender that needs more than 12 s for a step of all trials has no figures. The
awkward cells are networks of odd sizes, drawn by a seed.

The rates of processes include imports and compilation. They are not timed in the rounds of the others, and are
extrapolated from a few real processes, as many at once as the remarks say.

*of matmul* is the FLOP/s of convolutions and dense layers (forward pass and gradients of kernels and inputs, without
that of the network's inputs) as a share of the FLOP/s of the fastest square matrix product of the run, in float32 at
JAX's default precision. *memory* counts arguments, results and temporaries of the compiled programs on all devices
together; PyTorch keeps no count on a CPU.

Studies that stop early or write a run folder are whole studies, validation and verdicts included. Each takes turns with
the same study without that feature; the figures are medians of the ratios within a round. Widths are those that the
study chooses. The time of compilation and of choosing the width is excluded."""


def write(folder: Path, name: str, found: Mapping[str, Any]) -> list[Path]:
    """Write ``name.json`` and ``name.md``, each atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {".json": json.dumps(found, indent=1) + "\n", ".md": markdown(found)}
    paths = []
    for ending, text in texts.items():
        path = folder / f"{name}{ending}"
        fresh = path.with_name(path.name + ".new")
        fresh.write_text(text)
        fresh.replace(path)
        paths.append(path)
    return paths


def markdown(found: Mapping[str, Any]) -> str:
    """The report of a benchmark as Markdown."""
    where = found["environment"]
    versions = ", ".join(f"{package} {version}" for package, version in where["versions"].items())
    lines = [
        f"# {where['devices']} × {where['device_kind']}",
        "",
        f"{where['processor']}, {where['cores']} cores; {versions}; {where['date']}.",
        "",
        f"    {found['command']}",
        "",
        *(["**Unfinished**: what has no figures was not reached.", ""] if found.get("unfinished") else []),
        *_warning(found["rows"]),
        *_table(("figure", "value", "details"), [_goal(row) for row in found["summary"]]),
        "",
        _NOTES,
        "",
        *(f"- **{name}**: {words}" for name, words in found["contenders"].items()),
        *_left_out(found),
        *_dropped(found),
    ]
    measured = {row["cell"] for row in found["rows"]}
    for cell, about in found["cells"].items():
        if cell not in measured:
            continue
        lines += [
            "",
            f"## {cell}",
            "",
            about["words"],
            "",
            *_table(*cell_table(found["rows"], cell)),
        ]
    return "\n".join(lines) + "\n"


def _warning(rows: Sequence[Row]) -> list[str]:
    """A warning that names the rounds during which other processes were busy."""
    where = ", ".join(f"{cell} with {trials} trials" for cell, trials in disturbed(rows))
    words = (
        f"**Other processes were busy** during the rounds of {where}: they took more than {100 * MOST:.0f} % of the "
        "cores. These rows are unreliable."
    )
    return [words, ""] if where else []


def _dropped(found: Mapping[str, Any]) -> list[str]:
    """The measurements that did not fit into the budget."""
    dropped = found.get("dropped")
    if not dropped:
        return []
    words = f"**Not measured for lack of time** ({found['budget']:.0f} s): {dropped_words(dropped)}."
    return ["", words]


def dropped_words(dropped: Sequence[Row]) -> str:
    """Dropped measurements by cell and number of trials, in words."""
    together: dict[str, list[str]] = {}
    for row in dropped:
        where = row["cell"] if row["trials"] is None else f"{row['cell']} with {row['trials']} trials"
        together.setdefault(where, []).append(row["what"])
    return "; ".join(f"{where}: {', '.join(what)}" for where, what in together.items())


def _left_out(found: Mapping[str, Any]) -> list[str]:
    """Which studies were not measured, and why."""
    absent = [row for part in ("stopping", "saving") for row in found[part] if "absent" in row]
    why = dict.fromkeys(f"{row['cell']} ({row['absent']})" for row in absent)
    return ["", f"Studies not measured: {', '.join(why)}."] if why else []


def _goal(row: Row) -> list[str]:
    return [row["goal"], f"{row['value']:.2f} {row['unit']}", row["detail"]]


def cell_table(rows: Sequence[Row], cell: str) -> tuple[Sequence[str], list[list[str]]]:
    """The columns and rows of one cell's table; ``rows`` come from `with_shares`."""
    return _COLUMNS, _cell_rows(rows, cell)


def _cell_rows(rows: Sequence[Row], cell: str) -> list[list[str]]:
    own = [row for row in rows if row["cell"] == cell]
    found = ratios(own)
    return [_measured(row, found) if "absent" not in row else _absent(row) for row in own]


def _absent(row: Row) -> list[str]:
    return [str(row["trials"]), row["contender"], "–", "–", "–", "–", "–", f"absent: {row['absent']}"]


def _measured(row: Row, found: Mapping[tuple[str, int, str], float]) -> list[str]:
    trials, name = row["trials"], row["contender"]
    if name == "matmul":
        gigaflops = f"{row['flops_per_second'] / 1e9:,.0f} GFLOP/s"
        own = row["share_of_best"]
        elsewhere = row["others_share"]
        busy = "" if elsewhere is None else f"; other processes took {100 * elsewhere:.0f} % of the cores"
        about = f"n = {row['size']}{busy}"
        return [str(trials), name, gigaflops, "", f"{100 * own:.0f} %", "", "", about]
    ratio = found.get((row["cell"], trials, name))
    share, compiling = row.get("share_of_matmul"), row.get("compile_seconds")
    about = [row["about"]] if row.get("about") else []
    if name != PROCESSES and row["trials_run"] != trials:
        about.append(f"timed with {row['trials_run']} trial{'s' * (row['trials_run'] > 1)}")
    return [
        str(trials),
        name,
        f"{number(row['rate'])} ({number(row['rate_lower'])}–{number(row['rate_upper'])})",
        "" if ratio is None else f"{ratio:.2f} ×",
        "" if share is None else f"{100 * share:.1f} %",
        "" if compiling is None else f"{compiling:.1f} s",
        size(row.get("memory_bytes")),
        "; ".join(about),
    ]


def cell_words(cell: Cell) -> str:
    """A description of what the cell trains."""
    size = "×".join(map(str, cell.input_shape))
    convolutions = ", ".join(
        f"{kernel}{f'×{kernel}' * (cell.axes - 1)} to {features}"
        for features, kernel in zip(cell.features, cell.kernel_sizes, strict=True)
    )
    pool = f", max pooling by {cell.pool} after each" if cell.pool > 1 else ""
    return (
        f"Inputs {size}, batch {cell.batch_size}; convolutions {convolutions} channels, stride {cell.stride}, padding "
        f"{cell.padding}, ReLU{pool}; dense to 10. {step_flops(cell) / 1e6:,.0f} MFLOP per trial-step."
    )


def number(value: float) -> str:
    """A number with three significant digits, or as a whole number with thousands separators."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def size(count: int | None) -> str:
    """Bytes as MiB."""
    return "" if count is None else f"{count / 2**20:,.1f} MiB"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [list(columns), ["---"] * len(columns), *(list(row) for row in rows)]
    return ["| " + " | ".join(line) + " |" for line in lines]
