"""Immutable files of what a run recorded and of weights: whole or absent, and any change of their bytes is noticed."""

import copy
import errno
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import tracemalloc
import zipfile
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlab.engine import Piece, Rows
from jaxlab.errors import InputError
from jaxlab.store import (
    Log,
    Recorded,
    Rung,
    as_type,
    disk_errors,
    files,
    log,
    read_log,
    read_weights,
    write_weights,
)

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
# What each group records, per epoch and at the end: names, dtypes and the shape behind the leading axes.
RECORDS = {
    0: {"loss": (np.float32, ()), "dead/layer": (np.float64, (2,)), "ünï 'x'.y": (np.int32, ())},
    1: {"loss": (np.float64, (0,)), "bad": (bool, (3, 1))},
    11: {},
}
SEGMENTS = [(0,), (1, 2), (3, 4), (5,)]


def piece_of(group, trials, epochs, final=False, seed=0):
    lead = (len(trials),) if final else (len(trials), len(epochs))
    draws = np.random.default_rng(seed)
    record = {
        name: draws.integers(0, 1000, lead + shape).astype(dtype)
        for name, (dtype, shape) in RECORDS[group].items()
    }
    return Piece(np.array(trials, int), np.array(epochs, int), record, final)


def table(pieces):
    """Each trial's record at each epoch, bit for bit; the later one counts."""
    found = {}
    for group, piece in pieces:
        for row, trial in enumerate(piece.trials.tolist()):
            epochs = piece.epochs[row : row + 1] if piece.final else piece.epochs
            for column, epoch in enumerate(epochs.tolist()):
                values = {
                    name: each[row] if piece.final else each[row, column]
                    for name, each in piece.record.items()
                }
                found[group, piece.final, trial, epoch] = {
                    name: (each.dtype, each.shape, each.tobytes()) for name, each in values.items()
                }
    return found


@st.composite
def pieces(draw):
    trials = draw(st.lists(st.integers(0, 5), unique=True, max_size=4))
    final = draw(st.booleans())
    epochs = [draw(st.integers(0, 3)) for _ in trials] if final else draw(st.sampled_from(SEGMENTS))
    group = draw(st.sampled_from(list(RECORDS)))
    return group, piece_of(group, trials, epochs, final, draw(st.integers(0, 99)))


RUNGS = st.builds(
    Rung,
    st.text(max_size=5),
    st.integers(0, 99),
    st.dictionaries(
        st.integers(0, 9), st.tuples(st.text(max_size=5), st.text(max_size=5), st.text(max_size=9))
    ),
)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.lists(pieces(), max_size=5), st.lists(RUNGS, max_size=2)), max_size=4))
def test_what_is_added_is_read_back_and_nothing_is_lost(flushes):
    with tempfile.TemporaryDirectory() as place:
        folder, writer = Path(place), None
        for number, (added, rungs) in enumerate(flushes):
            if number % 2 == 0:  # another process goes on
                writer = Log(folder)
            for group, piece in added:
                writer.add(group, piece)
            for rung in rungs:
                writer.stop(rung)
            writer.flush()
        found = read_log(folder)
    assert table(found.pieces) == table([each for added, _ in flushes for each in added])
    assert found.rungs == [rung for _, rungs in flushes for rung in rungs]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(pieces(), max_size=5),
    st.lists(RUNGS, max_size=3),
    st.dictionaries(st.integers(0, 5), st.integers(-1, 4), max_size=4),
    st.lists(pieces(), max_size=2),
)
def test_what_is_forgotten_is_gone_and_the_rest_is_not(before, rungs, last, after):
    with tempfile.TemporaryDirectory() as place:
        writer = Log(Path(place))
        for group, piece in before:
            writer.add(group, piece)
        for rung in rungs:
            writer.stop(rung)
        writer.forget(np.array(list(last), int), np.array(list(last.values()), int))
        for group, piece in after:
            writer.add(group, piece)
        writer.flush()
        found = read_log(Path(place))
    left = {key: value for key, value in table(before).items() if key[3] <= last.get(key[2], 99)}
    assert table(found.pieces) == left | table(after)
    stops = {
        (number, trial): stop
        for number, rung in enumerate(rungs)
        for trial, stop in rung.stops.items()
        if rung.epoch <= last.get(trial, 99)
    }
    assert [stop for rung in found.rungs for stop in rung.stops.values()] == list(stops.values())
    assert len(found.rungs) == sum(
        not rung.stops or any(number == each for each, _ in stops) for number, rung in enumerate(rungs)
    )


def test_a_later_piece_wins_over_an_earlier_one_also_of_an_earlier_process(tmp_path):
    for seed in range(12):
        writer = Log(tmp_path)
        writer.add(0, piece_of(0, [3], [1, 2], seed=seed))
        writer.flush()
    assert table(read_log(tmp_path).pieces) == table([(0, piece_of(0, [3], [1, 2], seed=11))])
    assert len(read_log(tmp_path).pieces) == 12


def test_reading_looks_at_earlier_pieces_again_only_where_some_are_forgotten(tmp_path, monkeypatch):
    cut, until = [], Piece.until
    monkeypatch.setattr(Piece, "until", lambda piece, *last: cut.append(piece) or until(piece, *last))
    writer = Log(tmp_path)
    for trial in range(6):
        writer.add(0, piece_of(0, [trial], [1, 2]))
        writer.flush()
    assert len(read_log(tmp_path).pieces) == 6
    assert cut == []
    writer.forget(np.array([4, 9]), np.array([1, 0]))
    assert [piece.epochs.tolist() for _, piece in read_log(tmp_path).pieces] == [[1, 2]] * 4 + [[1], [1, 2]]
    assert [piece.trials.tolist() for piece in cut] == [[4]]


def test_pieces_of_one_flush_are_joined_by_group_and_epochs(tmp_path):
    writer = Log(tmp_path)
    for trial in range(6):
        writer.add(trial % 2, piece_of(trial % 2, [trial], [1, 2], seed=trial))
    for trial in range(3):
        writer.add(0, piece_of(0, [trial], [trial], final=True, seed=trial))
    writer.flush()
    found = read_log(tmp_path).pieces
    told = [(group, piece.final, piece.trials.tolist(), piece.epochs.tolist()) for group, piece in found]
    assert told == [
        (0, False, [0, 2, 4], [1, 2]),
        (1, False, [1, 3, 5], [1, 2]),
        (0, True, [0, 1, 2], [0, 1, 2]),
    ]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_dozen_blocks_of_one_flush_stay_apart(tmp_path):
    added = [(0, piece_of(0, [3], [epoch], seed=epoch)) for epoch in range(12)]
    writer = Log(tmp_path)
    for each in added:
        writer.add(*each)
    writer.flush()
    assert table(read_log(tmp_path).pieces) == table(added)


def test_states_that_trials_ended_with_are_not_held():
    recorded, piece = Recorded([], []), piece_of(0, [3], [1], final=True)
    recorded.add(0, piece._replace(ended=Rows(piece.trials, piece.epochs, {"w": np.ones(9)})))
    assert table(recorded.pieces) == table([(0, piece)])
    assert recorded.pieces[0][1].ended is None


def test_nothing_added_writes_nothing_and_a_missing_folder_holds_nothing(tmp_path):
    writer = Log(tmp_path / "none")
    writer.flush()
    writer.flush_if_cheap()
    assert not (tmp_path / "none").exists()
    assert read_log(tmp_path / "none") == ([], [])


def test_settle_writes_at_most_a_hundredth_of_the_time_and_flush_always(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=5.0, perf_counter=lambda: clock.now)

    def slow(*arguments):
        clock.now += 0.05
        return files.write_arrays(*arguments)

    monkeypatch.setattr(log, "time", clock)
    monkeypatch.setattr(log, "write_arrays", slow)
    writer, written = Log(tmp_path), []
    for trial, wait in enumerate([0, 0.05, 4.9, 0.1, 4.8, 0.05]):
        clock.now += wait
        writer.add(0, piece_of(0, [trial], [1, 2]))
        writer.flush_if_cheap()
        written.append(len(list(tmp_path.iterdir())))
    assert written == [1, 1, 1, 2, 2, 2]
    clock.now += 1000
    monkeypatch.setattr(log, "_SHARE", 1e-9)  # as if writing took very long: nothing waits for more than 10 s
    writer._cost, writer._flushed = 20.0, clock.now
    for wait, files_ in ((9.9, 2), (0.2, 3)):
        clock.now += wait
        writer.flush_if_cheap()
        assert len(list(tmp_path.iterdir())) == files_
    assert [piece.trials.tolist() for _, piece in read_log(tmp_path).pieces] == [[0], [1, 2, 3], [4, 5]]
    writer.add(0, piece_of(0, [6], [1, 2]))
    writer.flush()
    assert len(read_log(tmp_path).pieces) == 4


def refusal(folder):
    with pytest.raises(InputError) as caught:
        read_log(folder)
    path, error = sorted(folder.glob("p*.npz"))[-1], caught.value
    assert (error.field, error.value) == ("piece", str(path))
    assert error.remedy.endswith(f"; remove it and {folder.parent / 'states'}, and the run trains it again")
    assert "\n" not in str(error)
    return error.remedy


@pytest.fixture
def two(tmp_path):
    """A folder of two pieces, and the later one's path."""
    writer = Log(tmp_path / "pieces")
    (tmp_path / "pieces").mkdir()
    for trial in range(2):
        writer.add(1, piece_of(1, [trial], [1, 2]))
        writer.stop(Rung("stage", 2, {trial: ("pruned", "median", "worse")}))
        writer.flush()
    return writer.folder, sorted(writer.folder.iterdir())[1]


def test_a_flipped_bit_at_any_byte_is_noticed(two):
    folder, path = two
    content = path.read_bytes()
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        assert refusal(folder).startswith("is damaged (its bytes have changed)")
    path.write_bytes(content)
    assert len(read_log(folder).pieces) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: content[:1],
        lambda content: b"",
        lambda content: content + b"\0",
        lambda content: bytes(len(content)),
        lambda content: b"garbage" * 99,
        lambda content: b"PK\x03\x04" + b"\xff" * 99,
    ],
)
def test_a_damaged_piece_is_refused_or_left_out_and_told(two, damage):
    folder, path = two
    path.write_bytes(damage(path.read_bytes()))
    assert refusal(folder).startswith("is damaged (")
    told = []
    found = read_log(folder, on_damage=told.append)
    assert [error.value for error in told] == [str(path)]
    assert [piece.trials.tolist() for _, piece in found.pieces] == [[0]]
    assert [list(rung.stops) for rung in found.rungs] == [[0]]


def test_a_folder_and_another_name_in_the_place_of_a_piece_are_damage(two):
    folder, path = two
    path = path.rename(path.with_name(f"p00000001-{'0' * 16}.npz"))
    assert "its bytes have changed" in refusal(folder)
    path.unlink()
    path.mkdir()
    assert "Is a directory" in refusal(folder)


def put(folder, content, stem="p00000009"):
    """Anything, under the name that says that it is whole."""
    (folder / f"{stem}-{files._digest(content)}.npz").write_bytes(content)


def archive(**arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


class Executed:
    def __reduce__(self):
        return pytest.fail, ("a pickle was executed",)


OBJECTS = np.array([Executed()], object)
NOTE = {
    "blocks": [{"group": 0, "final": False}],
    "rungs": [],
    "trials": [0],
    "epochs": [1],
    "which": ["last"],
}
NOTE = np.frombuffer(json.dumps(NOTE).encode(), np.uint8)


@pytest.mark.parametrize(
    "content",
    [
        archive(note=OBJECTS),
        archive(**{"note": NOTE, "arrays/0/trials": OBJECTS, "arrays/0/epochs": OBJECTS}),
        OBJECTS.dumps(),
    ],
)
def test_a_pickle_is_never_executed(two, content):
    folder, _ = two
    put(folder, content)
    put(folder, content, "w-e000001-t000000")
    assert "pickle" in refusal(folder)
    with pytest.raises(InputError, match=r"piece = .*is damaged .*pickle"):
        read_weights(folder, 0)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x93NUMPY", archive(), archive(note=NOTE), archive(note=np.zeros(3, np.uint8))]
    + [
        archive(note=np.frombuffer(text, np.uint8))
        for text in (b"[]", b"{}", b'{"blocks": [1], "rungs": []}')
    ],
)
def test_a_whole_file_of_something_else_is_no_piece(two, content):
    folder, _ = two
    put(folder, content)
    assert refusal(folder).startswith(("is damaged (", "is no piece of a run ("))


def declaring(shape, dtype="<f8"):
    """An archive whose one array declares a shape that it does not have."""
    header, content = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": dtype, "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("note.npy", header.getvalue())
    return content.getvalue()


def compressed(**arrays):
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return content.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        declaring((10**12,)),
        declaring((10**6, 10**6, 10**6)),
        declaring((-8,)),
        declaring((1,), f"|V{10**9}"),
        compressed(note=np.zeros(10**7, np.uint8)),
        archive(note=np.frombuffer(b"[" * 200_000, np.uint8)),
    ],
    ids=["8 TB", "8 EB", "negative", "a wide type", "compressed", "brackets"],
)
def test_a_file_takes_no_more_memory_than_its_size(two, content):
    folder, _ = two
    put(folder, content)
    put(folder, content, "w-e000001-t000000")
    tracemalloc.start()
    assert refusal(folder).startswith("is damaged (")
    with pytest.raises(InputError, match=r"piece = .*is damaged"):
        read_weights(folder, 0)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 5_000_000


def test_a_pipe_a_huge_file_and_a_dangling_link_are_damage_and_nothing_waits(two):
    folder, path = two
    for name in (path.name, f"w-e000001-t000000-{'0' * 16}.npz"):
        path = folder / name
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        read = (lambda: read_log(folder)) if name[0] == "p" else (lambda: read_weights(folder, 0))
        with pytest.raises(InputError, match=r"is damaged \(it is not a regular file\)"):
            read()
        path.unlink()
        path.touch()
        os.truncate(path, 2**43)
        with pytest.raises(InputError, match=r"is damaged \(it takes 8,796,093,022,208 bytes, more than"):
            read()
        path.unlink()
        path.symlink_to("nowhere")
        with pytest.raises(InputError, match=r"is damaged \(.*No such file"):
            read()
        path.unlink()


WRONG = [None, True, -1, 1.5, 10**30, "x", [], {}, [[]], {"0": 1}, [None], float("nan")]


def variants(note):
    """A note of a piece with each of its parts replaced by every wrong thing."""
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


def test_a_note_with_anything_wrong_in_it_is_no_piece_or_harmless(tmp_path):
    arrays = {"0/trials": np.arange(2), "0/epochs": np.arange(2), "0/record/loss": np.zeros((2, 2))}
    note = {
        "blocks": [{"group": 0, "final": False}],
        "rungs": [{"stage": "c000", "epoch": 1, "stops": {"1": ["pruned", "median", "worse"]}}],
        "forget": [[0], [1]],
    }
    refused = []
    for each in variants(note):
        path = write_arrays_at(tmp_path, arrays, each)
        found = read_log(tmp_path, on_damage=refused.append)
        assert all(type(group) is int for group, _ in found.pieces)
        assert all(type(rung.epoch) is int for rung in found.rungs)
        path.unlink()
    assert len(refused) > 100
    assert not any("\n" in str(error) for error in refused)


@pytest.mark.parametrize(
    "wrong",
    [
        {"0/trials": np.arange(2.0)},
        {"0/trials": np.zeros((2, 1), int)},
        {"0/epochs": np.array(1)},
        {"0/epochs": np.array(["a", "b"])},
        {"0/record/loss": np.zeros(())},
        {"0/record/loss": np.array([["a", "b"]] * 2)},
        {"0/record/loss": np.zeros((2, 3))},
    ],
)
def test_arrays_of_other_kinds_and_shapes_are_no_piece(tmp_path, wrong):
    arrays = {"0/trials": np.arange(2), "0/epochs": np.arange(2), "0/record/loss": np.zeros((2, 2))}
    write_arrays_at(tmp_path, arrays | wrong, {"blocks": [{"group": 0, "final": False}], "rungs": []})
    assert refusal(tmp_path).startswith("is no piece of a run (")


def write_arrays_at(folder, arrays, note):
    return files.write_arrays(folder, "p00000000", arrays, note)


def test_while_another_process_trains_nothing_is_said_to_be_removed_at_once(two):
    folder, path = two
    path.write_bytes(b"")
    with subprocess.Popen(["sleep", "60"]) as other:
        (folder.parent / "lock.holder").write_text(f"pid {other.pid} on host {socket.gethostname()}")
        with pytest.raises(
            InputError, match=rf"once no process trains the run \(pid {other.pid} on .*\), remove it"
        ):
            read_log(folder)
        other.kill()
    assert "once no process" not in refusal(folder)


def test_what_is_half_written_is_not_read_and_does_not_count(two):
    folder, path = two
    path.rename(folder / f"{path.name}.partial")
    assert len(read_log(folder).pieces) == 1
    writer = Log(folder)
    writer.add(1, piece_of(1, [7], [5]))
    writer.flush()
    assert [piece.trials.tolist() for _, piece in read_log(folder).pieces] == [[0], [7]]


# Forked, so that importing everything is paid for once.
KILL = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np
from jaxlab.engine import Piece
from jaxlab.store import Log, read_log

folder = Path(sys.argv[1])
random.seed(0)
halves = done = 0
for kill in range(12):
    told, telling = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            log = Log(folder)
            for trial in range(done, 10**6):
                log.add(0, Piece(np.array([trial]), np.array([0]), {"loss": np.full((1, 1, 20000), float(trial))}))
                log.flush()
                os.write(telling, b"x")
        finally:
            os._exit(1)
    os.close(telling)
    assert os.read(told, 1)
    time.sleep(random.uniform(0, 0.02))
    os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    told = 1 + len(os.read(told, 10**6))
    found = [piece for _, piece in read_log(folder).pieces]
    assert [piece.trials.tolist() for piece in found] == [[trial] for trial in range(len(found))]
    assert all((piece.record["loss"] == trial).all() for trial, piece in enumerate(found))
    assert done + told <= len(found) <= done + told + 1
    done = len(found)
    halves += any(path.suffix == ".partial" for path in folder.iterdir())
print(halves)
"""


def test_killed_at_any_instant_what_was_flushed_is_there(tmp_path):
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILL, str(tmp_path)], capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) >= 2  # died in the middle of a write


@pytest.fixture
def disk(tmp_path):
    """A real file system of 64 kB, and a way to give it another size in kB."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        return subprocess.run(command, capture_output=True).returncode

    if mount("size=64k"):
        pytest.skip("mounting a small file system takes root")
    yield folder, lambda kilobytes: mount(f"remount,size={kilobytes}k")
    subprocess.run(["umount", str(folder)], check=True)


KEPT = "fix this, for instance by freeing space, and run again: the run resumes from its last checkpoint"


def test_on_a_full_disk_nothing_is_lost_and_the_log_goes_on_after_room_is_made(disk, capfd):
    folder, resize = disk
    writer, added = Log(folder), [(0, piece_of(0, range(100), [1, 2], seed=seed)) for seed in range(20)]
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
    assert table(read_log(folder).pieces) == table(added[:written])
    assert len(list(folder.iterdir())) == written
    assert resize(1000) == 0
    writer.flush()
    assert table(read_log(folder).pieces) == table(added)
    assert len(list(folder.iterdir())) == written + 1
    assert capfd.readouterr() == ("", "")


def test_on_a_full_disk_weights_kept_before_are_read(disk):
    folder, _ = disk
    write_weights(folder / "weights", np.array([0]), np.array([1]), {"last": {"w": np.ones((1, 1000))}})
    with pytest.raises(InputError, match=r"out = .*No space left"):
        write_weights(folder / "weights", np.array([0]), np.array([2]), {"last": {"w": np.ones((1, 9000))}})
    assert read_weights(folder / "weights", 0)["last"]["w"].tolist() == [1] * 1000


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


def test_a_write_that_fails_leaves_nothing_half_written(tmp_path):
    (tmp_path / "taken" / "x").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        files.write_whole(tmp_path / "taken", b"new")
    files.write_whole(tmp_path / "file", b"old")
    files.write_whole(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken"]


def weights_of(trials, epoch, which=("last",), dtype=np.float32):
    """Leaves that tell which trial's they are, and when kept."""
    numbers = np.array(trials)[:, None] * 10 + epoch + np.arange(3) / 8
    return {
        name: {"['a'].kernel/x": numbers.astype(dtype), "bias": numbers[:, 0].astype(dtype)} for name in which
    }


def test_weights_are_read_by_trial_and_the_latest_epoch_wins(tmp_path):
    folder = tmp_path / "weights"
    assert read_weights(folder, 0) == {}
    # Written out of order; file names say the latest epoch of several trials, not each one's.
    for trials, epochs in [
        ([4, 5, 2], [7, 1, 3]),
        ([9, 2], [8, 6]),
        ([5, 2], [5, 5]),
        ([2], [4]),
        ([12], [0]),
        ([10, 13], [3, 20]),
        ([10, 14], [7, 30]),
    ]:
        kept = weights_of(trials, np.array(epochs)[:, None], ("last", "best"))
        write_weights(folder, np.array(trials), np.array(epochs), kept)
    for trial, epoch in [(4, 7), (5, 5), (2, 6), (9, 8), (12, 0), (10, 7)]:
        found = read_weights(folder, trial)
        assert list(found) == ["last", "best"]
        expected = weights_of([trial], epoch)["last"]
        for leaves in found.values():
            assert {path: leaf.tolist() for path, leaf in leaves.items()} == {
                path: leaf[0].tolist() for path, leaf in expected.items()
            }
            assert all(leaf.dtype == np.float32 for leaf in leaves.values())
    assert read_weights(folder, 1) == {}


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e5m2", "float8_e4m3fn", "int4"])
def test_weights_of_types_that_numpy_does_not_know_come_back_as_their_type(tmp_path, dtype):
    dtype = np.dtype(getattr(ml_dtypes, dtype))
    kept = weights_of([0, 3], 0, dtype=dtype)
    write_weights(tmp_path, np.array([0, 3]), np.array([1, 1]), kept)
    for row, trial in enumerate([0, 3]):
        found = read_weights(tmp_path, trial)["last"]
        for path, leaf in kept["last"].items():
            back = as_type(found[path], dtype, path)
            assert (back.dtype, back.shape) == (dtype, leaf.shape[1:])
            assert back.tobytes() == leaf[row].tobytes()


@pytest.mark.parametrize(
    ("leaf", "dtype"),
    [
        (np.ones(3, np.float32), np.float64),
        (np.ones(3, np.float32), BFLOAT16),
        (np.ones(3, "V2"), np.float32),
        (np.ones(3, "V2"), np.float16),
        (np.ones(4, "V1"), BFLOAT16),
        (np.ones(3, np.float16), BFLOAT16),
    ],
)
def test_a_leaf_of_another_type_is_of_another_model(leaf, dtype):
    with pytest.raises(
        InputError, match=rf"bias = .*should be {np.dtype(dtype)}: the weights are of another model"
    ):
        as_type(leaf, np.dtype(dtype), "bias")


def test_any_damage_to_weights_is_noticed_where_they_are_read(tmp_path):
    write_weights(tmp_path, np.array([0]), np.array([1]), weights_of([0], 1))
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    damaged = [
        content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :] for at in range(len(content))
    ]
    damaged += [content[:size] for size in range(0, len(content), 50)]
    for each in damaged:
        path.write_bytes(each)
        with pytest.raises(InputError, match=r"piece = .*is damaged .*; train the study again elsewhere"):
            read_weights(tmp_path, 0)
