"""A run on disk: what it is, immutable pieces of what it recorded, and the results built from them."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from jaxlab.engine import Piece
from jaxlab.errors import InputError

_KEYS = {"run_hash", "epochs", "groups", "coordinates", "specification", "environment", "times"}
_RUN, _PIECES, _RESULTS, _DONE = "run.json", "pieces", "results.zarr", "complete"


class RunFolder:
    """One run's folder.

    ``run.json`` says which study it is; ``pieces/`` holds one immutable file for each call of a compiled program,
    complete or absent; ``results.zarr`` is built from the pieces and swapped in whole; ``complete`` is written last.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)

    def check_free(self, run_hash: str) -> None:
        """Raise unless the folder is absent, empty, or the same run; writes nothing."""
        nearest = next(
            path for path in (self.path.absolute(), *self.path.absolute().parents) if path.exists()
        )
        if not nearest.is_dir():
            raise InputError("out", str(self.path), f"{nearest} is a file; name a folder")
        if not os.access(nearest, os.W_OK):
            raise InputError("out", str(self.path), f"{nearest} cannot be written to; name another folder")
        if not self.path.exists() or {path.name for path in self.path.iterdir()} <= {
            _PIECES,
            f"{_RUN}.partial",
        }:
            return
        if not (self.path / _RUN).exists():
            raise InputError("out", str(self.path), "is not empty and no run of jaxlab; name another folder")
        if self.describe()["run_hash"] != run_hash:
            raise InputError("out", str(self.path), "holds another study; name another folder or remove it")

    def create(self, description: dict[str, Any]) -> None:
        """Begin the run: pieces of an unfinished earlier try at the same run are dropped."""
        self.check_free(description["run_hash"])
        self.path.mkdir(parents=True, exist_ok=True)
        self.rewrite(description)
        shutil.rmtree(self.path / _PIECES, ignore_errors=True)
        (self.path / _PIECES).mkdir()

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
        if not isinstance(found, dict) or not set(found) >= _KEYS:
            raise InputError("run", str(file), "is damaged: no description of a run; name a run folder")
        return found

    def widths(self) -> list[int | None]:
        """Of each group, as far as the run has them."""
        found = [group.get("width") for group in self.describe()["groups"]]
        for width in found:
            if width is not None and (type(width) is not int or width < 1):
                raise InputError("run", str(self.path / _RUN), f"is damaged: a width of {width!r}")
        return found

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

    def write_piece(self, group: int, piece: Piece) -> None:
        """Put one piece on disk, whole and for good."""
        first = f"e{int(piece.epochs[0]):06d}" if len(piece.epochs) else "final"
        name = f"g{group:03d}-t{int(piece.trials[0]):06d}-{first}.npz"
        arrays = {f"record/{key}": value for key, value in piece.record.items()}
        target = self.path / _PIECES / name
        partial = target.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, trials=piece.trials, epochs=piece.epochs, **arrays)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)

    def pieces(self) -> Iterator[tuple[int, Piece]]:
        """Every complete piece with its group."""
        for path in sorted((self.path / _PIECES).glob("g*.npz")):
            yield int(path.name[1:4]), _read_piece(path)

    def rewrite(self, description: dict[str, Any]) -> None:
        """Say more of the same run than `create` did."""
        _write_whole(self.path / _RUN, json.dumps(description, indent=2).encode())

    def finish(self, description: dict[str, Any], results: xr.Dataset) -> None:
        """Put the results in place, and then the mark that they are all there."""
        self.write_results(results)
        self.rewrite(description)
        _write_whole(self.path / _DONE, b"")

    def write_results(self, results: xr.Dataset) -> None:
        """Build ``results.zarr`` beside the old one and swap it in whole."""
        fresh, old = (self.path / f"{_RESULTS}.{word}" for word in ("new", "old"))
        shutil.rmtree(fresh, ignore_errors=True)
        # Format 2: consolidated metadata and variable-length strings are part of it, so that a plain
        # xarray.open_zarr has nothing to warn of. The store is never changed once it is swapped in.
        results.to_zarr(fresh, mode="w", zarr_format=2, consolidated=True)
        shutil.rmtree(old, ignore_errors=True)
        if self.results_path.exists():
            self.results_path.rename(old)
        fresh.rename(self.results_path)
        shutil.rmtree(old, ignore_errors=True)


def _read_piece(path: Path) -> Piece:
    try:
        # Opened here, since np.load leaves a broken file open.
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            record = {key.removeprefix("record/"): file[key] for key in file if key.startswith("record/")}
            return Piece(file["trials"], file["epochs"], record)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(
            "piece", str(path), f"is damaged ({error}); train the study again elsewhere"
        ) from error


def _write_whole(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
