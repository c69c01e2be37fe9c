"""What a study will cost, before it is trained."""

import os
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from jaxlab.engine import packs_of, train
from jaxlab.study.compiling import compile_for
from jaxlab.study.describe import varied
from jaxlab.study.fingerprint import plain
from jaxlab.study.memory import memory_named
from jaxlab.study.resolve import hyperparameters_in


class GroupPlan(NamedTuple):
    """One group.

    Attributes:
        configuration: the fields that differ between groups, callables by name.
        trials: how many.
        width: of them side by side on each device.
        packs: calls that one segment takes.
        compile_seconds: measured; trying widths included.
        memory_bytes: on one device: the largest program, and the states of the packs that wait.
        seconds: of training, extrapolated from the second segment of the first pack.
    """

    configuration: dict[str, Any]
    trials: int
    width: int
    packs: int
    compile_seconds: float
    memory_bytes: int
    seconds: float


class Plan(NamedTuple):
    """Of the whole study; ``groups`` is also the number of compilations."""

    groups: tuple[GroupPlan, ...]
    trials: int
    epochs: int
    devices: int
    device_kind: str

    @property
    def seconds(self) -> float:
        """Compilation and training."""
        return sum(group.seconds + group.compile_seconds for group in self.groups)


def make_plan(
    study: Any, width: int | None, devices: Sequence[jax.Device], width_cache: str | os.PathLike | None
) -> Plan:
    """Compile every group, run two segments of its first pack to time the second, and throw the results away."""
    names = varied(study.groups)
    with memory_named(lambda: width or "auto"):
        groups = [_group_plan(study, group, width, devices, width_cache, names) for group in study.groups]
    return Plan(
        tuple(groups),
        sum(len(group.trials) for group in study.groups),
        study.epochs,
        len(devices),
        devices[0].device_kind,
    )


def _group_plan(study: Any, group: Any, width, devices, width_cache, names: list[str]) -> GroupPlan:
    hyperparameters = hyperparameters_in(group)
    began = time.perf_counter()
    programs = compile_for(study, group, study.trial_of(group), width, devices, cache=width_cache).programs
    seconds = time.perf_counter() - began
    pack = programs.pack
    packs = len(packs_of(len(group.trials), pack.lanes))
    few = jax.tree.map(lambda values: values[: pack.lanes], hyperparameters)
    times = []
    for _ in train(programs, few, study.arrays, 2 * programs.segment_epochs):
        times.append(time.perf_counter())
    return GroupPlan(
        {name: plain(group.configuration[name]) for name in names if name in group.configuration},
        len(group.trials),
        pack.width,
        packs,
        seconds,
        programs.memory_bytes(packs),
        (times[2] - times[1]) * packs * study.epochs / programs.segment_epochs,
    )
