"""What ``run.json`` holds, and the one check of it, since it may come from anywhere."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from jaxlab.errors import InputError
from jaxlab.trial import Variable

FORMAT = 5
# Deeper than what any setting, rule or study file is written like.
_DEEPEST = 40


@dataclass(frozen=True)
class Environment:
    """Versions and devices of the process that wrote last.

    Attributes:
        versions: of Python and of the packages that compute, by name.
        platform: of the devices: "cpu", "gpu" or "tpu".
        device_kind: their kind, in the words of their maker.
        processor: of the host.
        flags: of compilers, that change how numbers are computed.
        devices: how many.
    """

    versions: dict[str, str]
    platform: str
    device_kind: str
    processor: str
    flags: str
    devices: int


@dataclass(frozen=True)
class Data:
    """What the trials learn.

    Attributes:
        fingerprint: digest of the data set; with a custom triple, of the shared arrays. The other fields are then None.
        name: of the data set.
        input_shape: of one example.
        outputs: that a model has.
        scale, shift: the network sees ``stored inputs * scale + shift``.
    """

    fingerprint: str
    name: str | None = None
    input_shape: list[int] | None = None
    outputs: int | None = None
    scale: float | None = None
    shift: float | None = None


@dataclass(frozen=True)
class Specification:
    """What a study declares but its settings, which are the description's ``coordinates``. Functions stand by name."""

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
    """The study file that a run was started from: its ``folder``, and what it held as a ``table``."""

    folder: str
    table: dict[str, Any]


@dataclass(frozen=True)
class GroupEntry:
    """The trials of one configuration.

    Attributes:
        configuration: by field; a function as ``{"function": name}``.
        trials: their numbers.
        variables: labels of what they record.
        coordinates: labels along the axes of these, by axis.
        width, fingerprint, nondeterministic: of the group's programs; None before they are compiled.
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
    """What a run is.

    Attributes:
        format: `FORMAT`.
        study_hash: identifies the study, whatever its epochs and settings.
        specification: of the study.
        source: the study file, if there is one.
        environment: of the last start.
        cohorts: how many trials each has, in order of their numbers.
        coordinates: per trial ``trial_id``, every hyperparameter and every configuration field that varies;
            None where a trial does not use one.
        coordinates_digest: `digest_of` them.
        groups: by configuration.
        times: seconds and counts so far.
        changes: what differed from earlier starts and was accepted.
    """

    format: int
    study_hash: str
    specification: Specification
    source: Source | None
    environment: Environment
    cohorts: list[int]
    coordinates: dict[str, list[Any]]
    coordinates_digest: str
    groups: list[GroupEntry]
    times: dict[str, int | float]
    changes: list[str]

    @property
    def epochs(self) -> int:
        return self.specification.epochs

    @property
    def trial_ids(self) -> list[str]:
        """By number."""
        return self.coordinates["trial_id"]

    def encoded(self) -> bytes:
        """As JSON, a line for each field."""
        import msgspec  # here, so that training without a folder does without it

        lines = [
            b'"%s": %s' % (f.name.encode(), msgspec.json.encode(getattr(self, f.name))) for f in fields(self)
        ]
        return b"{\n" + b",\n".join(lines) + b"\n}\n"


def digest_of(coordinates: Mapping[str, list[Any]]) -> str:
    """SHA-256 of the coordinates as they were written: a setting is that of its ``trial_id``."""
    return hashlib.sha256(json.dumps(coordinates).encode()).hexdigest()


def decoded(content: bytes, file: Path) -> Description:
    """A description from the bytes of a file, if the rest of jaxlab can rely on it.

    Raises:
        InputError: it cannot.
    """
    import msgspec

    try:
        # What earlier versions wrote has other fields: say so before any of them is missed.
        if (its := _format(content)) != FORMAT:
            remedy = (
                f"is in format {its}, this jaxlab reads {FORMAT}: train the study again in another folder"
            )
            raise InputError("run", str(file), remedy)
        found = msgspec.json.decode(content, type=Description)
        wrong = next(_contradictions(found), "")
    except (msgspec.DecodeError, RecursionError) as error:  # a ValidationError too
        wrong = "it is nested too deeply" if isinstance(error, RecursionError) else _words(error)
    if wrong:
        wrong = wrong if len(wrong) < 160 else f"{wrong[:157]}..."
        raise InputError("run", str(file), f"is damaged: {wrong}; train the study again in another folder")
    return found


def _format(content: bytes) -> Any:
    """The format that is named in JSON; the one that is read where none is, so that the other fields tell."""
    import msgspec

    found = msgspec.json.decode(content)
    its = found.get("format", FORMAT) if isinstance(found, dict) else FORMAT
    return _shown(its) if type(its) is not int else its


def _words(error: Exception) -> str:
    """msgspec's error with the field in front: ``groups[0].width: Expected `int`, got `str```."""
    text = " ".join(str(error).split())
    found = re.fullmatch(r"(.*) - at `(?:key in )?\$\.?(.*)`", text)
    return f"{found[2]}: {found[1]}" if found and found[2] else text


def _contradictions(found: Description) -> Iterator[str]:
    """What in a description is impossible, or contradicts something else in it."""
    yield from _impossible_numbers(found)
    ids = found.coordinates.get("trial_id")
    if not ids or not all(isinstance(each, str) for each in ids) or len(set(ids)) < len(ids):
        yield "it has no trials, or two of one trial_id"
        return
    for name, column in found.coordinates.items():
        if len(column) != len(ids):
            yield f"coordinates[{name!r}] is not one value for each trial"
    if digest_of(found.coordinates) != found.coordinates_digest:
        yield "the settings are not those of the trial_ids: coordinates_digest differs"
    if sum(found.cohorts) != len(ids):
        yield f"cohorts of {_shown(found.cohorts)} trials are not its {len(ids)}"
    numbers = [number for group in found.groups for number in group.trials]
    if sorted(numbers) != list(range(len(ids))) or not all(group.trials for group in found.groups):
        yield "its groups do not share out its trials"
    yield from _wrong_labels(found.groups)
    yield from _wrong_values(found)


def _impossible_numbers(found: Description) -> Iterator[str]:
    data = found.specification.data
    counts = {
        "specification.epochs": found.epochs,
        "environment.devices": found.environment.devices,
        **{f"cohorts[{index}]": count for index, count in enumerate(found.cohorts)},
        **{
            f"specification.data.input_shape[{index}]": size
            for index, size in enumerate(data.input_shape or ())
        },
        "specification.data.outputs": 1 if data.outputs is None else data.outputs,
        **{
            f"groups[{index}].width": 1 if g.width is None else g.width
            for index, g in enumerate(found.groups)
        },
    }
    for where, count in counts.items():
        if count < 1:
            yield f"{where}: {count} is not a whole number >= 1"
    anything = [found.coordinates, found.specification.configuration, found.specification.hyperparameters]
    anything += [found.specification.rules, [group.configuration for group in found.groups]]
    if too_deep([*anything, None if found.source is None else found.source.table]):
        yield "it is nested too deeply"


def _wrong_labels(groups: list[GroupEntry]) -> Iterator[str]:
    """Labels that are impossible, or differ from group to group."""
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
    """Values of a configuration or of hyperparameters that no setting has."""
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
    """Whether it may be a hyperparameter's value: a number, or None where a trial does not use it."""
    return value is None or type(value) is float or (type(value) is int and -(2**63) <= value < 2**64)


def too_deep(value: Any) -> bool:
    """Whether lists and tables are nested more deeply than a description may hold."""
    depth, layer = 0, [value]
    while layer and depth <= _DEEPEST:
        layer = [
            inner
            for each in layer
            if isinstance(each, (list, dict))
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        depth += 1
    return depth > _DEEPEST


def _shown(value: Any) -> str:
    if isinstance(value, (list, dict)):
        return f"a {'list' if isinstance(value, list) else 'table'} of {len(value)}"
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."
