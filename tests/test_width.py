"""Automatic width: the search on synthetic curves, what trying may cost, memory, and what is width_cache."""

import json
import math
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import digits, study
from test_engine import quadratic
from test_engine import settings as rates

from jaxlab import Study, space
from jaxlab.engine import compile_group, compile_programs, make_pack, memory, probe, train
from jaxlab.engine.width import candidates, choose, pack_count, search
from jaxlab.engine.width_cache import load_width, save_width
from jaxlab.errors import InputError
from jaxlab.store import read_log
from jaxlab.study.resolve import hyperparameters_in
from jaxlab.trial import Trial

ONE = np.float32(1)


def curve(overhead, linear, quadratic):
    """Seconds of one call: a cost per call, one per trial, and one of outgrowing the cache."""
    return lambda width: overhead + linear * width + quadratic * width**2


@pytest.mark.parametrize(
    ("seconds_of", "best"),
    [
        (curve(0, 1, 0.01), 1),  # cores that are busy with one trial
        (curve(1, 1, 0.01), 8),
        (curve(1, 0.001, 0), 256),  # an accelerator that one trial leaves idle
        (curve(4, 1, 1 / 16), 8),
        (lambda width: math.inf if width > 4 else 1 + width / 100, 4),
        (lambda width: math.inf if width > 16 else 1 + width / 100, 16),
    ],
)
@pytest.mark.parametrize("first", [1, 2, 32, 256])
def test_the_fastest_width_is_found_from_any_start(seconds_of, best, first):
    widths = candidates(2, first, 256)
    found = search(seconds_of, widths, first, 256)
    assert choose(found) == best
    assert found[best] == seconds_of(best) * 256 / best
    between = widths[min(widths.index(first), widths.index(best)) : max(map(widths.index, (first, best))) + 1]
    assert len(found) <= len(between) + 2


@settings(deadline=None, max_examples=200)
@given(
    st.integers(1, 3000),
    st.sampled_from([2, 4]),
    st.integers(1, 256),
    st.floats(0, 5),
    st.floats(0.01, 1),
    st.floats(0, 0.1),
)
def test_what_is_found_is_no_worse_than_its_neighbours(trials, base, thumb, overhead, linear, cliff):
    thumb = min(thumb, trials)
    widths, seconds_of = candidates(base, thumb, trials), curve(overhead, linear, cliff)
    score = {width: seconds_of(width) * pack_count(width, trials) for width in widths}
    width = choose(search(seconds_of, widths, thumb, trials))
    at = widths.index(width)
    assert score[width] <= min(score[each] for each in widths[max(at - 1, 0) : at + 2])
    assert score[width] <= score[thumb]


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 5000), st.sampled_from([2, 4]), st.integers(1, 256))
def test_candidates_waste_little(trials, base, thumb):
    thumb = min(thumb, trials)
    widths = candidates(base, thumb, trials)
    assert widths == sorted(set(widths))
    assert {1, thumb, trials} <= set(widths)
    assert widths[-1] == trials
    assert all(width * pack_count(width, trials) <= 1.25 * trials for width in set(widths) - {thumb})


def test_padding_counts():
    assert candidates(2, 2, 39) == [1, 2, 4, 8, 16, 39]  # 16 takes 48 lanes, 32 would take 64
    even = search(lambda width: 1.0, [4, 5], 4, 5)
    assert even == {4: 2.0, 5: 1.0}


def test_nothing_is_tried_that_does_not_pay():
    tried = []

    def seconds_of(width):
        tried.append(width)
        return 1.0

    assert search(seconds_of, [1, 2, 4, 8, 16], 2, 16, worth=lambda seconds: seconds > 3) == {
        2: 8.0,
        4: 4.0,
        8: 2.0,
    }
    assert tried == [2, 4, 8]
    assert search(seconds_of, [1, 2, 4], 2, 4, worth=lambda seconds: False) == {2: 2.0}


def test_the_smallest_width_within_a_tenth():
    seconds_of = {1: 1.0, 2: 1.05, 4: 1.98, 8: 3.96}.__getitem__  # all trials: 8, 4.2, 3.96, 3.96
    found = search(seconds_of, [1, 2, 4, 8], 8, 8, smallest_within=0.1)
    assert choose(found, 0.1) == 2
    assert choose(search(seconds_of, [1, 2, 4, 8], 8, 8)) == 4
    assert choose(search(seconds_of, [1, 2, 4, 8], 4, 8, smallest_within=0.1), 0.1) == 2


def test_smaller_widths_are_looked_at_although_larger_ones_help():
    seconds_of = {1: 0.51, 2: 1.0, 4: 1.98, 8: 3.97}.__getitem__  # all trials: 4.08, 4, 3.96, 3.97
    found = search(seconds_of, [1, 2, 4, 8], 2, 8, smallest_within=0.1)
    assert (choose(found), choose(found, 0.1)) == (4, 1)
    assert 1 not in search(seconds_of, [1, 2, 4, 8], 2, 8)


def test_what_does_not_fit_is_not_made_larger():
    found = search(lambda width: math.inf if width > 2 else 1.0, [1, 2, 4, 8], 4, 8)
    assert found == {4: math.inf, 2: 4.0, 1: 8.0}


def test_widths_are_remembered(tmp_path):
    path = tmp_path / "new" / "widths.json"
    assert load_width(path, "a") is None
    save_width(path, "a", 4)
    save_width(path, "b", 16)
    save_width(path, "a", 8)
    assert (load_width(path, "a"), load_width(path, "b"), load_width(path, "c")) == (8, 16, None)
    assert [each.name for each in path.parent.iterdir()] == ["widths.json"]
    assert load_width(None, "a") is None
    save_width(None, "a", 4)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"\xff\xfe", b'{"a": "4"}', b'{"a": 0}', b'{"a": true}']
)
def test_a_damaged_file_is_as_if_absent(tmp_path, content):
    path = tmp_path / "widths.json"
    path.write_bytes(content)
    assert load_width(path, "a") is None
    save_width(path, "b", 4)
    assert load_width(path, "b") == 4


def test_a_file_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "widths.json", tmp_path):
        save_width(path, "a", 4)
        assert load_width(path, "a") is None
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_devices_of_a_cpu_share_the_hosts_memory(monkeypatch):
    monkeypatch.setattr(memory, "free_on_host", lambda: 1000.0)
    (device,) = jax.devices()[:1]
    assert memory.fits(900, [device])
    assert not memory.fits(901, [device])
    assert memory.fits(450, [device] * 2)
    assert not memory.fits(451, [device] * 2)


def test_memory_is_known_without_psutil(monkeypatch):
    total = psutil.virtual_memory().total
    assert 0 < memory.free_on_host() <= total
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert memory.free_on_host() == pytest.approx(total / 2, rel=0.1)
    monkeypatch.delattr("os.sysconf")
    assert memory.free_on_host() == math.inf


@pytest.fixture
def eager(monkeypatch):
    """Trying costs nothing, so every width that may help is tried; a made-up clock decides, 4 being fastest."""
    monkeypatch.setattr(probe, "_TRAINING_TO_PROBE", 0)
    monkeypatch.setattr(probe, "_TIMING_SECONDS", 0.0)
    real, shapes = probe._time_width, []

    def seconds_at(job, traced, shared, width, *more):
        real(job, traced, shared, width, *more)
        shapes.append((width, jax.tree.map(np.shape, shared)))
        return curve(4, 1, 1 / 16 if width < 8 else 1)(width)

    monkeypatch.setattr(probe, "_time_width", seconds_at)
    return shapes


def records(programs, hyper, epochs=2, shared=ONE):
    return [piece.record for piece in train(programs, hyper, shared, epochs)]


def test_one_trace_whatever_is_tried_and_the_bits_of_the_width_pinned(eager):
    traces, told = [], []
    hyper = rates(np.linspace(0.1, 1.9, 32))
    choice = compile_group(quadratic(traces=traces), hyper, ONE, 20, notify=told.append)
    assert len(traces) == 1
    assert told == [2, 4, 8] == [width for width, _ in eager]
    assert choice.programs.pack.width == 4
    assert min(choice.seconds, key=choice.seconds.get) == 4
    assert choice.probe_seconds > 0
    pinned = compile_programs(quadratic(), rates([0.1]), ONE, make_pack(4))
    jax.tree.map(np.testing.assert_array_equal, records(choice.programs, hyper), records(pinned, hyper))


def test_a_sample_is_traced_once_and_timed(eager):
    traces = []
    trial = quadratic(traces=traces)._replace(
        evaluate=lambda h, state, shared, final: (state, {"test_w" if final else "w": state[0] * shared[0]}),
        sample=lambda shared: shared[:3],
    )
    shared = np.ones(1000, np.float32)
    choice = compile_group(trial, rates(np.ones(32)), shared, 20)
    assert len(traces) == 2
    assert eager == [(2, (3,)), (4, (3,)), (8, (3,))]
    assert len(records(choice.programs, rates(np.ones(32)), shared=shared)) > 0


def test_a_remembered_width_is_taken_without_trying(eager, tmp_path):
    path, hyper = tmp_path / "widths.json", rates(np.ones(32))
    assert compile_group(quadratic(), hyper, ONE, 20, cache=path).programs.pack.width == 4
    (key,) = json.loads(path.read_text())
    save_width(path, key, 8)
    eager.clear()
    again = compile_group(quadratic(), hyper, ONE, 20, cache=path)
    assert (again.programs.pack.width, again.seconds, eager) == (8, {}, [])
    for other in (
        compile_group(quadratic(steps=11), hyper, ONE, 20, cache=path),
        compile_group(quadratic(), rates(np.ones(64)), ONE, 20, cache=path),
    ):
        assert other.programs.pack.width == 4
    save_width(path, key, 7)  # no candidate: the file is somebody's mistake
    assert compile_group(quadratic(), hyper, ONE, 20, cache=path).programs.pack.width == 4


def test_a_short_study_and_a_width_that_is_given_are_not_tried(monkeypatch, tmp_path):
    def never(*arguments):
        raise AssertionError

    path, hyper = tmp_path / "widths.json", rates(np.ones(32))
    monkeypatch.setattr(probe, "_search_width", never)
    assert compile_group(quadratic(), hyper, ONE, 20, 5, cache=path).programs.pack.width == 5
    assert compile_group(quadratic(), rates(np.ones(1)), ONE, 20, cache=path).programs.pack.width == 1
    assert compile_group(quadratic(), hyper, ONE, 1, cache=path).programs.pack.width == 2
    assert not path.exists()
    assert compile_group(quadratic(), hyper, ONE, 20, cache=path).programs.pack.width == 2
    real = probe._estimate_training
    monkeypatch.setattr(probe, "_estimate_training", never)  # the same study again is not even timed
    assert compile_group(quadratic(), hyper, ONE, 20, cache=path).programs.pack.width == 2
    tried = []
    monkeypatch.setattr(probe, "_estimate_training", lambda *job: tried.append(job) or real(*job))
    compile_group(quadratic(), hyper, ONE, 21, cache=path)
    assert len(tried) == 1


def test_a_long_study_is_tried(monkeypatch):
    monkeypatch.setattr(probe, "_estimate_training", lambda job, programs: 1e6)
    monkeypatch.setattr(probe, "_TIMING_SECONDS", 0.0)
    assert len(compile_group(quadratic(), rates(np.ones(32)), ONE, 20).seconds) > 1


@pytest.mark.parametrize(
    ("trials", "sample", "estimated"),
    [(32, None, False), (34, None, True), (10, True, False), (12, True, True)],
)
def test_no_estimate_where_it_would_cost_a_good_part_of_the_training(trials, sample, estimated):
    trial = quadratic()._replace(sample=(lambda shared: shared) if sample else None)
    hyper = rates(np.ones(trials))
    traced = probe.trace(trial, probe.rows(hyper, 0), ONE)
    job = probe._Job(trial, hyper, ONE, jax.devices()[:1], 1, trials, traced, "auto")
    found = probe._estimate_training(job, probe.compile_traced(traced, make_pack(2)))
    assert (found > 0) == estimated


def exhausted(*arguments):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 byte")


def test_out_of_memory_while_trying_is_a_smaller_width(monkeypatch):
    monkeypatch.setattr(probe, "_TRAINING_TO_PROBE", 0)
    monkeypatch.setattr(probe, "_TIMING_SECONDS", 0.0)
    real = probe.compile_stages
    monkeypatch.setattr(
        probe,
        "compile_stages",
        lambda traced, pack, *more: (real if pack.width < 4 else exhausted)(traced, pack, *more),
    )
    choice = compile_group(quadratic(), rates(np.ones(32)), ONE, 20)
    assert choice.seconds[4] == math.inf
    assert choice.programs.pack.width < 4


@pytest.mark.parametrize("fitting", [1, 0])
def test_out_of_memory_at_the_first_width_tried_goes_down(monkeypatch, fitting):
    monkeypatch.setattr(probe, "_TRAINING_TO_PROBE", 0)
    monkeypatch.setattr(probe, "_time_width", lambda *job: 1.0 if job[3] <= fitting else math.inf)
    if fitting:
        assert compile_group(quadratic(), rates(np.ones(32)), ONE, 20).programs.pack.width == 1
    else:
        with pytest.raises(InputError, match="out of memory even at width 1"):
            compile_group(quadratic(), rates(np.ones(32)), ONE, 20)


def test_no_more_devices_than_trials(monkeypatch):
    used = []
    monkeypatch.setattr(probe, "make_pack", lambda width, devices: used.append(devices) or make_pack(width))
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


def test_a_supervised_trial_is_tried_on_a_few_batches(eager):
    its = study(space.grid(seed=range(4)), model="mlp", features=[3])
    (group,) = its.groups
    choice = compile_group(its.trial_of(group), hyperparameters_in(group), its.arrays, 50)
    assert choice.seconds.keys() >= {2, 4}
    assert all(shapes["train"][0][0] == 128 for _, shapes in eager)


def test_a_rule_of_thumb_too_large_for_the_memory_gives_way(monkeypatch):
    real = probe.compile_traced
    monkeypatch.setattr(
        probe,
        "compile_traced",
        lambda traced, pack, *more: (real if pack.width < 2 else exhausted)(traced, pack, *more),
    )
    assert compile_group(quadratic(), rates(np.ones(32)), ONE, 20).programs.pack.width == 1
    monkeypatch.setattr(probe, "compile_traced", exhausted)
    with pytest.raises(InputError, match="width = 'auto': out of memory even at width 1"):
        compile_group(quadratic(), rates(np.ones(32)), ONE, 20)


def test_a_width_that_the_estimate_refuses_gives_way_but_never_the_smallest(monkeypatch):
    monkeypatch.setattr(memory, "free_on_host", lambda: 1.0)
    assert compile_group(quadratic(), rates(np.ones(32)), ONE, 20).programs.pack.width == 1


def test_other_errors_are_not_taken_for_memory(monkeypatch):
    def broken(*arguments):
        raise jax.errors.JaxRuntimeError("INTERNAL: broken")

    monkeypatch.setattr(probe, "compile_traced", broken)
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
    return [group["width"] for group in description["groups"]], description["environment"]["width"]


def test_a_run_keeps_the_width_of_each_group(tmp_path):
    results = own_study().run(tmp_path / "run")
    assert results.attrs["width"] == 2
    assert widths_in(tmp_path / "run") == ([2, 2, 2], 2)
    unfinished = shutil.copytree(tmp_path / "run", tmp_path / "unfinished")
    (unfinished / "complete").unlink()
    for part in ("pieces", "states"):
        shutil.rmtree(unfinished / part)
    (unfinished / "pieces").mkdir()
    description = json.loads((unfinished / "run.json").read_text())
    for group, width in zip(description["groups"], [4, None, 3], strict=True):
        group["width"] = width
    (unfinished / "run.json").write_text(json.dumps(description))
    again = own_study().run(unfinished)
    assert list(again.attrs["width"]) == [4, 2, 3]
    assert widths_in(unfinished) == ([4, 2, 3], [4, 2, 3])
    for name in ("pieces", "states"):
        shutil.rmtree(unfinished / name)
    (unfinished / "pieces").mkdir()
    (unfinished / "complete").unlink()
    with pytest.raises(InputError, match=r"the width is 1 and was 2 and 3 and 4; .*--accept-changes"):
        own_study().run(unfinished, width=1)
    assert own_study().run(unfinished, width=1, accept_changes=True).attrs["width"] == 1


def test_the_width_is_on_disk_before_any_piece_of_its_group(tmp_path):
    seen = []

    def look(progress):
        if (tmp_path / "run" / "run.json").exists():
            pieces = {group for group, _ in read_log(tmp_path / "run" / "pieces").pieces}
            known = [width is not None for width in widths_in(tmp_path / "run")[0]]
            seen.append((len(pieces), sum(known)))

    own_study().run(tmp_path / "run", width="auto", progress=look)
    assert all(pieces <= known for pieces, known in seen)
    assert {known for _, known in seen} == {1, 2, 3}


def test_a_study_remembers_only_where_it_is_told_to(eager, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    phases = []
    study = own_study(curvatures=[1.0], learning_rates=32)
    study.run(progress=lambda progress: phases.append((progress.phase, progress.width)))
    assert ("probing", 8) in phases
    assert phases[-1] == ("done", 4)
    assert not list(tmp_path.iterdir())
    assert study.plan(width_cache=tmp_path / "widths.json").groups[0].width == 4
    eager.clear()
    assert study.run(width_cache=tmp_path / "widths.json").attrs["width"] == 4
    assert eager == []


@pytest.mark.parametrize("width", [0, -1, True, "many"])
def test_width_is_auto_or_a_whole_number(width):
    for call in (own_study().run, own_study().plan):
        with pytest.raises(InputError, match=f"width = {width!r}: give .*a whole number >= 1"):
            call(width=width)


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({"max": "1000", "current": "400"}, 600),
        ({"max": "max", "current": "400"}, math.inf),
        ({}, math.inf),
        ({"max": "1000", "current": "999", "stat": "anon 9\nactive_file 300\ninactive_file 600"}, 901),
        ({"max": "1000", "current": "400", "stat": "nonsense"}, 600),
    ],
)
def test_memory_left_in_a_control_group(tmp_path, files, left):
    for name, content in files.items():
        (tmp_path / f"memory.{name}").write_text(f"{content}\n")
    assert memory._left_in_group(tmp_path) == left
