"""Contenders of the benchmark: the same problem, the same losses, or no row."""

import jax
import numpy as np
import pytest
from benchmarked import IMAGES, SIGNALS, fake, right

from benchmark import contest, processes, pytorch, run, timing
from benchmark.cells import AWKWARD, CELLS, Cell, awkward, layers_of, sizes_of, step_flops
from benchmark.contenders import CONTENDERS, fused
from benchmark.machine import Matmul
from benchmark.problem import CHECKED_STEPS, Contender, Prepared, disagreement, epoch_steps, make_problem


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
