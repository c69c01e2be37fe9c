"""Numbers of the benchmark: rounds and their spread, ratios, goals and tables, worked out by hand."""

import json

import numpy as np
import pytest

from benchmark import machine, report, summary, timing
from benchmark.machine import device_name


def test_median_and_quartiles():
    assert timing.spread([5.0, 1.0, 2.0, 4.0, 3.0]) == timing.Spread(3.0, 2.0, 4.0)
    assert timing.spread([2.0]) == timing.Spread(2.0, 2.0, 2.0)
    row = timing.rate_columns(100, [1.0, 4.0, 2.0])
    assert (row["rate"], row["rate_lower"], row["rate_upper"]) == (50.0, 37.5, 75.0)
    assert row["seconds"] == [1.0, 4.0, 2.0]


def test_rounds_take_turns_in_alternating_order():
    calls = []
    entries = {
        name: timing.Timed(lambda count, name=name: calls.append((name, count)), count, rounds)
        for name, count, rounds in (("a", 1, 3), ("b", 2, 3), ("c", 5, 1))
    }
    seconds = timing.interleaved(entries)
    assert calls == [("a", 1), ("b", 2), ("c", 5), ("b", 2), ("a", 1), ("a", 1), ("b", 2)]
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3, "c": 1}


def test_rounds_end_when_there_is_no_time_for_another():
    asked = []

    def more(seconds):
        asked.append(seconds)
        return len(asked) < 2

    entries = {"a": timing.Timed(print, 1, 7), "b": timing.Timed(print, 1, 2)}
    seconds = timing.interleaved(entries, lambda run, calls: 2.0, more)
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 2}
    assert asked == [4.0, 4.0]


@pytest.mark.parametrize(
    ("per_call", "calls", "rounds"), [(0.1, 5, 7), (0.5, 1, 7), (4.0, 1, 3), (100.0, 1, 2), (1e-9, 500000, 7)]
)
def test_calls_and_rounds_fit_the_time(per_call, calls, rounds):
    planned = timing.plan(print, per_call, 7, 0.5)
    assert (planned.calls, planned.rounds) == (calls, rounds)


def row(cell, trials, name, seconds, **more):
    """Of 60 trial-steps a call."""
    return {"cell": cell, "trials": trials, "contender": name} | timing.rate_columns(60, seconds) | more


def matmul_row(cell, trials, flops_per_second, others_share=0.01):
    return {
        "cell": cell,
        "trials": trials,
        "contender": "matmul",
        "size": 64,
        "flops_per_second": flops_per_second,
        "seconds": [1.0],
        "others_share": others_share,
    }


ROWS = [
    matmul_row("a", 16, 1000.0),
    # The machine is three times slower in the last two of three rounds; two rounds are paired with the first two.
    row(
        "a", 16, "jaxlab", [1.0, 3.0, 3.0], trials_run=16, memory_bytes=2**20, compile_seconds=1.5, about="w"
    ),
    row("a", 16, "loop", [4.0, 12.0, 12.0], trials_run=4),
    row("a", 16, "vmap", [9.0, 27.0], trials_run=16),
    row("a", 16, "processes", [30.0], trials_run=2, about="few"),
    matmul_row("b", 16, 500.0, 0.3),
    row("b", 16, "jaxlab", [2.0], trials_run=16),
    row("b", 16, "loop", [1.0], trials_run=4),
    {"cell": "b", "trials": 16, "contender": "vmap", "absent": "out of memory", "wrong": False},
]
STOPPING = [
    {
        "cell": "a", "trials": 64, "epochs": 20, "stopped_epoch": 2, "ideal": 0.325, "share": 0.5, "others_share": 0.0,
        "widths": {"full": 4, "stopping": 2}, "seconds": {"full": [8.0, 4.0, 10.0], "stopping": [4.0, 3.0, 5.0]},
    },
]  # fmt: skip
SAVING = [
    {
        "cell": "b", "trials": 64, "epochs": 90, "ratio": 1.01, "others_share": 0.2,
        "seconds": {"with": [10.1, 21.0, 9.9], "without": [10.0, 20.0, 10.0]},
    },
]  # fmt: skip
ABSENT = {"cell": "c", "trials": 64, "absent": "a study takes about 180 s"}


def test_the_goals_of_studies():
    found = summary.summarise({"stopping": [*STOPPING, ABSENT], "saving": [*SAVING, ABSENT]})
    stopping, saving = found
    assert stopping["goal"] == (
        "share of the full time if three in four of 64 trials stop after 2 of 20 epochs, a"
    )
    assert (stopping["value"], stopping["unit"]) == (50.0, "%")
    assert stopping["detail"] == (
        "4.0 s at width 2 instead of 8.0 s at width 4; 32.5 % of the epochs are trained"
    )
    assert (saving["goal"], saving["value"]) == ("cost of a run folder, b", pytest.approx(1))
    assert saving["detail"] == (
        "64 trials, 90 epochs: 10.1 s with a run folder, 10.0 s without; by round 1.0 %, 5.0 %, -1.0 %; "
        "other processes took 20 % of the cores"
    )


def test_ratios_are_paired_by_round():
    found = summary.ratios(ROWS)
    assert found["a", 16, "loop"] == pytest.approx(4)
    assert found["a", 16, "vmap"] == pytest.approx(9)
    assert found["a", 16, "processes"] == pytest.approx(20 / 2)
    assert found["b", 16, "loop"] == pytest.approx(0.5)
    assert len(found) == 4


def test_goals_are_computed_from_the_rows():
    shared = summary.with_shares(ROWS, {"a": 5, "b": 10})
    whole = [{"cell": "a", "trials": 64, "steps": 9, "processes_seconds": 90, "processes_run": 4}]
    whole[0]["jaxlab_seconds"] = 9.0
    costs = [{"cell": "a", "epoch_ratio": 1.1, "evaluation_ratio": 1.25}]
    measured = {"rows": shared, "from_nothing": whole, "diagnostics": costs}
    found = {each["goal"]: each for each in summary.summarise(measured)}
    assert found["smallest speedup over any contender"]["value"] == pytest.approx(0.5)
    assert found["smallest speedup over any contender"]["detail"] == "b, 16 trials, loop"
    (loop,) = [each for goal, each in found.items() if "jitted loop" in goal]
    assert loop["value"] == pytest.approx(np.sqrt(4 * 0.5))
    (processes,) = [each for goal, each in found.items() if "process per trial" in goal]
    assert processes["value"] == pytest.approx(10)
    # 20 trial-steps/s of 5 FLOP, and 30 of 10, of the better of the two matmuls.
    assert found["share of the matmul rate, a"]["value"] == pytest.approx(10)
    assert found["share of the matmul rate, b"]["value"] == pytest.approx(30)
    assert found["cost of diagnostics in an epoch, a"]["value"] == pytest.approx(10)
    assert "25 %" in found["cost of diagnostics in an epoch, a"]["detail"]
    assert summary.disturbed(shared) == [("b", 16)]
    assert loop["detail"] == "0.50 (b) to 4.00 (a)"
    assert not [goal for goal in found if "awkward" in goal]


def test_the_goals_of_awkward_cells_stand_in_rows_of_their_own():
    measured = [*ROWS, *({**each, "cell": "awkward-1"} for each in ROWS[:4])]
    measured = summary.with_shares(measured, {"a": 5, "b": 10, "awkward-1": 2})
    found = {each["goal"]: each for each in summary.summarise({"rows": measured})}
    assert found["smallest speedup over any contender"]["detail"] == "b, 16 trials, loop"
    assert found["smallest speedup over any contender, awkward cells"]["value"] == pytest.approx(4)
    means = [each["value"] for goal, each in found.items() if "jitted loop, geometric mean" in goal]
    assert means == pytest.approx([(4 * 0.5 * 4) ** (1 / 3), 4])
    share = found["smallest share of the matmul rate, awkward cells"]
    assert (share["value"], share["detail"]) == (pytest.approx(4), "by cell: awkward-1: 4 %")
    assert "share of the matmul rate, awkward-1" not in found


@pytest.mark.parametrize(("busy", "own", "share"), [(3.0, 3.0, 0.0), (3.0, 1.0, 0.5), (2.9, 3.0, 0.0)])
def test_what_others_take_is_busy_time_that_is_not_ours(monkeypatch, busy, own, share):
    monkeypatch.setattr(machine, "cores", lambda: 2)
    found = machine.others_share(
        machine.Clock(10.0, 100.0, 50.0), machine.Clock(12.0, 100.0 + busy, 50.0 + own)
    )
    assert found == pytest.approx(share)
    assert machine.others_share(None, None) is None


def test_the_clock_counts_our_own_work():
    before = machine.clock()
    if before is None:
        pytest.skip("no /proc/stat")
    while (now := machine.clock()).own < before.own + 0.3:
        pass
    assert now.busy >= before.busy + 0.2


@pytest.fixture
def found():
    shared = summary.with_shares(ROWS, {"a": 5, "b": 10})
    where = {"platform": "cpu", "device_kind": "cpu", "devices": 2, "processor": "chip", "cores": 2}
    return {
        "environment": where | {"versions": {"jax": "1.2"}, "date": "2026-01-02"},
        "command": "python scripts/benchmark",
        "contenders": {"jaxlab": "ours", "loop": "theirs"},
        "cells": {"a": {"words": "About a."}, "b": {"words": "About b."}},
        "rows": shared,
        "budget": 60.0,
        "dropped": [
            {"cell": "b", "trials": 16, "what": "scan"},
            {"cell": "b", "trials": 16, "what": "map"},
            {"cell": "a", "trials": None, "what": "stopping"},
        ],
        "summary": summary.summarise({"rows": shared, "stopping": STOPPING, "saving": SAVING}),
        "stopping": [*STOPPING, ABSENT],
        "saving": [*SAVING, ABSENT],
    }


def test_the_files_hold_every_row_and_every_second(found, tmp_path):
    paths = report.write(tmp_path / "new" / "folder", "cpu-2-cores", found)
    assert sorted(path.name for path in paths[0].parent.iterdir()) == ["cpu-2-cores.json", "cpu-2-cores.md"]
    assert json.loads(paths[0].read_text())["rows"] == found["rows"]
    text = paths[1].read_text()
    assert "chip, 2 cores; jax 1.2; 2026-01-02." in text
    assert "| 16 | jaxlab | 20 (20–40) |  | 10.0 % | 1.5 s | 1.0 MiB | w |" in text
    assert "| 16 | loop | 5 (5–10) | 4.00 × | 2.5 % |  |  | timed with 4 trials |" in text
    assert "| 16 | processes | 2 (2–2) | 10.00 × | 1.0 % |  |  | few |" in text
    assert "| 16 | vmap | – | – | – | – | – | absent: out of memory |" in text
    assert "**Other processes were busy** during the rounds of b with 16 trials:" in text
    assert "other processes took 30 % of the cores" in text
    assert "Studies not measured: c (a study takes about 180 s)." in text
    assert "**Not measured for lack of time** (60 s): b with 16 trials: scan, map; a: stopping." in text
    widths = {line.count("|") for line in text.split("## a")[1].splitlines() if line.startswith("|")}
    assert widths == {9}


def test_a_file_is_named_after_the_device():
    assert device_name({"platform": "cpu", "cores": 2}) == "cpu-2-cores"
    assert device_name({"platform": "cpu", "cores": 1}) == "cpu-1-core"
    gpu = {"platform": "gpu", "device_kind": "NVIDIA H100 80GB HBM3", "devices": 1}
    assert device_name(gpu) == "nvidia-h100-80gb-hbm3"
    assert device_name(gpu | {"devices": 8}) == "8-nvidia-h100-80gb-hbm3"
