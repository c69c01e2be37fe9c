"""One trial as the engine carries it: its state and when it went bad. Still unbatched."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxlab.trial import Record, Trial, select


class Best(NamedTuple):
    """What is kept of the best epoch so far, see `jaxlab.trial.Weights`; ``epoch`` is −1 while every score was NaN."""

    score: Any
    epoch: Any
    kept: Any


class Lane(NamedTuple):
    """One trial between two calls.

    Attributes:
        state: the trial's own.
        first_bad_step: int32, counted from 1; 0 if the start was not finite; −1 while all is well.
        best: a `Best`, or None where the trial has no score.
    """

    state: Any
    first_bad_step: Any
    best: Any = None


def start(trial: Trial, hyperparameters: Any, shared: Any) -> Lane:
    """The initial state."""
    state = trial.init(hyperparameters, shared)
    best = None
    if trial.weights is not None and trial.weights.score is not None:
        best = Best(jnp.array(-jnp.inf, jnp.float32), jnp.array(-1, jnp.int32), trial.weights.kept(state))
    return Lane(state, jnp.where(trial.finite(state), -1, 0).astype(jnp.int32), best)


def measure(trial: Trial, hyperparameters: Any, lane: Lane, shared: Any) -> tuple[Lane, Record]:
    """The record of epoch 0."""
    state, record = trial.evaluate(hyperparameters, lane.state, shared, False)
    record, bad = _without_bad_step(record)
    bad = jnp.where(lane.first_bad_step < 0, bad, lane.first_bad_step)
    best = _better(trial, lane.best, state, record, jnp.array(0, jnp.int32))
    return Lane(state, bad, best), _signed(record) | {"first_bad_step": bad}


def _without_bad_step(record: Record) -> tuple[Record, jax.Array]:
    """A record without its ``first_bad_step``, and that step, −1 if it holds none."""
    record = dict(record)
    return record, jnp.asarray(record.pop("first_bad_step", -1), jnp.int32)


def _better(trial: Trial, best: Best | None, state: Any, record: Record, epoch: jax.Array) -> Best | None:
    """The best so far with this epoch's state in its place if that is better; of equals the first stays."""
    if best is None:
        return None
    score = jnp.asarray(trial.weights.score(record), jnp.float32)
    score = jnp.where(score == jnp.inf, -jnp.inf, score)  # not finite is worst
    better = (score > best.score) | ((best.epoch < 0) & ~jnp.isnan(score))
    return select(better, Best(score, epoch, trial.weights.kept(state)), best)


def segment(trial: Trial, hyperparameters: Any, lane: Lane, shared: Any, epochs: jax.Array):
    """Train and evaluate ``len(epochs)`` epochs: the lane, and a record with a leading axis of epochs."""

    def epoch_of(lane: Lane, epoch: jax.Array):
        return one_epoch(trial, hyperparameters, lane, shared, epoch)

    return jax.lax.scan(epoch_of, lane, epochs)


def one_epoch(trial: Trial, hyperparameters: Any, lane: Lane, shared: Any, epoch: jax.Array):
    """One epoch of a lane that may have gone bad earlier: then nothing changes and nothing is recorded."""
    alive = lane.first_bad_step < 0
    state, trained = trial.train_segment(hyperparameters, lane.state, shared, epoch)
    trained, bad = _without_bad_step(trained)
    # A trial that guards its own steps is finite here; one that does not falls back to the epoch's start.
    finite = trial.finite(state)
    bad = jnp.where((bad < 0) & ~finite, epoch, bad).astype(jnp.int32)
    state = select(finite & alive, state, lane.state)
    evaluated, measured = trial.evaluate(hyperparameters, state, shared, False)
    measured, seen = _without_bad_step(measured)
    bad = jnp.where(bad < 0, seen, bad)
    best = _better(trial, lane.best, evaluated, measured, epoch)
    state, best = select(alive, (evaluated, best), (state, lane.best))
    record = _signed(trained | measured)
    record = {name: jnp.where(alive, value, missing(value)) for name, value in record.items()}
    bad = jnp.where(alive, bad, lane.first_bad_step)
    return Lane(state, bad, best), record | {"first_bad_step": bad}


def _signed(record: Record) -> Record:
    """Flags and unsigned numbers as int32, so that −1 can stand for "not reached"."""

    def signed(value: jax.Array) -> jax.Array:
        small = value.dtype == bool or jnp.issubdtype(value.dtype, jnp.unsignedinteger)
        return value.astype(jnp.int32) if small else value

    return {name: signed(jnp.asarray(value)) for name, value in record.items()}


def missing(value: jax.Array) -> jax.Array:
    """What stands for "not reached": NaN; −1 for integers."""
    return jnp.array(jnp.nan if jnp.issubdtype(value.dtype, jnp.inexact) else -1).astype(value.dtype)


def finish(trial: Trial, hyperparameters: Any, lane: Lane, shared: Any) -> Record:
    """The record of the finished trial, a diverged one at its last finite state; and that of its best epoch."""
    record = trial.evaluate(hyperparameters, lane.state, shared, True)[1]
    if lane.best is None:
        return record
    state = trial.weights.restored(lane.state, lane.best.kept)
    at_best = trial.evaluate(hyperparameters, state, shared, True)[1]
    return record | {f"{name}_at_best": value for name, value in at_best.items()}
