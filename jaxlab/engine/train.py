"""The loop on the host: segment after segment, pack after pack, a record for each call."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxlab.engine.group import Call, GroupTraining
from jaxlab.engine.host import Rows
from jaxlab.engine.pack import Pack
from jaxlab.engine.programs import Programs
from jaxlab.engine.records import EndRecord, EpochRecord
from jaxlab.engine.traced import on_device
from jaxlab.errors import InputError

Decide = Callable[[int], Sequence[np.ndarray]]
#: The index of a group, and what one call recorded of it.
Recorded = tuple[int, EpochRecord | EndRecord]


class Training:
    """Trials of some groups that train together: at each rung, all that run are at one epoch.

    A record is fetched from the devices only after the next call is under way, so that they need not wait for the
    host, except at a rung.

    Args:
        groups: begun or not.
        epochs: to train; a multiple of each group's ``segment_epochs``.
    """

    def __init__(self, groups: Sequence[GroupTraining], epochs: int):
        for group in groups:
            length = group.programs.segment_epochs
            if epochs < 1 or epochs % length:
                raise InputError("epochs", epochs, f"give a positive multiple of segment_epochs = {length}")
        self.groups, self.epochs = list(groups), epochs
        self._under_way: list[tuple[int, Call]] = []

    @property
    def begun(self) -> bool:
        """Whether every trial has a state, so that a `snapshot` holds them all."""
        return all(group.begun for group in self.groups)

    def segments(self, decide: Decide | None = None) -> Iterator[Recorded]:
        """Train; trials that stop at a rung end there, with their last record, and the others are packed together.

        Args:
            decide: ``epoch -> trials that stop, for each group``, called when all that run have reached that epoch and
                every record up to it was yielded, before the next is trained; never at the last epoch.

        Yields:
            the index of a group, and a record.
        """
        yield from self._fetched(lambda group: [] if group.begun else group.begin())
        yield from self.settled()
        while (epoch := self._epoch()) is not None and epoch < self.epochs:
            if decide is not None:
                for group, stops in zip(self.groups, decide(epoch), strict=True):
                    group.end(stops)
                yield from self._fetched(lambda group: group.finish(last=False))
            yield from self._fetched(lambda group, epoch=epoch: group.advance(epoch))
            yield from self.settled()

    def finish(self) -> Iterator[Recorded]:
        """The last record of every trial that has none yet: training is over."""
        for group in self.groups:
            group.end(group.running)
        yield from self._fetched(lambda group: group.finish(last=True))
        yield from self.settled()

    def settled(self) -> Iterator[Recorded]:
        """The records of calls in progress, waited for; then a `snapshot` holds nothing that was not yielded."""
        while self._under_way:
            index, call = self._under_way.pop(0)
            yield index, _record(call)

    def snapshot(self) -> list[tuple[Rows, Rows]]:
        """Of each group `GroupTraining.snapshot`."""
        return [group.snapshot() for group in self.groups]

    def _epoch(self) -> int | None:
        return min((group.epoch for group in self.groups if group.epoch is not None), default=None)

    def _fetched(self, calls_of: Callable[[GroupTraining], Iterator[Call]]) -> Iterator[Recorded]:
        for index, group in enumerate(self.groups):
            for call in calls_of(group):
                earlier = list(self.settled())
                self._under_way.append((index, call))
                yield from earlier


def train(
    programs: Programs, hyperparameters: Any, shared: Any, epochs: int, resident: int | None = None
) -> Iterator[EpochRecord | EndRecord]:
    """Train all trials of a group to the end; arguments as for `GroupTraining` and `Training`."""
    group = GroupTraining(programs, hyperparameters, placed(shared, programs.pack), resident)
    training = Training([group], epochs)
    for records in (training.segments(), training.finish()):
        for _, record in records:
            yield record


def _record(call: Call) -> EpochRecord | EndRecord:
    own = call.trials >= 0
    values = {name: value[own] for name, value in jax.device_get(call.record).items()}
    if call.ended is not None:
        return EndRecord(call.trials[own], call.epochs[own], values, call.ended)
    if call.epochs[0] == 0:  # recorded once, without an axis of epochs
        values = {name: value[:, None] for name, value in values.items()}
    return EpochRecord(call.trials[own], call.epochs, values)


def placed(shared: Any, pack: Pack) -> Any:
    """What all trials share, whole on each device of a pack, in the dtypes that are stored: uint8 stays uint8.

    The host devices of a CPU read one copy.
    """
    first, *others = pack.mesh.devices.flat

    def place(leaf: Any) -> jax.Array:
        leaf = on_device(leaf)
        if others and first.platform == "cpu" and isinstance(leaf, np.ndarray):
            # JAX copies what NumPy allocated, once for each device, and aliases memory that is aligned as its own is.
            leaf = np.asarray(jax.device_put(leaf, first))
        return jax.device_put(leaf, pack.replicated)

    return jax.tree.map(place, shared)
