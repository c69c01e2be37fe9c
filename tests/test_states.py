"""Checkpoints of train states: whole or absent, checked when read, whatever happens to the process and the disk."""

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlab.errors import InputError
from jaxlab.store import States

DTYPES = [
    "float32",
    "bfloat16",
    "float16",
    "float64",
    "float8_e4m3fn",
    "uint4",
    "uint8",
    "int32",
    "int64",
    "uint32",
    "bool",
    "complex64",
    ">i4",
]
LITTLE = {
    "state.parameters['conv_0'].kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a/b": np.ones(2),
}


def array_of(dtype, shape, seed=0):
    """Numbers of any dtype, made without the code under test."""
    values = np.random.default_rng(seed).integers(0, 2, shape)
    return np.asarray(values).astype(np.dtype(getattr(ml_dtypes, dtype, dtype)))


def bits(arrays):
    return {name: (values.dtype, values.shape, values.tobytes()) for name, values in arrays.items()}


def saved(folder, *notes, arrays=LITTLE):
    with States(folder) as writer:
        for note in notes:
            writer.save(arrays, note)
    return folder


def numbers(folder):
    return sorted(path.name for path in folder.iterdir())


def tree(folder):
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in folder.rglob("*")
    }


ARRAYS = st.dictionaries(
    st.text(max_size=12)
    | st.sampled_from(["a/b", "a", "a.b", "../x", "state.parameters['conv_0'].kernel", ""]),
    st.builds(
        array_of,
        st.sampled_from(DTYPES),
        st.lists(st.integers(0, 3), max_size=3).map(tuple),
        st.integers(0, 9),
    ),
    max_size=6,
)
NOTES = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=3,
)


@settings(deadline=None, max_examples=15)
@given(ARRAYS, NOTES)
def test_what_is_saved_comes_back_bit_for_bit(arrays, note):
    with tempfile.TemporaryDirectory() as folder:
        found, its = States(saved(folder, note, arrays=arrays)).newest()
    assert bits(found) == bits(arrays)
    assert its == note


def test_every_dtype_and_layout_comes_back(tmp_path):
    arrays = {f"{name} {shape}": array_of(name, shape) for name in DTYPES for shape in [(), (0, 3), (2, 3)]}
    square = np.arange(16.0).reshape(4, 4)
    arrays |= {"transposed": square.T, "strided": square[::2, 1:3], "broadcast": np.broadcast_to(1.5, (3, 2))}
    found, _ = States(saved(tmp_path, {}, arrays=arrays)).newest()
    assert bits(found) == bits(arrays)
    assert all(values.flags.writeable and values.flags.aligned for values in found.values())


def test_nothing_saved_is_nothing_found(tmp_path):
    with States(tmp_path / "none") as reader:
        assert reader.newest() is None
        reader.wait()
    assert not (tmp_path / "none").exists()
    (tmp_path / "empty").mkdir()
    assert States(tmp_path / "empty").newest() is None


def test_a_hundred_quick_saves_leave_the_newest_two(tmp_path):
    with States(tmp_path) as writer:
        for number in range(100):
            writer.save({"x": np.full(3, number)}, {"number": number})
        writer.wait()
        assert numbers(tmp_path) == ["00000098", "00000099"]
        found, note = writer.newest()
    assert note == {"number": 99}
    assert found["x"].tolist() == [99] * 3


def test_another_process_goes_on_counting(tmp_path):
    saved(tmp_path, {"n": 0}, {"n": 1}, {"n": 2})
    saved(tmp_path, {"n": 3})
    assert numbers(tmp_path) == ["00000002", "00000003"]
    assert States(tmp_path).newest()[1] == {"n": 3}


def test_saving_does_not_wait_for_the_disk_and_what_changes_later_is_not_saved(tmp_path, monkeypatch):
    written, note, sync = threading.Event(), {"list": [1]}, os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: written.wait(20) and sync(handle))
    writer = States(tmp_path / "states")
    writer.save(LITTLE, note)
    assert not written.is_set()
    note["list"].append(2)
    written.set()
    writer.wait()
    assert writer.newest()[1] == {"list": [1]}


def test_reading_in_the_same_process_sees_what_was_being_saved(tmp_path):
    writer = States(tmp_path)
    writer.save(LITTLE, {"n": 1})
    assert writer.newest()[1] == {"n": 1}


def test_reading_changes_nothing_and_the_next_save_removes_what_dead_processes_left(tmp_path):
    saved(tmp_path, {"n": 0})
    for name in (f"00000001.{'0' * 16}.partial", f"00000007.{'f' * 16}.partial"):
        shutil.copy(tmp_path / "00000000", tmp_path / name)
    (tmp_path / "notes.txt").write_text("mine")
    before = tree(tmp_path)
    assert States(tmp_path).newest()[1] == {"n": 0}
    assert tree(tmp_path) == before
    saved(tmp_path, {"n": 1})
    assert numbers(tmp_path) == ["00000000", "00000001", "notes.txt"]


def save_and_raise(folder, error):
    with States(folder) as writer:
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
    writer = States(tmp_path / "file" / "states")
    writer.save(LITTLE, {"n": 0})
    with pytest.raises(InputError) as caught:
        writer.save(LITTLE, {"n": 1})
    assert str(caught.value) == (
        f"out = {str(writer.folder)!r}: cannot be written (Not a directory): fix this and run again"
    )
    (tmp_path / "file").unlink()
    writer.wait()
    assert not writer.folder.exists()
    writer.save(LITTLE, {"n": 2})
    writer.wait()
    assert writer.newest()[1] == {"n": 2}


def test_what_is_no_error_of_the_disk_is_raised_as_it_is(tmp_path):
    writer = States(tmp_path)
    with pytest.raises(TypeError, match="not JSON serializable"):
        writer.save(LITTLE, {"n": object()})
    writer.save({"x": np.array([object()])}, {})
    with pytest.raises(TypeError, match="array of references"):
        writer.wait()


def test_inside_a_running_event_loop(tmp_path):
    async def in_a_notebook():
        with States(tmp_path) as writer:
            writer.save(LITTLE, {"n": 1})
            writer.wait()
            return writer.newest()

    assert asyncio.run(in_a_notebook())[1] == {"n": 1}


def flipped(content, at):
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


DAMAGE = {
    "first bit": lambda content: flipped(content, 0),
    "middle bit": lambda content: flipped(content, len(content) // 2),
    "last bit": lambda content: flipped(content, len(content) - 1),
    "half": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-1],
    "one byte more": lambda content: content + b"0",
    "empty": lambda content: b"",
    "garbage": lambda content: b"{not json" * 9,
    "zeros": lambda content: bytes(len(content)),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two checkpoints."""
    folder = tmp_path_factory.mktemp("states")
    saved(folder, {"n": 0})
    return saved(folder, {"n": 1}, arrays={"x": np.random.default_rng(0).normal(size=3000)})


def refusal(folder):
    """The reason in the one line that says that the newest checkpoint is damaged."""
    with pytest.raises(InputError) as caught:
        States(folder).newest()
    error = caught.value
    assert (error.field, error.value) == ("states", str(folder / "00000001"))
    assert error.remedy.endswith("); remove it to go on from the one before, if there is one")
    assert "\n" not in str(error)
    return error.remedy.removeprefix("is damaged (")


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_noticed_and_without_the_file_the_one_before_is_read(whole, tmp_path, kind):
    folder = Path(shutil.copytree(whole, tmp_path / "copy"))
    damaged = folder / "00000001"
    damaged.write_bytes(DAMAGE[kind](damaged.read_bytes()))
    assert refusal(folder).startswith("its bytes have changed")
    damaged.unlink()
    assert States(folder).newest()[1] == {"n": 0}


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_a_flipped_bit_anywhere_is_refused(whole, data):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(shutil.copytree(whole, Path(place) / "copy"))
        content = (folder / "00000001").read_bytes()
        at, bit = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 7))
        (folder / "00000001").write_bytes(content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :])
        refusal(folder)


def crafted(header, arrays=b""):
    """A file whose digest is right, whatever it holds."""
    content = len(header).to_bytes(8, "little") + header + arrays
    return hashlib.sha256(content).digest() + content


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 200_000,
        b"[]",
        b"{}",
        b'{"note": {}, "arrays": [["x", "float64", [1000000000000]]]}',
        b'{"note": {}, "arrays": [["x", "float64", [-1]]]}',
        b'{"note": {}, "arrays": [["x", "float64", [1.5]]]}',
        b'{"note": {}, "arrays": [["x", "object", [0]]]}',
        b'{"note": {}, "arrays": [["x", "no type", [0]]]}',
        b'{"note": {}, "arrays": 3}',
        b'{"arrays": []}',
    ],
)
def test_a_crafted_checkpoint_is_damage_and_takes_no_memory(whole, tmp_path, header):
    folder = Path(shutil.copytree(whole, tmp_path / "copy"))
    (folder / "00000001").write_bytes(crafted(header))
    tracemalloc.start()
    refusal(folder)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("left", ["an empty file", "a folder", "a pipe", "a huge file", "a dangling link"])
def test_something_else_in_the_place_of_a_checkpoint_is_damage(whole, tmp_path, left):
    folder = Path(shutil.copytree(whole, tmp_path / "copy"))
    path = folder / "00000001"
    path.unlink()
    if left == "a folder":
        path.mkdir()
    elif left == "a pipe":
        os.mkfifo(path)
    elif left == "a dangling link":
        path.symlink_to("nowhere")
    else:
        path.touch()
        os.truncate(path, 2**43 if left == "a huge file" else 0)
    refusal(folder)


def in_a_fresh_process(code, *arguments):
    """Its standard output; nothing may be on its standard error."""
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments], capture_output=True, text=True
    )
    assert found.stderr == ""
    assert found.returncode == 0
    return found.stdout


TRAIN = """
import asyncio, logging, os, signal, sys, threading, time
import jax
jax.config.update("jax_num_cpu_devices", 2)
import jax.numpy as jnp
import numpy as np
from jaxlab.store import States

def globals_now():
    return [
        dict(os.environ), dict(jax.config.values), list(logging.getLogger().handlers), logging.getLogger().level,
        [(name, logging.getLogger(name).level) for name in ("absl", "jax", "orbax")], logging.getLogger("absl").filters,
        signal.getsignal(signal.SIGTERM), sys.excepthook, threading.excepthook, sys.unraisablehook, os.getcwd(),
    ]

step = jax.jit(jnp.cos)
devices = jax.devices()
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
before, running = globals_now(), set(threading.enumerate())

def save(folder):
    with States(folder) as writer:
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
    assert in_a_fresh_process(TRAIN, str(tmp_path)) == "2\n"
    assert numbers(tmp_path) == ["a", "b", "c"]
    assert [numbers(folder) for folder in tmp_path.iterdir()] == [["00000003", "00000004"]] * 3


READ = """
import os, sys
folder = os.path.realpath(sys.argv[1])
from jaxlab.store import States
import ml_dtypes
seen = []

def watch(event, arguments):
    if event in ("pickle.find_class", "exec", "compile", "import", "marshal.loads", "ctypes.dlopen"):
        seen.append((event, str(arguments[:2])[:300]))
    elif event == "open" and folder in str(arguments[0]):
        writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
        seen.extend([("write", str(arguments))] if arguments[2] & writing else [])
    elif event.startswith(("os.", "shutil.")) and folder in str(arguments):
        seen.extend([(event, str(arguments))] if event not in ("os.listdir", "os.scandir") else [])

States(folder).newest()  # once, so that everything that it needs is imported
sys.addaudithook(watch)
sys.path.insert(0, folder)
print(States(folder).newest()[1]["n"])
found = [each for each in seen if each[0] != "import" or folder in each[1]]
print(found)
"""


def test_reading_executes_nothing(whole, tmp_path):
    folder = Path(shutil.copytree(whole, tmp_path / "copy"))
    for name in ("numpy.py", "sitecustomize.py", "__init__.py"):
        (folder / name).write_text("raise SystemExit('executed')")
    assert in_a_fresh_process(READ, str(folder)) == "1\n[]\n"


# Each child is a process of its own; forking spares the seconds of importing everything a dozen times.
KILL = """
import json, os, random, select, signal, sys, time
import numpy as np
from jaxlab.store import States

folder, kills = sys.argv[1], int(sys.argv[2])
random.seed(0)

def arrays_of(number):
    draws = np.random.default_rng(number)
    return {f"{index}/x": draws.normal(size=3000).astype(np.float32) for index in range(40)}

def write(first, told):
    with States(folder) as writer:
        for number in range(first, first + 10**6):
            writer.save(arrays_of(number), {"number": number})
            if number == first or random.random() < 0.5:
                writer.wait()
                os.write(told, number.to_bytes(8, "little"))

def read(told):
    found, number = States(folder).newest(), -1
    if found is not None:
        number = found[1]["number"]
        expected = arrays_of(number)
        assert list(found[0]) == list(expected)
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
    os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    complete = last_told(told)
    before = listed()
    halves += any("." in name for name in before)
    pid, told = child(read)
    assert os.waitpid(pid, 0)[1] == 0
    number = last_told(told)
    assert number >= complete, (number, complete)
    assert listed() == before
    seen.append(number)
assert seen == sorted(seen) and seen[-1] > seen[0], seen
print(json.dumps({"kills": len(seen), "halves": halves, "left": len([n for n in before if "." not in n])}))
"""


def test_killed_at_any_instant_the_newest_complete_one_is_read(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", KILL, str(tmp_path / "states"), "12"]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
    report = json.loads(found.stdout)
    assert report["kills"] == 12
    assert report["halves"] >= 3  # died in the middle of a save
    assert report["left"] <= 3


@pytest.fixture
def small(tmp_path):
    """A small real file system, and a way to give it another size in kB."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(*options):
        return subprocess.run(
            ["mount", "-t", "tmpfs", "-o", *options, "tmpfs", str(disk)], capture_output=True
        )

    try:
        works = mount("size=64k").returncode == 0
    except OSError:
        works = False
    if not works:
        pytest.skip("mounting a small file system takes root")
    try:
        yield disk, lambda kilobytes: mount(f"remount,size={kilobytes}k").check_returncode()
    finally:
        with contextlib.suppress(OSError):
            subprocess.run(["umount", str(disk)], check=True)


FULL = """
import sys
import numpy as np
from jaxlab.errors import InputError
from jaxlab.store import States
arrays = {str(index): np.random.default_rng(index).integers(0, 255, 2500, np.uint8) for index in range(40)}
for line in sys.stdin:
    writer, note = States(sys.argv[1]), {"n": int(line)}
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


def test_a_full_disk_is_one_clear_line_and_loses_nothing(small, tmp_path):
    disk, resize = small
    folder = disk / "run" / "states"
    full = f"out = {str(folder)!r}: no space left on the device: free some space and run again"
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
        names, room = numbers(folder), os.statvfs(disk)
        used = (room.f_blocks - room.f_bfree) * room.f_frsize // 1024
        for note in (91, 92):
            assert ask(note, used + 60) == [full, "90"]
            assert numbers(folder) == names
        left = folder / f"00001000.{'0' * 16}.partial"  # by a process that died: its room is there again
        resize(used + 300)
        left.write_bytes(bytes(200_000))
        assert ask(93, used + 300) == ["saved", "93"]
        assert not left.exists()
        process.stdin.close()
        assert process.wait() == 0
    assert (tmp_path / "errors").read_text() == ""
    assert len(numbers(folder)) == 2
    assert not any(os.path.splitext(name)[1] for name in numbers(folder))
