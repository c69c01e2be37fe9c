"""Checkpoints of train states, through Orbax."""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import hashlib
import json
import logging
import math
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import ml_dtypes  # noqa: F401  NumPy knows its names from now on
import numpy as np

from jaxlab.errors import InputError

Arrays = dict[str, np.ndarray]
_COMPLETE = re.compile(r"\d{8}")
_LEFTOVER = re.compile(r"\d{8}\..+")  # being written or removed by a process that died
_KEPT = 2
_DIGEST, _LENGTH = 32, 8  # bytes
_FULL = {errno.ENOSPC: "no space left on the device", errno.EDQUOT: "the disk quota is used up"}
# Orbax counts its operations in one place for the whole process.
_ONE_AT_A_TIME = threading.Lock()


class States:
    """Checkpoints in one folder, each complete or absent; the newest two are kept.

    A checkpoint is one Orbax tree ``{"content": bytes}``, whatever it holds: Orbax takes 0.4 ms for each array of a
    tree, and on a full disk prints a traceback for each but the first. The bytes are the SHA-256 digest of the rest,
    the length of a header (8 bytes, little endian), the header (JSON: the note, and each array's name, dtype and
    shape), and the arrays, end to end.

    Orbax runs in a thread of its own and starts JAX's devices if nobody has; Python's logging and event loops stay as
    they were. Reading changes nothing in the folder and executes nothing in it. One process writes at a time.

    Args:
        folder: made by the first save.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder).absolute()
        self._saving: concurrent.futures.Future[None] | None = None
        self._tried = -1

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
        except Exception as error:
            code = _os_error(error)
            if code is None:
                raise
            raise InputError("out", str(self.folder), _remedy(code)) from error

    def newest(self) -> tuple[Arrays, dict[str, Any]] | None:
        """The newest complete checkpoint, checked: arrays of the reader's own and the note; None if there is none.

        Raises:
            InputError: it is damaged.
        """
        if self._saving is not None:
            concurrent.futures.wait([self._saving])
        complete = self._complete()
        if not complete:
            return None
        with concurrent.futures.ThreadPoolExecutor(1) as reader:
            return reader.submit(_read, complete[-1]).result()

    def close(self) -> None:
        """Wait."""
        self.wait()

    def _write(self, header: bytes, arrays: Sequence[np.ndarray]) -> None:
        with _orbax() as ocp:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._tidy()
            # A number is tried once: a write that failed may still be under way in Orbax' threads.
            self._tried = 1 + max([self._tried, *(int(path.name) for path in self._complete())])
            try:
                with ocp.Checkpointer(_handler(ocp)) as checkpointer:
                    tree = ocp.args.PyTreeSave({"content": _pack(header, arrays)})
                    checkpointer.save(self.folder / f"{self._tried:08d}", args=tree)
            finally:
                self._tidy()

    def _tidy(self) -> None:
        """Remove what is half written, half removed, or older than the newest two."""
        for path in self.folder.iterdir():
            if _LEFTOVER.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)
        for path in self._complete()[:-_KEPT]:
            with contextlib.suppress(OSError):
                # Renamed first, so that it is gone at once.
                shutil.rmtree(path.rename(path.with_name(f"{path.name}.old")), ignore_errors=True)

    def _complete(self) -> list[Path]:
        # Orbax writes beside and renames, so that a plain number is a whole checkpoint.
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if _COMPLETE.fullmatch(path.name))


@contextlib.contextmanager
def _orbax() -> Iterator[Any]:
    """Orbax, for one thread at a time.

    It logs the errors that it raises, and its logger sets up Python's logging where nobody did. So where nobody did, a
    handler stands there meanwhile that does as Python does without one (warnings go to stderr), but for Orbax' own.
    """
    with _ONE_AT_A_TIME, contextlib.ExitStack() as stack:
        root = logging.getLogger()
        if not root.handlers:
            stand_in = logging.StreamHandler()
            stand_in.setLevel(logging.WARNING)
            stand_in.addFilter(lambda record: record.name != "absl")
            root.addHandler(stand_in)
            stack.callback(root.removeHandler, stand_in)
        import orbax.checkpoint as ocp  # takes 0.1 to 0.3 s

        yield ocp


def _handler(ocp: Any) -> Any:
    """One file for all data, neither compressed nor copied: compression takes five times as long as all the rest."""
    import jax

    kinds = ocp.type_handlers
    registry = kinds.create_type_handler_registry(
        (np.ndarray, kinds.NumpyHandler(deepcopy_host_arrays=False)), (jax.Array, kinds.ArrayHandler())
    )
    return ocp.PyTreeCheckpointHandler(use_compression=False, type_handler_registry=registry)


def _read(path: Path) -> tuple[Arrays, dict[str, Any]]:
    try:
        with _orbax() as ocp, ocp.Checkpointer(_handler(ocp)) as checkpointer:
            return _unpack(checkpointer.restore(path, args=ocp.args.PyTreeRestore())["content"])
    except MemoryError:
        raise
    except Exception as error:  # whatever a damaged file makes of Orbax
        words = " ".join(str(error).split())[:200] or type(error).__name__
        remedy = f"is damaged ({words}); remove it to go on from the one before, if there is one"
        raise InputError("states", str(path), remedy) from error


def _pack(header: bytes, arrays: Sequence[np.ndarray]) -> np.ndarray:
    raw = [np.ascontiguousarray(values).reshape(-1).view(np.uint8) for values in arrays]
    pieces = [np.frombuffer(len(header).to_bytes(_LENGTH, "little") + header, np.uint8), *raw]
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece.data)
    return np.concatenate([np.frombuffer(digest.digest(), np.uint8), *pieces])


def _unpack(content: np.ndarray) -> tuple[Arrays, dict[str, Any]]:
    if hashlib.sha256(content[_DIGEST:].data).digest() != content[:_DIGEST].tobytes():
        raise ValueError("its bytes have changed")
    start = _DIGEST + _LENGTH
    end = start + int.from_bytes(content[_DIGEST:start].tobytes(), "little")
    header, arrays = json.loads(content[start:end].tobytes()), {}
    for name, word, shape in header["arrays"]:
        dtype = np.dtype(word)
        start, end = end, end + math.prod(shape) * dtype.itemsize
        arrays[name] = content[start:end].copy().view(dtype).reshape(shape)
    return arrays, header["note"]


def _os_error(error: BaseException) -> int | None:
    """The system's error number, if that is what it was; tensorstore has it in its text alone."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"os_error_code='(\d+)'", str(error))
    return int(found[1]) if found else None


def _remedy(code: int) -> str:
    if code in _FULL:
        return f"{_FULL[code]}: make room and run it again"
    return f"cannot be written ({os.strerror(code)}): mend that and run it again"
