"""What a run is, in words that JSON can hold: specification, identity, versions, device."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxlab import __version__
from jaxlab.pruning import plain_rule
from jaxlab.space import Group
from jaxlab.store import FORMAT, digest_of
from jaxlab.study.fingerprint import arrays_digest, digest, plain
from jaxlab.study.roster import Roster, plain_configuration
from jaxlab.trial import Trial

_PACKAGES = ("jaxlab", "jax", "jaxlib", "flax", "optax", "numpy")


def describe(
    study: Any, roster: Roster, trials: Sequence[Trial], devices: Sequence[jax.Device]
) -> dict[str, Any]:
    """What ``run.json`` says; times and changes apart, and what `with_compiled` adds."""
    columns = coordinates(roster)
    entries = zip(roster.groups, roster.numbers, trials, strict=True)
    return {
        "format": FORMAT,
        "name": study.name,
        "study_hash": study_hash(study),
        "epochs": study.epochs,
        "specification": specification(study),
        "source": study.source,
        "environment": environment(devices),
        "cohorts": roster.cohorts,
        "coordinates": columns,
        "coordinates_digest": digest_of(columns),
        "groups": [group_entry(*entry) for entry in entries],
    }


def with_compiled(
    description: Mapping[str, Any],
    widths: Sequence[int | None],
    fingerprints: Sequence[str | None],
    nondeterministic: Sequence[str | None],
) -> dict[str, Any]:
    """A description with what is known of each group once it is compiled; None before."""
    found = zip(description["groups"], widths, fingerprints, nondeterministic, strict=True)
    entries = [
        entry | {"width": width, "fingerprint": fingerprint, "nondeterministic": why}
        for entry, width, fingerprint, why in found
    ]
    width = width_of_all([width for width in widths if width is not None])
    return {
        **description,
        "groups": entries,
        "environment": description["environment"] | {"width": width},
    }


def specification(study: Any) -> dict[str, Any]:
    """Everything that decides the numbers but the settings, which are the coordinates; and nothing else."""
    return {
        "name": study.name,
        "data": _data(study),
        "epochs": study.epochs,
        "data_seed": study.data_seed,
        "trial": plain(study.trial),
        "rules": _rules(study),
        "keep": study.keep,
        "deterministic": study.deterministic,
        "configuration": {name: plain(value) for name, value in study.configuration.items()},
        "hyperparameters": {name: plain(value) for name, value in study.hyperparameters.items()},
    }


def study_hash(study: Any) -> str:
    """Identity of a study: everything that decides the numbers of its trials but their settings and epochs."""
    return digest([_data(study), study.data_seed, plain(study.trial), _rules(study), study.keep])


def environment(devices: Sequence[jax.Device]) -> dict[str, Any]:
    """Versions and devices."""
    return {
        "versions": {"python": platform.python_version()}
        | {package: _version(package) for package in _PACKAGES},
        "platform": devices[0].platform,
        "device_kind": devices[0].device_kind,
        "processor": processor(),
        "devices": len(devices),
    }


def _version(package: str) -> str:
    """Of an installed package; jaxlab itself also runs from a clone that is not installed."""
    return __version__ if package == "jaxlab" else importlib.metadata.version(package)


def processor() -> str:
    """The host's processor, as far as its system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def width_of_all(widths: Sequence[int]) -> int | list[int]:
    """One number where all groups have the same width, else one for each group."""
    return widths[0] if len(set(widths)) == 1 else list(widths)


def group_entry(group: Group, numbers: np.ndarray, trial: Trial) -> dict[str, Any]:
    """What a reader needs in order to label one group's pieces."""
    return {
        "configuration": plain_configuration(group),
        "trials": numbers.tolist(),
        "variables": {name: list(variable) for name, variable in trial.variables.items()},
        "coordinates": {dim: list(names) for dim, names in trial.coordinates.items()},
    }


def coordinates(roster: Roster) -> dict[str, list[Any]]:
    """Per trial: its id, every hyperparameter, and every configuration field that varies."""
    columns: dict[str, list[Any]] = {"trial_id": list(roster.trial_ids)}
    names = varied(roster.groups)
    rows: dict[int, dict[str, Any]] = {}
    for group, numbers in zip(roster.groups, roster.numbers, strict=True):
        fields = {name: plain(group.configuration[name]) for name in names}
        for row, number in enumerate(numbers.tolist()):
            values = {name: values[row].item() for name, values in group.hyperparameters.items()}
            rows[number] = values | fields
    for name in rows[0]:
        columns[name] = [rows[number][name] for number in sorted(rows)]
    return columns


def varied(groups: Sequence[Group]) -> list[str]:
    """Configuration fields that differ between groups."""
    first = groups[0].configuration
    return [name for name in first if any(group.configuration[name] != first[name] for group in groups)]


def _rules(study: Any) -> list[Any]:
    return [plain_rule(rule, plain) for rule in study.rules]


def _data(study: Any) -> dict[str, Any]:
    if study.data is None:
        return {"shared": arrays_digest(study.shared)}
    data = study.data
    shapes = {"input_shape": list(data.input_shape), "outputs": data.outputs}
    return {"name": data.name, "fingerprint": data.fingerprint()} | shapes
