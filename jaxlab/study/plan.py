"""What a study will cost, before it is trained."""

import time
from typing import Any, NamedTuple

import jax

from jaxlab.engine import Pack, compile_programs, packs_of, train
from jaxlab.study.describe import varied
from jaxlab.study.resolve import example_in, hyperparameters_in


class GroupPlan(NamedTuple):
    """One group.

    Attributes:
        configuration: the fields that differ between groups.
        trials: how many.
        packs: calls that one segment takes.
        compile_seconds: measured.
        memory_bytes: on one device: the largest program, and the states of the packs that wait.
        seconds: of training, extrapolated from the second segment of the first pack.
    """

    configuration: dict[str, Any]
    trials: int
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
    width: int

    @property
    def seconds(self) -> float:
        """Compilation and training."""
        return sum(group.seconds + group.compile_seconds for group in self.groups)


def make_plan(study: Any, pack: Pack) -> Plan:
    """Compile every group, run two segments of its first pack to time the second, and throw the results away."""
    names = varied(study.groups)
    return Plan(
        tuple(_group_plan(study, group, pack, names) for group in study.groups),
        len(study.trial_ids),
        study.epochs,
        pack.mesh.size,
        pack.mesh.devices.flat[0].device_kind,
        pack.width,
    )


def _group_plan(study: Any, group: Any, pack: Pack, names: list[str]) -> GroupPlan:
    programs = compile_programs(study.trial_of(group), example_in(group), study.arrays, pack)
    packs = len(packs_of(len(group.trials), pack.lanes))
    few = jax.tree.map(lambda values: values[: pack.lanes], hyperparameters_in(group))
    times = []
    for _ in train(programs, few, study.arrays, 2 * programs.segment_epochs):
        times.append(time.perf_counter())
    lanes = programs.start.out_info
    state = sum(
        leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(lanes) if hasattr(leaf.dtype, "itemsize")
    )
    return GroupPlan(
        {name: group.configuration[name] for name in names},
        len(group.trials),
        packs,
        programs.compile_seconds,
        programs.memory_bytes() + (packs - 1) * state // pack.mesh.size,
        (times[2] - times[1]) * packs * study.epochs / programs.segment_epochs,
    )
