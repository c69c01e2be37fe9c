"""One file of named arrays and a note: complete or absent, any change noticed, nothing executed, never too large."""

import hashlib
import json
import os
import pickle
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from jaxlab.errors import InputError
from jaxlab.files import write_whole
from jaxlab.store.arrays import read_arrays, read_note, stem_of, write_arrays

DTYPES = [
    "float32",
    "bfloat16",
    "float16",
    "float64",
    "float8_e4m3fn",
    "float8_e5m2",
    "float8_e4m3b11fnuz",
    "uint4",
    "int4",
    "uint8",
    "int32",
    "int64",
    "uint32",
    "bool",
    "complex64",
    "complex128",
    ">i4",
    "U3",
]
REMEDY = "remove it"


def array_of(dtype, shape, seed=0):
    """Numbers of any dtype, made without the code under test."""
    values = np.random.default_rng(seed).integers(0, 2, shape)
    return np.asarray(values).astype(np.dtype(getattr(ml_dtypes, dtype, dtype)))


def bits(arrays):
    return {name: (values.dtype, values.shape, values.tobytes()) for name, values in arrays.items()}


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
NOTES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=40)
@given(ARRAYS, NOTES)
def test_what_is_written_comes_back_bit_for_bit(arrays, note):
    with tempfile.TemporaryDirectory() as folder:
        path = write_arrays(Path(folder), "x", arrays, note)
        assert os.listdir(folder) == [path.name]
        found, its = read_arrays(path, REMEDY)
        assert read_note(path) == note
    assert bits(found) == bits(arrays)
    assert its == note


def test_every_dtype_and_layout_comes_back(tmp_path):
    arrays = {f"{name} {shape}": array_of(name, shape) for name in DTYPES for shape in [(), (0, 3), (2, 3)]}
    square = np.arange(16.0).reshape(4, 4)
    arrays |= {"transposed": square.T, "strided": square[::2, 1:3], "broadcast": np.broadcast_to(1.5, (3, 2))}
    found, _ = read_arrays(write_arrays(tmp_path, "x", arrays, {}), REMEDY)
    assert bits(found) == bits(arrays)
    assert all(values.flags.writeable and values.flags.aligned for values in found.values())


def test_other_programs_open_it_with_safetensors(tmp_path):
    arrays = {"half": array_of("float16", (2, 3)), "whole": array_of("int64", (4,))}
    path = write_arrays(tmp_path, "x", arrays, {"n": [1]})
    with safe_open(path, "numpy") as file:
        assert bits({name: file.get_tensor(name) for name in file.keys()}) == bits(arrays)  # noqa: SIM118
        assert json.loads(file.metadata()["note"]) == {"n": [1]}


def test_the_name_holds_the_stem_and_the_digest_of_the_bytes(tmp_path):
    path = write_arrays(tmp_path, "w-e000001", {"x": np.ones(2)}, {})
    assert path.name == f"w-e000001-{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}.safetensors"
    assert stem_of(path) == "w-e000001"
    for name in ("x.safetensors", f"x-{'0' * 16}.npz", f"x-{'0' * 16}.safetensors.partial", f"-{'0' * 16}"):
        assert stem_of(tmp_path / name) is None


def test_arrays_are_written_without_a_copy_in_memory(tmp_path):
    arrays = {"x": np.arange(2e6), "y": np.ones((1000, 1000), ml_dtypes.bfloat16), "z": np.ones(10**6, "i4")}
    tracemalloc.start()
    path = write_arrays(tmp_path, "x", arrays, {})
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 20_000_000
    assert most < 1_000_000


def test_names_and_notes_that_the_format_cannot_hold_are_refused_in_one_line(tmp_path):
    with pytest.raises(InputError, match=r"cannot be written: 1 arrays and their note .*; split") as caught:
        write_arrays(tmp_path, "x", {"x": np.ones(2)}, "x" * 100_000_000)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_objects_and_notes_that_json_lacks_are_not_written(tmp_path):
    with pytest.raises(TypeError, match="array of references"):
        write_arrays(tmp_path, "x", {"x": np.array([object()])}, {})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_arrays(tmp_path, "x", {"x": np.ones(2)}, {"n": object()})
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_nothing_half_written(tmp_path):
    (tmp_path / "taken" / "x").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        write_whole(tmp_path / "taken", b"new")
    write_whole(tmp_path / "file", b"old")
    write_whole(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken"]


def refusal(path):
    """The reason in the one line that says that a file is damaged."""
    with pytest.raises(InputError) as caught:
        read_arrays(path, REMEDY, "checkpoint")
    error = caught.value
    assert (error.field, error.value) == ("checkpoint", str(path))
    assert error.remedy.startswith("is damaged (")
    assert error.remedy.endswith(f"); {REMEDY}")
    assert "\n" not in str(error)
    return error.remedy.removeprefix("is damaged (").removesuffix(f"); {REMEDY}")


NOTE = {"trials": [1, 2], "which": ["last", "best"]}


@pytest.fixture
def written(tmp_path):
    return write_arrays(tmp_path, "x", {"x": np.arange(9.0), "y": array_of("bfloat16", (3,))}, NOTE)


def test_a_flipped_bit_at_any_byte_is_noticed(written):
    content = written.read_bytes()
    for at in range(len(content)):
        written.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        assert refusal(written) == "its bytes have changed"
        assert read_note(written) in (None, NOTE)  # never another one
    written.write_bytes(content)
    assert read_arrays(written, REMEDY)[1] == NOTE


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content[:1],
        lambda content: content + b"0",
        lambda content: b"",
        lambda content: b"{not json" * 9,
        lambda content: bytes(len(content)),
    ],
)
def test_a_file_that_was_cut_or_overwritten_is_refused(written, damage):
    written.write_bytes(damage(written.read_bytes()))
    assert refusal(written) == "its bytes have changed"
    assert read_note(written) in (None, NOTE)


def test_another_name_is_damage(written):
    assert refusal(written.rename(written.with_name(f"x-{'0' * 16}.safetensors"))) == "its bytes have changed"
    assert refusal(written.with_name(f"x-{'0' * 16}.safetensors").rename(written.with_name("x"))) == (
        "its bytes have changed"
    )


@pytest.mark.parametrize(
    ("left", "why"),
    [
        ("a folder", "Is a directory|not a regular file"),
        ("a pipe", "not a regular file"),
        ("a huge file", "it takes 8,796,093,022,208 bytes, more than the memory"),
        ("a dangling link", "No such file"),
    ],
)
def test_something_else_in_the_place_of_a_file_is_damage_and_nothing_waits(written, left, why):
    written.unlink()
    if left == "a folder":
        written.mkdir()
    elif left == "a pipe":
        os.mkfifo(written)
    elif left == "a dangling link":
        written.symlink_to("nowhere")
    else:
        written.touch()
        os.truncate(written, 2**43)
    with pytest.raises(InputError, match=rf"is damaged \(.*({why}).*\)"):
        read_arrays(written, REMEDY)
    assert read_note(written) is None


def put(folder, content):
    """Anything, under the name that says that it is whole."""
    path = folder / f"x-{hashlib.sha256(content).hexdigest()[:16]}.safetensors"
    path.write_bytes(content)
    return path


def crafted(header, data=b"", length=None):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


def entry(dtype, shape, end, **metadata):
    """A header of one array that declares a type, a shape and a size."""
    metadata = {"note": "{}", "raw": "{}"} | metadata
    return {"__metadata__": metadata, "x": {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}}


class Executed:
    def __reduce__(self):
        return pytest.fail, ("a pickle was executed",)


WRONG = {
    "a pickle": pickle.dumps(Executed()),
    "a pickled array": np.array([Executed()], object).dumps(),
    "nothing": b"",
    "no header": crafted(b""),
    "brackets": crafted(b"[" * 200_000),
    "closed brackets": crafted(b"[" * 200_000 + b"]" * 200_000),
    "a list": crafted([]),
    "no metadata": crafted({}),
    "no note": crafted({"__metadata__": {"raw": "{}"}}),
    "a note of brackets": crafted({"__metadata__": {"raw": "{}", "note": "[" * 200_000}}),
    "a header of 16 EB": crafted({}, length=2**64 - 1),
    "a header of 8 TB": crafted({}, length=2**43),
    "8 TB": crafted(entry("F64", [10**12], 8 * 10**12)),
    "8 TB in 8 bytes": crafted(entry("F64", [10**12], 8), bytes(8)),
    "8 EB": crafted(entry("F64", [10**6, 10**6, 10**6], 8), bytes(8)),
    "more than an address": crafted(entry("F64", [2**62, 2**62], 8), bytes(8)),
    "negative": crafted(entry("F64", [-1], 8), bytes(8)),
    "half a row": crafted(entry("F64", [1.5], 12), bytes(12)),
    "no such type": crafted(entry("OBJECT", [1], 8), bytes(8)),
    "bits": crafted(entry("F4", [2], 1), bytes(1)),
    "objects": crafted(entry("U8", [1, 8], 8, raw='{"x": "O"}'), bytes(8)),
    "a type that is none": crafted(entry("U8", [1, 8], 8, raw='{"x": "nothing"}'), bytes(8)),
    "a type as wide as memory": crafted(entry("U8", [1, 8], 8, raw='{"x": "V1000000000"}'), bytes(8)),
    "a number in bytes of no axis": crafted(entry("U8", [], 1, raw='{"x": "int4"}'), bytes(1)),
}


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG)
def test_a_crafted_file_is_damage_takes_no_memory_and_executes_nothing(tmp_path, content):
    path = put(tmp_path, content)
    tracemalloc.start()
    refusal(path)
    read_note(path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 5_000_000


READ = """
import os, sys
from pathlib import Path
from jaxlab.store.arrays import read_arrays, read_note
path, seen = Path(os.path.realpath(sys.argv[1])), []
folder = str(path.parent)

def watch(event, arguments):
    if event in ("pickle.find_class", "exec", "compile", "import", "marshal.loads", "ctypes.dlopen"):
        seen.append((event, str(arguments[:2])[:300]))
    elif event == "open" and folder in str(arguments[0]):
        writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
        seen.extend([("write", str(arguments))] if arguments[2] & writing else [])
    elif event.startswith(("os.", "shutil.")) and folder in str(arguments):
        seen.append((event, str(arguments)))

read_arrays(path, "")  # once, so that everything that it needs is imported
sys.addaudithook(watch)
sys.path.insert(0, folder)
print(read_arrays(path, "")[1] == read_note(path))
print([each for each in seen if each[0] != "import" or folder in each[1]])
"""


def test_reading_executes_and_changes_nothing(written):
    for name in ("numpy.py", "sitecustomize.py", "__init__.py"):
        written.with_name(name).write_text("raise SystemExit('executed')")
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", READ, str(written)], capture_output=True, text=True
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, "True\n[]\n", "")
