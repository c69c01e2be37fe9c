"""A lane: one trial as the engine carries it, with its first bad step and best epoch. Unbatched."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxlab.trial import PyTree, Record, Trial, select


class Best(NamedTuple):
    """The kept part of the best epoch so far, see `jaxlab.trial.Weights`; ``epoch`` is −1 while every score was NaN."""

    score: Any
    epoch: Any
    kept: PyTree


class Lane(NamedTuple):
    """One trial between two calls.

    Attributes:
        state: state of the trial.
        first_bad_step: int32, counted from 1; 0 if the initial state was not finite; −1 if there is none.
        best: a `Best`, or None if the trial has no score.
    """

    state: PyTree
    first_bad_step: Any
    best: PyTree = None


def start(trial: Trial, hyperparameters: PyTree, shared: PyTree) -> Lane:
    """Initialise a lane."""
    state = trial.init(hyperparameters, shared)
    best = None
    if trial.weights is not None and trial.weights.score is not None:
        best = Best(jnp.array(-jnp.inf, jnp.float32), jnp.array(-1, jnp.int32), trial.weights.kept(state))
    return Lane(state, jnp.where(trial.finite(state), -1, 0).astype(jnp.int32), best)


def measure(trial: Trial, hyperparameters: PyTree, lane: Lane, shared: PyTree) -> tuple[Lane, Record]:
    """Evaluate epoch 0: the lane and its record."""
    state, record = trial.evaluate(hyperparameters, lane.state, shared, False)
    record, bad = _pop_bad_step(record)
    bad = jnp.where(lane.first_bad_step < 0, bad, lane.first_bad_step)
    best = _update_best(trial, lane.best, state, record, jnp.array(0, jnp.int32))
    return Lane(state, bad, best), _signed(record) | {"first_bad_step": bad}


def _pop_bad_step(record: Record) -> tuple[Record, jax.Array]:
    """Split ``first_bad_step`` from a record; −1 if the record has none."""
    record = dict(record)
    return record, jnp.asarray(record.pop("first_bad_step", -1), jnp.int32)


def _update_best(
    trial: Trial, best: Best | None, state: PyTree, record: Record, epoch: jax.Array
) -> Best | None:
    """Replace the best epoch if this one is better; at a tie the earlier one stays."""
    if best is None:
        return None
    score = jnp.asarray(trial.weights.score(record), jnp.float32)
    score = jnp.where(score == jnp.inf, -jnp.inf, score)  # infinite scores are worst
    better = (score > best.score) | ((best.epoch < 0) & ~jnp.isnan(score))
    return select(better, Best(score, epoch, trial.weights.kept(state)), best)


def segment(
    trial: Trial, hyperparameters: PyTree, lane: Lane, shared: PyTree, epoch: jax.Array
) -> tuple[Lane, Record]:
    """Train and evaluate one epoch: the lane and its record.

    A lane with an earlier bad step does not change and records only `missing`.
    """
    alive = lane.first_bad_step < 0
    state, trained = trial.train_segment(hyperparameters, lane.state, shared, epoch)
    trained, bad = _pop_bad_step(trained)
    # The state of a trial with guarded steps is finite here; otherwise fall back to the start of the epoch.
    finite = trial.finite(state)
    bad = jnp.where((bad < 0) & ~finite, epoch, bad).astype(jnp.int32)
    state = select(finite & alive, state, lane.state)
    evaluated, measured = trial.evaluate(hyperparameters, state, shared, False)
    measured, seen = _pop_bad_step(measured)
    bad = jnp.where(bad < 0, seen, bad)
    best = _update_best(trial, lane.best, evaluated, measured, epoch)
    state, best = select(alive, (evaluated, best), (state, lane.best))
    record = _signed(trained | measured)
    record = {name: jnp.where(alive, value, missing(value)) for name, value in record.items()}
    bad = jnp.where(alive, bad, lane.first_bad_step)
    return Lane(state, bad, best), record | {"first_bad_step": bad}


def _signed(record: Record) -> Record:
    """Convert booleans and unsigned integers to int32, in which −1 stands for "not reached"."""

    def signed(value: jax.Array) -> jax.Array:
        small = value.dtype == bool or jnp.issubdtype(value.dtype, jnp.unsignedinteger)
        return value.astype(jnp.int32) if small else value

    return {name: signed(jnp.asarray(value)) for name, value in record.items()}


def missing(value: jax.Array) -> jax.Array:
    """Fill value for epochs that were not reached: NaN, or −1 for integers."""
    return jnp.array(jnp.nan if jnp.issubdtype(value.dtype, jnp.inexact) else -1).astype(value.dtype)


def finish(trial: Trial, hyperparameters: PyTree, lane: Lane, shared: PyTree) -> Record:
    """Final record of a trial, at its last finite state if it diverged, and the record at its best epoch."""
    record = trial.evaluate(hyperparameters, lane.state, shared, True)[1]
    if lane.best is None:
        return record
    state = trial.weights.restored(lane.state, lane.best.kept)
    at_best = trial.evaluate(hyperparameters, state, shared, True)[1]
    return record | {f"{name}_at_best": value for name, value in at_best.items()}
