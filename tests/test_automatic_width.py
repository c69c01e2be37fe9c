"""Automatic width: what trying may cost, memory, what is remembered, and the widths of a run."""

import json
import math
import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import digits, study
from test_engine import quadratic
from test_engine import settings as rates
from test_width import curve

from jaxlab import RunInterrupted, Study, space
from jaxlab.engine import clear_programs, compile_group, compile_programs, make_pack, train
from jaxlab.engine.width_cache import save_width
from jaxlab.errors import InputError
from jaxlab.store import read_records
from jaxlab.trial import Trial

ONE = np.float32(1)


class Clock:
    """A clock by which one call at width 2 takes 6.25 s, at 4 9 s, at 8 76 s: each reading is so much later."""

    def __init__(self):
        self.width, self.now, self.readings, self.tried = 2, 0.0, 0, []

    def tell(self, width):
        self.width = width
        self.tried.append(width)

    def __call__(self):
        self.readings += 1
        self.now += curve(4, 1, 1 / 16 if self.width < 8 else 1)(self.width)
        return self.now


def chosen_by(clock, trial, hyper, shared=ONE, epochs=20, **more):
    return compile_group(trial, hyper, shared, epochs, notify=clock.tell, clock=clock, **more)


def values(programs, hyper, epochs=2, shared=ONE):
    return [record.values for record in train(programs, hyper, shared, epochs)]


def test_one_trace_whatever_is_tried_and_the_bits_of_the_width_pinned():
    traces, clock = [], Clock()
    hyper = rates(np.linspace(0.1, 1.9, 32))
    choice = chosen_by(clock, quadratic(traces=traces), hyper)
    assert len(traces) == 1
    assert clock.tried == [2, 4, 8]
    assert choice.seconds == {2: 16 * 6.25, 4: 8 * 9.0, 8: 4 * 76.0}
    assert choice.programs.pack.width == 4
    assert choice.probe_seconds > 0
    pinned = compile_programs(quadratic(), rates([0.1]), ONE, make_pack(4))
    jax.tree.map(np.testing.assert_array_equal, values(choice.programs, hyper), values(pinned, hyper))


def test_a_sample_is_traced_once_and_timed():
    traces, shapes, clock = [], [], Clock()

    def evaluate(h, state, shared, final):
        shapes.append(shared.shape)
        return state, {"test_w" if final else "w": state[0] * shared[0]}

    trial = quadratic(traces=traces)._replace(evaluate=evaluate, sample=lambda shared: shared[:3])
    shared = np.ones(1000, np.float32)
    choice = chosen_by(clock, trial, rates(np.ones(32)), shared)
    assert len(traces) == 2
    assert list(dict.fromkeys(shapes)) == [(1000,), (3,)]
    assert choice.seconds.keys() == {2, 4, 8}
    assert len(values(choice.programs, rates(np.ones(32)), shared=shared)) > 0


def test_a_remembered_width_is_taken_without_trying(tmp_path):
    path, hyper = tmp_path / "widths.json", rates(np.ones(32))
    assert chosen_by(Clock(), quadratic(), hyper, cache=path).programs.pack.width == 4
    (key,) = json.loads(path.read_text())
    save_width(path, key, 8)
    clock = Clock()
    again = chosen_by(clock, quadratic(), hyper, cache=path)
    assert (again.programs.pack.width, again.seconds, clock.tried) == (8, {}, [])
    for trial, trials in ((quadratic(steps=11), 32), (quadratic(), 64)):
        other = chosen_by(Clock(), trial, rates(np.ones(trials)), cache=path)
        assert other.programs.pack.width == 4
    save_width(path, key, 7)  # no candidate: the file is somebody's mistake
    assert chosen_by(Clock(), quadratic(), hyper, cache=path).programs.pack.width == 4


def test_a_short_study_and_a_width_that_is_given_are_not_tried(tmp_path):
    """One that trains for 20 epochs at the speed of the real clock is short."""
    path, hyper, tried = tmp_path / "widths.json", rates(np.ones(32)), []

    def width_of(*arguments, **more):
        choice = compile_group(*arguments, cache=path, notify=tried.append, **more)
        assert choice.seconds == {}
        return choice.programs.pack.width

    assert width_of(quadratic(), hyper, ONE, 20, 5) == 5
    assert width_of(quadratic(), rates(np.ones(1)), ONE, 20) == 1
    assert width_of(quadratic(), hyper, ONE, 1) == 2
    assert not path.exists()
    assert width_of(quadratic(), hyper, ONE, 20) == 2
    assert tried == []
    # The same study again is not even timed; one of more epochs is.
    assert readings(quadratic(), hyper, 20, cache=path) == 2
    assert readings(quadratic(), hyper, 21, cache=path) > 2


def readings(trial, hyper, epochs, **more):
    """How often the clock is read: twice where nothing is timed."""
    clock = Clock()
    chosen_by(clock, trial, hyper, epochs=epochs, devices=jax.devices()[:1], **more)
    return clock.readings


@pytest.mark.parametrize(
    ("trials", "sample", "estimated"),
    [(32, None, False), (34, None, True), (10, True, False), (12, True, True)],
)
def test_no_estimate_where_it_would_cost_a_good_part_of_the_training(trials, sample, estimated):
    trial = quadratic()._replace(sample=(lambda shared: shared) if sample else None)
    hyper = rates(np.ones(trials))
    assert (readings(trial, hyper, 1) > 2) == estimated


EXHAUSTED = "RESOURCE_EXHAUSTED: Out of memory allocating 1 byte"


@pytest.fixture
def compiler(monkeypatch):
    """``compiler(message, width)``: JAX's compiler raises an error from that width on."""
    compile_ = jax.stages.Lowered.compile

    def fail(message, from_width=1):
        def compile_or_fail(lowered, *arguments, **more):
            (lanes,) = {leaf.shape[0] for leaf in jax.tree.leaves(lowered.args_info[0][0])}
            if lanes >= from_width:
                raise jax.errors.JaxRuntimeError(message)
            return compile_(lowered, *arguments, **more)

        monkeypatch.setattr(jax.stages.Lowered, "compile", compile_or_fail)

    clear_programs()  # a program that is held is not compiled again
    return fail


def test_out_of_memory_while_trying_is_a_smaller_width(compiler):
    compiler(EXHAUSTED, from_width=4)
    choice = chosen_by(Clock(), quadratic(), rates(np.ones(32)))
    assert choice.seconds[4] == math.inf
    assert choice.programs.pack.width < 4


@pytest.mark.parametrize("fitting", [1, 0])
def test_out_of_memory_at_the_first_width_tried_goes_down(monkeypatch, fitting):
    """Width 2 fits until it is timed; then only width 1 fits, or none."""
    free = [math.inf, 0, math.inf if fitting else 0]
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=free.pop(0)))
    if fitting:
        assert chosen_by(Clock(), quadratic(), rates(np.ones(32))).programs.pack.width == 1
    else:
        with pytest.raises(InputError, match="out of memory even at width 1"):
            chosen_by(Clock(), quadratic(), rates(np.ones(32)))
    assert free == []


def test_no_more_devices_than_trials(monkeypatch):
    make_mesh, used = jax.make_mesh, []

    def on_one_device(shape, names, *, devices, **more):
        used.append(devices)
        return make_mesh((1,), names, devices=devices[:1], **more)

    monkeypatch.setattr(jax, "make_mesh", on_one_device)
    compile_group(quadratic(), rates(np.ones(3)), ONE, 2, devices=jax.devices() * 4)
    compile_group(quadratic(), rates(np.ones(3)), ONE, 2, width=2, devices=jax.devices() * 4)
    assert [len(devices) for devices in used] == [3, 2]


@pytest.mark.parametrize(("examples", "kept"), [(150, 128), (40, 40), (32, 32)])
def test_a_supervised_trial_offers_a_few_batches(examples, kept):
    its = study(space.grid(seed=range(4)), data=digits(train=examples), model="mlp", features=[3])
    (group,) = its.groups
    few = its.trial_of(group).sample(its.arrays)
    assert [len(array) for array in few["train"]] == [kept] * 2
    assert all(few[split][0].dtype == its.arrays[split][0].dtype for split in its.arrays)


def test_a_rule_of_thumb_too_large_for_the_memory_gives_way(compiler):
    compiler(EXHAUSTED, from_width=2)
    assert compile_group(quadratic(), rates(np.ones(32)), ONE, 20).programs.pack.width == 1
    compiler(EXHAUSTED)
    with pytest.raises(InputError, match="width = 'auto': out of memory even at width 1"):
        compile_group(quadratic(), rates(np.ones(32)), ONE, 20)


def test_a_width_that_the_estimate_refuses_gives_way_but_never_the_smallest(free_memory):
    free_memory(1)
    assert compile_group(quadratic(), rates(np.ones(32)), ONE, 20).programs.pack.width == 1


def test_other_errors_are_not_taken_for_memory(compiler):
    compiler("INTERNAL: broken")
    with pytest.raises(jax.errors.JaxRuntimeError, match="broken"):
        compile_group(quadratic(), rates(np.ones(32)), ONE, 20)


def own_trial(configuration):
    def train_segment(h, w, target, epoch):
        return w - h.learning_rate * configuration.curvature * (w - target), {"size": jnp.abs(w)}

    def evaluate(h, w, target, final):
        return w, {"last" if final else "loss": 0.5 * configuration.curvature * jnp.sum((w - target) ** 2)}

    return Trial(lambda h, target: jnp.zeros(2), train_segment, evaluate)


def own_study(curvatures=(1.0, 2.0, 3.0), learning_rates=8):
    grid = space.grid(curvature=list(curvatures), learning_rate=list(np.linspace(0.1, 1, learning_rates)))
    shared = np.ones(2, np.float32)
    return Study(None, grid, 3, {"curvature": 1.0}, {"learning_rate": 0.1}, trial=own_trial, shared=shared)


def widths_in(folder):
    description = json.loads((folder / "run.json").read_text())
    return [group["width"] for group in description["groups"]]


def test_a_run_keeps_the_width_of_each_group(tmp_path):
    results = own_study().run(tmp_path / "run")
    assert results.attrs["width"] == 2
    assert widths_in(tmp_path / "run") == [2, 2, 2]
    unfinished = shutil.copytree(tmp_path / "run", tmp_path / "unfinished")
    (unfinished / "complete").unlink()
    for part in ("records", "checkpoints"):
        shutil.rmtree(unfinished / part)
    (unfinished / "records").mkdir()
    description = json.loads((unfinished / "run.json").read_text())
    for group, width in zip(description["groups"], [4, None, 3], strict=True):
        group["width"] = width
    (unfinished / "run.json").write_text(json.dumps(description))
    again = own_study().run(unfinished)
    assert list(again.attrs["width"]) == [4, 2, 3]
    assert widths_in(unfinished) == [4, 2, 3]
    for name in ("records", "checkpoints"):
        shutil.rmtree(unfinished / name)
    (unfinished / "records").mkdir()
    (unfinished / "complete").unlink()
    with pytest.raises(InputError, match=r"the width is 1 and was 2 and 3 and 4; .*--accept-changes"):
        own_study().run(unfinished, width=1)
    assert own_study().run(unfinished, width=1, accept_changes=True).attrs["width"] == 1


def test_the_width_is_on_disk_before_any_record_of_its_group(tmp_path):
    seen = []

    def look(progress):
        if (tmp_path / "run" / "run.json").exists():
            recorded = {group for group, _ in read_records(tmp_path / "run" / "records").epochs}
            known = [width is not None for width in widths_in(tmp_path / "run")]
            seen.append((len(recorded), sum(known)))

    own_study().run(tmp_path / "run", width="auto", progress=look)
    assert all(recorded <= known for recorded, known in seen)
    assert {known for _, known in seen} == {1, 2, 3}


def test_a_study_remembers_only_where_it_is_told_to(tmp_path, monkeypatch):
    """So many epochs take minutes: finding the width pays, and training stops at its first call."""
    monkeypatch.chdir(tmp_path)
    long = Study(
        space=space.grid(curvature=list(np.linspace(0.5, 1, 32))),
        epochs=50_000,
        hyperparameters={"curvature": 1.0, "learning_rate": 0.1},
        trial=lambda configuration: quadratic(steps=1000),
        shared=ONE,
    )

    def begun(**options):
        """What was reported until training began."""
        seen = []
        with pytest.raises(RunInterrupted):
            long.run(
                progress=seen.append, stop=lambda: bool(seen) and seen[-1].phase == "training", **options
            )
        return seen

    assert "probing" in [progress.phase for progress in begun()]
    assert not list(tmp_path.iterdir())
    width = long.plan(width_cache=tmp_path / "widths.json").groups[0].width
    again = begun(width_cache=tmp_path / "widths.json")
    assert "probing" not in [progress.phase for progress in again]
    assert again[-1].width == width


@pytest.mark.parametrize("width", [0, -1, True, "many"])
def test_width_is_auto_or_a_whole_number(width):
    for call in (own_study().run, own_study().plan):
        with pytest.raises(InputError, match=f"width = {width!r}: give .*a whole number >= 1"):
            call(width=width)
