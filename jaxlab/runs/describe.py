"""What a run is, in words that JSON can hold: specification, identity, versions, device."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxlab import __version__
from jaxlab.engine import code_digest
from jaxlab.errors import name_of
from jaxlab.pruning import plain_rule
from jaxlab.space import Group
from jaxlab.space.values import token
from jaxlab.store import FORMAT, digest_of
from jaxlab.study.fingerprint import arrays_digest, digest, plain
from jaxlab.study.roster import Roster, plain_configuration
from jaxlab.trial import Trial

_PACKAGES = ("jaxlab", "jax", "jaxlib", "flax", "optax", "numpy")
# Where a user sets how compilers and their libraries compute.
_FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE")
# Flags that change no number: how many host devices there are, and what is written down about a program.
_HARMLESS = ("xla_force_host_platform_device_count", "xla_dump_", "xla_hlo_profile", "xla_gpu_cuda_data_dir")


_NOT_USED = object()


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
    """What a study declares but its settings, which are the coordinates; callables by name."""
    return {
        "name": study.name,
        "data": _data(study) | _seen(study),
        "epochs": study.epochs,
        "data_seed": study.data_seed,
        "trial": plain(study.trial),
        "rules": _rules(study, lambda rule: {"function": name_of(rule), "code": code_digest(rule)}),
        "keep": study.keep,
        "deterministic": study.deterministic,
        "configuration": {name: plain(value) for name, value in study.configuration.items()},
        "hyperparameters": {name: plain(value) for name, value in study.hyperparameters.items()},
    }


def study_hash(study: Any) -> str:
    """Identity of a study: what decides the numbers of its trials, but for settings, epochs and traced programs.

    What programs compute is compared by their fingerprints. A rule of the user's own is never traced: its code counts.
    """
    return digest([_data(study), study.data_seed, _rules(study, code_digest), study.keep])


def environment(devices: Sequence[jax.Device]) -> dict[str, Any]:
    """Versions, devices, and the compilers' flags that can change numbers."""
    return {
        "versions": {"python": platform.python_version()}
        | {package: _version(package) for package in _PACKAGES},
        "platform": devices[0].platform,
        "device_kind": devices[0].device_kind,
        "processor": processor(),
        "flags": flags(),
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


def flags() -> str:
    """The flags of the environment that can change how numbers are computed, sorted; of one given twice the last."""
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
    """Per trial: its id, every hyperparameter, and every configuration field that varies; None where it uses none."""
    columns: dict[str, list[Any]] = {"trial_id": list(roster.trial_ids)}
    names = varied(roster.groups)
    nothing = {name: _nothing([group.configuration.get(name) for group in roster.groups]) for name in names}
    rows: dict[int, dict[str, Any]] = {}
    for group, numbers in zip(roster.groups, roster.numbers, strict=True):
        given = {name: group.configuration[name] for name in names if name in group.configuration}
        fields = {name: nothing[name] if value is None else plain(value) for name, value in given.items()}
        for row, number in enumerate(numbers.tolist()):
            values = {name: values[row].item() for name, values in group.hyperparameters.items()}
            rows[number] = values | fields
    every = [rows[number] for number in sorted(rows)]
    for name in dict.fromkeys(name for row in every for name in row):
        columns[name] = [row.get(name) for row in every]
    return columns


def _nothing(values: Sequence[Any]) -> str:
    """What the value None is called among a field's values: None itself stands for a trial without the field."""
    return next(word for word in ("none", "None", "null", "no value") if word not in values)


def varied(groups: Sequence[Group]) -> list[str]:
    """Configuration fields that differ between groups, or that not all of them use."""
    every = [group.configuration for group in groups]
    names = dict.fromkeys(name for fields in every for name in fields)
    return [name for name in names if len({_token(fields, name) for fields in every}) > 1]


def _token(fields: Mapping[str, Any], name: str) -> Any:
    return token(fields[name]) if name in fields else _NOT_USED


def _rules(study: Any, of_function: Callable[[Any], Any]) -> list[Any]:
    return [plain_rule(rule, of_function) for rule in study.rules]


def _seen(study: Any) -> dict[str, float]:
    """How stored inputs become what the network sees; also part of the data's fingerprint."""
    return {} if study.data is None else {"scale": float(study.data.scale), "shift": float(study.data.shift)}


def _data(study: Any) -> dict[str, Any]:
    if study.data is None:
        return {"shared": arrays_digest(study.shared)}
    data = study.data
    shapes = {"input_shape": list(data.input_shape), "outputs": data.outputs}
    return {"name": data.name, "fingerprint": data.fingerprint()} | shapes
