"""Checkpoints of train states."""

from __future__ import annotations

import concurrent.futures
import errno
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import ml_dtypes  # noqa: F401  NumPy knows its names from now on
import numpy as np

from jaxlab.errors import InputError
from jaxlab.store.files import check_no_link, open_regular, read_json, remove, sweep, write_whole

Arrays = dict[str, np.ndarray]
_COMPLETE = re.compile(r"\d{8}")
_KEPT = 2
_DIGEST, _LENGTH = 32, 8  # bytes
_FULL = {errno.ENOSPC: "no space left on the device", errno.EDQUOT: "the disk quota is used up"}


class States:
    """Checkpoints in one folder, each a file that is complete or absent; the newest two are kept.

    A file is named by its number, eight digits, and holds the SHA-256 digest of the rest, the length of a header (8
    bytes, little endian), the header (JSON: the note, and each array's name, dtype and shape), and the arrays, end to
    end.

    A thread writes while training continues. Reading changes nothing in the folder and executes nothing in it. One
    process writes at a time.

    Args:
        folder: made by the first save.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder).absolute()
        self._saving: concurrent.futures.Future[None] | None = None

    def __enter__(self) -> States:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.close()
        except InputError:
            if error is None:
                raise

    def save(self, arrays: Mapping[str, np.ndarray], note: Mapping[str, Any]) -> None:
        """Begin to write a checkpoint, once the one before is written; it is on disk after `wait`.

        Args:
            arrays: by any name, of any dtype of NumPy's and ml_dtypes' numbers; nobody may write to them until then.
            note: what JSON can hold.

        Raises:
            InputError: the checkpoint before could not be written; then this one is not begun.
        """
        self.wait()
        heads = [[name, str(values.dtype), list(values.shape)] for name, values in arrays.items()]
        header = json.dumps({"note": note, "arrays": heads}).encode()
        executor = concurrent.futures.ThreadPoolExecutor(1, "jaxlab-states")
        self._saving = executor.submit(self._write, header, list(arrays.values()))
        executor.shutdown(wait=False)  # the thread ends with this save

    def wait(self) -> None:
        """Until all is on disk, and what is older than the newest two checkpoints removed.

        Raises:
            InputError: it could not be written; the checkpoints before are still there.
        """
        if self._saving is None:
            return
        concurrent.futures.wait([self._saving])
        saving, self._saving = self._saving, None
        try:
            saving.result()
        except OSError as error:
            raise InputError("out", str(self.folder), _remedy(error)) from error

    def newest(self) -> tuple[Arrays, dict[str, Any]] | None:
        """The newest complete checkpoint, checked: arrays of the reader's own and the note; None if there is none.

        Raises:
            InputError: it is damaged.
        """
        if self._saving is not None:
            concurrent.futures.wait([self._saving])
        complete = self._complete()
        return _read(complete[-1]) if complete else None

    def close(self) -> None:
        """Wait."""
        self.wait()

    def _write(self, header: bytes, arrays: Sequence[np.ndarray]) -> None:
        parts = [len(header).to_bytes(_LENGTH, "little"), header]
        parts += [np.ascontiguousarray(values).reshape(-1).view(np.uint8).data for values in arrays]
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        check_no_link(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        sweep(self.folder)
        number = 1 + max((int(path.name) for path in self._complete()), default=-1)
        write_whole(self.folder / f"{number:08d}", digest.digest(), *parts)
        for path in self._complete()[:-_KEPT]:
            remove(path)

    def _complete(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if _COMPLETE.fullmatch(path.name))


def _read(path: Path) -> tuple[Arrays, dict[str, Any]]:
    try:
        with open_regular(path) as file:
            return _unpack(file.read(_DIGEST), file.read())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:  # whatever damage makes of it
        words = " ".join(str(error).split())[:200] or type(error).__name__
        remedy = f"is damaged ({words}); remove it to go on from the one before, if there is one"
        raise InputError("states", str(path), remedy) from error


def _unpack(digest: bytes, content: bytes) -> tuple[Arrays, dict[str, Any]]:
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("its bytes have changed")
    end = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    header, arrays = read_json(content[_LENGTH:end]), {}
    for name, word, shape in header["arrays"]:
        dtype = np.dtype(word)
        start, end = end, end + math.prod(shape) * dtype.itemsize
        if end > len(content) or min(shape, default=0) < 0:
            raise ValueError(f"{name!r} declares {shape} of {dtype}, more than there is")
        raw = np.frombuffer(content, np.uint8, end - start, start) if end > start else np.zeros(0, np.uint8)
        arrays[name] = raw.copy().view(dtype).reshape(shape)
    return arrays, header["note"]


def _remedy(error: OSError) -> str:
    if error.errno in _FULL:
        return f"{_FULL[error.errno]}: make room and run it again"
    return f"cannot be written ({error.strerror or error}): mend that and run it again"
