"""The results of a run: the recorded arrays, and the verdicts drawn from them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

import xarray as xr

from jaxlab.engine import Piece
from jaxlab.errors import InputError
from jaxlab.store.dataset import GroupInfo, assemble
from jaxlab.store.folder import RunFolder
from jaxlab.store.verdicts import with_verdicts
from jaxlab.trial import Variable


def build_results(description: Mapping[str, Any], pieces: Iterable[tuple[int, Piece]]) -> xr.Dataset:
    """The labelled data set of a run, finished or not, from its pieces.

    Args:
        description: as in ``run.json``.
        pieces: ``(group, piece)``.
    """
    groups = [
        GroupInfo(
            group["trials"],
            {name: Variable(*_tupled(label)) for name, label in group["variables"].items()},
            group["coordinates"],
        )
        for group in description["groups"]
    ]
    recorded = assemble(
        groups, pieces, description["epochs"], description["coordinates"], _attributes(description)
    )
    return with_verdicts(recorded)


def read_results(path: str | os.PathLike) -> xr.Dataset:
    """Results of a run folder; of an unfinished run, what its pieces hold.

    Raises:
        InputError: the folder is no run, or is damaged.
    """
    folder = RunFolder(path)
    description = folder.describe()
    if not folder.results_path.exists():
        return build_results(description, folder.pieces())
    try:
        return xr.open_zarr(folder.results_path).load()
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            "run", str(path), f"has a damaged results.zarr ({error}); train the study again"
        ) from error


def _attributes(description: Mapping[str, Any]) -> dict[str, Any]:
    """Scalars as they are, the rest as JSON: attributes must survive any reader of zarr."""
    environment, times = description["environment"], description["times"]
    flat = {
        "title": description["name"],
        "run_hash": description["run_hash"],
        "data": json.dumps(description["specification"]["data"]),
        "specification": json.dumps(description["specification"]),
        "versions": json.dumps(environment["versions"]),
        "Conventions": "one trial a row; NaN (-1 for integers) is what a trial did not reach; epoch 0 is the start",
    }
    return flat | {key: value for key, value in environment.items() if key != "versions"} | times


def _tupled(label: list[Any]) -> list[Any]:
    return [tuple(each) if isinstance(each, list) else each for each in label]
