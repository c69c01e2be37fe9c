"""Record files that are damaged, incomplete or refused by the disk."""

import copy
import errno
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from test_records import epochs_of, table, table_of

from jaxlab.errors import InputError
from jaxlab.pruning import Stop
from jaxlab.store import RecordWriter, Rung, disk_errors, read_records
from jaxlab.store.arrays import write_arrays


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
