"""What ``run.json`` holds, and the one check of it, since it may come from anywhere."""

from __future__ import annotations

import hashlib
import json
import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, TypedDict

from jaxlab.errors import InputError
from jaxlab.trial import Variable

FORMAT = 4
DIMS = Variable._fields.index("dims")
# Deeper than what any setting, rule or study file is written like.
_DEEPEST = 40


@dataclass(frozen=True)
class AtLeast:
    """The least that a whole number may be."""

    least: int


Count = Annotated[int, AtLeast(1)]
Index = Annotated[int, AtLeast(0)]


class Environment(TypedDict):
    """Versions and devices of the process that wrote last; ``width`` of each group where they differ."""

    versions: dict[str, str]
    platform: str
    device_kind: str
    processor: str
    devices: Count
    flags: str
    width: Count | list[Count]


class Data(TypedDict, total=False):
    """What the trials learn: of a data set its name, shapes and digest; of a custom triple one digest alone."""

    name: str
    fingerprint: str
    input_shape: list[Count]
    outputs: Count
    shared: str


class Specification(TypedDict):
    """Everything that decides the numbers but the settings, which are the description's ``coordinates``.

    More stands there for people to read.
    """

    data: Data
    epochs: Count


class Source(TypedDict):
    """The study file that a run was begun from: its ``folder``, and what it held as a ``table``."""

    folder: str
    table: dict[str, Any]


class GroupEntry(TypedDict):
    """The trials of one configuration; what is known once it is compiled is None before.

    Attributes:
        configuration: by field.
        trials: their numbers.
        variables: labels of what they record, each a `jaxlab.trial.Variable` as a list.
        coordinates: labels along the axes of these, by axis.
    """

    configuration: dict[str, Any]
    trials: list[Index]
    variables: dict[str, list[Any]]
    coordinates: dict[str, list[str]]
    width: Count | None
    fingerprint: str | None
    nondeterministic: str | None


class Description(TypedDict):
    """What a run is, in JSON. Keys that are not listed are kept and not relied on.

    Attributes:
        format: `FORMAT`.
        name: of the study.
        study_hash: what the study is but its epochs and settings.
        epochs: planned.
        specification: of the study.
        source: the study file, if there is one.
        environment: of the last start.
        cohorts: how many trials each has, in order of their numbers.
        coordinates: per trial ``trial_id``, every hyperparameter and every configuration field that varies.
        coordinates_digest: `digest_of` them.
        groups: by configuration.
        times: seconds and counts so far.
        changes: what differed from earlier starts and was accepted.
    """

    format: int
    name: str
    study_hash: str
    epochs: Count
    specification: Specification
    source: Source | None
    environment: Environment
    cohorts: list[Count]
    coordinates: dict[str, list[Any]]
    coordinates_digest: str
    groups: list[GroupEntry]
    times: dict[str, float]
    changes: list[str]


def digest_of(coordinates: Mapping[str, list[Any]]) -> str:
    """SHA-256 of the coordinates: a setting is that of its ``trial_id``, as they were written."""
    return hashlib.sha256(json.dumps(coordinates).encode()).hexdigest()


def checked(found: Any, file: Path) -> Description:
    """A description as read from a file, if the rest of jaxlab can rely on it.

    Raises:
        InputError: it cannot.
    """
    if isinstance(found, dict) and found.get("format", FORMAT) != FORMAT:
        remedy = (
            f"is in format {_shown(found['format'])}, this jaxlab reads {FORMAT}: train it again elsewhere"
        )
        raise InputError("run", str(file), remedy)
    if not isinstance(found, dict):
        raise InputError("run", str(file), "is damaged: no description of a run; name a run folder")
    wrong = next(_wrong(found, Description, ""), "") or next(_contradictions(found), "")
    if wrong:
        wrong = wrong if len(wrong) < 160 else f"{wrong[:157]}..."
        raise InputError("run", str(file), f"is damaged: {wrong}; train the study again elsewhere")
    return found


def _wrong(value: Any, kind: Any, where: str) -> Iterator[str]:
    """What in a value is not of a kind: a TypedDict, ``dict[str, X]``, ``list[X]``, a union, or a plain type."""
    if kind is Any:
        if too_deep(value):
            yield f"{where} is nested too deeply"
        return
    inner = typing.get_args(kind)
    if typing.is_typeddict(kind):
        if not isinstance(value, dict):
            yield _is_not(where, value, "a table")
            return
        for name, hint in typing.get_type_hints(kind, include_extras=True).items():
            if name in value:
                yield from _wrong(value[name], hint, f"{where}.{name}" if where else name)
            elif name in kind.__required_keys__:
                yield f"{where or 'it'} has no {name}"
        return
    origin = typing.get_origin(kind)
    if origin in (typing.Union, UnionType):
        errors = [next(_wrong(value, each, where), "") for each in inner]
        if all(errors):
            yield errors[0]
    elif origin in (list, dict):
        if not isinstance(value, origin):
            yield _is_not(where, value, "a list" if origin is list else "a table")
        elif inner[-1] is Any:
            yield from _wrong(value, Any, where)
        else:
            for key, each in value.items() if origin is dict else enumerate(value):
                yield from _wrong(each, inner[-1], f"{where}[{key!r}]")
    elif origin is Annotated:
        if type(value) is not int or value < inner[1].least:
            yield _is_not(where, value, f"a whole number >= {inner[1].least}")
    elif not _is_plain(value, kind):
        yield _is_not(where, value, _WORDS[kind])


_WORDS = {int: "a whole number", float: "a number", str: "text", NoneType: "empty"}


def _is_plain(value: Any, kind: type) -> bool:
    """Whether of a plain type, a bool being no number; a float is finite, or a whole number that float64 can hold."""
    if kind is float:
        return type(value) in (int, float) and abs(value) <= sys.float_info.max
    return type(value) is kind


def _contradictions(found: Description) -> Iterator[str]:
    """What contradicts something else in a description whose fields are of the right kinds."""
    ids = found["coordinates"].get("trial_id")
    if not ids or not all(isinstance(each, str) for each in ids) or len(set(ids)) < len(ids):
        yield "it has no trials, or two of one trial_id"
        return
    for name, column in found["coordinates"].items():
        if len(column) != len(ids):
            yield f"coordinates[{name!r}] is not one value for each trial"
    if digest_of(found["coordinates"]) != found["coordinates_digest"]:
        yield "the settings are not those of the trial_ids: coordinates_digest differs"
    if sum(found["cohorts"]) != len(ids):
        yield f"cohorts of {_shown(found['cohorts'])} trials are not its {len(ids)}"
    numbers = [number for group in found["groups"] for number in group["trials"]]
    if sorted(numbers) != list(range(len(ids))) or not all(group["trials"] for group in found["groups"]):
        yield "its groups do not share out its trials"
    if found["specification"]["epochs"] != found["epochs"]:
        epochs = (_shown(found["epochs"]), _shown(found["specification"]["epochs"]))
        yield "epochs is {}, and {} in the specification".format(*epochs)
    yield from _wrong_labels(found["groups"])
    for index, group in enumerate(found["groups"]):
        for name, value in group["configuration"].items():
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, dict) and not isinstance(each.get("function"), str):
                    yield f"groups[{index}].configuration[{name!r}] is {_shown(each)}, not a value or a function"
    for group in found["groups"]:
        for name, column in found["coordinates"].items():
            if name != "trial_id" and name not in group["configuration"]:
                wrong = [column[number] for number in group["trials"] if not _is_value(column[number])]
                if wrong:
                    yield f"coordinates[{name!r}] has {_shown(wrong[0])}, not a number"


def _wrong_labels(groups: Sequence[GroupEntry]) -> Iterator[str]:
    """What in the labels of groups is none, or differs from group to group."""
    labelled = {dim for group in groups for dim in group["coordinates"]}
    dims: dict[str, list[str]] = {}
    for index, group in enumerate(groups):
        for name, label in group["variables"].items():
            where = f"groups[{index}].variables[{name!r}]"
            if not _is_label(label):
                yield f"{where} is {_shown(label)}, not a label"
            elif dims.setdefault(name, label[DIMS]) != label[DIMS]:
                yield f"{where} has other axes than in another group"
            elif (labelled - group["coordinates"].keys()) & set(label[DIMS]):
                yield f"{where} has an axis whose labels are missing"


def _is_value(value: Any) -> bool:
    """Whether it may be a hyperparameter's: a number, or None where a trial has none."""
    return type(value) in (float, NoneType) or (type(value) is int and -(2**63) <= value < 2**64)


def _is_label(label: list[Any]) -> bool:
    """Whether a `Variable` as JSON holds it: each field of its default's type, a tuple as a list of texts."""
    if len(label) != len(Variable._fields):
        return False
    for name, value in zip(Variable._fields, label, strict=True):
        kind = type(Variable._field_defaults.get(name, ""))
        if kind is tuple:
            if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
                return False
        elif type(value) is not kind and not (kind is NoneType and _is_plain(value, float)):
            return False
    dims = label[DIMS]
    return len({"trial", "epoch", *dims}) == 2 + len(dims)


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


def _is_not(where: str, value: Any, words: str) -> str:
    return f"{where} is {_shown(value)}, not {words}"


def _shown(value: Any) -> str:
    if isinstance(value, (list, dict)):
        return f"a {'list' if isinstance(value, list) else 'table'} of {len(value)}"
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."
