"""Differences between a run and the job, code and machine that would resume it, in words."""

from __future__ import annotations

from collections.abc import Sequence

from jaxlab.engine import Programs
from jaxlab.errors import InputError, name_of
from jaxlab.pruning import Rule, draw, needing_epochs
from jaxlab.runs.compiling import fingerprint_of
from jaxlab.runs.job import Job
from jaxlab.schedules import needs_total_steps
from jaxlab.space import Group
from jaxlab.store import Description, Environment, GroupEntry

# Other versions of these packages compile other programs, and so may change bits.
_COMPUTES = ("jaxlab", "jax", "jaxlib", "flax", "optax")


def environment_changes(
    before: Environment, now: Environment, rules: Sequence[Rule] = (), counting: bool = False
) -> list[str]:
    """List the versions, flags and devices that affect bits and have changed since the run.

    Args:
        before, now: environments of the run and of this process.
        rules: rules of the job; NumPy's version counts if one of them may draw from NumPy's random generator.
        counting: whether the number of devices counts. Only the last bits of recorded norms, which decide nothing,
            depend on it.
    """
    found = version_changes(before, now, _COMPUTES + ("numpy",) * draw(rules))
    if before.flags != now.flags:
        found.append(f"the compiler's flags are {now.flags or 'none'} and were {before.flags or 'none'}")
    if before.device_kind != now.device_kind:
        found.append(f"the device is {now.device_kind} and was {before.device_kind}")
    if now.platform == "cpu" and before.processor != now.processor:
        found.append(f"the processor is {now.processor} and was {before.processor}")
    if counting and before.devices != now.devices:
        found.append(f"the number of devices is {now.devices} and was {before.devices}")
    return found


def version_changes(before: Environment, now: Environment, packages: Sequence[str] = _COMPUTES) -> list[str]:
    """List the packages whose version has changed since the run; by default those that affect compiled programs."""
    then, today = before.versions, now.versions
    return [
        f"{name} is {today[name]} and was {then.get(name)}"
        for name in packages
        if then.get(name) != today[name]
    ]


def code_changes(job: Job, groups: Sequence[Group], entries: Sequence[GroupEntry]) -> list[str]:
    """List the groups whose traced programs have changed since the run; tracing takes no compilation."""
    pairs = zip(groups, entries, strict=True)
    return [
        each
        for group, entry in pairs
        for each in _fingerprint_changes(entry, fingerprint_of(job, group), group)
    ]


def program_changes(entry: GroupEntry, programs: Programs, group: Group) -> list[str]:
    """List what has changed since the run in a group's compiled programs: their code, and their determinism."""
    found = _fingerprint_changes(entry, programs.fingerprint, group)
    before, now = entry.nondeterministic, programs.nondeterministic
    if before not in (None, now):
        words = [f"not deterministic ({why})" if why else "deterministic" for why in (now, before)]
        found.append(f"the program that trains {_model_of(group)} is {words[0]} and was {words[1]}")
    return found


def _fingerprint_changes(entry: GroupEntry, now: str, group: Group) -> list[str]:
    before = entry.fingerprint
    if before in (None, now):
        return []
    return [f"the code that trains {_model_of(group)} has changed (fingerprint {now}, was {before})"]


def width_changes(description: Description, width: int | None) -> list[str]:
    """Report whether the requested width differs from that of the run."""
    widths = sorted({entry.width for entry in description.groups} - {None, width})
    return [f"the width is {width} and was {' and '.join(map(str, widths))}"] if width and widths else []


def _model_of(group: Group) -> str:
    model = group.configuration.get("model", "a group")
    return name_of(model) if callable(model) else str(model)


def check_extension(job: Job, groups: Sequence[Group], before: int) -> None:
    """Raise InputError if a run cannot be extended to the job's number of epochs.

    Args:
        job: the job, with its new number of epochs.
        groups: groups of the run.
        before: number of epochs for which the run was planned.
    """
    if job.epochs < before:
        remedy = f"the run has {before} epochs already: give as many or more, or name another folder"
        raise InputError("epochs", job.epochs, remedy)
    if job.epochs == before:
        return
    why = "depends on the total number of epochs, so the earlier epochs would differ: name another folder"
    for group in groups:
        if needs_total_steps(group.configuration, group.hyperparameters):
            schedule = group.configuration["schedule"]
            raise InputError("epochs", job.epochs, f"the run has {before}, and its schedule {schedule} {why}")
    for name in needing_epochs(job.rules):
        raise InputError("epochs", job.epochs, f"the run has {before}, and its rule {name} {why}")
