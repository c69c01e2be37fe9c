"""The description of a run, which ``run.json`` holds, and its validation: the file may come from anywhere."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxlab.checks import too_deep
from jaxlab.errors import InputError
from jaxlab.store.disk import read_json
from jaxlab.trial import Variable

FORMAT = 6
_DIGEST = "coordinates_digest"


@dataclass(frozen=True)
class Environment:
    """Package versions and devices of the process that wrote to the run most recently.

    Attributes:
        versions: versions of Python and of the packages that affect numbers, by name.
        platform: platform of the devices: "cpu", "gpu" or "tpu".
        device_kind: model of the devices.
        processor: model of the host's processor.
        flags: compiler flags that affect numbers.
        devices: number of devices.
    """

    versions: dict[str, str]
    platform: str
    device_kind: str
    processor: str
    flags: str
    devices: int


@dataclass(frozen=True)
class Data:
    """The data set of a study.

    Attributes:
        fingerprint: digest of the data set. With a custom triple it is that of the shared arrays, and the other fields
            are None.
        name: name of the data set.
        input_shape: shape of one input.
        outputs: number of outputs of a model.
        scale, shift: the network's input is ``stored input * scale + shift``, with one number or one for each channel.
        class_names: names of the classes; empty for regression.
        target_mean, target_std: the prediction is ``network's output * target_std + target_mean``, one number for each
            output; None if it is the output.
    """

    fingerprint: str
    name: str | None = None
    input_shape: list[int] | None = None
    outputs: int | None = None
    scale: float | list[float] | None = None
    shift: float | list[float] | None = None
    class_names: list[str] | None = None
    target_mean: list[float] | None = None
    target_std: list[float] | None = None


@dataclass(frozen=True)
class Specification:
    """The declaration of a study without its settings, which are `Description.coordinates`; functions by name.

    Attributes:
        name: name of the study.
        data: data set.
        epochs: planned number of epochs.
        data_seed: seed of the minibatch order.
        trial: custom triple, or None.
        rules: stopping rules, see `jaxlab.pruning.plain_rule`.
        keep: weights to keep: "none", "last" or "best".
        deterministic: True, False or "auto".
        configuration: configuration that is common to all trials, by field.
        hyperparameters: hyperparameters that are common to all trials, by name.
    """

    name: str
    data: Data
    epochs: int
    data_seed: int
    trial: str | None
    rules: list[Any]
    keep: str
    deterministic: bool | str
    configuration: dict[str, Any]
    hyperparameters: dict[str, Any]


@dataclass(frozen=True)
class Source:
    """The study file that a run was started from: its ``folder``, and its content as a ``table``."""

    folder: str
    table: dict[str, Any]


@dataclass(frozen=True)
class GroupEntry:
    """A group as ``run.json`` describes it: trials that share a configuration.

    Attributes:
        configuration: values by field; a function is ``{"function": name}``.
        trials: numbers of the trials.
        variables: labels of the recorded variables, by name.
        coordinates: labels along the variables' axes, by axis.
        width: trials side by side on each device; None before the programs are compiled, as the next two.
        fingerprint: digest of the traced programs.
        nondeterministic: why the programs are not deterministic; empty if they are.
    """

    configuration: dict[str, Any]
    trials: list[int]
    variables: dict[str, Variable]
    coordinates: dict[str, list[str]]
    width: int | None = None
    fingerprint: str | None = None
    nondeterministic: str | None = None


@dataclass(frozen=True)
class Description:
    """Everything that identifies a run: its study, trials, environment, and changes between starts.

    Attributes:
        format: version of the format, `FORMAT`.
        study_hash: identifies the study, independently of its epochs and settings.
        specification: declaration of the study.
        source: the study file, if there is one.
        environment: environment of the last start.
        cohorts: number of trials in each cohort, in order of their numbers.
        coordinates: one value for each trial of ``trial_id``, every hyperparameter and every configuration field that
            varies; None where a trial does not use it.
        groups: the groups.
        times: seconds and counts so far.
        changes: accepted differences between starts, in words.
    """

    format: int
    study_hash: str
    specification: Specification
    source: Source | None
    environment: Environment
    cohorts: list[int]
    coordinates: dict[str, list[Any]]
    groups: list[GroupEntry]
    times: dict[str, int | float]
    changes: list[str]

    @property
    def epochs(self) -> int:
        return self.specification.epochs

    @property
    def trial_ids(self) -> list[str]:
        """The ids of the trials, in order of their numbers."""
        return self.coordinates["trial_id"]

    def encoded(self) -> bytes:
        """The description as JSON with one line for each field."""
        import msgspec  # here, since training without a folder does not need it

        # Python's JSON, which has infinite numbers and names of files that are not UTF-8; msgspec's has neither.
        values = msgspec.to_builtins(self) | {_DIGEST: _digest(self.coordinates)}
        lines = ",\n".join(f'"{name}": {json.dumps(value)}' for name, value in values.items())
        return f"{{\n{lines}\n}}\n".encode()


def _digest(coordinates: Mapping[str, list[Any]]) -> str:
    """SHA-256 of the coordinates, which ties each setting to its ``trial_id``."""
    return hashlib.sha256(json.dumps(coordinates).encode()).hexdigest()


def decoded(content: bytes, file: Path) -> Description:
    """Decode and validate the content of ``run.json``.

    Raises:
        InputError: it is damaged, contradicts itself, or has another format.
    """
    import msgspec

    try:
        table = read_json(content)
        # Earlier formats have other fields: report the format, not the first missing field.
        its = table.get("format", FORMAT) if isinstance(table, dict) else FORMAT
        if its == FORMAT:
            found = msgspec.convert(table, Description)
            wrong = next(_contradictions(found, table.get(_DIGEST)), "")
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        its, wrong = FORMAT, "it is nested too deeply" if isinstance(error, RecursionError) else _words(error)
    if its != FORMAT:
        remedy = (
            f"is in format {_shown(its)}, this jaxlab reads {FORMAT}: train the study again in another folder"
        )
        raise InputError("run", str(file), remedy)
    if wrong:
        wrong = wrong if len(wrong) < 160 else f"{wrong[:157]}..."
        raise InputError("run", str(file), f"is damaged: {wrong}; train the study again in another folder")
    return found


def _words(error: Exception) -> str:
    """msgspec's error, beginning with the field: ``groups[0].width: Expected `int`, got `str```."""
    text = " ".join(str(error).split())
    found = re.fullmatch(r"(.*) - at `(?:key in )?\$\.?(.*)`", text)
    return f"{found[2]}: {found[1]}" if found and found[2] else text


def _contradictions(found: Description, digest: Any) -> Iterator[str]:
    """Yield what is impossible or contradictory in a description, given the digest of its coordinates."""
    yield from _impossible_numbers(found)
    ids = found.coordinates.get("trial_id")
    if not ids or not all(isinstance(each, str) for each in ids) or len(set(ids)) < len(ids):
        yield "it has no trials, or a trial_id twice"
        return
    for name, column in found.coordinates.items():
        if len(column) != len(ids):
            yield f"coordinates[{name!r}] does not have one value for each trial"
    if _digest(found.coordinates) != digest:
        yield f"the settings do not match the trial_ids: {_DIGEST} differs"
    if sum(found.cohorts) != len(ids):
        yield f"cohorts, {_shown(found.cohorts)}, do not add up to {len(ids)} trials"
    numbers = [number for group in found.groups for number in group.trials]
    if sorted(numbers) != list(range(len(ids))) or not all(group.trials for group in found.groups):
        yield "its groups do not partition its trials"
    yield from _wrong_data(found.specification.data)
    yield from _wrong_labels(found.groups)
    yield from _wrong_values(found)


def _impossible_numbers(found: Description) -> Iterator[str]:
    data = found.specification.data
    counts = {
        "specification.epochs": found.epochs,
        "specification.data.outputs": data.outputs,
        "environment.devices": found.environment.devices,
    } | {f"groups[{index}].width": group.width for index, group in enumerate(found.groups)}
    lists = {"cohorts": found.cohorts, "specification.data.input_shape": data.input_shape or []}
    for where, sizes in lists.items():
        counts |= {f"{where}[{index}]": size for index, size in enumerate(sizes)}
    for where, count in counts.items():
        if count is not None and count < 1:
            yield f"{where}: {count} is not a whole number >= 1"
    numbers = {f"times[{name!r}]": value for name, value in found.times.items()}
    for name in ("scale", "shift", "target_mean", "target_std"):
        value = getattr(data, name)
        each = (
            {f"[{index}]": number for index, number in enumerate(value)}
            if isinstance(value, list)
            else {"": value}
        )
        numbers |= {f"specification.data.{name}{index}": number for index, number in each.items()}
    for where, number in numbers.items():
        if not _is_number(number) or not math.isfinite(number or 0):
            yield f"{where}: {_shown(number)} is not a finite number"
    anything = [found.coordinates, found.specification.configuration, found.specification.hyperparameters]
    anything += [found.specification.rules, [group.configuration for group in found.groups]]
    if too_deep([*anything, None if found.source is None else found.source.table]):
        yield "it is nested too deeply"


def _wrong_data(data: Data) -> Iterator[str]:
    """Yield class names and numbers that do not match the outputs."""
    for name in ("class_names", "target_mean", "target_std"):
        values = getattr(data, name)
        if values and len(values) != data.outputs:
            yield f"specification.data.{name} has {len(values)} entries for {data.outputs} outputs"
    for name in ("scale", "shift"):
        values = getattr(data, name)
        if isinstance(values, list) and [len(values)] != (data.input_shape or [])[-1:]:
            yield f"specification.data.{name} has {len(values)} entries, not one for each channel"
    if (data.target_mean is None) != (data.target_std is None) or min(data.target_std or [1]) <= 0:
        yield "specification.data.target_std does not match target_mean, or is not > 0"


def _wrong_labels(groups: list[GroupEntry]) -> Iterator[str]:
    """Yield labels that are impossible or differ between groups."""
    labelled = {dim for group in groups for dim in group.coordinates}
    dims: dict[str, tuple[str, ...]] = {}
    for index, group in enumerate(groups):
        for name, label in group.variables.items():
            where = f"groups[{index}].variables[{name!r}]"
            if len({"trial", "epoch", *label.dims}) != 2 + len(label.dims):
                yield f"{where} has an axis twice"
            elif dims.setdefault(name, label.dims) != label.dims:
                yield f"{where} has other axes than in another group"
            elif (labelled - group.coordinates.keys()) & set(label.dims):
                yield f"{where} has an axis whose labels are missing"


def _wrong_values(found: Description) -> Iterator[str]:
    """Yield values of a configuration or of hyperparameters that no setting can have."""
    for index, group in enumerate(found.groups):
        for name, value in group.configuration.items():
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, dict) and not isinstance(each.get("function"), str):
                    yield f"groups[{index}].configuration[{name!r}] is {_shown(each)}, not a value or a function"
        for name, column in found.coordinates.items():
            if name != "trial_id" and name not in group.configuration:
                wrong = [column[number] for number in group.trials if not _is_number(column[number])]
                if wrong:
                    yield f"coordinates[{name!r}] has {_shown(wrong[0])}, not a number"


def _is_number(value: Any) -> bool:
    """Whether a value is valid for a hyperparameter: a number, or None where a trial does not use it."""
    return value is None or type(value) is float or (type(value) is int and -(2**63) <= value < 2**64)


def _shown(value: Any) -> str:
    if isinstance(value, (list, dict)):
        return f"a {'list' if isinstance(value, list) else 'table'} of {len(value)}"
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."
