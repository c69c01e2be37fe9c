"""The training loop on the host: segment by segment, pack by pack, one record per call."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxlab.checks import whole
from jaxlab.engine.group import Call, GroupTraining
from jaxlab.engine.host import EndRecord, EpochRecord, Rows
from jaxlab.engine.pack import Pack
from jaxlab.engine.programs import Programs
from jaxlab.engine.tracing import canonical
from jaxlab.trial import PyTree

Decide = Callable[[int], Sequence[np.ndarray]]
#: Index of a group, and the record of one call.
Recorded = tuple[int, EpochRecord | EndRecord]


class Training:
    """Joint training of several groups: at each rung, all running trials are at the same epoch.

    A record is fetched from the devices only after the next call is dispatched, so that devices do not wait for the
    host, except at a rung.

    Args:
        groups: the groups, new or restored.
        epochs: number of epochs to train.
    """

    def __init__(self, groups: Sequence[GroupTraining], epochs: int):
        self.groups, self.epochs = list(groups), whole("epochs", epochs, 1)
        self._pending: list[tuple[int, Call]] = []

    @property
    def begun(self) -> bool:
        """Whether every trial is initialised, so that a `snapshot` contains all of them."""
        return all(group.begun for group in self.groups)

    def segments(self, decide: Decide | None = None) -> Iterator[Recorded]:
        """Train. Trials that stop at a rung yield their last record there, and the others are repacked.

        Args:
            decide: ``epoch -> trials that stop, for each group``. Called when all running trials reached that epoch and
                every record up to it was yielded, before further training; never at the last epoch.

        Yields:
            The index of a group, and a record.
        """
        yield from self._dispatch(lambda group: [] if group.begun else group.begin())
        yield from self.drain()
        while (epoch := self._epoch()) is not None and epoch < self.epochs:
            if decide is not None:
                for group, stops in zip(self.groups, decide(epoch), strict=True):
                    group.end(stops)
                yield from self._dispatch(lambda group: group.finish(last=False))
            yield from self._dispatch(lambda group, epoch=epoch: group.advance(epoch))
            yield from self.drain()

    def finish(self) -> Iterator[Recorded]:
        """End training: yield the last record of every trial that has none yet."""
        for group in self.groups:
            group.end(group.running)
        yield from self._dispatch(lambda group: group.finish(last=True))
        yield from self.drain()

    def drain(self) -> Iterator[Recorded]:
        """Wait for pending calls and yield their records, after which a `snapshot` matches the yielded records."""
        while self._pending:
            index, call = self._pending.pop(0)
            yield index, _fetch(call)

    def snapshot(self) -> list[tuple[Rows, Rows]]:
        """`GroupTraining.snapshot` of each group."""
        return [group.snapshot() for group in self.groups]

    def _epoch(self) -> int | None:
        return min((group.epoch for group in self.groups if group.epoch is not None), default=None)

    def _dispatch(self, start_calls: Callable[[GroupTraining], Iterator[Call]]) -> Iterator[Recorded]:
        for index, group in enumerate(self.groups):
            for call in start_calls(group):
                earlier = list(self.drain())
                self._pending.append((index, call))
                yield from earlier


def train(
    programs: Programs, hyperparameters: PyTree, shared: PyTree, epochs: int, resident: int | None = None
) -> Iterator[EpochRecord | EndRecord]:
    """Train all trials of one group to the end; for the arguments see `GroupTraining` and `Training`."""
    group = GroupTraining(programs, hyperparameters, place_shared(shared, programs.pack), resident=resident)
    training = Training([group], epochs)
    for records in (training.segments(), training.finish()):
        for _, record in records:
            yield record


def _fetch(call: Call) -> EpochRecord | EndRecord:
    originals = call.trials >= 0
    values = {name: value[originals] for name, value in jax.device_get(call.record).items()}
    if call.ended is not None:
        return EndRecord(call.trials[originals], call.epochs[originals], values, call.ended)
    return EpochRecord(
        call.trials[originals], call.epochs, {name: value[:, None] for name, value in values.items()}
    )


def place_shared(shared: PyTree, pack: Pack) -> PyTree:
    """Put the shared arrays on each device of a pack, in their stored dtypes: uint8 stays uint8.

    The host devices of a CPU share one copy.
    """
    first, *others = pack.mesh.devices.flat

    def place(leaf: Any) -> jax.Array:
        leaf = canonical(leaf)
        if others and first.platform == "cpu" and isinstance(leaf, np.ndarray):
            # JAX copies NumPy arrays once per device, but its own aligned memory is shared.
            leaf = np.asarray(jax.device_put(leaf, first))
        return jax.device_put(leaf, pack.replicated)

    return jax.tree.map(place, shared)
