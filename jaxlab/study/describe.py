"""What a run is, in words that JSON can hold: specification, identity, versions, device."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence
from typing import Any

import jax

from jaxlab.space import Group
from jaxlab.study.fingerprint import arrays_digest, digest, plain
from jaxlab.trial import Trial

_PACKAGES = ("jaxlab", "jax", "jaxlib", "flax", "optax", "numpy")


def specification(study: Any) -> dict[str, Any]:
    """Everything that decides the numbers, and nothing else."""
    return {
        "name": study.name,
        "data": _data(study),
        "epochs": study.epochs,
        "data_seed": study.data_seed,
        "trial": plain(study.trial),
        "configuration": {name: plain(value) for name, value in study.configuration.items()},
        "hyperparameters": {name: plain(value) for name, value in study.hyperparameters.items()},
        "space": [{name: plain(value) for name, value in setting.items()} for setting in study.space],
    }


def run_hash(study: Any) -> str:
    """Identity of a run: data, minibatches, functions, epochs, and every trial's complete setting."""
    functions = [
        plain(value) for group in study.groups for value in group.configuration.values() if callable(value)
    ]
    return digest(
        [_data(study), study.data_seed, plain(study.trial), functions, study.epochs, list(study.trial_ids)]
    )


def environment(devices: Sequence[jax.Device]) -> dict[str, Any]:
    """Versions and devices."""
    return {
        "versions": {"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in _PACKAGES},
        "platform": devices[0].platform,
        "device_kind": devices[0].device_kind,
        "devices": len(devices),
    }


def width_of_all(widths: Sequence[int]) -> int | list[int]:
    """One number where all groups have the same width, else one for each group."""
    return widths[0] if len(set(widths)) == 1 else list(widths)


def group_entry(group: Group, trial: Trial) -> dict[str, Any]:
    """What a reader needs in order to label one group's pieces."""
    return {
        "configuration": {name: plain(value) for name, value in group.configuration.items()},
        "trials": list(group.trials),
        "variables": {name: list(variable) for name, variable in trial.variables.items()},
        "coordinates": {dim: list(names) for dim, names in trial.coordinates.items()},
    }


def coordinates(study: Any) -> dict[str, list[Any]]:
    """Per trial: its id, every hyperparameter, and every configuration field that varies."""
    columns: dict[str, list[Any]] = {"trial_id": list(study.trial_ids)}
    names = varied(study.groups)
    rows: dict[int, dict[str, Any]] = {}
    for group in study.groups:
        fields = {name: plain(group.configuration[name]) for name in names}
        for row, index in enumerate(group.trials):
            rows[index] = {
                name: values[row].item() for name, values in group.hyperparameters.items()
            } | fields
    for name in rows[0]:
        columns[name] = [rows[index][name] for index in sorted(rows)]
    return columns


def varied(groups: tuple[Group, ...]) -> list[str]:
    """Configuration fields that differ between groups."""
    first = groups[0].configuration
    return [name for name in first if any(group.configuration[name] != first[name] for group in groups)]


def _data(study: Any) -> dict[str, Any]:
    if study.data is None:
        return {"shared": arrays_digest(study.shared)}
    return {"name": study.data.name, "fingerprint": study.data.fingerprint()}
