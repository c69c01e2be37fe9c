"""Files of named arrays with a note: the common format of records, checkpoints and weights.

A file is named ``STEM-DIGEST.safetensors``. The digest is the first 16 hexadecimal digits of its SHA-256, so that any
change of its bytes is detected. The note is JSON in the metadata, under ``note``, with a digest of its own under
``note_digest``. Other programs can open the file with the library ``safetensors``. Reading executes nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import ml_dtypes  # registers the names of its types with NumPy
import numpy as np

from jaxlab.errors import InputError
from jaxlab.files import write_whole
from jaxlab.store.disk import open_regular, read_json, read_regular

Arrays = dict[str, np.ndarray]
Note = TypeVar("Note")

_LENGTH = 8  # number of bytes at the start of a file that hold the length of its header
_TYPES = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "U16": np.uint16,
    "I16": np.int16,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "U32": np.uint32,
    "I32": np.int32,
    "F32": np.float32,
    "U64": np.uint64,
    "I64": np.int64,
    "F64": np.float64,
    "C64": np.complex64,
}
_REGISTERED = 2  # the ``isbuiltin`` of the types of ml_dtypes
_DTYPES = {word: np.dtype(kind) for word, kind in _TYPES.items()}
_WORDS = {dtype: word for word, dtype in _DTYPES.items()}
_LONGEST_HEADER = 100_000_000  # bytes that the library safetensors reads
_NAME = re.compile(r"(.+)-([0-9a-f]{16})\.safetensors")


def write_arrays(folder: Path, stem: str, arrays: Mapping[str, np.ndarray], note: Any) -> Path:
    """Write a file atomically: it is complete or absent whatever happens, and on disk when this returns.

    Args:
        folder: an existing folder.
        stem: first part of the file's name.
        arrays: arrays of any numeric dtype of NumPy and ml_dtypes, by name; dtypes that the format lacks are stored as
            bytes. Contiguous arrays are written without a copy in memory.
        note: a JSON-serialisable value.

    Raises:
        InputError: the names and the note are longer than the format allows.
    """
    stored, raw = {}, {}
    for name, values in arrays.items():
        stored[name] = np.ascontiguousarray(values).reshape(values.shape)
        if values.dtype not in _WORDS:
            raw[name] = values.dtype.name if values.dtype.isbuiltin == _REGISTERED else values.dtype.str
            stored[name] = stored[name][..., None].view(np.uint8)
    text = json.dumps(note)
    metadata = {"note": text, "note_digest": _digest(text.encode()), "raw": json.dumps(raw)}
    parts = _encoded(stored, metadata)
    if len(parts[0]) > _LONGEST_HEADER:
        remedy = f"cannot be written: {len(arrays):,} arrays and their note take {len(parts[0]):,} bytes, of at most"
        raise InputError(
            "out", str(folder), f"{remedy} {_LONGEST_HEADER:,}; split the study into several runs"
        )
    path = folder / f"{stem}-{_digest(*parts)}.safetensors"
    write_whole(path, *parts)
    return path


def _encoded(arrays: Arrays, metadata: dict[str, str]) -> list[bytes | np.ndarray]:
    """The parts of a file: its header, then the bytes of each array, those of larger items first to align them.

    `safetensors.numpy.save` would copy all arrays into one string of bytes.
    """
    header: dict[str, Any] = {"__metadata__": metadata}
    parts: list[bytes | np.ndarray] = []
    end = 0
    for name, values in sorted(arrays.items(), key=lambda item: -item[1].itemsize):
        begin, end = end, end + values.nbytes
        entry = {"dtype": _WORDS[values.dtype], "shape": values.shape, "data_offsets": [begin, end]}
        header[name] = entry
        parts.append(values.reshape(-1).view(np.uint8))
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % _LENGTH)
    return [len(encoded).to_bytes(_LENGTH, "little") + encoded, *parts]


def read_arrays(
    path: Path, remedy: str, field: str = "record file", note: type[Note] = Any
) -> tuple[Arrays, Note]:
    """Read the arrays and the note of a file; memory stays within a few times its size.

    Args:
        path: path of the file.
        remedy: what to do if it is damaged, for the error.
        field: kind of the file, for the error.
        note: type of the note, which msgspec converts and checks.

    Raises:
        InputError: the file is damaged, was not written by `write_arrays`, or has another note.
    """
    import msgspec  # imported here: training without a run folder needs neither
    from safetensors import deserialize

    try:
        content = read_regular(path)
        found = _NAME.fullmatch(path.name)
        if found is None or found[2] != _digest(content):
            raise ValueError("its bytes have changed")
        metadata = _metadata(content)
        raw = read_json(metadata["raw"])
        arrays = {}
        for name, each in deserialize(content):
            values = np.frombuffer(each["data"], _DTYPES[each["dtype"]]).reshape(each["shape"])
            arrays[name] = values.view(np.dtype(raw[name]))[..., 0] if name in raw else values
        return arrays, msgspec.convert(read_json(metadata["note"]), note)
    except MemoryError:
        raise
    except Exception as error:  # safetensors, JSON, msgspec and NumPy raise all kinds on damaged files
        words = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(field, str(path), f"is damaged ({words}); {remedy}") from error


def read_note(path: Path, note: type[Note] = Any) -> Note | None:
    """Read only the note, which has the given type; None where it cannot be read, has changed or is another."""
    try:
        import msgspec

        with open_regular(path) as file:
            start = file.read(_LENGTH)
            length = int.from_bytes(start, "little")
            if length > os.fstat(file.fileno()).st_size:
                return None
            metadata = _metadata(start + file.read(length))
        text = metadata["note"]
        if _digest(text.encode()) != metadata["note_digest"]:
            return None
        return msgspec.convert(read_json(text), note)
    except Exception:  # as above; `read_arrays` raises the error
        return None


def with_prefix(arrays: Mapping[str, np.ndarray], prefix: str) -> Arrays:
    """The arrays whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): each for name, each in arrays.items() if name.startswith(prefix)}


def stem_of(path: Path) -> str | None:
    """The first part of the name of such a file; None for any other file."""
    found = _NAME.fullmatch(path.name)
    return found and found[1]


def _metadata(content: bytes) -> dict[str, Any]:
    end = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    return read_json(content[_LENGTH:end])["__metadata__"]


def _digest(*parts: bytes | np.ndarray) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()[:16]
