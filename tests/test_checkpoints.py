"""Checkpoints of train states: whole or absent, the newest two kept, whatever happens to the process and the disk."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest

from jaxlab.errors import InputError
from jaxlab.store import Checkpoints

LITTLE = {
    "state.parameters['conv_0'].kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a/b": np.ones(2),
}


def saved(folder, *notes, arrays=LITTLE):
    with Checkpoints(folder) as writer:
        for note in notes:
            writer.save(arrays, note)
    return folder


def numbers(folder):
    """The files of a folder, without the digests in their names."""
    return sorted(path.name.partition("-")[0] for path in folder.iterdir())


def file_of(folder, number):
    (path,) = folder.glob(f"{number:08d}-*.safetensors")
    return path


def tree(folder):
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in folder.rglob("*")
    }


def test_nothing_saved_is_nothing_found(tmp_path):
    with Checkpoints(tmp_path / "none") as reader:
        assert reader.newest() is None
        reader.wait()
    assert not (tmp_path / "none").exists()
    (tmp_path / "empty").mkdir()
    assert Checkpoints(tmp_path / "empty").newest() is None


def test_a_hundred_quick_saves_leave_the_newest_two(tmp_path):
    with Checkpoints(tmp_path) as writer:
        for number in range(100):
            writer.save({"x": np.full(3, number)}, {"number": number})
        writer.wait()
        assert numbers(tmp_path) == ["00000098", "00000099"]
        found, note = writer.newest()
    assert note == {"number": 99}
    assert found["x"].tolist() == [99] * 3


def test_another_process_continues_the_numbers(tmp_path):
    saved(tmp_path, {"n": 0}, {"n": 1}, {"n": 2})
    saved(tmp_path, {"n": 3})
    assert numbers(tmp_path) == ["00000002", "00000003"]
    assert Checkpoints(tmp_path).newest()[1] == {"n": 3}


def test_saving_does_not_wait_for_the_disk(tmp_path, monkeypatch):
    written, sync = threading.Event(), os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: written.wait(20) and sync(handle))
    writer = Checkpoints(tmp_path / "checkpoints")
    writer.save(LITTLE, {"n": 1})
    assert not any(path.suffix == ".safetensors" for path in writer.folder.glob("*"))
    written.set()
    writer.wait()
    assert writer.newest()[1] == {"n": 1}


def test_reading_in_the_same_process_sees_what_was_being_saved(tmp_path):
    writer = Checkpoints(tmp_path)
    writer.save(LITTLE, {"n": 1})
    assert writer.newest()[1] == {"n": 1}


def test_reading_changes_nothing_and_the_next_save_removes_what_dead_processes_left(tmp_path):
    saved(tmp_path, {"n": 0})
    for name in ("00000001-0123456789abcdef", "00000007-0123456789abcdef"):
        shutil.copy(file_of(tmp_path, 0), tmp_path / f"{name}.safetensors.{'0' * 16}.partial")
    (tmp_path / "notes.txt").write_text("mine")
    before = tree(tmp_path)
    assert Checkpoints(tmp_path).newest()[1] == {"n": 0}
    assert tree(tmp_path) == before
    saved(tmp_path, {"n": 1})
    assert numbers(tmp_path) == ["00000000", "00000001", "notes.txt"]


def save_and_raise(folder, error):
    with Checkpoints(folder) as writer:
        writer.save(LITTLE, {})
        if error is not None:
            raise error


@pytest.mark.parametrize(("error", "raised"), [(KeyError(), KeyError), (None, InputError)])
def test_an_error_in_the_context_is_not_hidden_by_one_of_the_disk(tmp_path, error, raised):
    (tmp_path / "file").touch()
    with pytest.raises(raised):
        save_and_raise(tmp_path / "file", error)


def test_an_error_is_raised_by_the_next_save_which_is_not_begun(tmp_path):
    (tmp_path / "file").touch()
    writer = Checkpoints(tmp_path / "file" / "checkpoints")
    writer.save(LITTLE, {"n": 0})
    with pytest.raises(InputError) as caught:
        writer.save(LITTLE, {"n": 1})
    assert str(caught.value).startswith(
        f"out = {str(writer.folder)!r}: cannot be written (Not a directory); "
    )
    (tmp_path / "file").unlink()
    writer.wait()
    assert not writer.folder.exists()
    writer.save(LITTLE, {"n": 2})
    writer.wait()
    assert writer.newest()[1] == {"n": 2}


def test_what_is_no_error_of_the_disk_is_raised_as_it_is(tmp_path):
    writer = Checkpoints(tmp_path)
    writer.save(LITTLE, {"n": object()})
    with pytest.raises(TypeError, match="not JSON serializable"):
        writer.wait()
    writer.save({"x": np.array([object()])}, {})
    with pytest.raises(TypeError, match="array of references"):
        writer.wait()


def test_inside_a_running_event_loop(tmp_path):
    async def in_a_notebook():
        with Checkpoints(tmp_path) as writer:
            writer.save(LITTLE, {"n": 1})
            writer.wait()
            return writer.newest()

    assert asyncio.run(in_a_notebook())[1] == {"n": 1}


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-1], lambda content: content[:99] + b"X" + content[100:]]
)
def test_damage_is_refused_and_without_the_file_the_one_before_is_read(tmp_path, damage):
    damaged = file_of(saved(tmp_path, {"n": 0}, {"n": 1}), 1)
    damaged.write_bytes(damage(damaged.read_bytes()))
    with pytest.raises(InputError) as caught:
        Checkpoints(tmp_path).newest()
    assert str(caught.value) == (
        f"checkpoint = {str(damaged)!r}: is damaged (its bytes have changed); "
        "remove it to resume from the previous checkpoint, if there is one"
    )
    damaged.unlink()
    assert Checkpoints(tmp_path).newest()[1] == {"n": 0}


TRAIN = """
import asyncio, logging, os, signal, sys, threading, time
import jax
jax.config.update("jax_num_cpu_devices", 2)
import jax.numpy as jnp
import numpy as np
from jaxlab.store import Checkpoints

def globals_now():
    return [
        dict(os.environ), dict(jax.config.values), list(logging.getLogger().handlers), logging.getLogger().level,
        [(name, logging.getLogger(name).level) for name in ("absl", "jax")], logging.getLogger("absl").filters,
        signal.getsignal(signal.SIGTERM), sys.excepthook, threading.excepthook, sys.unraisablehook, os.getcwd(),
    ]

step = jax.jit(jnp.cos)
devices = jax.devices()
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
before, running = globals_now(), set(threading.enumerate())

def save(folder):
    with Checkpoints(folder) as writer:
        for number in range(5):
            x = step(jax.device_put(jnp.full(1000, number), devices[number % 2]))
            writer.save({"x": np.array(x)}, {"number": number})
        writer.wait()
        assert writer.newest()[1] == {"number": 4}

threads = [threading.Thread(target=save, args=(f"{sys.argv[1]}/{name}",)) for name in "ab"]
for thread in threads:
    thread.start()
save(f"{sys.argv[1]}/c")
for thread in threads:
    thread.join()
assert globals_now() == before, [pair for pair in zip(before, globals_now()) if pair[0] != pair[1]]
assert asyncio.get_event_loop() is loop
loop.close()
until = time.monotonic() + 30
while set(threading.enumerate()) - running:  # the last are about to end
    assert time.monotonic() < until, threading.enumerate()
    time.sleep(0.01)
print(len(devices))
"""


def test_training_and_saving_at_once_is_quiet_and_changes_no_global(tmp_path):
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", TRAIN, str(tmp_path)], capture_output=True, text=True
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, "2\n", "")
    assert numbers(tmp_path) == ["a", "b", "c"]
    assert [numbers(folder) for folder in tmp_path.iterdir()] == [["00000003", "00000004"]] * 3


# Each child is a process of its own; forking spares the seconds of importing everything a dozen times.
KILL = """
import json, os, random, select, signal, sys, time
import numpy as np
from jaxlab.store import Checkpoints

folder, kills = sys.argv[1], int(sys.argv[2])
random.seed(0)

def arrays_of(number):
    draws = np.random.default_rng(number)
    return {f"{index}/x": draws.normal(size=3000).astype(np.float32) for index in range(40)}

def write(first, told):
    with Checkpoints(folder) as writer:
        for number in range(first, first + 10**6):
            writer.save(arrays_of(number), {"number": number})
            if number == first or random.random() < 0.5:
                writer.wait()
                os.write(told, number.to_bytes(8, "little"))

def read(told):
    found, number = Checkpoints(folder).newest(), -1
    if found is not None:
        number = found[1]["number"]
        expected = arrays_of(number)
        assert set(found[0]) == set(expected)
        assert all(found[0][name].tobytes() == expected[name].tobytes() for name in expected)
    os.write(told, number.to_bytes(8, "little", signed=True))

def child(function, *arguments):
    told, telling = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(told)
        try:
            function(*arguments, telling)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    os.close(telling)
    return pid, told

def last_told(told):
    with os.fdopen(told, "rb") as file:
        said = file.read()
    return int.from_bytes(said[-8:], "little", signed=True) if said else -1

def listed():
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []

number, halves, seen = -1, 0, []
for kill in range(kills):
    before = listed()
    pid, told = child(write, number + 1)
    if kill % 2:  # once it has told that one is complete, or as soon as it has begun
        select.select([told], [], [])
    while listed() == before:
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        time.sleep(0.001)
    time.sleep(random.uniform(0, 0.1))
    while kill % 3 == 0 and not any(name.endswith(".partial") for name in listed()):
        pass  # in the middle of a save
    os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    complete = last_told(told)
    before = listed()
    halves += any(name.endswith(".partial") for name in before)
    pid, told = child(read)
    assert os.waitpid(pid, 0)[1] == 0
    number = last_told(told)
    assert number >= complete, (number, complete)
    assert listed() == before
    seen.append(number)
assert seen == sorted(seen) and seen[-1] > seen[0], seen
left = len([name for name in before if name.endswith(".safetensors")])
print(json.dumps({"kills": len(seen), "halves": halves, "left": left}))
"""


def test_killed_at_any_instant_the_newest_complete_one_is_read(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", KILL, str(tmp_path / "checkpoints"), "12"]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
    report = json.loads(found.stdout)
    assert report["kills"] == 12
    assert report["halves"] >= 2  # died in the middle of a save
    assert report["left"] <= 3


FULL = """
import sys
import numpy as np
from jaxlab.errors import InputError
from jaxlab.store import Checkpoints
arrays = {str(index): np.random.default_rng(index).integers(0, 255, 2500, np.uint8) for index in range(40)}
for line in sys.stdin:
    writer, note = Checkpoints(sys.argv[1]), {"n": int(line)}
    try:
        writer.save(arrays, note)
        writer.wait()
        print("saved", flush=True)
    except InputError as error:
        print(error, flush=True)
    found = writer.newest()
    if found is not None:
        assert all(np.array_equal(found[0][name], arrays[name]) for name in arrays)
    print(None if found is None else found[1]["n"], flush=True)
"""


def test_a_full_disk_is_one_clear_line_and_loses_nothing(small_disk, tmp_path):
    disk, resize = small_disk
    folder = disk / "run" / "checkpoints"
    remedy = (
        "fix this, for instance by freeing space, and run again: the run resumes from its last checkpoint"
    )
    full = f"out = {str(folder)!r}: cannot be written (No space left on device); {remedy}"
    command = [sys.executable, "-W", "error", "-c", FULL, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        (tmp_path / "errors").open("w") as errors,
        subprocess.Popen(command, stderr=errors, **pipes) as process,
    ):

        def ask(note, kilobytes):
            resize(kilobytes)
            process.stdin.write(f"{note}\n")
            process.stdin.flush()
            return [process.stdout.readline().strip() for _ in range(2)]

        # 100 kB of arrays and 3 kB of the rest: from no room for a folder to no room for the last few bytes.
        for kilobytes in (4, 8, 16, 24, 32, 48, 64, 80, 96):
            assert ask(0, kilobytes) == [full, "None"], kilobytes
        newest = "None"
        for note, kilobytes in enumerate(range(104, 300, 14), 1):
            reply = ask(note, kilobytes)
            assert reply in ([full, newest], ["saved", str(note)]), kilobytes
            newest = reply[1]
        assert ask(90, 2000) == ["saved", "90"]
        names, room = os.listdir(folder), os.statvfs(disk)
        used = (room.f_blocks - room.f_bfree) * room.f_frsize // 1024
        for note in (91, 92):
            assert ask(note, used + 60) == [full, "90"]
            assert os.listdir(folder) == names
        left = (
            folder / f"00001000-0123456789abcdef.safetensors.{'0' * 16}.partial"
        )  # by a process that died: its room is there again
        resize(used + 300)
        left.write_bytes(bytes(200_000))
        assert ask(93, used + 300) == ["saved", "93"]
        assert not left.exists()
        process.stdin.close()
        assert process.wait() == 0
    assert (tmp_path / "errors").read_text() == ""
    assert [path.suffix for path in folder.iterdir()] == [".safetensors"] * 2
