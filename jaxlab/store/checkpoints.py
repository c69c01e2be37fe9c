"""Checkpoints: files of train states, written in the background."""

from __future__ import annotations

import concurrent.futures
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from jaxlab.errors import InputError
from jaxlab.store.arrays import Arrays, Note, read_arrays, stem_of, write_arrays
from jaxlab.store.disk import check_no_link, disk_errors, remove, sweep

_NUMBER = re.compile(r"\d{8}")
_KEPT = 2


class Checkpoints:
    """A folder of checkpoints, each a file of arrays named by its number; the newest two are kept.

    A thread writes while training continues. Reading changes nothing in the folder. One process writes at a time.

    Args:
        folder: path of the folder, which the first save creates.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder).absolute()
        self._saving: concurrent.futures.Future[None] | None = None

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.wait()
        except InputError:
            if error is None:
                raise

    def save(self, arrays: Mapping[str, np.ndarray], note: Any) -> None:
        """Start writing a checkpoint, after the previous one is written; it is on disk after `wait`.

        Args:
            arrays: as for `write_arrays`; the caller must not change them until then.
            note: a JSON-serialisable value.

        Raises:
            InputError: the previous checkpoint could not be written; this one is not started.
        """
        self.wait()
        executor = concurrent.futures.ThreadPoolExecutor(1, "jaxlab-checkpoint")
        self._saving = executor.submit(self._write, dict(arrays), note)
        executor.shutdown(wait=False)  # the thread ends with this save

    def wait(self) -> None:
        """Block until the checkpoint is on disk, and all but the newest two are removed.

        Raises:
            InputError: it could not be written; the earlier checkpoints are still there.
        """
        if self._saving is None:
            return
        concurrent.futures.wait([self._saving])
        saving, self._saving = self._saving, None
        with disk_errors(self.folder):
            saving.result()

    def newest(self, note: type[Note] = Any) -> tuple[Arrays, Note] | None:
        """Read the arrays and the note of the newest complete checkpoint; None if there is none.

        Raises:
            InputError: it is damaged, or its note is not of the given type.
        """
        if self._saving is not None:
            concurrent.futures.wait([self._saving])
        complete = self._complete()
        remedy = "remove it to resume from the previous checkpoint, if there is one"
        return read_arrays(complete[-1], remedy, "checkpoint", note) if complete else None

    def _write(self, arrays: Arrays, note: Any) -> None:
        check_no_link(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        sweep(self.folder)
        number = 1 + max((int(path.name[:8]) for path in self._complete()), default=-1)
        write_arrays(self.folder, f"{number:08d}", arrays, note)
        for path in self._complete()[:-_KEPT]:
            remove(path)

    def _complete(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if _NUMBER.fullmatch(stem_of(path) or ""))
