"""What ``run.json`` must hold, since it may come from anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxlab.errors import InputError

FORMAT = 4
_TABLES = ("coordinates", "specification", "environment", "times")
_LISTS = ("cohorts", "groups", "changes")
_TEXTS = ("name", "study_hash")


def checked(found: Any, file: Path) -> dict[str, Any]:
    """A description as read from a file, if the rest of jaxlab can rely on it.

    Raises:
        InputError: it cannot.
    """
    if isinstance(found, dict) and found.get("format", FORMAT) != FORMAT:
        remedy = f"is in format {found['format']!r}, this jaxlab reads {FORMAT}: train it again elsewhere"
        raise InputError("run", str(file), remedy)
    if not isinstance(found, dict):
        raise InputError("run", str(file), "is damaged: no description of a run; name a run folder")
    wrong = _wrong(found)
    if wrong:
        raise InputError("run", str(file), f"is damaged: {wrong}; train the study again elsewhere")
    return found


def _wrong(found: Mapping[str, Any]) -> str:
    """What is not as it must be."""
    for names, kind in ((_TABLES, dict), (_LISTS, list), (_TEXTS, str)):
        for name in names:
            if not isinstance(found.get(name), kind):
                return f"{name} is {_shown(found.get(name))}"
    if not _whole(found.get("epochs"), 1):
        return f"epochs is {_shown(found.get('epochs'))}"
    if not _whole(found["environment"].get("devices"), 1):
        return f"devices is {_shown(found['environment'].get('devices'))}"
    if not isinstance(found["environment"].get("versions"), dict):
        return "it tells no versions"
    if not isinstance(found["specification"].get("data"), dict):
        return "it tells no data"
    if not all(isinstance(each, str) for each in found["changes"]):
        return "changes are no words"
    return _wrong_trials(found) or next(filter(None, map(_wrong_group, found["groups"])), "")


def _wrong_trials(found: Mapping[str, Any]) -> str:
    ids = found["coordinates"].get("trial_id")
    if not isinstance(ids, list) or not ids:
        return "it has no trials"
    for name, column in found["coordinates"].items():
        if not isinstance(column, list) or len(column) != len(ids):
            return f"{name} is not one value for each trial"
    if not all(_whole(size, 1) for size in found["cohorts"]) or sum(found["cohorts"]) != len(ids):
        return f"cohorts of {_shown(found['cohorts'])} trials"
    numbers: list[Any] = []
    for group in found["groups"]:
        trials = group.get("trials") if isinstance(group, dict) else None
        if not isinstance(trials, list) or not trials:
            return "a group without trials"
        numbers += trials
    if not all(_whole(number, 0) for number in numbers) or sorted(numbers) != list(range(len(ids))):
        return "its groups do not share out its trials"
    return ""


def _wrong_group(group: Mapping[str, Any]) -> str:
    for name in ("configuration", "variables", "coordinates"):
        if not isinstance(group.get(name), dict):
            return f"the {name} of a group is {_shown(group.get(name))}"
    if not all(
        isinstance(label, list) for label in (*group["variables"].values(), *group["coordinates"].values())
    ):
        return "a label of a group is no list"
    width = group.get("width")
    if width is not None and not _whole(width, 1):
        return f"a width of {_shown(width)}"
    for name in ("fingerprint", "nondeterministic"):
        if not isinstance(group.get(name, 0), (str, type(None))):
            return f"the {name} of a group is {_shown(group.get(name, 'missing'))}"
    return ""


def _whole(value: Any, least: int) -> bool:
    return type(value) is int and value >= least


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."
