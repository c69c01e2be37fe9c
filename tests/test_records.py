"""Files of what a run recorded: what is added is read back, what is discarded is gone, and damage is named."""

import copy
import errno
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlab.engine import EndRecord, EpochRecord, Rows
from jaxlab.errors import InputError
from jaxlab.pruning import Stop
from jaxlab.store import Records, RecordWriter, Rung, disk_errors, read_records
from jaxlab.store.arrays import write_arrays

# What each group records, per epoch and at the end: names, dtypes and the shape behind the leading axes.
VALUES = {
    0: {"loss": (np.float32, ()), "dead/layer": (np.float64, (2,)), "ünï 'x'.y": (np.int32, ())},
    1: {"loss": (np.float64, (0,)), "bad": (bool, (3, 1))},
    11: {},
}
SEGMENTS = [(0,), (1, 2), (3, 4), (5,)]


def values_of(group, lead, seed):
    draws = np.random.default_rng(seed)
    return {
        name: draws.integers(0, 1000, lead + shape).astype(dtype)
        for name, (dtype, shape) in VALUES[group].items()
    }


def epochs_of(group, trials, epochs, seed=0):
    values = values_of(group, (len(trials), len(epochs)), seed)
    return EpochRecord(np.array(trials, int), np.array(epochs, int), values)


def ends_of(group, trials, epochs, seed=0):
    return EndRecord(np.array(trials, int), np.array(epochs, int), values_of(group, (len(trials),), seed))


def table_of(added):
    """Each trial's values at each epoch, bit for bit; the later ones count."""
    found = {}
    for group, record in added:
        at_end = isinstance(record, EndRecord)
        for row, trial in enumerate(record.trials.tolist()):
            epochs = record.epochs[row : row + 1] if at_end else record.epochs
            for column, epoch in enumerate(epochs.tolist()):
                own = {
                    name: each[row] if at_end else each[row, column] for name, each in record.values.items()
                }
                found[group, at_end, trial, epoch] = {
                    name: (each.dtype, each.shape, each.tobytes()) for name, each in own.items()
                }
    return found


def table(found):
    return table_of([*found.epochs, *found.ends])


@st.composite
def any_record(draw):
    trials = draw(st.lists(st.integers(0, 5), unique=True, max_size=4))
    group, seed = draw(st.sampled_from(list(VALUES))), draw(st.integers(0, 99))
    if draw(st.booleans()):
        return group, ends_of(group, trials, [draw(st.integers(0, 3)) for _ in trials], seed)
    return group, epochs_of(group, trials, draw(st.sampled_from(SEGMENTS)), seed)


RUNGS = st.builds(
    Rung,
    st.text(max_size=5),
    st.integers(0, 99),
    st.dictionaries(
        st.integers(0, 9), st.builds(Stop, st.text(max_size=5), st.text(max_size=5), st.text(max_size=9))
    ),
)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.lists(any_record(), max_size=5), st.lists(RUNGS, max_size=2)), max_size=4))
def test_what_is_added_is_read_back_and_nothing_is_lost(flushes):
    with tempfile.TemporaryDirectory() as place:
        folder, writer = Path(place), None
        for number, (added, rungs) in enumerate(flushes):
            if number % 2 == 0:  # another process continues
                writer = RecordWriter(folder)
            for each in added:
                writer.add(*each)
            for rung in rungs:
                writer.stop(rung)
            writer.flush()
        found = read_records(folder)
    assert table(found) == table_of([each for added, _ in flushes for each in added])
    assert found.rungs == [rung for _, rungs in flushes for rung in rungs]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(any_record(), max_size=5),
    st.lists(RUNGS, max_size=3),
    st.dictionaries(st.integers(0, 5), st.integers(-1, 4), max_size=4),
    st.lists(any_record(), max_size=2),
)
def test_what_is_discarded_is_gone_and_the_rest_is_not(before, rungs, after, added):
    held = Records()
    with tempfile.TemporaryDirectory() as place:
        writer = RecordWriter(Path(place))
        for each in before:
            held.add(*each)
            writer.add(*each)
        for rung in rungs:
            held.rungs.append(rung)
            writer.stop(rung)
        for target in (held, writer):
            target.discard(after)
            for each in added:
                target.add(*each)
        writer.flush()
        found = read_records(Path(place))
    left = {key: value for key, value in table_of(before).items() if key[3] <= after.get(key[2], 99)}
    stops = {
        (number, trial): stop
        for number, rung in enumerate(rungs)
        for trial, stop in rung.stops.items()
        if rung.epoch <= after.get(trial, 99)
    }
    for each in (held, found):
        assert table(each) == left | table_of(added)
        assert [stop for rung in each.rungs for stop in rung.stops.values()] == list(stops.values())
        assert len(each.rungs) == sum(
            not rung.stops or any(number == its for its, _ in stops) for number, rung in enumerate(rungs)
        )


def test_a_later_record_wins_over_an_earlier_one_also_of_an_earlier_process(tmp_path):
    for seed in range(12):
        writer = RecordWriter(tmp_path)
        writer.add(0, epochs_of(0, [3], [1, 2], seed))
        writer.flush()
    assert table(read_records(tmp_path)) == table_of([(0, epochs_of(0, [3], [1, 2], 11))])
    assert len(read_records(tmp_path).epochs) == 12


def test_records_of_one_flush_are_joined_by_group_and_epochs(tmp_path):
    writer = RecordWriter(tmp_path)
    for trial in range(6):
        writer.add(trial % 2, epochs_of(trial % 2, [trial], [1, 2], trial))
    for trial in range(3):
        writer.add(0, ends_of(0, [trial], [trial], trial))
    writer.flush()
    found = read_records(tmp_path)
    assert [(group, each.trials.tolist(), each.epochs.tolist()) for group, each in found.epochs] == [
        (0, [0, 2, 4], [1, 2]),
        (1, [1, 3, 5], [1, 2]),
    ]
    assert [(group, each.trials.tolist(), each.epochs.tolist()) for group, each in found.ends] == [
        (0, [0, 1, 2], [0, 1, 2])
    ]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_dozen_epochs_of_one_flush_stay_apart(tmp_path):
    added = [(0, epochs_of(0, [3], [epoch], epoch)) for epoch in range(12)]
    writer = RecordWriter(tmp_path)
    for each in added:
        writer.add(*each)
    writer.flush()
    assert table(read_records(tmp_path)) == table_of(added)


def test_states_that_trials_ended_with_are_not_held():
    held, record = Records(), ends_of(0, [3], [1])
    held.add(0, record._replace(states=Rows(record.trials, record.epochs, {"w": np.ones(9)})))
    assert table(held) == table_of([(0, record)])
    assert held.ends[0][1].states is None


def test_nothing_added_writes_nothing_and_a_missing_folder_holds_nothing(tmp_path):
    writer = RecordWriter(tmp_path / "none")
    writer.flush()
    writer.flush_if_cheap()
    assert not (tmp_path / "none").exists()
    assert read_records(tmp_path / "none") == Records()


def test_flush_if_cheap_takes_at_most_a_hundredth_of_the_time_and_flush_always(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=5.0, cost=0.05)
    save = safetensors.numpy.save

    def slow(*arguments):
        clock.now += clock.cost
        return save(*arguments)

    monkeypatch.setattr("time.perf_counter", lambda: clock.now)
    monkeypatch.setattr("safetensors.numpy.save", slow)
    writer, written = RecordWriter(tmp_path), []
    for trial, wait in enumerate([0, 0.05, 4.9, 0.1, 4.8, 0.05]):
        clock.now += wait
        writer.add(0, epochs_of(0, [trial], [1, 2]))
        writer.flush_if_cheap()
        written.append(len(list(tmp_path.iterdir())))
    assert written == [1, 1, 1, 2, 2, 2]
    clock.cost = (
        20.0  # a hundredth of the time would be every half hour, but nothing waits for more than 10 s
    )
    for wait, count in ((1000, 3), (9.9, 3), (0.2, 4)):
        clock.now += wait
        writer.add(0, epochs_of(0, [6], [1, 2]))
        writer.flush_if_cheap()
        assert len(list(tmp_path.iterdir())) == count
    found = [record.trials.tolist() for _, record in read_records(tmp_path).epochs]
    assert found == [[0], [1, 2, 3], [4, 5, 6], [6, 6]]
    writer.add(0, epochs_of(0, [6], [1, 2]))
    writer.flush()
    assert len(read_records(tmp_path).epochs) == 5


def refusal(folder):
    with pytest.raises(InputError) as caught:
        read_records(folder)
    path, error = sorted(folder.glob("r*.safetensors"))[-1], caught.value
    assert (error.field, error.value) == ("record file", str(path))
    assert error.remedy.endswith(
        f"; remove it and {folder.parent / 'checkpoints'}, and the run trains it again"
    )
    assert "\n" not in str(error)
    return error.remedy


@pytest.fixture
def two(tmp_path):
    """A folder of two record files, and the later one's path."""
    writer = RecordWriter(tmp_path / "records")
    (tmp_path / "records").mkdir()
    for trial in range(2):
        writer.add(1, epochs_of(1, [trial], [1, 2]))
        writer.stop(Rung("stage", 2, {trial: Stop("pruned", "median", "worse")}))
        writer.flush()
    return writer.folder, sorted(writer.folder.iterdir())[1]


def test_a_damaged_record_file_is_refused_or_left_out_and_named(two):
    folder, path = two
    path.write_bytes(path.read_bytes()[:-1])
    assert refusal(folder).startswith("is damaged (its bytes have changed)")
    errors = []
    found = read_records(folder, on_damage=errors.append)
    assert [error.value for error in errors] == [str(path)]
    assert [record.trials.tolist() for _, record in found.epochs] == [[0]]
    assert [list(rung.stops) for rung in found.rungs] == [[0]]


WRONG = [None, True, -1, 1.5, 10**30, "x", [], {}, [[]], {"0": 1}, [None], float("nan")]


def variants(note):
    """A note with each of its parts replaced by every wrong thing."""
    for key, value in note.items() if isinstance(note, dict) else enumerate(note):
        for wrong in WRONG:
            changed = copy.copy(note)
            changed[key] = wrong
            yield changed
        if isinstance(value, (dict, list)):
            for inner in variants(value):
                changed = copy.copy(note)
                changed[key] = inner
                yield changed


ARRAYS = {
    "epochs/0/trials": np.arange(2),
    "epochs/0/epochs": np.arange(2),
    "epochs/0/values/loss": np.zeros((2, 2)),
    "ends/0/trials": np.arange(2),
    "ends/0/epochs": np.arange(2),
    "ends/0/values/test_loss": np.zeros(2),
}
NOTE = {
    "epochs": [0],
    "ends": [0],
    "rungs": [["c000", 1, [[1, ["pruned", "median", "worse"]]]]],
    "discard": [[0, 1]],
}


def test_a_note_with_anything_wrong_in_it_is_not_of_a_run_or_harmless(tmp_path):
    earlier = RecordWriter(tmp_path)
    earlier.add(0, epochs_of(0, [0, 1], [0, 1]))
    earlier.flush()
    write_arrays(tmp_path, "r00000001", ARRAYS, NOTE)
    assert len(read_records(tmp_path).epochs) == 3  # of the first, one trial is cut
    (tmp_path / sorted(os.listdir(tmp_path))[1]).unlink()
    refused = []
    for each in [*variants(NOTE), [], "x", None, 3]:
        path = write_arrays(tmp_path, "r00000001", ARRAYS, each)
        found = read_records(tmp_path, on_damage=refused.append)
        assert all(type(group) is int for group, _ in (*found.epochs, *found.ends))
        assert all(type(rung.epoch) is int and type(rung.stage) is str for rung in found.rungs)
        path.unlink()
    assert len(refused) > 100
    assert not any("\n" in str(error) for error in refused)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs/0/trials": np.arange(2.0)},
        {"epochs/0/trials": np.zeros((2, 1), int)},
        {"epochs/0/epochs": np.array(1)},
        {"epochs/0/epochs": np.array(["a", "b"])},
        {"epochs/0/values/loss": np.zeros(())},
        {"epochs/0/values/loss": np.array([["a", "b"]] * 2)},
        {"epochs/0/values/loss": np.zeros((2, 3))},
        {"ends/0/epochs": np.arange(3)},
        {"ends/0/values/test_loss": np.zeros(3)},
    ],
)
def test_arrays_of_other_kinds_and_shapes_are_not_of_a_run(tmp_path, wrong):
    write_arrays(tmp_path, "r00000000", ARRAYS | wrong, NOTE)
    assert refusal(tmp_path).startswith("is not a record file of this run (")


@pytest.mark.parametrize("missing", ARRAYS)
def test_a_missing_array_is_not_of_a_run_or_not_recorded(tmp_path, missing):
    write_arrays(
        tmp_path, "r00000000", {name: each for name, each in ARRAYS.items() if name != missing}, NOTE
    )
    if "/values/" in missing:
        found = read_records(tmp_path)
        assert [len(each.values) for _, each in (*found.epochs, *found.ends)].count(0) == 1
    else:
        assert refusal(tmp_path).startswith("is not a record file of this run (")


def test_while_another_process_trains_the_remedy_waits_for_it(two):
    folder, path = two
    path.write_bytes(b"")
    with subprocess.Popen(["sleep", "60"]) as other:
        (folder.parent / "lock.holder").write_text(f"pid {other.pid} on host {socket.gethostname()}")
        with pytest.raises(
            InputError, match=rf"once no process trains the run \(pid {other.pid} on .*\), remove it"
        ):
            read_records(folder)
        other.kill()
    assert "once no process" not in refusal(folder)


def test_what_is_half_written_is_not_read_and_does_not_count(two):
    folder, path = two
    path.rename(folder / f"{path.name}.{'0' * 16}.partial")
    assert len(read_records(folder).epochs) == 1
    writer = RecordWriter(folder)
    writer.add(1, epochs_of(1, [7], [5]))
    writer.flush()
    assert [record.trials.tolist() for _, record in read_records(folder).epochs] == [[0], [7]]


# Forked, so that importing everything is paid for once.
KILL = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np
from jaxlab.engine import EpochRecord
from jaxlab.store import RecordWriter, read_records

folder = Path(sys.argv[1])
random.seed(0)
done = 0
for kill in range(12):
    left = set(folder.glob("*.partial"))
    told, telling = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            writer = RecordWriter(folder)
            for trial in range(done, 10**6):
                values = {"loss": np.full((1, 1, 20000), float(trial))}
                writer.add(0, EpochRecord(np.array([trial]), np.array([0]), values))
                writer.flush()
                os.write(telling, b"x")
        finally:
            os._exit(1)
    os.close(telling)
    assert os.read(told, 1)
    if kill % 2:  # in the middle of a write, or at any time
        while set(folder.glob("*.partial")) <= left:
            pass
    else:
        time.sleep(random.uniform(0, 0.02))
    os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    told = 1 + len(os.read(told, 10**6))
    found = [record for _, record in read_records(folder).epochs]
    assert [record.trials.tolist() for record in found] == [[trial] for trial in range(len(found))]
    assert all((record.values["loss"] == trial).all() for trial, record in enumerate(found))
    assert done + told <= len(found) <= done + told + 1
    done = len(found)
print(len(list(folder.glob("*.partial"))))
"""


def test_killed_at_any_instant_what_was_flushed_is_there(tmp_path):
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILL, str(tmp_path)], capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) >= 2  # died in the middle of a write


KEPT = "fix this, for instance by freeing space, and run again: the run resumes from its last checkpoint"


def test_on_a_full_disk_nothing_is_lost_and_the_writer_continues_once_there_is_room(small_disk, capfd):
    folder, resize = small_disk
    writer, added = RecordWriter(folder), [(0, epochs_of(0, range(100), [1, 2], seed)) for seed in range(20)]
    refused = []
    for each in added:
        writer.add(*each)
        try:
            writer.flush()
        except InputError as error:
            refused.append(str(error))
    written = len(added) - len(refused)
    assert 2 <= written < 18
    assert set(refused) == {f"out = {str(folder)!r}: cannot be written (No space left on device); {KEPT}"}
    assert table(read_records(folder)) == table_of(added[:written])
    assert len(list(folder.iterdir())) == written
    resize(1000)
    writer.flush()
    assert table(read_records(folder)) == table_of(added)
    assert len(list(folder.iterdir())) == written + 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "words"),
    [(OSError(errno.EIO, "Input/output error"), "Input/output error"), (OSError("odd"), "odd")],
)
def test_errors_of_the_disk_are_one_line_and_others_pass(tmp_path, error, words):
    with pytest.raises(InputError) as caught, disk_errors(tmp_path):
        raise error
    assert str(caught.value) == f"out = {str(tmp_path)!r}: cannot be written ({words}); {KEPT}"
    with pytest.raises(ZeroDivisionError), disk_errors(tmp_path):
        raise ZeroDivisionError
