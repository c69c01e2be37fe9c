"""The results of a run: the recorded arrays, and the verdicts drawn from them."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from jaxlab.errors import InputError
from jaxlab.store.dataset import GroupInfo, assemble
from jaxlab.store.folder import RunFolder
from jaxlab.store.log import Recorded, read_log
from jaxlab.store.verdicts import with_verdicts
from jaxlab.trial import Variable

_CODECS = {None, "blosc", "vlen-utf8"}


def build_results(description: Mapping[str, Any], recorded: Recorded) -> xr.Dataset:
    """The labelled data set of a run, finished or not, from its pieces; ``description`` is as in ``run.json``."""
    groups = [
        GroupInfo(
            {name: Variable(*_tupled(label)) for name, label in group["variables"].items()},
            group["coordinates"],
        )
        for group in description["groups"]
    ]
    arrays = assemble(
        groups, recorded.pieces, description["epochs"], description["coordinates"], _attributes(description)
    )
    stops = {trial: stop for rung in recorded.rungs for trial, stop in rung.stops.items()}
    return with_verdicts(arrays.assign(cohort=_cohort(description["cohorts"])), stops)


def read_results(path: str | os.PathLike) -> xr.Dataset:
    """Results of a run folder; of an unfinished run, what its pieces hold. Nothing in the folder is executed.

    A damaged piece is named in a warning and left out.

    Raises:
        InputError: the folder is no run, or is damaged beyond that.
    """
    folder = RunFolder(path)
    description = folder.describe()
    if not folder.complete:
        return build_results(description, read_log(folder.pieces_path, description, _warn))
    try:
        _check_codecs(folder.results_path)
        return xr.open_zarr(folder.results_path, zarr_format=2, consolidated=True).load()
    except Exception as error:  # whatever a damaged file makes of zarr and its codecs
        _warn(
            InputError("results", str(folder.results_path), f"is damaged ({error}); built again from pieces")
        )
        return build_results(description, read_log(folder.pieces_path, description, _warn))


def _check_codecs(path: Path) -> None:
    """Raise where an array goes through a codec that no run writes: zarr's "pickle" would execute what it decodes."""
    for name, entry in json.loads((path / ".zmetadata").read_bytes())["metadata"].items():
        if name.endswith(".zarray"):
            for codec in (*(entry["filters"] or ()), entry["compressor"] or {"id": None}):
                if codec["id"] not in _CODECS:
                    raise ValueError(f"{name} has the codec {codec['id']!r}")


def _cohort(sizes: Sequence[int]) -> xr.Variable:
    """The cohort of each trial; they are numbered one cohort after the other."""
    words = {"long_name": "trials that started together; 0: those of the first start", "units": "1"}
    return xr.Variable("trial", np.repeat(np.arange(len(sizes), dtype=np.int32), sizes), words)


def _warn(error: InputError) -> None:
    warnings.warn(str(error), stacklevel=4)


def _attributes(description: Mapping[str, Any]) -> dict[str, Any]:
    """Scalars as they are, the rest as JSON: attributes must survive any reader of zarr."""
    environment, times = description["environment"], description["times"]
    flat = {
        "title": description["name"],
        "study_hash": description["study_hash"],
        "data": json.dumps(description["specification"]["data"]),
        "specification": json.dumps(description["specification"]),
        "versions": json.dumps(environment["versions"]),
        "Conventions": "one trial a row; NaN (-1 for integers) is what a trial did not reach; epoch 0 is the start; "
        "of a coordinate, NaN or an empty text is what a trial does not use",
    }
    whys = dict.fromkeys(group["nondeterministic"] for group in description["groups"])
    if any(whys):
        flat["deterministic"] = f"no: {'; '.join(filter(None, whys))}"
    else:
        flat["deterministic"] = "unknown: not every group is compiled yet" if None in whys else "yes"
    precisions = dict.fromkeys(group["configuration"].get("precision") for group in description["groups"])
    if None not in precisions:
        flat["precision"] = ", ".join(precisions)
    changes = {"changes": "; ".join(description["changes"])} if description["changes"] else {}
    return flat | {key: value for key, value in environment.items() if key != "versions"} | times | changes


def _tupled(label: list[Any]) -> list[Any]:
    return [tuple(each) if isinstance(each, list) else each for each in label]
