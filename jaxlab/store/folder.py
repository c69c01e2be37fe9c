"""The folder of a run: its description, record files, checkpoints, weights and results."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from pathlib import Path
from typing import Any

import xarray as xr

from jaxlab.errors import InputError, how_to_install
from jaxlab.files import write_whole
from jaxlab.store.checkpoints import Checkpoints
from jaxlab.store.description import Description, decoded
from jaxlab.store.disk import (
    check_no_link,
    disk_errors,
    make_folder,
    read_json,
    read_regular,
    read_tree,
    sweep,
    tree_digest,
    write_tree,
)

_LIBRARIES = ("zarr", "filelock", "msgspec", "safetensors")
_RUN, _RESULTS, _DONE = "run.json", "results.zarr", "complete"
_RECORDS, _CHECKPOINTS, _WEIGHTS = "records", "checkpoints", "weights"
# Names that a run may leave behind if it is killed before ``run.json`` is written.
_BEGINNING = re.compile(r"records|lock|lock\.holder|run\.json\.[0-9a-f]{16}\.partial")


def missing_library() -> str:
    """The name of the first missing library of those that a run folder needs; empty if none is missing."""
    return next((library for library in _LIBRARIES if importlib.util.find_spec(library) is None), "")


class RunFolder:
    """The folder of one run.

    - ``run.json``: the description, which identifies the study.
    - ``records/``: immutable files of what the trials recorded, each written atomically.
    - ``checkpoints/``: the newest train states, from which an interrupted run resumes and a finished one is extended.
    - ``weights/``: the weights of trials that ended.
    - ``results.zarr``: the labelled results, built from the records and swapped in.
    - ``complete``: the digest of the results, written last.

    The path of the folder may contain links. In the folder, ``results.zarr`` may be a link, say to a larger disk. Its
    target is a new name, an empty folder, or earlier results of this study; the link stays, and the results are swapped
    in at the target. No other link is followed in writing or removing: in place of a folder or of ``lock`` it is an
    error, in place of a file it is replaced.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)

    def check_usable(self) -> None:
        """Raise InputError unless the folder is absent, empty or a run folder, and writable; write nothing."""
        library = missing_library()
        if library:
            raise InputError("out", str(self.path), f"needs {library}: {how_to_install('cli')}")
        try:
            self._check_place()
            self._check_links()
        except (OSError, ValueError) as error:  # an invalid file name
            if isinstance(error, InputError):
                raise
            words = getattr(error, "strerror", None) or error
            raise InputError(
                "out", str(self.path), f"cannot be used ({words}); name another folder"
            ) from error

    def _check_place(self) -> None:
        nearest = next(
            path for path in (self.path.absolute(), *self.path.absolute().parents) if _exists(path)
        )
        if not nearest.is_dir():
            raise InputError("out", str(self.path), f"{nearest} is a file; name a folder")
        if not os.access(nearest, os.W_OK):
            raise InputError("out", str(self.path), f"{nearest} cannot be written to; name another folder")
        if self.path.exists() and not self.begun:
            others = [path for path in self.path.iterdir() if not _BEGINNING.fullmatch(path.name)]
            others = [path for path in others if path != self.results_path or not path.is_symlink()]
            if others or any(self.records_path.glob("*")):
                raise InputError(
                    "out", str(self.path), "is neither empty nor a jaxlab run folder; name another folder"
                )

    def _check_links(self) -> None:
        checkpoints = self.path / _CHECKPOINTS
        for path in (self.path / "lock", self.records_path, self.weights_path, checkpoints):
            check_no_link(path)
        if checkpoints.is_dir():
            for path in checkpoints.iterdir():
                check_no_link(path)
        if self.results_path.is_symlink():
            self._results_target(self.describe().study_hash if self.begun else None)

    def make(self) -> None:
        """Create the folder."""
        with disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            make_folder(self.records_path)

    def sweep(self) -> None:
        """Remove unfinished files that killed processes left behind; only the writer may call this."""
        with disk_errors(self.path):
            for folder in (self.path, self.records_path, self.weights_path):
                sweep(folder)

    def describe(self) -> Description:
        """Read and validate ``run.json``."""
        file = self.path / _RUN
        if not self.begun:
            raise InputError("run", str(self.path), "is not a jaxlab run folder: it has no run.json")
        try:
            content = read_regular(file)
        except (OSError, ValueError) as error:
            remedy = f"is damaged ({error}); train the study again in another folder"
            raise InputError("run", str(file), remedy) from error
        return decoded(content, file)

    def rewrite(self, description: Description) -> None:
        """Write ``run.json``."""
        with disk_errors(self.path):
            write_whole(self.path / _RUN, description.encoded())

    @property
    def begun(self) -> bool:
        """Whether the folder holds a run, finished or not."""
        return os.path.lexists(self.path / _RUN)

    @property
    def complete(self) -> bool:
        """Whether the run is finished."""
        return os.path.lexists(self.path / _DONE)

    @property
    def results_path(self) -> Path:
        """The path of the results, for ``xarray.open_zarr``."""
        return self.path / _RESULTS

    @property
    def records_path(self) -> Path:
        return self.path / _RECORDS

    @property
    def weights_path(self) -> Path:
        return self.path / _WEIGHTS

    def checkpoints(self, stage: str) -> Checkpoints:
        """The checkpoints of one stage."""
        return Checkpoints(self.path / _CHECKPOINTS / stage)

    def resume(self) -> None:
        """Mark the run as unfinished."""
        with disk_errors(self.path):
            (self.path / _DONE).unlink(missing_ok=True)

    def finish(self, description: Description, results: xr.Dataset) -> None:
        """Write the results, the description and finally the mark of a finished run."""
        content = self.write_results(results)
        self.rewrite(description)
        mark = {"digest": tree_digest(content), "bytes": sum(map(len, content.values()))}
        with disk_errors(self.path):
            write_whole(self.path / _DONE, json.dumps(mark).encode())

    def write_results(self, results: xr.Dataset) -> dict[str, bytes]:
        """Write ``results.zarr`` next to the old one and swap it in; return its files by name."""
        from zarr.storage import MemoryStore  # imported here: training without a run folder does not need it

        # Format 2 includes consolidated metadata and variable-length strings, so that a plain xarray.open_zarr
        # does not warn. In memory first: zarr hands each small file to a thread, which takes three times as long.
        store: dict[str, Any] = {}
        results.to_zarr(MemoryStore(store), mode="w", zarr_format=2, consolidated=True)
        content = {name: buffer.to_bytes() for name, buffer in store.items()}
        with disk_errors(self.path):
            write_tree(self._results_target(results.attrs["study_hash"]), content)
        return content

    def read_results(self) -> dict[str, bytes]:
        """Read the files of a finished run's results by name, verified by their digest.

        Raises:
            ValueError, OSError: they are damaged or missing.
        """
        mark = read_json(read_regular(self.path / _DONE))
        if not isinstance(mark, dict) or type(mark.get("bytes")) is not int:
            raise ValueError("the file complete has no digest of the results")
        content = read_tree(self.results_path, mark["bytes"])
        if tree_digest(content) != mark.get("digest"):
            raise ValueError("its bytes have changed")
        return content

    def _results_target(self, study_hash: str | None) -> Path:
        """The path to which the results are written: the target of ``results.zarr`` if it is a link that is allowed."""
        if not self.results_path.is_symlink():
            return self.results_path
        target = Path(os.path.realpath(self.results_path))
        place = target.parent
        if not place.is_dir() or not os.access(place, os.W_OK) or os.path.ismount(target):
            remedy = (
                f"is a link to {target}, which cannot be written: link to a new name in a writable folder"
            )
            raise InputError("out", str(self.results_path), remedy)
        if not os.path.lexists(target) or (target.is_dir() and not any(target.iterdir())):
            return target
        try:
            its = read_json(read_regular(target / ".zattrs"))["study_hash"]
        except (OSError, ValueError, KeyError, TypeError):
            its = None
        if its is None or its != study_hash:
            remedy = f"is a link to {target}, which holds something other than results of this study: remove the link"
            raise InputError("out", str(self.results_path), remedy)
        return target


def _exists(path: Path) -> bool:
    """Whether a path exists; raises OSError for an invalid name."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
