"""Making the description of a run: its trials by number, and the environment that trains them."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxlab import __version__
from jaxlab.devices import processor
from jaxlab.runs.digests import marked, serialisable
from jaxlab.runs.job import Job
from jaxlab.runs.numbering import Numbering
from jaxlab.space import Group
from jaxlab.space.values import token
from jaxlab.store import FORMAT, Description, Environment, GroupEntry
from jaxlab.trial import Trial

_PACKAGES = ("jaxlab", "jax", "jaxlib", "flax", "optax", "numpy")
# Environment variables that set how compilers and their libraries compute.
_FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE")
# Flags that do not affect numbers: the number of host devices, dumps and profiles.
_HARMLESS = ("xla_force_host_platform_device_count", "xla_dump_", "xla_hlo_profile", "xla_gpu_cuda_data_dir")
_NOT_USED = object()


def describe(
    job: Job,
    numbering: Numbering,
    trials: Sequence[Trial],
    devices: Sequence[jax.Device],
    earlier: Description | None = None,
) -> Description:
    """Describe a run, with what is known of it before this process compiles anything.

    Args:
        job: the job that the run executes.
        numbering: numbers of its trials.
        trials: the triple of each group.
        devices: devices that train it.
        earlier: description by earlier starts, whose groups come first.
    """
    groups = [_entry(*each) for each in zip(numbering.groups, numbering.numbers, trials, strict=True)]
    for index, was in enumerate(() if earlier is None else earlier.groups):
        compiled = {name: getattr(was, name) for name in ("width", "fingerprint", "nondeterministic")}
        groups[index] = dataclasses.replace(groups[index], **compiled)
    return Description(
        format=FORMAT,
        study_hash=job.study_hash,
        specification=job.specification,
        source=job.source,
        environment=environment(devices),
        cohorts=numbering.cohorts,
        coordinates=coordinates(numbering),
        groups=groups,
        times={} if earlier is None else earlier.times,
        changes=[] if earlier is None else earlier.changes,
    )


def _entry(group: Group, numbers: np.ndarray, trial: Trial) -> GroupEntry:
    return GroupEntry(
        configuration={name: marked(value) for name, value in group.configuration.items()},
        trials=numbers.tolist(),
        variables=dict(trial.variables),
        coordinates={dim: list(names) for dim, names in trial.coordinates.items()},
    )


def environment(devices: Sequence[jax.Device]) -> Environment:
    """The environment of this process: versions, devices, and compiler flags that can affect numbers."""
    return Environment(
        versions={"python": platform.python_version()}
        | {package: _version(package) for package in _PACKAGES},
        platform=devices[0].platform,
        device_kind=devices[0].device_kind,
        processor=processor(),
        flags=flags(),
        devices=len(devices),
    )


def _version(package: str) -> str:
    """The version of a package; jaxlab may run from a clone without being installed."""
    return __version__ if package == "jaxlab" else importlib.metadata.version(package)


def flags() -> str:
    """The compiler flags that can affect numbers, sorted; of repeated flags the last."""
    found = {}
    for variable in _FLAGS:
        text = os.environ.get(variable, "")
        if variable == "XLA_FLAGS" and text.strip() and not text.lstrip().startswith("-"):  # a file of flags
            text = Path(text.strip()).read_text() if Path(text.strip()).is_file() else text
        for word in text.split():
            name, _, value = word.lstrip("-").partition("=")
            if variable == "NVIDIA_TF32_OVERRIDE":
                name, value = variable, word
            if not name.startswith(_HARMLESS):
                found[name] = value
    return " ".join(f"{name}={value}" if value else name for name, value in sorted(found.items()))


def coordinates(numbering: Numbering) -> dict[str, list[Any]]:
    """The coordinates: id, hyperparameters and varying configuration fields of each trial; None where it uses none."""
    columns: dict[str, list[Any]] = {"trial_id": list(numbering.trial_ids)}
    groups = numbering.groups
    names = varied(groups)
    words_for_none = {
        name: _word_for_none([group.configuration.get(name) for group in groups]) for name in names
    }
    rows: dict[int, dict[str, Any]] = {}
    for group, numbers in zip(groups, numbering.numbers, strict=True):
        given = {name: group.configuration[name] for name in names if name in group.configuration}
        fields = {
            name: words_for_none[name] if value is None else serialisable(value)
            for name, value in given.items()
        }
        for row, number in enumerate(numbers.tolist()):
            values = {name: values[row].item() for name, values in group.hyperparameters.items()}
            rows[number] = values | fields
    every = [rows[number] for number in sorted(rows)]
    for name in dict.fromkeys(name for row in every for name in row):
        columns[name] = [row.get(name) for row in every]
    return columns


def _word_for_none(values: Sequence[Any]) -> str:
    """A word for the value None that no other value of the field has; None itself means that the field is not used."""
    return next(word for word in ("none", "None", "null", "no value") if word not in values)


def varied(groups: Sequence[Group]) -> list[str]:
    """Names of the configuration fields that differ between groups, or that only some groups use."""
    every = [group.configuration for group in groups]
    names = dict.fromkeys(name for fields in every for name in fields)
    return [name for name in names if len({_token(fields, name) for fields in every}) > 1]


def _token(fields: Mapping[str, Any], name: str) -> Any:
    return token(fields[name]) if name in fields else _NOT_USED
