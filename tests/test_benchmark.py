"""The benchmark: same losses or no row, arithmetic by hand, tables; nothing here is timed."""

import contextlib
import io
import json
import subprocess
import sys
import time
import types
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxlab.errors import InputError
from jaxlab.models import CNN

SCRIPTS = Path(__file__).parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))

from benchmark import contest, machine, processes, pytorch, report, run, studies, summary, timing, work  # noqa: E402
from benchmark.__main__ import app  # noqa: E402
from benchmark.budget import SAFETY, Budget, process_age  # noqa: E402
from benchmark.cells import AWKWARD, CELLS, Cell, awkward, layers_of, sizes_of, step_flops  # noqa: E402
from benchmark.contenders import CONTENDERS, fused, trial_of  # noqa: E402
from benchmark.machine import Matmul, device_name, environment  # noqa: E402
from benchmark.options import options_from  # noqa: E402
from benchmark.problem import CHECKED_STEPS, Contender, Prepared, disagreement, epoch_steps, make_problem  # noqa: E402

IMAGES = Cell("images", (6, 5, 2), 8, (3, 4), short_trial=4)
SIGNALS = Cell("signals", (12, 1), 8, (3, 4), (5, 3), 2, 1, 1)


@pytest.fixture(scope="module", params=[IMAGES, SIGNALS], ids=lambda cell: cell.name)
def trained(request):
    """Three trials of a tiny cell, and jaxlab's losses over two epochs; the width of one cell is chosen."""
    problem = make_problem(request.param, 3, 4)
    ours = fused(problem, 4, width=2 if request.param == IMAGES else None)
    return problem, np.concatenate([ours.run(1), ours.run(1)], axis=1)


@pytest.mark.parametrize("steps", [2, 4])
@pytest.mark.parametrize("name", [name for name in CONTENDERS if name != "jaxlab"])
def test_every_contender_has_jaxlabs_losses(trained, name, steps):
    if name.startswith("torch"):
        pytest.importorskip("torch")
    problem, reference = trained
    made = CONTENDERS[name].prepare(problem, steps)
    losses = np.concatenate([made.run(1) for _ in range(4 // steps)], axis=1)
    assert losses.shape == (3, 4)
    assert (made.trials, made.steps) == (3, steps)
    np.testing.assert_allclose(losses, reference[:, :4], rtol=1e-5)


def test_trials_and_steps_differ_so_that_agreement_says_something(trained):
    _, losses = trained
    assert losses.shape == (3, 8)
    assert len(np.unique(losses)) == losses.size


def test_one_call_of_several_is_several_calls(trained):
    problem, _ = trained
    once, often = (CONTENDERS["loop"].prepare(problem, 2) for _ in range(2))
    np.testing.assert_array_equal(once.run(3), np.concatenate([often.run(1) for _ in range(3)], axis=1))


@pytest.mark.parametrize("width", [1, 5])
def test_jaxlab_trains_the_same_at_every_width(trained, width):
    problem, reference = trained
    made = fused(problem, problem.steps, width=width)
    assert made.about == f"{len(jax.devices())} × width {width}"
    np.testing.assert_allclose(made.run(2), reference, rtol=1e-4)


def test_more_trials_begin_with_the_fewer():
    many, few = make_problem(IMAGES, 5, 4), make_problem(IMAGES, 2, 4)
    first = many.first(2)
    assert few.trials == first.trials == 2
    for a, b in zip(
        jax.tree.leaves((few.weights, few.hyperparameters, few.order)),
        jax.tree.leaves((first.weights, first.hyperparameters, first.order)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(many.part(3, 2).seeds, [3, 4])
    rates = make_problem(IMAGES, 64, 4).learning_rates
    assert rates.min() >= 1e-4
    assert rates.max() <= 1e-2
    assert len(np.unique(rates)) == 64


def test_inputs_are_bytes_and_the_order_long_enough():
    problem = make_problem(IMAGES, 1, 2)
    assert problem.data.train.inputs.dtype == np.uint8
    assert len(problem.order) >= CHECKED_STEPS
    assert all(2 <= epoch_steps(cell, trials) <= 16 for cell in CELLS.values() for trials in (1, 64, 4096))


def test_flops_by_hand():
    # Per example: 64 places × 9 × 16, 16 × 144 × 32, 128 × 10, each times two; three times but once for the first.
    convolutions = 2 * 64 * 9 * 16, 2 * 16 * 144 * 32
    assert step_flops(CELLS["8x8"]) == 64 * (2 * convolutions[0] + 3 * convolutions[1] + 3 * 2 * 128 * 10)
    places = [layer.places for layer in layers_of(CELLS["mnist1d"])]
    assert places == [19, 10, 5, 1]
    assert [layer.fan_in for layer in layers_of(CELLS["mnist1d"])] == [5, 75, 75, 125]
    assert [layer.fan_in for layer in layers_of(CELLS["32x32"])] == [27, 288, 576, 2048]


def test_flops_are_xlas_of_the_bare_products():
    cell = Cell("bare", (20, 20, 8), 16, (16, 24), padding=0, pool=1)
    kernels = [np.zeros((3, 3, 8, 16)), np.zeros((3, 3, 16, 24)), np.zeros((16 * 16 * 24, 10))]

    def total(kernels, x):
        for kernel in kernels[:2]:
            numbers = ("NHWC", "HWIO", "NHWC")
            x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=numbers)
        return (x.reshape(len(x), -1) @ kernels[2]).sum()

    lowered = jax.jit(jax.grad(total)).lower(kernels, np.zeros((16, *cell.input_shape)))
    # The gradient alone needs no last product forward.
    expected = step_flops(cell) - cell.batch_size * layers_of(cell)[-1].flops
    assert lowered.cost_analysis()["flops"] == pytest.approx(expected, rel=0.02)


def fake(losses, calls):
    """A contender that records its calls."""

    def prepare(problem, steps):
        def run(count):
            calls.append(count)
            return losses(problem, count * problem.steps)

        return Prepared(run, problem.trials, problem.steps)

    return Contender("fake", prepare)


def right(problem, steps):
    return np.full((problem.trials, steps), 2.0)


@pytest.mark.parametrize(
    ("change", "trial", "step"), [(1e-3, 1, 2), (np.nan, 0, 0), (np.inf, 1, CHECKED_STEPS - 1)]
)
def test_wrong_losses_are_refused_before_timing(change, trial, step):
    def wrong(problem, steps):
        losses = right(problem, steps)
        losses[trial, step] += change
        return losses

    calls, matmuls = [], []
    contenders = {"jaxlab": fake(right, []), "other": fake(wrong, calls), "good": fake(right, [])}
    matmul = Matmul(1, matmuls.append, 1e-3)
    found = contest.contested(SIGNALS, 2, contenders, matmul, timing.Plan(1, 1e-3))
    assert run.wrong({"rows": found}) == ["other"]
    found = {row["contender"]: row for row in found}
    assert found["other"]["wrong"]
    assert f"trial {trial}, step {step + 1}" in found["other"]["absent"]
    assert calls == [1] * -(-CHECKED_STEPS // make_problem(SIGNALS, 2).steps)
    assert "rate" in found["good"]


def test_without_a_reference_no_contender_is_timed():
    def out_of_memory(problem, steps):
        raise MemoryError("RESOURCE_EXHAUSTED: no room")

    contenders = {"jaxlab": fake(out_of_memory, []), "good": fake(right, [])}
    matmul = Matmul(1, lambda calls: None, 1e-3)
    found = contest.contested(SIGNALS, 2, contenders, matmul, timing.Plan(1, 1e-3))
    assert [row.get("absent") for row in found[1:]] == [
        "out of memory",
        "jaxlab has no losses to compare with",
    ]


def test_what_takes_one_trial_after_the_other_is_prepared_once_for_several_numbers_of_trials():
    made = []

    def counted(name, enough):
        def prepare(problem, steps):
            made.append((name, problem.trials))
            return Prepared(lambda calls: right(problem, min(calls, 4) * steps), problem.trials, steps)

        return Contender("fake", prepare, enough)

    contenders = {name: counted(name, enough) for name, enough in (("jaxlab", None), ("a", 4), ("b", None))}
    matmul = Matmul(1, lambda calls: None, 1e-3)
    earlier = contest.Earlier()
    for trials in (16, 2, 8):
        found = contest.contested(SIGNALS, trials, contenders, matmul, timing.Plan(1, 1e-4), earlier)
        assert [(row["trials"], row["contender"]) for row in found[1:]] == [
            (trials, name) for name in contenders
        ]
        assert all(len(row["seconds"]) == 1 for row in found)
    assert made == [
        ("jaxlab", 16), ("a", 4), ("b", 16),
        ("jaxlab", 2), ("a", 2), ("b", 2),
        ("jaxlab", 8), ("a", 4), ("b", 8),
    ]  # fmt: skip
    made.clear()
    contest.contested(SIGNALS, 8, contenders, matmul, timing.Plan(1, 1e-4), earlier)
    assert made == [("jaxlab", 8), ("b", 8)]


def test_other_errors_are_not_swallowed():
    def broken(problem, steps):
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        contest.prepared(fake(broken, []), make_problem(SIGNALS, 1), None)


@pytest.mark.parametrize("shape", [(2, CHECKED_STEPS - 1), (3, CHECKED_STEPS)])
def test_too_few_losses_are_no_agreement(shape):
    assert "to compare" in disagreement(np.ones(shape), np.ones((2, CHECKED_STEPS)))


def test_epsilon_outside_the_root_is_found_out(monkeypatch, trained):
    torch = pytest.importorskip("torch")
    problem, reference = trained

    def outside(weights, gradients, squares, steps):
        for w, g, v, minus_eta in zip(weights, gradients, squares, steps, strict=True):
            v.mul_(pytorch.DECAY).addcmul_(g, g, value=1 - pytorch.DECAY)
            w.add_(minus_eta * g / (torch.sqrt(v) + 1e-3))

    monkeypatch.setattr(pytorch, "update", outside)
    found, _ = contest.prepared(CONTENDERS["torch-loop"], problem, reference)
    assert isinstance(found, contest.Refused)
    assert found.wrong


def ready(trials, steps, per_call):
    return contest.Ready(Prepared(lambda calls: np.zeros((1, 1)), trials, steps), per_call)


@pytest.mark.parametrize(
    ("enough", "count", "last", "expected"),
    [
        (4, 1, None, 1),
        (4, 64, ready(4, 16, 0.1), 4),
        (4, 4, ready(1, 2, 9.0), 1),
        (None, 64, ready(16, 2, 9.0), 64),
    ],
)
def test_how_many_trials_are_timed(enough, count, last, expected):
    loop = CONTENDERS["loop"]._replace(enough=enough)
    assert contest.trials_for(loop, SIGNALS, count, last) == expected


def test_few_trials_are_timed_where_each_takes_long():
    # Two steps of a trial are 15 GFLOP: five seconds' worth of 0.97 trials at 3 GFLOP/s.
    assert contest.trials_for(CONTENDERS["scan"], CELLS["32x32"], 64, None) == 1
    assert contest.trials_for(CONTENDERS["loop"], CELLS["32x32"], 64, None) == 4


def test_what_takes_too_long_side_by_side_has_no_row():
    assert contest.too_slow(CONTENDERS["vmap"], SIGNALS, 2, 0.5) == ""
    assert contest.too_slow(CONTENDERS["vmap"], SIGNALS, 2, 0.1).endswith("about 20 s")
    assert contest.too_slow(CONTENDERS["loop"], SIGNALS, 2, 0.1) == ""
    assert contest.too_slow(CONTENDERS["vmap"], CELLS["32x32"], 16, None).endswith("about 62 s")


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cells", "8x9"], "--cells = '8x9': did you mean '8x8'?"),
        (["--cells", ","], "--cells = ()"),
        (["--contenders", "loop,vmpa"], "did you mean 'vmap'?"),
        (["--parts", "stoping"], "did you mean 'stopping'?"),
        (["--trials", "4,many"], "--trials = '4,many'"),
        (["--trials", "0"], "--trials = '0'"),
        (["--trials", ","], "--trials = ','"),
        (["--rounds", "0"], "--rounds = 0"),
        (["--width", "-1"], "--width = -1"),
        (["--budget", "soon"], "--budget = 'soon': give seconds"),
        (["--budget", "0"], "--budget = '0': give seconds"),
        (["--budget", "nan"], "--budget = 'nan': give seconds"),
        (["--budget", "inf"], "--budget = 'inf': give seconds"),
        (
            ["--cells", "awkward-2", "--parts", "stopping,saving"],
            "--parts = 'stopping,saving': the awkward cells",
        ),
        (["--out", __file__], "give a folder"),
    ],
)
def test_bad_options_are_one_line_and_status_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        app(arguments)
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.count("\n") == 1


def test_the_folder_runs_from_anywhere(tmp_path):
    command = [sys.executable, str(SCRIPTS / "benchmark"), "--cells", "8x9"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("benchmark: --cells = '8x9': did you mean '8x8'?")
    assert found.stderr.count("\n") == 1


def test_ours_is_always_among_the_contenders():
    options = options_from(contenders="vmap", trials="16,4,4", cells="28x28").filled()
    assert options.contenders == ("jaxlab", "vmap")
    assert options.trials == (4, 16)
    assert options.cells == ("28x28",)


def test_the_silent_network_counts_no_units():
    problem = make_problem(IMAGES, 1, 2)
    quiet, loud = (trial_of(problem, kind) for kind in (studies.OutputsOnly, CNN))
    assert quiet.coordinates["layer"] == ()
    assert loud.coordinates["layer"] == ("conv_0", "conv_1")


STUDIES = Cell("study", (8, 8, 1), 4, (2,), (3,))


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Everything of a tiny cell, really measured: what the function returns, the folder, standard error."""
    folder = tmp_path_factory.mktemp("benchmark")
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(said):
        patch.setitem(CELLS, "study", STUDIES)
        patch.setattr(studies, "EPOCHS", 10)
        patch.setattr(studies, "STOPPED_EPOCH", 1)
        patch.setattr(studies, "SAVED_SECONDS", 0.1)
        patch.setattr(studies, "many", lambda: 4)
        options = options_from(
            cells="study",
            trials="2",
            contenders="loop",
            parts="contenders,diagnostics,stopping,saving",
            rounds=1,
            out=folder,
            width=1,
            quick=True,
            budget="1e6",
        )
        found = run.benchmark(options, "the command")
    return found, folder, said.getvalue()


def test_the_whole_benchmark_of_a_tiny_cell(measured):
    found, folder, said = measured
    names = [(row["trials"], row["contender"]) for row in found["rows"]]
    assert names == [(2, name) for name in ("matmul", "jaxlab", "loop")]
    assert all(row["rate"] > 0 and len(row["seconds"]) == 1 for row in found["rows"][1:])
    assert not run.wrong(found)
    assert found["dropped"] == []
    written = sorted(path.name for path in folder.iterdir())
    assert [name.partition("-quick")[1:] for name in written] == [("-quick", ".json"), ("-quick", ".md")]
    assert "the command" in (folder / written[1]).read_text()
    assert json.loads((folder / written[0]).read_text()) == json.loads(json.dumps(found))
    assert f"wrote {folder / written[1]}" in said
    assert "study, 2 trials, jaxlab: " in said
    assert "Not measured" not in said


def test_studies_of_a_tiny_cell(measured):
    found, _, said = measured
    (stopping,), (saving,), (costs,) = found["stopping"], found["saving"], found["diagnostics"]
    assert stopping["trials"] == saving["trials"] == 4
    assert stopping["widths"] == {"full": 1, "stopping": 1}
    assert set(saving["widths"]) == {"with", "without"}
    assert [len(each) for each in (*stopping["seconds"].values(), *saving["seconds"].values())] == [1] * 4
    assert min(min(each) for each in stopping["seconds"].values()) > 0
    assert stopping["ideal"] == pytest.approx(0.325)
    assert costs["epoch_ratio"] > 0
    assert "cost of a run folder, study: " in said


class FakeStudy:
    """Takes the next of the given seconds, a tenth of it for the compiler, on a clock of its own."""

    def __init__(self, clock, seconds, outs):
        self.clock, self.seconds, self.outs = clock, iter(seconds), outs

    def run(self, out, width, width_cache):
        self.outs.append(out)
        seconds = next(self.seconds)
        self.clock[0] += seconds
        about = {"compile_seconds": seconds / 10, "probe_seconds": seconds / 10, "width": 3}
        return types.SimpleNamespace(attrs=about)


def faked_studies(monkeypatch, *seconds):
    """Every study that `studies` makes takes these seconds, one list a study, in the order of making them."""
    clock, outs, lists = [0.0], [], iter(seconds)
    monkeypatch.setattr(studies, "study_of", lambda *given: FakeStudy(clock, next(lists), outs))
    monkeypatch.setattr(studies, "time", types.SimpleNamespace(perf_counter=lambda: clock[0]))
    return outs


def test_a_share_is_the_median_of_ratios_within_rounds_without_compilation(monkeypatch, tmp_path):
    outs = faked_studies(monkeypatch, [50.0, 10.0, 20.0, 40.0], [4.0, 6.0, 20.0])
    found = studies.measure_stopping(STUDIES, 2, 3, tmp_path / "widths.json")
    assert found["seconds"] == {"full": pytest.approx([8, 16, 32]), "stopping": pytest.approx([3.2, 4.8, 16])}
    assert found["share"] == pytest.approx(0.4)
    assert found["widths"] == {"full": 3, "stopping": 3}
    assert outs == [None] * 7


def test_what_saving_costs_is_the_median_of_ratios_within_rounds(monkeypatch, tmp_path):
    monkeypatch.setattr(studies, "SAVED_SECONDS", 24.0)
    outs = faked_studies(monkeypatch, [2.0], [12.0], [50.0, 10.0, 20.0, 40.0], [11.0, 24.0, 42.0])
    found = studies.measure_saving(STUDIES, 2, 3, tmp_path / "widths.json")
    assert found["epochs"] == 30  # ten epochs more take 8 of these seconds
    assert found["ratio"] == pytest.approx(1.1)
    folders = [out for out in outs if out is not None]
    assert len(set(folders)) == 3
    assert not any(out.parent.exists() for out in folders)


def test_three_trials_in_four_stop_after_a_tenth_of_the_epochs():
    results = studies.study_of(STUDIES, 8, studies.EPOCHS, (studies.three_in_four,)).run(width=2)
    assert results.epochs_run.values.tolist() == [40, 4, 4, 4, 40, 4, 4, 4]


def test_the_studys_trials_are_those_of_the_contenders():
    problem = make_problem(STUDIES, 3)
    study = studies.study_of(STUDIES, 3, 1)
    (group,) = study.groups
    np.testing.assert_array_equal(group.hyperparameters["learning_rate"], problem.learning_rates)
    np.testing.assert_array_equal(group.hyperparameters["seed"], problem.seeds)
    assert study.steps_per_epoch(group) == problem.steps


@pytest.mark.parametrize("cell", ["32x32", "8x8"])
def test_studies_that_cannot_be_measured_say_why(monkeypatch, cell):
    if cell == "8x8":
        monkeypatch.setitem(sys.modules, "zarr", None)
    row = studies.absent(CELLS[cell])
    assert row["absent"] in ("a study takes about 790 s", "zarr is not installed")
    assert summary.summarise({"stopping": [row]}) == []
    monkeypatch.setattr(run, "fastest_matmul", lambda: Matmul(1, lambda calls: None, 1e-3))
    measuring = run.Measuring(options_from(cells=cell, parts="stopping", trials="2").filled(), Budget(1e6))
    assert [None for _ in measuring.all()] == [None]
    assert measuring.found["stopping"] == [row]
    assert measuring.found["dropped"] == []


@pytest.mark.slow
def test_processes_have_the_losses_of_the_trials_they_train(monkeypatch):
    monkeypatch.setattr(processes, "SHORT_TRIALS", 2)
    cell = CELLS["mnist1d"]
    found, whole = processes.measure_processes(cell, [1, 5], 1)
    assert [row["trials"] for row in found] == [1, 5]
    width = processes.at_once()
    assert found[1]["seconds"][0] == pytest.approx(-(-5 // width) * found[0]["batch_seconds"][0])
    assert whole["jaxlab_seconds"] > 0


def test_awkward_cells_are_drawn_by_their_seed_within_their_bounds():
    cells = awkward(3, 6)
    assert cells == awkward(3, 6)
    assert cells != awkward(4, 6)
    assert [cell.axes for cell in cells] == [2, 1] * 3
    for cell in cells:
        assert 5e6 <= step_flops(cell) <= 60e6
        assert any(each % 8 for each in cell.features)
        assert all(5 <= each <= 40 for each in cell.features)
        assert min(size for _, pooled in sizes_of(cell) for size in pooled) >= 1


def test_the_awkward_cells_of_the_table_are_the_first_five_of_seed_0():
    assert [CELLS[name] for name in AWKWARD] == awkward(0, 5)
    assert tuple(f"awkward-{number}" for number in range(1, 6)) == AWKWARD


# The budget.


class Hands:
    """A clock that somebody moves."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_a_budget_sets_time_to_write_aside_and_counts_what_is_spent():
    clock = Hands()
    budget = Budget(200.0, 30.0, clock)
    assert budget.left() == pytest.approx(160)
    clock.now += 100
    assert budget.left() == pytest.approx(60)
    assert budget.allows(60 / SAFETY - 1e-6)
    assert not budget.allows(60)
    assert Budget(10.0, 0.0, clock).left() == pytest.approx(7)
    assert Budget(None, 1e9, clock).allows(1e9)


def test_what_a_piece_will_take_is_learned_from_its_kind_or_from_all():
    clock = Hands()
    budget = Budget(200.0, 0.0, clock)
    assert budget.expected("loop", 2.0) == pytest.approx(2)
    with budget.piece("loop", 2.0):
        clock.now += 6.0
    budget.took("loop", 4.0, 4.0)
    assert budget.expected("loop", 1.0) == pytest.approx(3)  # the worst of the kind
    assert budget.expected("vmap", 11.0) == pytest.approx(15)  # (5 + 6 + 4) s instead of (5 + 2 + 4) s


def test_the_age_of_the_process_is_the_systems():
    psutil = pytest.importorskip("psutil")
    assert process_age() == pytest.approx(time.time() - psutil.Process().create_time(), abs=5)
    assert process_age() > 0


ALL = work.in_order(tuple(CELLS), (1, 4, 16, 64), work.NAMES, work.PARTS)


def test_every_work_stands_once_in_the_order_of_importance():
    expected = {
        work.Work("contenders", cell, trials, name)
        for cell in CELLS
        for trials in (1, 4, 16, 64)
        for name in CONTENDERS
    }
    expected |= {work.Work("contenders", cell, 0, "processes") for cell in CELLS}
    own = [cell for cell in CELLS if cell not in AWKWARD]
    expected |= {work.Work(part, cell) for part in work.PARTS[1:] for cell in own}
    assert len(ALL) == len(expected)
    assert set(ALL) == expected


def test_the_goals_come_first():
    own = [cell for cell in CELLS if cell not in AWKWARD]
    pairs = [(cell, name) for cell in own for name in ("jaxlab", "loop")]
    assert [(each.cell, each.contender) for each in ALL[:8]] == pairs
    assert {each.trials for each in ALL[:20]} == {16}
    assert [each.contender for each in ALL[8:12]] == ["vmap"] * 4
    rank = {each: number for number, each in enumerate(ALL)}

    def last(part, contender=""):
        return max(rank[each] for each in ALL if (each.part, each.contender) == (part, contender))

    assert last("contenders", "jaxlab") > last("stopping") > last("diagnostics")
    assert rank[work.Work("contenders", "awkward-1", 16, "loop")] > last("diagnostics")
    assert (
        rank[work.Work("contenders", "8x8", 64, "jaxlab")] < rank[work.Work("contenders", "8x8", 1, "jaxlab")]
    )
    assert [each.part for each in ALL[-4:]] == ["saving"] * 4
    for each in ALL:
        if each.trials:
            assert rank[each._replace(contender="jaxlab")] <= rank[each]


def test_only_what_is_chosen_is_to_be_done():
    found = work.in_order(["8x8"], [2, 4], ("jaxlab", "vmap"), ("contenders",))
    assert found == [work.Work("contenders", "8x8", n, name) for n in (2, 4) for name in ("jaxlab", "vmap")]


def test_the_works_of_a_contest_are_next_together():
    agenda = work.Agenda(ALL)
    contest = agenda.next()
    assert [each.contender for each in contest] == [
        "jaxlab", "loop", "vmap", "torch-loop", "torch-ensemble", "scan", "map",
    ]  # fmt: skip
    assert {each.contest for each in contest} == {("8x8", 16)}
    for each in contest:
        agenda.remove(each)
    assert agenda.next()[0] == work.Work("contenders", "28x28", 16, "jaxlab")
    assert work.Agenda([work.Work("saving", "8x8")]).next() == [work.Work("saving", "8x8")]


def test_time_is_kept_for_what_is_more_important_and_fits():
    a, b, c = (
        work.Work("contenders", cell, 16, name)
        for cell, name in (("a", "jaxlab"), ("a", "loop"), ("b", "jaxlab"))
    )
    diagnosed, saved = work.Work("diagnostics", "a"), work.Work("saving", "a")
    agenda = work.Agenda([a, b, c, diagnosed, saved])
    seconds = {a: 10.0, b: 1.0, c: 100.0, diagnosed: 5.0, saved: 2.0}
    assert agenda.left_for(a, seconds.get, 30.0) == 30
    assert agenda.left_for(saved, seconds.get, 30.0) == 30 - 10 - 1 - 5
    assert agenda.left_for(saved, seconds.get, 8.0) == 3  # without its first the second is nothing
    agenda.remove(a)
    assert agenda.left_for(saved, seconds.get, 8.0) == 8 - 1 - 5
    assert agenda.has_time(saved, seconds.get, 6 + 2 * SAFETY + 0.01)
    assert not agenda.has_time(saved, seconds.get, 6 + 2 * SAFETY - 0.01)


class Machine:
    """A machine on which every piece of work takes ``slowness`` times its guess, by a clock that only work moves."""

    def __init__(self, monkeypatch, slowness):
        self.clock, self.did, self.call = Hands(), [], 0.01 * slowness
        self.guesses = work.Guesses(Budget(), timing.Plan(1, 0.25), 4e11, 1, {})
        matmul = Matmul(1000, lambda calls: None, 5e-3)
        monkeypatch.setattr(run, "fastest_matmul", lambda: matmul)
        monkeypatch.setattr(contest, "time", types.SimpleNamespace(perf_counter=self.clock))
        monkeypatch.setattr(contest, "seconds_of", self.seconds_of)
        for name, contender in CONTENDERS.items():
            prepare = self.contender(name, slowness * contender.seconds, self.call)
            monkeypatch.setitem(CONTENDERS, name, contender._replace(prepare=prepare, missing=str))
        monkeypatch.setattr(run, "fused", CONTENDERS["jaxlab"].prepare)

        def alone(part, cell, contender=""):
            each = work.Work(part, cell.name, 0, contender)
            self.work(each, slowness * self.guesses.first(each))
            return {"cell": cell.name, "trials": 4, "epoch_ratio": 1.0, "evaluation_ratio": 1.0}

        def processes(cell, *_):
            alone("contenders", cell, "processes")
            return [], None

        monkeypatch.setattr(run, "measure_processes", processes)
        monkeypatch.setattr(run, "measure_diagnostics", lambda cell, *_: alone("diagnostics", cell))
        monkeypatch.setattr(run, "measure_study", lambda part, cell, *_: alone(part, cell))

    def contender(self, name, seconds, call):
        """What prepares a contender that takes so many seconds to compile, and so many for each call."""

        def prepare(problem, steps, width=None):
            def run(calls):
                self.clock.now += calls * call
                return right(problem, min(calls, 4) * steps)

            self.work(work.Work("contenders", problem.cell.name, 0, name), seconds)
            return Prepared(run, problem.trials, steps)

        return prepare

    def seconds_of(self, run, calls):
        began = self.clock.now
        run(calls)
        return self.clock.now - began

    def work(self, each, seconds):
        self.did.append(each)
        self.clock.now += seconds

    def measure(self, seconds, **options):
        """What was found within a budget of so many seconds, and how many seconds it took."""
        measuring = run.Measuring(options_from(**options).filled(), Budget(seconds, 0.0, self.clock))
        began = self.clock.now
        for _ in measuring.all():
            pass
        return measuring.found, self.clock.now - began


@pytest.fixture
def tiny(monkeypatch):
    """Two cells and an awkward one, all tiny: only the names and the guesses matter."""
    for name in ("8x8", "mnist1d", "awkward-1"):
        monkeypatch.setitem(CELLS, name, SIGNALS._replace(name=name, from_nothing=False))


@pytest.mark.parametrize("seconds", [20, 60, 120, 250, 1000])
@pytest.mark.parametrize("slowness", [0.5, 1, 4])
def test_a_budget_is_kept_on_every_machine_and_what_is_dropped_is_named(monkeypatch, tiny, seconds, slowness):
    machine = Machine(monkeypatch, slowness)
    cells = "8x8,mnist1d,awkward-1"
    found, took = machine.measure(seconds, cells=cells, trials="4,16", rounds=1)
    # Nothing is known of the machine before its first piece of work, which takes up to 4 × 8 s.
    assert took <= max(seconds, 8.1 * slowness)
    rated = [(row["cell"], row["trials"], row["contender"]) for row in found["rows"] if "rate" in row]
    rated = [each for each in rated if each[2] != "matmul"]
    dropped = [(row["cell"], row["trials"], row["what"]) for row in found["dropped"]]
    assert len(set(dropped)) == len(dropped)
    assert not set(rated) & set(dropped)
    every = work.in_order(cells.split(","), [4, 16], work.NAMES, work.PARTS)
    contests = {(each.cell, each.trials, each.contender) for each in every if each.trials}
    assert {each for each in (*rated, *dropped) if each[1]} == contests
    alone = {(each.cell, None, each.contender or each.part) for each in every if not each.trials}
    done = {(each.cell, None, each.contender or each.part) for each in machine.did} & alone
    assert done | set(dropped) & alone == alone
    assert not done & set(dropped)
    if seconds == 1000 and slowness < 4:
        assert dropped == []
    if seconds == 60 and slowness == 1:
        assert ("8x8", 16, "loop") in rated
        assert ("mnist1d", 16, "loop") in rated
        assert ("8x8", None, "saving") in dropped


def test_a_dropped_contender_has_a_row_that_says_so(monkeypatch, tiny):
    machine = Machine(monkeypatch, 1)
    found, _ = machine.measure(24, cells="8x8", trials="16", rounds=1, parts="contenders")
    assert [row["what"] for row in found["dropped"]]
    for dropped in found["dropped"]:
        absent = [row["absent"] for row in found["rows"] if row["contender"] == dropped["what"]]
        assert absent == ([run.NO_TIME] if dropped["what"] != "processes" else [])


def test_a_contender_that_turns_out_slow_is_not_timed(monkeypatch, tiny):
    machine = Machine(monkeypatch, 1)
    slow = CONTENDERS["loop"]._replace(prepare=machine.contender("loop", 2.5, 30.0))
    monkeypatch.setitem(CONTENDERS, "loop", slow)
    chosen = {"cells": "8x8", "trials": "16", "rounds": 1, "parts": "contenders", "contenders": "loop"}
    found, took = machine.measure(70, **chosen)
    absent = {row["contender"]: row.get("absent") for row in found["rows"]}
    assert absent == {"matmul": None, "jaxlab": None, "loop": run.NO_TIME}
    assert found["dropped"] == [{"cell": "8x8", "trials": 16, "what": "loop"}]
    assert took <= 70
    found, _ = machine.measure(1000, **chosen)
    assert found["dropped"] == []


@pytest.fixture
def nothing_begins(monkeypatch):
    """The first thing that would be measured fails the test."""
    monkeypatch.setattr(run, "fastest_matmul", lambda: pytest.fail("something is measured"))


def test_without_time_for_anything_everything_is_named_and_no_file_replaced(
    monkeypatch, tmp_path, capsys, nothing_begins
):
    names = "loop,scan,processes"
    absent = CONTENDERS["scan"]._replace(missing=lambda: "it is not installed")
    monkeypatch.setitem(CONTENDERS, "scan", absent)
    options = options_from(cells="8x8", trials="16", out=tmp_path, budget="2", contenders=names)
    found = run.benchmark(options, "the command")
    assert found["rows"] == found["summary"] == []
    assert not list(tmp_path.iterdir())
    text = report.markdown(found)
    said = "8x8 with 16 trials: jaxlab, loop; 8x8: processes, diagnostics, stopping, saving"
    assert f"**Not measured for lack of time** (2 s): {said}." in text
    assert f"Not measured for lack of time: {said}" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"--budget = 2\.0: nothing can be measured in that time"):
        run.exit_status(options)


def test_an_interruption_leaves_earlier_files_alone_and_keeps_what_was_measured(monkeypatch, tmp_path, tiny):
    machine = Machine(monkeypatch, 1)
    options = options_from(cells="8x8", trials="16", rounds=1, out=tmp_path, contenders="loop")
    name = device_name(environment())
    (tmp_path / f"{name}.md").write_text("an earlier table")

    def interrupted(*_):
        raise KeyboardInterrupt

    diagnosed = run.measure_diagnostics
    monkeypatch.setattr(run, "measure_diagnostics", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.benchmark(options, "the command")
    assert (tmp_path / f"{name}.md").read_text() == "an earlier table"
    text = (tmp_path / f"{name}-unfinished.md").read_text()
    assert "**Unfinished**" in text
    assert "| loop |" in text
    monkeypatch.setattr(run, "measure_diagnostics", diagnosed)
    run.benchmark(options, "the command")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.json", f"{name}.md"]
    assert "**Unfinished**" not in (tmp_path / f"{name}.md").read_text()
    assert machine.did


def test_time_spent_before_counts(tmp_path, nothing_begins):
    options = options_from(cells="8x8", trials="16", out=tmp_path, budget="1000", parts="contenders")
    assert run.benchmark(options, "the command", spent=999.0)["rows"] == []


def test_quick_has_a_budget_unless_another_is_given():
    assert options_from(quick=True).filled().budget == 180
    assert options_from(quick=True, budget="90").filled().budget == 90
    assert options_from().filled().budget is None


def test_processes_are_killed_when_their_time_is_over(monkeypatch):
    started = []
    popen = processes.subprocess.Popen

    def starting(*given, **more):
        started.append(popen(*given, **more))
        return started[-1]

    monkeypatch.setattr(processes.subprocess, "Popen", starting)
    monkeypatch.setitem(CELLS, "signals", SIGNALS)
    with pytest.raises(processes.TooLong):
        processes.measure_processes(SIGNALS, [4], 1, lambda: 0.0)
    assert len(started) == processes.at_once()
    assert all(each.returncode == -9 for each in started)
