"""What differs between a run and the study, the code and the machine that would go on with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxlab.errors import InputError, name_of
from jaxlab.pruning import draw, needing_epochs
from jaxlab.schedules import SCHEDULES
from jaxlab.space import Group

# Other versions of these change the programs, and so may change bits.
_COMPUTES = ("jaxlab", "jax", "jaxlib", "flax", "optax")


def environment_changes(
    before: Mapping[str, Any], now: Mapping[str, Any], rules: Sequence[Any] = (), counting: bool = False
) -> list[str]:
    """Versions, flags and devices that decide bits and are not those of the run, in words.

    Args:
        before, now: from `jaxlab.study.describe.environment`.
        rules: of the study; where one of them may draw from NumPy's generator, NumPy's version decides who stops.
        counting: whether the number of devices counts: the last bits of recorded norms, which decide nothing, depend
            on it.
    """
    found = version_changes(before, now, _COMPUTES + ("numpy",) * draw(rules))
    if before.get("flags", "") != now["flags"]:
        found.append(
            f"the compiler's flags are {_listed(now['flags'])} and were {_listed(before.get('flags'))}"
        )
    for name, words in {"device_kind": "the device", "processor": "the processor"}.items():
        matters = name == "device_kind" or now["platform"] == "cpu"
        if matters and before.get(name) != now[name]:
            found.append(f"{words} is {now[name]} and was {before.get(name)}")
    if counting and before["devices"] != now["devices"]:
        found.append(f"the number of devices is {now['devices']} and was {before['devices']}")
    return found


def version_changes(
    before: Mapping[str, Any], now: Mapping[str, Any], packages: Sequence[str] = _COMPUTES
) -> list[str]:
    """Packages of another version than in the run, in words; by default those that decide what a program is."""
    then, today = before["versions"], now["versions"]
    return [
        f"{name} is {today[name]} and was {then.get(name)}"
        for name in packages
        if then.get(name) != today[name]
    ]


def _listed(flags: str | None) -> str:
    return flags or "none"


def fingerprint_changes(before: str | None, now: str, group: Group) -> list[str]:
    """Whether a group's traced program is not that of the run, in words."""
    if before is None or before == now:
        return []
    return [f"the code that trains {_words(group)} has changed (fingerprint {now}, was {before})"]


def determinism_changes(before: str | None, now: str, group: Group) -> list[str]:
    """Whether a group's programs are deterministic and were not, or the other way round, in words."""
    if before is None or before == now:
        return []
    words = [f"not deterministic ({why})" if why else "deterministic" for why in (now, before)]
    return [f"what trains {_words(group)} is {words[0]} and was {words[1]}"]


def width_changes(description: Mapping[str, Any], width: int | None) -> list[str]:
    """Whether another width is asked for than that of the run, in words."""
    widths = sorted({entry["width"] for entry in description["groups"]} - {None, width})
    return [f"the width is {width} and was {' and '.join(map(str, widths))}"] if width and widths else []


def _words(group: Group) -> str:
    model = group.configuration.get("model", "a group")
    return name_of(model) if callable(model) else str(model)


def check_accepted(changes: Sequence[str], accepted: bool, folder: Any) -> None:
    """Raise unless nothing changed, or the user has said that it does not matter."""
    if changes and not accepted:
        remedy = (
            "numbers could differ from those of an uninterrupted run: restore that, or give --accept-changes "
        )
        remedy += "(accept_changes=True)"
        raise InputError("run", str(folder), f"{'; '.join(changes)}; {remedy}")


def check_extension(study: Any, groups: Sequence[Group], before: int) -> None:
    """Raise where more epochs than the run was planned for would be another study.

    Args:
        study: with its new number of epochs.
        groups: of the run.
        before: epochs that the run was planned for.
    """
    if study.epochs < before:
        remedy = f"the run has {before} epochs already: give as many or more, or name another folder"
        raise InputError("epochs", study.epochs, remedy)
    if study.epochs == before:
        return
    why = "depends on the total number of epochs, so the first epochs would have been others: name another folder"
    for group in groups:
        schedule = group.configuration.get("schedule")
        if schedule in SCHEDULES and SCHEDULES[schedule].needs_total_steps:
            raise InputError(
                "epochs", study.epochs, f"the run has {before}, and its schedule {schedule} {why}"
            )
    for name in needing_epochs(study.rules):
        raise InputError("epochs", study.epochs, f"the run has {before}, and its rule {name} {why}")
