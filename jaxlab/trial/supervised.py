"""Supervised training of a flax.nnx model, as the triple of pure functions that the engine maps."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxlab.datasets import Dataset
from jaxlab.diagnostics import all_finite, cosine, global_norm, opposed_updates, update_ratio
from jaxlab.errors import InputError
from jaxlab.settings import Configuration, Hyperparameters, binder
from jaxlab.trial.evaluation import (
    Evaluation,
    evaluation_variables,
    measure_model,
    measure_set,
    metric_coordinates,
)
from jaxlab.trial.fit import check_fit
from jaxlab.trial.guard import guarded_scan
from jaxlab.trial.microbatch import evaluation_size, loss_and_gradient, microbatch_size
from jaxlab.trial.network import Network, network_of
from jaxlab.trial.order import epoch_key, minibatches
from jaxlab.trial.protocol import Trial, Variable, Weights, comparison_metric
from jaxlab.trial.task import State, Supervised


def shared_arrays(data: Dataset) -> dict[str, tuple[Any, Any]]:
    """Arrays that all trials share, as stored: uint8 stays uint8 until the training step."""
    return {name: tuple(getattr(data, name)) for name in ("train", "validation", "test")}


def supervised(
    task: Supervised, configuration: Configuration, example: Hyperparameters, data: Dataset
) -> Trial:
    """Build the triple ``(init, train_segment, evaluate)`` that trains a model on a data set.

    Args:
        task: the task.
        configuration: passed to ``task.model`` and ``task.optimizer``.
        example: hyperparameters with any values; only names, shapes and dtypes are used.
        data: provides the shapes; the arrays are passed as ``shared``, see `shared_arrays`.

    Raises:
        InputError: the outputs of the model do not fit the data, or loss and metrics do not fit them.
    """
    network = network_of(task.model, configuration, example, data, task.convolution)
    check_fit(task.bound(binder(configuration, example)), network.outputs, data)
    backend = jax.default_backend()
    evaluation_batch = evaluation_size(task.evaluation_batch_size, network.layers, backend)
    separable = task.separable and network.stateless
    microbatch = microbatch_size(task.microbatch, task.batch_size, network.layers, separable, backend)

    def init(hyperparameters: Hyperparameters, shared: Any) -> State:
        parameters, rest = network.init(hyperparameters)
        return State(
            parameters=parameters,
            rest=rest,
            optimizer=task.optimizer(configuration, hyperparameters).init(parameters),
            step=jnp.array(0, jnp.int32),
            dead={layer: jnp.zeros(shape[-1], bool) for layer, shape in network.layers.items()},
            last_update=jax.tree.map(jnp.zeros_like, parameters) if task.update_cosine else None,
        )

    def train_segment(hyperparameters: Hyperparameters, state: State, shared: Any, epoch: jax.Array):
        key = epoch_key(task.data_seed, epoch, hyperparameters.seed if task.own_order else None)
        order_SxB = minibatches(key, len(shared["train"][1]), task.batch_size)
        optimizer = task.optimizer(configuration, hyperparameters)
        given = task.bound(binder(configuration, hyperparameters))
        step = _step(given, network, data, optimizer, shared["train"], key, microbatch)
        state, metrics, first_bad = guarded_scan(
            step, state, order_SxB, state.step, ("loss", "gradient_norm"), _finite_since(state)
        )
        return state, _training_record(task, metrics) | {"first_bad_step": first_bad}

    def evaluate(hyperparameters: Hyperparameters, state: State, shared: Any, final: bool):
        given = task.bound(binder(configuration, hyperparameters))
        evaluation = Evaluation(given, network, data, evaluation_batch)
        if final:
            return state, measure_set(evaluation, state, shared["test"], "test")
        record, dead = measure_model(evaluation, state, shared)
        return state._replace(dead=dead), record

    def sample(shared: Any) -> Any:
        few = {"train": 4 * task.batch_size, "validation": evaluation_batch, "test": evaluation_batch}
        return {name: tuple(array[:most] for array in shared[name]) for name, most in few.items()}

    return Trial(
        init,
        _at_precision(task.precision, train_segment),
        _at_precision(task.precision, evaluate),
        variables=_variables(task, data),
        coordinates={"layer": tuple(network.layers)} | metric_coordinates(task.metrics),
        sample=sample,
        weights=_weights(task),
        finite=_is_finite,
    )


def _is_finite(state: State) -> jax.Array:
    """Whether a state is finite, except for the optimizer state, which each step checks."""
    return all_finite(state._replace(optimizer=()))


def _finite_since(before: State) -> Callable[[State], jax.Array]:
    """Return a check of later states that ignores optimizer arrays which are not finite in ``before``.

    Some arrays start infinite, e.g. the best loss of `optax.contrib.reduce_on_plateau`.
    """
    was_finite = [all_finite(leaf) for leaf in jax.tree.leaves(before.optimizer)]

    def finite(state: State) -> jax.Array:
        leaves = zip(jax.tree.leaves(state.optimizer), was_finite, strict=True)
        return functools.reduce(
            jnp.logical_and,
            (all_finite(leaf) | ~finite_before for leaf, finite_before in leaves),
            _is_finite(state),
        )

    return finite


def _at_precision(precision: str, function: Callable) -> Callable:
    """Trace the matrix products of a function at a given precision, which JAX's transformations preserve."""

    @functools.wraps(function)
    def at_precision(*arguments):
        chosen = precision != "default"
        with jax.default_matmul_precision(precision) if chosen else contextlib.nullcontext():
            return function(*arguments)

    return at_precision


def _weights(task: Supervised) -> Weights | None:
    """Keep parameters and statistics; the best epoch is that of the first validation metric by name."""
    if task.keep == "none":
        return None
    better = {f"validation_{name}": metric.better for name, metric in task.metrics.items()}
    name = comparison_metric(better)

    def score(record: dict[str, jax.Array]) -> jax.Array:
        return record[name] if better.get(name) == "higher" else -record[name]

    return Weights(
        kept=lambda state: {"parameters": state.parameters, "rest": state.rest},
        restored=lambda state, kept: state._replace(parameters=kept["parameters"], rest=kept["rest"]),
        score=score if task.keep == "best" else None,
    )


def _step(
    task: Supervised, network: Network, data: Dataset, optimizer, split, key, microbatch: int
) -> Callable:
    """Build an optimisation step ``(state, index_B) -> (state, metrics)``."""

    def loss_of(parameters, rest, batch):
        inputs, targets = batch
        outputs, _, rest = network.apply(parameters, rest, inputs, train=True)
        return jnp.mean(task.loss(outputs, targets)), rest

    def step(state: State, index_B: jax.Array):
        inputs, targets = (jnp.take(array, index_B, axis=0) for array in split)
        if task.augment is not None:
            inputs = task.augment(jax.random.fold_in(key, index_B[0]), inputs)
        batch = data.prepare(inputs), data.prepare_targets(targets)
        loss, rest, gradient = loss_and_gradient(loss_of, state.parameters, state.rest, batch, microbatch)
        updates, optimizer_state = update_with(optimizer, gradient, state.optimizer, state.parameters, loss)
        metrics = {
            "loss": loss,
            "gradient_norm": global_norm(gradient),
            "update_ratio": update_ratio(updates, state.parameters),
        }
        if task.update_cosine:
            metrics["update_cosine"] = cosine(updates, state.last_update)
        new = State(
            optax.apply_updates(state.parameters, updates),
            rest,
            optimizer_state,
            state.step + 1,
            state.dead,
            updates if task.update_cosine else None,
        )
        return new, metrics

    return step


def update_with(
    optimizer: optax.GradientTransformation, gradient: Any, state: Any, parameters: Any, loss: jax.Array
) -> tuple[Any, Any]:
    """Compute updates and next state; an optimizer with extra arguments gets ``value``, the loss, and ``grad``."""
    optimizer = optax.with_extra_args_support(optimizer)
    return optimizer.update(gradient, state, parameters, value=loss, grad=gradient)


def _training_record(task: Supervised, metrics_S: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Means over the steps of an epoch before the first bad one; NaN if there are none."""
    record = {
        "minibatch_loss": jnp.nanmean(metrics_S["loss"]),
        "gradient_norm": jnp.nanmean(metrics_S["gradient_norm"]),
        "gradient_norm_max": jnp.nanmax(metrics_S["gradient_norm"]),
        "update_ratio": jnp.nanmean(metrics_S["update_ratio"]),
    }
    if task.update_cosine:
        record["update_cosine"] = jnp.nanmean(metrics_S["update_cosine"])
        record["opposed_updates"] = opposed_updates(metrics_S["update_cosine"])
    if task.step_losses:
        record["step_loss"] = metrics_S["loss"]
    return record


def _variables(task: Supervised, data: Dataset) -> dict[str, Variable]:
    variables = {
        "minibatch_loss": Variable("training loss, mean over the epoch's steps, without the penalty"),
        "gradient_norm": Variable("norm of the data gradient, mean over the epoch's steps"),
        "gradient_norm_max": Variable("norm of the data gradient, maximum over the epoch's steps"),
        "update_ratio": Variable("norm of the update over norm of the weights, mean over the epoch's steps"),
        "first_bad_step": Variable(
            "first step after which a value was not finite",
            "step",
            (),
            "counted from 1; 0 is the start; -1: none; the training and validation loss of each epoch count",
        ),
    }
    if task.update_cosine:
        variables["update_cosine"] = Variable("cosine of consecutive updates, mean over the epoch's steps")
        variables["opposed_updates"] = Variable("share of consecutive updates with a negative cosine")
    if task.step_losses:
        variables["step_loss"] = Variable("training loss of each step, without the penalty", "1", ("step",))
    variables |= evaluation_variables(task, data)
    for name in task.diagnostics:
        if name in variables and name != "effective_rank":
            remedy = "is the name of another recorded variable; rename it"
            raise InputError("configuration.diagnostics", name, remedy)
    for name in [name for name in variables if name.startswith("test_")]:
        label = variables[name]
        words = f"{label.long_name}, with the weights of the best epoch"
        variables[f"{name}_at_best"] = label._replace(long_name=words)
    return variables
