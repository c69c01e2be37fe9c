"""Does a study of 64 trials on digits run with diagnostics, and do its losses agree with a CPU's?"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

import jaxlab
from accelerator_questions.asking import Answer, Asking, Row, Table, elsewhere, plain
from accelerator_questions.measuring import FAILURES, by, reason
from benchmark.report import size
from jaxlab import Study, datasets, space

#: Name of the run with default settings.
_DEFAULT = "default settings"
#: The costlier diagnostics, which a study records on request.
DIAGNOSTICS = ("effective_rank", "update_cosine")


def ask(asking: Asking) -> None:
    """Run the study with default settings, on the CPU, with float32 products, and with the costlier diagnostics."""
    small, platform = asking.small, jax.default_backend()
    job: dict[str, Any] = {"small": small, "epochs": 2 if small else 10, "width": 4 if small else None}
    losses = _row(asking, _DEFAULT, job, {})
    try:
        reference = elsewhere(
            "study", job | {"epochs": min(job["epochs"], 3), "width": 2}, {"JAX_PLATFORMS": "cpu"}
        )
    except RuntimeError as error:
        asking.note(f"Not compared with a CPU: {error}.")
        reference = None
    for name, settings in (
        (_DEFAULT, None),
        ("float32 products", {"precision": "float32"}),
        ("all diagnostics", {"diagnostics": DIAGNOSTICS}),
    ):
        found = losses if settings is None else _row(asking, name, job, settings)
        if found is not None and reference is not None:
            for values in differences(found, reference["train_loss"]):
                asking.row(kind="difference", name=name, on=platform, **values)


def answer(rows: Sequence[Row]) -> Answer:
    """Whether the study runs, its time, and how far its losses are from the CPU's."""
    runs = by(rows, kind="run")
    says = [_said_of_run(row) for row in runs[:1]]
    own = by(rows, kind="difference", name=_DEFAULT, epoch=1)
    exact = by(rows, kind="difference", name="float32 products", epoch=1)
    for row in own:
        says.append(_said_of_difference(row, exact[0] if exact else None))
    columns = (
        "study",
        "trials",
        "epochs",
        "diverged",
        "best validation accuracy",
        "compile",
        "train",
        "width",
        "memory",
    )
    tables = [Table((*columns, "deterministic"), [_run_cells(row) for row in runs])]
    epochs = by(rows, kind="difference")
    if epochs:
        columns = ("study", "epoch", "trials", "median difference of the training loss", "largest")
        cells = [
            [
                row["name"],
                str(row["epoch"]),
                str(row["trials"]),
                _small(row["median"]),
                _small(row["largest"]),
            ]
            for row in epochs
        ]
        tables.append(
            Table(
                columns, cells, f"Differences of the losses on {epochs[0]['on']}, relative to those on a CPU:"
            )
        )
    return Answer(says, tables)


def differences(found: np.ndarray, reference: Sequence[Sequence[float]]) -> list[Row]:
    """Relative differences of training losses [trials, epochs] by epoch, where both are finite."""
    there = np.array(reference, float)
    epochs = min(there.shape[1], found.shape[1])
    rows = []
    for epoch in range(epochs):
        here, other = found[:, epoch], there[:, epoch]
        finite = np.isfinite(here) & np.isfinite(other)
        relative = np.abs(here - other)[finite] / np.abs(other)[finite]
        if len(relative):
            row = {"epoch": epoch, "trials": len(relative)}
            rows.append(row | {"median": np.median(relative), "largest": relative.max()})
    return rows


def run(job: dict[str, Any], settings: dict[str, Any]) -> Any:
    """Run the study; returns its results."""
    rates, seeds = (2, 2) if job["small"] else (16, 4)
    network = {"model": "mlp", "features": [8]} if job["small"] else {"features": [16, 32]}
    study = Study(
        datasets.load("digits"),
        space.grid(learning_rate=space.log_range(1e-4, 1e-1, rates), seed=range(seeds)),
        epochs=job["epochs"],
        configuration=network | settings,
    )
    width = "auto" if job["width"] is None else job["width"]
    return study.run(width=width)


def _row(asking: Asking, name: str, job: dict[str, Any], settings: dict[str, Any]) -> np.ndarray | None:
    """Run the study and add its row; returns its training losses [trials, epochs], or None if it cannot run."""
    try:
        results = run(job, settings)
    except FAILURES as error:
        asking.row(kind="run", name=name, refused=reason(error))
        return None
    about = results.attrs
    names = (
        "compile_seconds",
        "probe_seconds",
        "train_seconds",
        "first_epoch_seconds",
        "memory_bytes",
        "width",
    )
    asking.row(
        kind="run",
        name=name,
        trials=results.sizes["trial"],
        epochs=job["epochs"],
        diverged=int((results.outcome == "diverged").sum()),
        accuracy=float(results.validation_accuracy.isel(epoch=-1).max()),
        deterministic=about["deterministic"],
        variables=len(results.data_vars),
        **{each: about[each] for each in names},
    )
    return results.train_loss.values


def _said_of_run(row: Row) -> str:
    if "refused" in row:
        return f"The study does not run: {row['refused']}."
    return (
        f"The study runs: {row['trials']} trials, {row['epochs']} epochs in {row['train_seconds']:.1f} s after "
        f"{row['compile_seconds']:.1f} s of compilation, at width {row['width']}; {row['diverged']} diverged, the best "
        f"validation accuracy is {100 * row['accuracy']:.1f} %. Deterministic: {row['deterministic']}."
    )


def _said_of_difference(row: Row, exact: Row | None) -> str:
    where = "a CPU's" if row["on"] != "cpu" else "those of the same CPU at another width"
    said = (
        f"After one epoch, the training losses differ from {where} by {_small(row['median'])} (median of "
        f"{row['trials']} trials; at most {_small(row['largest'])})"
    )
    if exact is not None:
        said += f", and with float32 products by {_small(exact['median'])}"
    return f"{said}."


def _small(value: float) -> str:
    return f"{value:.1e}" if value else "0"


def _run_cells(row: Row) -> list[str]:
    if "refused" in row:
        return [row["name"], *["–"] * 8, f"absent: {row['refused']}"]
    return [
        row["name"],
        str(row["trials"]),
        str(row["epochs"]),
        str(row["diverged"]),
        f"{100 * row['accuracy']:.1f} %",
        f"{row['compile_seconds']:.1f} s",
        f"{row['train_seconds']:.2f} s",
        str(row["width"]),
        size(row["memory_bytes"]),
        row["deterministic"],
    ]


def _reference(job: dict[str, Any]) -> None:
    """Print the CPU's losses; runs in a separate process, which sees no other device."""
    jaxlab.use_all_cores()
    print(json.dumps(plain({"train_loss": run(job, {}).train_loss.values})))


if __name__ == "__main__":
    _reference(json.loads(sys.argv[1]))
