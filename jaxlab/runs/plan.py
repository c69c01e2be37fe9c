"""The plan of a study: memory and time, estimated before training."""

import os
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from jaxlab.engine import split_into_packs, train
from jaxlab.runs.compiling import compile_for, out_of_memory_names_width
from jaxlab.runs.describe import varied
from jaxlab.runs.digests import serialisable
from jaxlab.runs.job import Job
from jaxlab.space import Group


class GroupPlan(NamedTuple):
    """The plan of one group.

    Attributes:
        configuration: fields that differ between groups, callables by name.
        trials: number of trials.
        width: trials side by side on each device.
        packs: number of packs, each of which takes one call per segment.
        compile_seconds: measured compilation time, including the choice of the width.
        memory_bytes: memory on one device: the largest program, and the states of idle packs.
        seconds: training time, extrapolated from the second segment of the first pack.
    """

    configuration: dict[str, Any]
    trials: int
    width: int
    packs: int
    compile_seconds: float
    memory_bytes: int
    seconds: float


class Plan(NamedTuple):
    """The plan of a study; each group compiles one program."""

    groups: tuple[GroupPlan, ...]
    trials: int
    epochs: int
    devices: int
    device_kind: str

    @property
    def seconds(self) -> float:
        """Time of compilation and training."""
        return sum(group.seconds + group.compile_seconds for group in self.groups)


def make_plan(
    job: Job, width: int | None, devices: Sequence[jax.Device], width_cache: str | os.PathLike | None
) -> Plan:
    """Plan a job: compile every group, and time the second of two segments of its first pack."""
    names = varied(job.groups)

    def plan_of(group: Group) -> GroupPlan:
        began = time.perf_counter()
        programs = compile_for(job, group, job.trial_of(group), width, devices, cache=width_cache).programs
        seconds = time.perf_counter() - began
        pack = programs.pack
        packs = len(split_into_packs(len(group.trials), pack.lanes))
        few = jax.tree.map(lambda values: values[: pack.lanes], group.hyperparameters)
        times = [time.perf_counter() for _ in train(programs, few, job.arrays, 2)]
        return GroupPlan(
            {name: serialisable(group.configuration[name]) for name in names if name in group.configuration},
            len(group.trials),
            pack.width,
            packs,
            seconds,
            programs.memory_bytes(packs),
            (times[2] - times[1]) * packs * job.epochs,
        )

    with out_of_memory_names_width(lambda: width or "auto"):
        groups = tuple(map(plan_of, job.groups))
    trials = sum(group.trials for group in groups)
    return Plan(groups, trials, job.epochs, len(devices), devices[0].device_kind)
