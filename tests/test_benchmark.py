"""The benchmark: same losses or no row, arithmetic by hand, tables; nothing here is timed."""

import json

import jax
import numpy as np
import pytest

from jaxlab.benchmark import diagnostics, measure, others, report, run, studies, summary, timing
from jaxlab.benchmark.awkward import awkward
from jaxlab.benchmark.cells import CELLS, Cell
from jaxlab.benchmark.check import disagreement
from jaxlab.benchmark.contenders import CONTENDERS, Contender, Prepared
from jaxlab.benchmark.contenders import torch_network as net
from jaxlab.benchmark.environment import device_name
from jaxlab.benchmark.flops import layers_of, sizes_of, step_flops
from jaxlab.benchmark.main import main, options_from
from jaxlab.benchmark.problem import CHECKED_STEPS, epoch_steps, make_problem
from jaxlab.errors import InputError

IMAGES = Cell("images", (6, 5, 2), 8, (3, 4), short_trial=4)
SIGNALS = Cell("signals", (12, 1), 8, (3, 4), (5, 3), 2, 1, 1)


@pytest.fixture(scope="module", params=[IMAGES, SIGNALS], ids=lambda cell: cell.name)
def trained(request):
    """Three trials of a tiny cell, and jaxlab's losses over two epochs."""
    problem = make_problem(request.param, 3, 4)
    ours = CONTENDERS["jaxlab"].prepare(problem, 4)
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
    made = run.fused(problem, problem.steps, width=width)
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
    matmul = measure.Matmul(1, matmuls.append, 1e-3)
    (rows,) = measure.measure_cell(SIGNALS, [2], contenders, matmul, measure.Plan(1, 1e-3))
    found = {row["contender"]: row for row in rows}
    assert found["other"]["wrong"]
    assert f"trial {trial}, step {step + 1}" in found["other"]["absent"]
    assert calls == [1] * -(-CHECKED_STEPS // make_problem(SIGNALS, 2).steps)
    assert "rate" in found["good"]
    assert run.wrong({"rows": rows}) == ["other"]


def test_nobody_is_timed_without_a_reference():
    def out_of_memory(problem, steps):
        raise MemoryError("RESOURCE_EXHAUSTED: no room")

    contenders = {"jaxlab": fake(out_of_memory, []), "good": fake(right, [])}
    matmul = measure.Matmul(1, lambda calls: None, 1e-3)
    (rows,) = measure.measure_cell(SIGNALS, [2], contenders, matmul, measure.Plan(1, 1e-3))
    assert [row.get("absent") for row in rows[1:]] == [
        "out of memory",
        "jaxlab has no losses to check it against",
    ]


def test_other_errors_are_not_swallowed():
    def broken(problem, steps):
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        measure.prepared(fake(broken, []), make_problem(SIGNALS, 1), None)


@pytest.mark.parametrize("shape", [(2, CHECKED_STEPS - 1), (3, CHECKED_STEPS)])
def test_too_few_losses_are_no_agreement(shape):
    assert "to compare" in disagreement(np.ones(shape), np.ones((2, CHECKED_STEPS)))


def test_epsilon_outside_the_root_is_found_out(monkeypatch, trained):
    torch = pytest.importorskip("torch")
    problem, reference = trained

    def outside(weights, gradients, squares, steps):
        for w, g, v, minus_eta in zip(weights, gradients, squares, steps, strict=True):
            v.mul_(net.DECAY).addcmul_(g, g, value=1 - net.DECAY)
            w.add_(minus_eta * g / (torch.sqrt(v) + 1e-3))

    monkeypatch.setattr(net, "update", outside)
    found, _ = measure.prepared(CONTENDERS["torch-loop"], problem, reference)
    assert isinstance(found, measure.Refused)
    assert found.wrong


def ready(trials, steps, per_call):
    return measure.Ready(Prepared(lambda calls: np.zeros((1, 1)), trials, steps), per_call)


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
    assert measure.trials_for(CONTENDERS["loop"]._replace(enough=enough), count, last) == expected


def test_what_takes_too_long_side_by_side_has_no_row():
    problem = make_problem(SIGNALS, 2)
    assert measure._too_slow(CONTENDERS["vmap"], problem, ready(1, 2, 4.0)) == ""
    assert measure._too_slow(CONTENDERS["vmap"], problem, ready(1, 2, 20.0)).endswith("about 20 s")
    assert measure._too_slow(CONTENDERS["loop"], problem, ready(1, 2, 20.0)) == ""


def test_median_and_quartiles():
    assert timing.spread([5.0, 1.0, 2.0, 4.0, 3.0]) == timing.Spread(3.0, 2.0, 4.0)
    assert timing.spread([2.0]) == timing.Spread(2.0, 2.0, 2.0)
    row = measure.rate_columns(100, [1.0, 4.0, 2.0])
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


@pytest.mark.parametrize(
    ("per_call", "calls", "rounds"), [(0.1, 5, 7), (0.5, 1, 7), (4.0, 1, 3), (100.0, 1, 2), (1e-9, 500000, 7)]
)
def test_calls_and_rounds_fit_the_time(per_call, calls, rounds):
    planned = timing.plan(print, per_call, 7, 0.5)
    assert (planned.calls, planned.rounds) == (calls, rounds)


def row(cell, trials, name, seconds, **more):
    """Of 60 trial-steps a call."""
    return {"cell": cell, "trials": trials, "contender": name} | measure.rate_columns(60, seconds) | more


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
        "64 trials, three in four of which stop after 2 of 20 epochs, take of the full time, a"
    )
    assert (stopping["value"], stopping["unit"]) == (50.0, "%")
    assert stopping["detail"] == "4.0 s at width 2 against 8.0 s at width 4; the ideal is 32.5 %"
    assert (saving["goal"], saving["value"]) == ("a run folder costs, b", pytest.approx(1))
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
    rows = summary.with_shares(ROWS, {"a": 5, "b": 10})
    whole = [{"cell": "a", "trials": 64, "steps": 9, "processes_seconds": 90, "processes_run": 4}]
    whole[0]["jaxlab_seconds"] = 9.0
    costs = [{"cell": "a", "epoch_ratio": 1.1, "evaluation_ratio": 1.25}]
    measured = {"rows": rows, "from_nothing": whole, "diagnostics": costs}
    found = {each["goal"]: each for each in summary.summarise(measured)}
    assert found["worst ratio against the best other"]["value"] == pytest.approx(0.5)
    assert found["worst ratio against the best other"]["detail"] == "b, 16 trials, loop"
    (loop,) = [each for goal, each in found.items() if "jitted loop" in goal]
    assert loop["value"] == pytest.approx(np.sqrt(4 * 0.5))
    (processes,) = [each for goal, each in found.items() if "process per trial" in goal]
    assert processes["value"] == pytest.approx(10)
    # 20 trial-steps/s of 5 FLOP, and 30 of 10, of the better of the two matmuls.
    assert found["share of the matmul rate, a"]["value"] == pytest.approx(10)
    assert found["share of the matmul rate, b"]["value"] == pytest.approx(30)
    assert found["an epoch with diagnostics takes longer by, a"]["value"] == pytest.approx(10)
    assert "by 25 %" in found["an epoch with diagnostics takes longer by, a"]["detail"]
    assert summary.disturbed(rows) == [("b", 16)]


@pytest.mark.parametrize(("busy", "own", "share"), [(3.0, 3.0, 0.0), (3.0, 1.0, 0.5), (2.9, 3.0, 0.0)])
def test_what_others_take_is_busy_time_that_is_not_ours(monkeypatch, busy, own, share):
    monkeypatch.setattr(others, "cores", lambda: 2)
    found = others.others_share(others.Clock(10.0, 100.0, 50.0), others.Clock(12.0, 100.0 + busy, 50.0 + own))
    assert found == pytest.approx(share)
    assert others.others_share(None, None) is None


def test_the_clock_counts_our_own_work():
    before = others.clock()
    if before is None:
        pytest.skip("no /proc/stat")
    while (now := others.clock()).own < before.own + 0.3:
        pass
    assert now.busy >= before.busy + 0.2


@pytest.fixture
def found():
    rows = summary.with_shares(ROWS, {"a": 5, "b": 10})
    where = {"platform": "cpu", "device_kind": "cpu", "devices": 2, "processor": "chip", "cores": 2}
    return {
        "environment": where | {"versions": {"jax": "1.2"}, "date": "2026-01-02"},
        "command": "python scripts/benchmark.py",
        "contenders": {"jaxlab": "ours", "loop": "theirs"},
        "cells": {"a": {"words": "About a."}, "b": {"words": "About b."}},
        "rows": rows,
        "summary": summary.summarise({"rows": rows, "stopping": STOPPING, "saving": SAVING}),
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
    assert "something else as well** in the rounds of b with 16 trials:" in text
    assert "other processes took 30 % of the cores" in text
    assert "Studies are absent of c (a study takes about 180 s)." in text
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
        (["--trials", "4,many"], "--trials = 'many'"),
        (["--trials", "0"], "--trials = 0"),
        (["--trials", ","], "--trials = []"),
        (["--rounds", "0"], "--rounds = 0"),
        (["--width", "-1"], "--width = -1"),
        (["--out", __file__], "give a folder"),
    ],
)
def test_bad_options_are_one_line_and_status_2(arguments, message, capsys):
    assert main("", arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.count("\n") == 1


def test_the_command_line_says_the_same():
    cli = pytest.importorskip("jaxlab.cli.benchmark")
    with pytest.raises(InputError, match="did you mean '8x8'"):
        cli.benchmark(cells="8x9")


def test_ours_is_always_among_the_contenders():
    options = options_from(contenders="vmap", trials="16,4,4", cells="28x28").filled()
    assert options.contenders == ("jaxlab", "vmap")
    assert options.trials == [4, 16]
    assert options.cells == ("28x28",)


def test_the_silent_network_counts_no_units():
    problem = make_problem(IMAGES, 1, 2)
    quiet, loud = (diagnostics.trial_of(problem, kind) for kind in (diagnostics.OutputsOnly, diagnostics.CNN))
    assert quiet.coordinates["layer"] == ()
    assert loud.coordinates["layer"] == ("conv_0", "conv_1")


def test_the_whole_benchmark_of_a_tiny_cell(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(CELLS, "images", IMAGES)
    options = options_from(
        cells="images", trials="2", contenders="loop", rounds=1, out=tmp_path, width=1, quick=True
    )
    found = run.benchmark(options, "the command")
    rows = [(row["trials"], row["contender"]) for row in found["rows"]]
    assert rows == [(2, name) for name in ("matmul", "jaxlab", "loop")]
    assert all(row["rate"] > 0 and len(row["seconds"]) == 1 for row in found["rows"][1:])
    assert not run.wrong(found)
    written = sorted(path.name for path in tmp_path.iterdir())
    assert [name.partition("-quick")[1:] for name in written] == [("-quick", ".json"), ("-quick", ".md")]
    assert "the command" in (tmp_path / written[1]).read_text()
    assert f"wrote {tmp_path / written[1]}" in capsys.readouterr().err


STUDIES = Cell("study", (8, 8, 1), 4, (2,), (3,))


def test_studies_of_a_tiny_cell(monkeypatch, tmp_path):
    monkeypatch.setattr(studies, "SAVED_SECONDS", 0.2)
    found = studies.measure_studies(STUDIES, None, 2, ["stopping", "saving"])
    (stopping,), (saving,) = found["stopping"], found["saving"]
    assert stopping["trials"] == saving["trials"] == 64
    assert set(stopping["widths"]) == {"full", "stopping"}
    assert [len(each) for each in (*stopping["seconds"].values(), *saving["seconds"].values())] == [2] * 4
    assert stopping["ideal"] == pytest.approx(0.325)
    ratios = np.divide(stopping["seconds"]["stopping"], stopping["seconds"]["full"])
    assert stopping["share"] == pytest.approx(np.median(ratios))
    ratios = np.divide(saving["seconds"]["with"], saving["seconds"]["without"])
    assert saving["ratio"] == pytest.approx(np.median(ratios))


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
        monkeypatch.setattr("jaxlab.store.folder._LIBRARIES", ("zarr", "no_such_library"))
    found = studies.measure_studies(CELLS[cell], None, 1, ["stopping", "contenders"])
    assert found["saving"] == []
    (row,) = found["stopping"]
    assert row["absent"] in ("a study takes about 790 s", "no_such_library is not installed")
    assert summary.summarise(found) == []


@pytest.mark.slow
def test_processes_have_the_losses_of_the_trials_they_train(monkeypatch):
    from jaxlab.benchmark import processes

    monkeypatch.setattr(processes, "SHORT_TRIALS", 2)
    cell = CELLS["mnist1d"]
    rows, whole = processes.measure_processes(cell, [1, 5], 1)
    assert [row["trials"] for row in rows] == [1, 5]
    width = processes.at_once()
    assert rows[1]["seconds"][0] == pytest.approx(-(-5 // width) * rows[0]["batch_seconds"][0])
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
