"""What a user of Flax and Optax writes: the cells' networks from ``nnx`` alone, and one step of training."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxlab.benchmark.cells import CLASSES, Cell
from jaxlab.benchmark.flops import layers_of
from jaxlab.benchmark.problem import Problem, Weights
from jaxlab.engine import bytes_of


class Network(nnx.Module):
    """``nnx.Conv``, ReLU and ``nnx.max_pool``, one ``nnx.Linear`` at the end."""

    def __init__(self, cell: Cell, rngs: nnx.Rngs):
        self.cell = cell
        channels = (cell.input_shape[-1], *cell.features)
        self.conv = nnx.List(
            nnx.Conv(
                channels[i],
                channels[i + 1],
                (kernel,) * cell.axes,
                strides=cell.stride,
                padding=cell.padding,
                rngs=rngs,
            )
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
    """Parameters and what the optimizer remembers."""

    parameters: Any
    optimizer: Any


def initial_states(problem: Problem) -> State:
    """Every trial's state on the device, with a leading axis of trials."""

    def state(weights: Weights) -> State:
        model = Network(problem.cell, nnx.Rngs(0))
        for layer, (kernel, bias) in zip([*model.conv, model.output], weights, strict=True):
            layer.kernel[...], layer.bias[...] = kernel, bias
        parameters = nnx.split(model)[1]
        return State(parameters, optax.rmsprop(0.0).init(parameters))

    return jax.jit(jax.vmap(state))(problem.weights)


def one_state(states: State, trial: int) -> State:
    """One trial's."""
    return jax.tree.map(lambda leaf: leaf[trial], states)


def train_step(problem: Problem) -> Callable[..., tuple[State, jax.Array]]:
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


def scanned(problem: Problem) -> Callable[..., tuple[State, jax.Array]]:
    """The same of many steps: ``index_B`` becomes [S, B] and the loss [S]."""
    step = train_step(problem)

    def steps(
        state: State, learning_rate: jax.Array, order_SxB: jax.Array, inputs: jax.Array, targets: jax.Array
    ) -> tuple[State, jax.Array]:
        return jax.lax.scan(lambda s, i: step(s, learning_rate, i, inputs, targets), state, order_SxB)

    return steps


def compiled(function: Callable, *arguments: Any) -> tuple[Callable, float, int | None]:
    """The program, with its first argument donated; seconds to trace and compile it; its bytes."""
    began = time.perf_counter()
    program = jax.jit(function, donate_argnums=0).lower(*arguments).compile()
    return program, time.perf_counter() - began, bytes_of(program) or None
