"""What a run is, in words that JSON can hold: specification, identity, versions, device."""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import json
import platform
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxlab.engine import Pack
from jaxlab.space import Group
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


def study_hash(study: Any) -> str:
    """Identity of a study: of everything in its specification but its name, epochs and space."""
    identity = {
        key: value for key, value in specification(study).items() if key not in ("name", "epochs", "space")
    }
    return _hash(identity)


def run_hash(study: Any) -> str:
    """Identity of a run: the study with its epochs and its trials."""
    return _hash([study_hash(study), study.epochs, list(study.trial_ids)])


def environment(pack: Pack) -> dict[str, Any]:
    """Versions and devices."""
    device = pack.mesh.devices.flat[0]
    return {
        "versions": {"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in _PACKAGES},
        "platform": device.platform,
        "device_kind": device.device_kind,
        "devices": pack.mesh.size,
        "width": pack.width,
    }


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
    varied = _varied(study.groups)
    rows: dict[int, dict[str, Any]] = {}
    for group in study.groups:
        fields = {name: plain(group.configuration[name]) for name in varied}
        for row, index in enumerate(group.trials):
            rows[index] = {
                name: values[row].item() for name, values in group.hyperparameters.items()
            } | fields
    for name in rows[0]:
        columns[name] = [rows[index][name] for index in sorted(rows)]
    return columns


def plain(value: Any) -> Any:
    """A value as JSON holds it; a function by its name and a hash of its source."""
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, np.generic):
        return value.item()
    if callable(value):
        return f"{_name(value)}#{_source_hash(value)}"
    return value


def _data(study: Any) -> dict[str, Any]:
    if study.data is None:
        leaves = jax.tree.leaves(study.shared)
        return {"shared": _hash([hashlib.sha256(np.asarray(leaf).tobytes()).hexdigest() for leaf in leaves])}
    return {"name": study.data.name, "fingerprint": study.data.fingerprint()}


def _varied(groups: tuple[Group, ...]) -> list[str]:
    first = groups[0].configuration
    return [name for name in first if any(group.configuration[name] != first[name] for group in groups)]


def _name(function: Callable) -> str:
    return (
        f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__name__)}"
    )


def _source_hash(function: Callable) -> str:
    try:
        return _hash(inspect.getsource(function))
    except (OSError, TypeError):
        return "unknown"


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
