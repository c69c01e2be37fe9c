"""A run on disk: what it is, immutable pieces of what it recorded, train states, weights, and the results."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path
from typing import Any

import xarray as xr

from jaxlab.errors import InputError, how_to_install
from jaxlab.store.description import checked
from jaxlab.store.files import disk_errors, write_whole
from jaxlab.store.states import States

_LIBRARIES = ("zarr", "orbax", "filelock")
_RUN, _PIECES, _STATES, _WEIGHTS, _RESULTS, _DONE = (
    "run.json",
    "pieces",
    "states",
    "weights",
    "results.zarr",
    "complete",
)


def missing_library() -> str:
    """The first library that writing a run needs and that is not installed; empty if there is none."""
    return next((library for library in _LIBRARIES if importlib.util.find_spec(library) is None), "")


class RunFolder:
    """One run's folder.

    ``run.json`` says which study it is; ``pieces/`` holds immutable files of what was recorded, each complete or
    absent; ``states/`` the newest train states, from which an interrupted run goes on and a finished one is extended;
    ``weights/`` what is kept of trials that ended; ``results.zarr`` is built from the pieces and swapped in whole;
    ``complete`` is written last.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)

    def check_usable(self) -> None:
        """Raise unless the folder is absent, empty, or a run, and can be written to; writes nothing."""
        library = missing_library()
        if library:
            raise InputError("out", str(self.path), f"needs {library}: {how_to_install('cli')}")
        nearest = next(
            path for path in (self.path.absolute(), *self.path.absolute().parents) if path.exists()
        )
        if not nearest.is_dir():
            raise InputError("out", str(self.path), f"{nearest} is a file; name a folder")
        if not os.access(nearest, os.W_OK):
            raise InputError("out", str(self.path), f"{nearest} cannot be written to; name another folder")
        if self.path.exists() and not self.begun:
            others = {path.name for path in self.path.iterdir()}
            others -= {_PIECES, "lock", "lock.holder", f"{_RUN}.partial"}
            if others or any(self.pieces_path.glob("*")):
                raise InputError(
                    "out", str(self.path), "is not empty and no run of jaxlab; name another folder"
                )

    def make(self) -> None:
        """Make the folder."""
        with disk_errors(self.path):
            self.pieces_path.mkdir(parents=True, exist_ok=True)

    def describe(self) -> dict[str, Any]:
        """What ``run.json`` says."""
        file = self.path / _RUN
        if not file.is_file():
            raise InputError("run", str(self.path), "is no run folder of jaxlab: it has no run.json")
        try:
            found = json.loads(file.read_text())
        except ValueError as error:
            raise InputError(
                "run", str(file), f"is damaged ({error}); train the study again elsewhere"
            ) from error
        return checked(found, file)

    def rewrite(self, description: dict[str, Any]) -> None:
        """Say what the run is."""
        with disk_errors(self.path):
            write_whole(self.path / _RUN, json.dumps(description, indent=2).encode())

    @property
    def begun(self) -> bool:
        """Whether it holds a run, finished or not."""
        return (self.path / _RUN).exists()

    @property
    def complete(self) -> bool:
        """Whether the run was finished."""
        return (self.path / _DONE).exists()

    @property
    def results_path(self) -> Path:
        """Where ``xarray.open_zarr`` finds the results."""
        return self.path / _RESULTS

    @property
    def pieces_path(self) -> Path:
        return self.path / _PIECES

    @property
    def weights_path(self) -> Path:
        return self.path / _WEIGHTS

    def states(self, stage: str) -> States:
        """The train states of trials that train together."""
        return States(self.path / _STATES / stage)

    def resume(self) -> None:
        """The run is not complete any more."""
        with disk_errors(self.path):
            (self.path / _DONE).unlink(missing_ok=True)

    def finish(self, description: dict[str, Any], results: xr.Dataset) -> None:
        """Put the results in place, and then the mark that they are all there."""
        self.write_results(results)
        self.rewrite(description)
        with disk_errors(self.path):
            write_whole(self.path / _DONE, b"")

    def write_results(self, results: xr.Dataset) -> None:
        """Build ``results.zarr`` beside the old one and swap it in whole."""
        from zarr.storage import MemoryStore  # here, so that training without a folder does without zarr

        fresh, old = (self.path / f"{_RESULTS}.{word}" for word in ("new", "old"))
        with disk_errors(self.path):
            shutil.rmtree(fresh, ignore_errors=True)
            # Format 2: consolidated metadata and variable-length strings are part of it, so that a plain
            # xarray.open_zarr has nothing to warn of. The store is never changed once it is swapped in.
            # In memory first: zarr hands each small file to a thread, which takes three times as long.
            content: dict[str, Any] = {}
            results.to_zarr(MemoryStore(content), mode="w", zarr_format=2, consolidated=True)
            for name, buffer in content.items():
                (fresh / name).parent.mkdir(parents=True, exist_ok=True)
                (fresh / name).write_bytes(buffer.to_bytes())
            shutil.rmtree(old, ignore_errors=True)
            if self.results_path.exists():
                self.results_path.rename(old)
            fresh.rename(self.results_path)
            shutil.rmtree(old, ignore_errors=True)
