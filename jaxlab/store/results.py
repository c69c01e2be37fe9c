"""The results of a run: the recorded arrays, and verdicts computed from them."""

from __future__ import annotations

import contextlib
import json
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import xarray as xr

from jaxlab.errors import InputError
from jaxlab.store.dataset import assemble, per_trial
from jaxlab.store.description import Description, GroupEntry
from jaxlab.store.disk import check_fits, read_json
from jaxlab.store.folder import RunFolder
from jaxlab.store.lock import only_writer
from jaxlab.store.records import Records, read_records
from jaxlab.store.verdicts import with_verdicts

_CODECS = {None, "blosc", "vlen-utf8"}


def build_results(description: Description, records: Records) -> xr.Dataset:
    """Build the labelled results of a run, finished or not."""
    groups = description.groups
    arrays = assemble(groups, records, description.epochs, description.coordinates, _attributes(description))
    stops = {trial: stop for rung in records.rungs for trial, stop in rung.stops.items()}
    cohorts = np.repeat(np.arange(len(description.cohorts), dtype=np.int32), description.cohorts)
    added = {"cohort": per_trial(cohorts, "trials that started together; 0 is the first start")}
    if "dead_fraction" in arrays:
        added["can_die"] = _can_die(description)
    return with_verdicts(arrays.assign(added), stops)


def read_results(path: str | os.PathLike) -> xr.Dataset:
    """Read the results of a run folder, finished or not; nothing in the folder is executed.

    A damaged record file is skipped with a warning. Results whose bytes have changed are built again from the record
    files, also with a warning.

    Raises:
        InputError: the folder is not a run folder, or cannot be read at all.
    """
    folder = RunFolder(path)
    description = folder.describe()
    found = _finished(folder) if folder.complete else None
    return _built(folder, description, _warn) if found is None else found


def mended_results(folder: RunFolder, description: Description) -> xr.Dataset:
    """Read the results of a finished run; where they are damaged, build them again and replace them if possible."""
    found = _finished(folder)
    if found is not None:
        return found
    damaged: list[InputError] = []
    results = _built(folder, description, damaged.append)
    for error in damaged:
        _warn(error)
    if not damaged and os.access(folder.path, os.W_OK):
        with contextlib.suppress(InputError):  # another process has the lock, or the disk is full
            folder.check_usable()
            with only_writer(folder.path):
                folder.resume()
                folder.finish(description, results)
    return results


def _finished(folder: RunFolder) -> xr.Dataset | None:
    """The stored results of a finished run; None, with a warning, if they are damaged."""
    try:
        return _opened(folder.read_results())
    except Exception as error:  # zarr and its codecs raise all kinds on damaged files
        words = " ".join(str(error).split()) or type(error).__name__
        remedy = f"is damaged ({words}); built again from the record files"
        _warn(InputError("results", str(folder.results_path), remedy))
        return None


def _built(
    folder: RunFolder, description: Description, on_damage: Callable[[InputError], None]
) -> xr.Dataset:
    return build_results(description, read_records(folder.records_path, description, on_damage))


def _opened(content: Mapping[str, bytes]) -> xr.Dataset:
    """Open a zarr store from the contents of its files."""
    # Imported here: training without a run folder does not need it.
    from zarr.core.buffer import default_buffer_prototype
    from zarr.storage import MemoryStore

    _check_arrays(read_json(content[".zmetadata"])["metadata"])
    buffer = default_buffer_prototype().buffer
    store = MemoryStore({name: buffer.from_bytes(data) for name, data in content.items()})
    return xr.open_zarr(store, zarr_format=2, consolidated=True).load()


def _check_arrays(entries: Mapping[str, Any]) -> None:
    """Raise ValueError where an array has a codec that runs do not use, or does not fit in memory.

    zarr's codec "pickle" would execute code.
    """
    size = 0
    for name, entry in entries.items():
        if name.endswith(".zarray"):
            for codec in (*(entry["filters"] or ()), entry["compressor"] or {"id": None}):
                if codec["id"] not in _CODECS:
                    raise ValueError(f"{name} has the codec {codec['id']!r}")
            size += math.prod(entry["shape"]) * np.dtype(entry["dtype"]).itemsize
    check_fits(size)


def _can_die(description: Description) -> xr.Variable:
    """Whether each trial can have dead units."""
    able = np.ones(len(description.trial_ids), bool)
    for group in description.groups:
        label = group.variables.get("dead_fraction")
        able[group.trials] = label is not None and label.defined
    words = (
        "the activation has a flat zero, so that units can be dead; otherwise dead shares are 0 by definition"
    )
    return per_trial(able, words)


def _warn(error: InputError) -> None:
    warnings.warn(str(error), stacklevel=4)


def _attributes(description: Description) -> dict[str, Any]:
    """Attributes of the results: scalars unchanged, the rest as JSON, which every reader of zarr can handle."""
    specification, environment = asdict(description.specification), asdict(description.environment)
    attributes = {
        "title": specification["name"],
        "study_hash": description.study_hash,
        "data": json.dumps(specification["data"]),
        "specification": json.dumps(specification),
        "versions": json.dumps(environment.pop("versions")),
        "Conventions": "one row per trial; NaN (-1 for integers) beyond its last epoch; epoch 0 is before training; "
        "coordinates that a trial does not use are NaN or an empty string",
        "deterministic": _deterministic(description.groups),
    }
    precisions = [group.configuration.get("precision") for group in description.groups]
    if precisions and all(precisions):
        attributes["precision"] = ", ".join(dict.fromkeys(map(str, precisions)))
    widths = [group.width for group in description.groups if group.width is not None]
    attributes |= environment | {"width": widths[0] if len(set(widths)) == 1 else widths}
    changes = {"changes": "; ".join(description.changes)} if description.changes else {}
    return attributes | description.times | changes


def _deterministic(groups: Sequence[GroupEntry]) -> str:
    whys = dict.fromkeys(group.nondeterministic for group in groups)
    if any(whys):
        return f"no: {'; '.join(filter(None, whys))}"
    return "unknown: some groups are not compiled yet" if None in whys else "yes"
