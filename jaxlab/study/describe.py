"""What a run is, in words that JSON can hold: specification, identity, versions, device."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxlab import __version__
from jaxlab.engine import code_digest
from jaxlab.errors import name_of
from jaxlab.pruning import plain_rule
from jaxlab.space import Group
from jaxlab.store import FORMAT
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
    study: Any,
    roster: Roster,
    trials: Sequence[Trial],
    widths: Sequence[int | None],
    fingerprints: Sequence[str | None],
    nondeterministic: Sequence[str | None],
    devices: Sequence[jax.Device],
) -> dict[str, Any]:
    """What ``run.json`` says, times and changes apart; what compiling tells as far as it is known."""
    entries = zip(roster.groups, roster.numbers, trials, widths, fingerprints, nondeterministic, strict=True)
    chosen = [width for width in widths if width is not None]
    return {
        "format": FORMAT,
        "name": study.name,
        "study_hash": study_hash(study),
        "epochs": study.epochs,
        "specification": specification(study),
        "source": study.source,
        "environment": environment(devices) | {"width": width_of_all(chosen)},
        "cohorts": roster.cohorts,
        "coordinates": coordinates(roster),
        "groups": [group_entry(*entry) for entry in entries],
    }


def specification(study: Any) -> dict[str, Any]:
    """What a study declares, callables by name."""
    return {
        "name": study.name,
        "data": _data(study),
        "epochs": study.epochs,
        "data_seed": study.data_seed,
        "trial": plain(study.trial),
        "rules": _rules(study, lambda rule: {"function": name_of(rule), "code": code_digest(rule)}),
        "keep": study.keep,
        "deterministic": study.deterministic,
        "configuration": {name: plain(value) for name, value in study.configuration.items()},
        "hyperparameters": {name: plain(value) for name, value in study.hyperparameters.items()},
        "space": [{name: plain(value) for name, value in setting.items()} for setting in study.space],
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


def group_entry(
    group: Group,
    numbers: np.ndarray,
    trial: Trial,
    width: int | None,
    fingerprint: str | None,
    nondeterministic: str | None,
) -> dict[str, Any]:
    """What a reader needs in order to label one group's pieces, and what its program is."""
    return {
        "configuration": plain_configuration(group),
        "trials": numbers.tolist(),
        "variables": {name: list(variable) for name, variable in trial.variables.items()},
        "coordinates": {dim: list(names) for dim, names in trial.coordinates.items()},
        "width": width,
        "fingerprint": fingerprint,
        "nondeterministic": nondeterministic,
    }


def coordinates(roster: Roster) -> dict[str, list[Any]]:
    """Per trial: its id, every hyperparameter, and every configuration field that varies; None where it uses none."""
    columns: dict[str, list[Any]] = {"trial_id": list(roster.trial_ids)}
    names = varied(roster.groups)
    rows: dict[int, dict[str, Any]] = {}
    for group, numbers in zip(roster.groups, roster.numbers, strict=True):
        fields = {name: _shown(group.configuration[name]) for name in names if name in group.configuration}
        for row, number in enumerate(numbers.tolist()):
            values = {name: values[row].item() for name, values in group.hyperparameters.items()}
            rows[number] = values | fields
    every = [rows[number] for number in sorted(rows)]
    for name in dict.fromkeys(name for row in every for name in row):
        columns[name] = [row.get(name) for row in every]
    return columns


def _shown(value: Any) -> Any:
    """A field's value as a coordinate; None stands for a trial that does not use the field, not for a value."""
    return "none" if value is None else plain(value)


def varied(groups: Sequence[Group]) -> list[str]:
    """Configuration fields that differ between groups, or that not all of them use."""
    every = [group.configuration for group in groups]
    names = dict.fromkeys(name for fields in every for name in fields)
    return [name for name in names if len({fields.get(name, _NOT_USED) for fields in every}) > 1]


def _rules(study: Any, of_function: Callable[[Any], Any]) -> list[Any]:
    return [plain_rule(rule, of_function) for rule in study.rules]


def _data(study: Any) -> dict[str, Any]:
    if study.data is None:
        return {"shared": arrays_digest(study.shared)}
    data = study.data
    shapes = {"input_shape": list(data.input_shape), "outputs": data.outputs}
    return {"name": data.name, "fingerprint": data.fingerprint()} | shapes
