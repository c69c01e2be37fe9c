"""Contenders in plain Flax and Optax: one trial after the other, and all trials in one program."""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from benchmark.cells import CLASSES, Cell, layers_of
from benchmark.problem import Prepared, Problem, Weights, in_calls
from jaxlab.datasets import Dataset
from jaxlab.engine import bytes_of


class Network(nnx.Module):
    """``nnx.Conv``, ReLU and ``nnx.max_pool`` per layer, and a final ``nnx.Linear``."""

    def __init__(self, cell: Cell, rngs: nnx.Rngs):
        self.cell = cell
        channels = (cell.input_shape[-1], *cell.features)
        options = {"strides": cell.stride, "padding": cell.padding, "rngs": rngs}
        self.conv = nnx.List(
            nnx.Conv(channels[i], channels[i + 1], (kernel,) * cell.axes, **options)
            for i, kernel in enumerate(cell.kernel_sizes)
        )
        self.output = nnx.Linear(layers_of(cell)[-1].fan_in, CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        window = (self.cell.pool,) * self.cell.axes
        for conv in self.conv:
            x = nnx.relu(conv(x))
            if self.cell.pool > 1:
                x = nnx.max_pool(x, window, strides=window)
        return self.output(x.reshape(x.shape[0], -1))


class State(NamedTuple):
    """Parameters, and the optimizer's state."""

    parameters: Any
    optimizer: Any


def loop(problem: Problem, steps: int) -> Prepared:
    """A Python loop over trials and steps around a jitted step.

    It is tuned: functional split and merge, donated buffers, all indices on the device beforehand, one fetch at the
    end.
    """
    indices, split = [jax.device_put(index_B) for index_B in problem.order], _on_device(problem.data)
    states, rates = _separate(problem)
    step, seconds, size = _compiled(_train_step(problem), states[0], rates[0], indices[0], *split)

    def call(number: int) -> list[list[jax.Array]]:
        losses: list[list[jax.Array]] = [[] for _ in states]
        for trial, rate in enumerate(rates):
            state = states[trial]
            for i in range(number * steps, (number + 1) * steps):
                state, loss = step(state, rate, indices[i % len(indices)], *split)
                losses[trial].append(loss)
            states[trial] = state
        return losses

    return Prepared(in_calls(call, _fetched), problem.trials, steps, seconds, size)


def scan(problem: Problem, steps: int) -> Prepared:
    """A Python loop over trials around a jitted ``lax.scan`` over steps, with donated buffers and one fetch."""
    chunks, split = _chunks(problem, steps), _on_device(problem.data)
    states, rates = _separate(problem)
    program, seconds, size = _compiled(_scanned(problem), states[0], rates[0], chunks[0], *split)

    def call(number: int) -> list[jax.Array]:
        losses = []
        for trial, rate in enumerate(rates):
            states[trial], loss_S = program(states[trial], rate, chunks[number % len(chunks)], *split)
            losses.append(loss_S)
        return losses

    return Prepared(in_calls(call, _fetched), problem.trials, steps, seconds, size)


def vmap(problem: Problem, steps: int) -> Prepared:
    """All trials side by side in one program; every convolution becomes a grouped one."""
    return _together(problem, steps, lambda one: jax.vmap(one, in_axes=(0, 0, None, None, None)))


def map_(problem: Problem, steps: int) -> Prepared:
    """All trials in one program, one after the other."""

    def mapped(one: Callable) -> Callable:
        return lambda state, rates, *shared: jax.lax.map(lambda trial: one(*trial, *shared), (state, rates))

    return _together(problem, steps, mapped)


def _together(problem: Problem, steps: int, mapped: Callable[[Callable], Callable]) -> Prepared:
    """All trials in one program: ``mapped`` turns the scan of one trial into a function of all of them."""
    chunks, split = _chunks(problem, steps), _on_device(problem.data)
    state, rates = _initial(problem), jax.device_put(problem.learning_rates)
    program, seconds, size = _compiled(mapped(_scanned(problem)), state, rates, chunks[0], *split)

    def call(number: int) -> jax.Array:
        nonlocal state
        state, loss_NxS = program(state, rates, chunks[number % len(chunks)], *split)
        return loss_NxS

    return Prepared(in_calls(call, _fetched), problem.trials, steps, seconds, size)


def _fetched(losses: list[Any]) -> np.ndarray:
    """Concatenate the losses of several calls, [N, S] each, however nested."""
    return np.concatenate([np.array(each) for each in jax.device_get(losses)], axis=1)


def _chunks(problem: Problem, steps: int) -> list[jax.Array]:
    """The order of the examples on the device, in chunks of ``steps`` steps; an incomplete last chunk is left out."""
    order = problem.order
    if len(order) < steps:
        raise ValueError(f"a call takes {steps} steps, but the problem has only {len(order)}")
    return [jax.device_put(order[i : i + steps]) for i in range(0, len(order) - len(order) % steps, steps)]


@functools.lru_cache(maxsize=1)  # the contenders of one problem share it; the next problem replaces it
def _on_device(data: Dataset) -> tuple[jax.Array, jax.Array]:
    """Training inputs, as uint8, and labels."""
    return jax.device_put(data.train.inputs), jax.device_put(data.train.targets)


def _initial(problem: Problem) -> State:
    """Initial states of all trials on the device, with a leading axis of trials."""

    def state(weights: Weights) -> State:
        model = Network(problem.cell, nnx.Rngs(0))
        for layer, (kernel, bias) in zip([*model.conv, model.output], weights, strict=True):
            layer.kernel[...], layer.bias[...] = kernel, bias
        parameters = nnx.split(model)[1]
        return State(parameters, optax.rmsprop(0.0).init(parameters))

    return jax.jit(jax.vmap(state))(problem.weights)


def _separate(problem: Problem) -> tuple[list[State], list[jax.Array]]:
    """Initial states and learning rates as separate arrays, one of each per trial."""
    together = _initial(problem)
    states = [jax.tree.map(lambda leaf, i=i: leaf[i], together) for i in range(problem.trials)]
    return states, [jax.device_put(rate) for rate in problem.learning_rates]


def _train_step(problem: Problem) -> Callable[..., tuple[State, jax.Array]]:
    """``(state, learning_rate, index_B, inputs, targets) -> (state, loss)``: one step of one trial."""
    graph = nnx.split(nnx.eval_shape(lambda: Network(problem.cell, nnx.Rngs(0))))[0]

    def step(
        state: State, learning_rate: jax.Array, index_B: jax.Array, inputs: jax.Array, targets: jax.Array
    ) -> tuple[State, jax.Array]:
        images, labels = problem.data.prepare(inputs[index_B]), targets[index_B]

        def loss_of(parameters: Any) -> jax.Array:
            outputs = nnx.merge(graph, parameters)(images)
            return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(outputs, labels))

        loss, gradient = jax.value_and_grad(loss_of)(state.parameters)
        optimizer = optax.rmsprop(learning_rate, decay=0.9, eps=1e-8)
        updates, memory = optimizer.update(gradient, state.optimizer, state.parameters)
        return State(optax.apply_updates(state.parameters, updates), memory), loss

    return step


def _scanned(problem: Problem) -> Callable[..., tuple[State, jax.Array]]:
    """The scan of `_train_step` over S steps: ``index_B`` becomes [S, B] and the loss [S]."""
    step = _train_step(problem)

    def steps(
        state: State, learning_rate: jax.Array, order_SxB: jax.Array, inputs: jax.Array, targets: jax.Array
    ) -> tuple[State, jax.Array]:
        return jax.lax.scan(lambda s, i: step(s, learning_rate, i, inputs, targets), state, order_SxB)

    return steps


def _compiled(function: Callable, *arguments: Any) -> tuple[Callable, float, int | None]:
    """The compiled program, which donates its first argument; seconds to trace and compile it; its bytes."""
    began = time.perf_counter()
    program = jax.jit(function, donate_argnums=0).lower(*arguments).compile()
    return program, time.perf_counter() - began, bytes_of(program) or None
