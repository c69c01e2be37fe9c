"""One trial after the other: a Python loop around a jitted step, and around a jitted scan of steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxlab.benchmark.contenders.protocol import Prepared
from jaxlab.benchmark.network import compiled, initial_states, one_state, scanned, train_step
from jaxlab.benchmark.problem import Problem, on_device


def loop(problem: Problem, steps: int) -> Prepared:
    """Functional split and merge, donated buffers, every index on the device beforehand, one fetch at the end."""
    indices, split = [jax.device_put(index_B) for index_B in problem.order], on_device(problem.data)
    example, states, rates = _trials(problem)
    step, seconds, size = compiled(train_step(problem), example, rates[0], indices[0], *split)
    done = 0

    def run(calls: int) -> np.ndarray:
        nonlocal done
        losses: list[list[jax.Array]] = [[] for _ in states]
        for trial, rate in enumerate(rates):
            state = states[trial]
            for number in range(done, done + calls * steps):
                state, loss = step(state, rate, indices[number % len(indices)], *split)
                losses[trial].append(loss)
            states[trial] = state
        done += calls * steps
        return np.array(jax.device_get(losses))

    return Prepared(run, problem.trials, steps, seconds, size)


def scan(problem: Problem, steps: int) -> Prepared:
    """``lax.scan`` over the steps of a call, donated buffers, one fetch at the end."""
    chunks, split = chunks_of(problem, steps), on_device(problem.data)
    example, states, rates = _trials(problem)
    program, seconds, size = compiled(scanned(problem), example, rates[0], chunks[0], *split)
    done = 0

    def run(calls: int) -> np.ndarray:
        nonlocal done
        losses: list[list[jax.Array]] = [[] for _ in states]
        for trial, rate in enumerate(rates):
            for number in range(done, done + calls):
                chunk = chunks[number % len(chunks)]
                states[trial], loss_S = program(states[trial], rate, chunk, *split)
                losses[trial].append(loss_S)
        done += calls
        return np.array(jax.device_get(losses)).reshape(len(states), -1)

    return Prepared(run, problem.trials, steps, seconds, size)


def _trials(problem: Problem) -> tuple[Any, list[Any], list[jax.Array]]:
    """A state for its shapes, every trial's state, every trial's learning rate."""
    together = initial_states(problem)
    states = [one_state(together, trial) for trial in range(problem.trials)]
    return states[0], states, [jax.device_put(rate) for rate in problem.learning_rates]


def chunks_of(problem: Problem, steps: int) -> list[jax.Array]:
    """The order of the examples in calls of ``steps`` steps, on the device; what fills no call is left out."""
    order = problem.order
    if len(order) < steps:
        raise ValueError(f"the problem has {len(order)} steps, a call {steps}")
    return [jax.device_put(order[i : i + steps]) for i in range(0, len(order) - len(order) % steps, steps)]


def together(problem: Problem, steps: int, mapped: Callable[[Callable], Callable]) -> Prepared:
    """All trials in one program: ``mapped`` turns the scan of one trial into a function of all of them."""
    chunks, split = chunks_of(problem, steps), on_device(problem.data)
    state, rates = initial_states(problem), jax.device_put(problem.learning_rates)
    program, seconds, size = compiled(mapped(scanned(problem)), state, rates, chunks[0], *split)
    done = 0

    def run(calls: int) -> np.ndarray:
        nonlocal done, state
        losses = []
        for number in range(done, done + calls):
            state, loss_NxS = program(state, rates, chunks[number % len(chunks)], *split)
            losses.append(loss_NxS)
        done += calls
        return np.concatenate(jax.device_get(losses), axis=1)

    return Prepared(run, problem.trials, steps, seconds, size)
