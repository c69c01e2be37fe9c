"""Evaluation: one pass over a data set, each example exactly once, that measures loss, metrics and units."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxlab.datasets import Dataset
from jaxlab.diagnostics import all_finite, units, zero_fraction
from jaxlab.errors import InputError
from jaxlab.losses import mae, mse
from jaxlab.metrics import Metric, SetMetric
from jaxlab.trial.chance import chance_levels
from jaxlab.trial.network import Network
from jaxlab.trial.order import padded_batches
from jaxlab.trial.protocol import Record, Variable
from jaxlab.trial.task import State, Supervised


class Evaluation(NamedTuple):
    """Everything that evaluation needs; ``data`` turns stored inputs and targets into those of the network."""

    task: Supervised
    network: Network
    data: Dataset
    batch_size: int


def _evaluate_set(evaluation: Evaluation, state: State, split: tuple[Any, Any], count_units: bool):
    """Values of loss and metrics over a set, by name; and unit counts by layer if ``count_units``."""
    task, network, data, batch_size = evaluation
    inputs, targets = split
    index_NxB, valid_NxB = padded_batches(len(targets), batch_size)
    of_sums = {name: metric for name, metric in task.metrics.items() if isinstance(metric, SetMetric)}
    of_mean = {name: metric for name, metric in task.metrics.items() if name not in of_sums}
    functions = {name: metric.example for name, metric in of_mean.items()}

    def body(carry, batch):
        sums, states, counts = carry
        index_B, valid_B = batch
        outputs, activations, _ = network.apply(
            state.parameters, state.rest, data.prepare(jnp.take(inputs, index_B, axis=0)), train=False
        )
        labels = jnp.take(targets, index_B, axis=0)
        values = {"loss": task.loss(outputs, data.prepare_targets(labels))}
        outputs = data.restore_targets(outputs)  # metrics are in the units of the targets
        values |= {name: function(outputs, labels) for name, function in functions.items()}
        sums = {name: sums[name] + jnp.sum(jnp.where(valid_B, value, 0)) for name, value in values.items()}
        states = {
            name: metric.update(states[name], outputs, labels, valid_B) for name, metric in of_sums.items()
        }
        counts = {
            layer: units.update(counts[layer], activations[layer], valid_B, layer in network.examples_last)
            for layer in counts
        }
        return (sums, states, counts), None

    start = (
        {name: jnp.zeros((), jnp.result_type(float)) for name in ("loss", *functions)},
        {name: jax.tree.map(jnp.asarray, metric.init()) for name, metric in of_sums.items()},
        {
            layer: units.init(jax.ShapeDtypeStruct(shape, jnp.result_type(float)))
            for layer, shape in network.layers.items()
        }
        if count_units
        else {},
    )
    (sums, states, counts), _ = jax.lax.scan(body, start, (jnp.asarray(index_NxB), jnp.asarray(valid_NxB)))
    means = {name: total / len(targets) for name, total in sums.items()}
    values = {"loss": means.pop("loss")}
    values |= {name: of_mean[name].finish(mean) for name, mean in means.items()}
    values |= {name: metric.finish(states[name]) for name, metric in of_sums.items()}
    return values, counts


def _with_prefix(prefix: str, values: dict[str, jax.Array]) -> Record:
    return {f"{prefix}_{name}": value for name, value in values.items()}


def measure_set(evaluation: Evaluation, state: State, split: tuple[Any, Any], prefix: str) -> Record:
    """Measure loss and metrics of one set: ``{prefix}_loss`` and ``{prefix}_{metric}``."""
    values, _ = _evaluate_set(evaluation, state, split, count_units=False)
    return _with_prefix(prefix, values)


def measure_model(evaluation: Evaluation, state: State, shared: Any):
    """Measure everything that is recorded after an epoch, and the dead units of each layer."""
    task, network = evaluation.task, evaluation.network
    values, counts = _evaluate_set(evaluation, state, shared["train"], count_units=True)
    record = _with_prefix("train", values)
    record |= measure_set(evaluation, state, shared["validation"], "validation")
    # The loss of a step is measured before its update, so only these losses show the effect of the last update.
    finite = all_finite((record["train_loss"], record["validation_loss"]))
    record["first_bad_step"] = jnp.where(finite, -1, state.step)
    record["zero_fraction"] = zero_fraction(state.parameters)
    now = {layer: units.dead(counts[layer]) & task.flat_zero for layer in network.layers}
    if network.layers:
        record |= _measure_units(task, counts, state.dead, now)
    if task.diagnostics:
        record |= _custom_diagnostics(evaluation, state, shared["train"])
    return record, now


def _measure_units(task: Supervised, counts: dict, before: dict, now: dict) -> Record:
    """Fractions of the units of each layer, ``[layer]``."""

    def by_layer(share: Callable[[str], jax.Array]) -> jax.Array:
        return jnp.stack([share(layer).astype(jnp.result_type(float)) for layer in counts])

    def of_units(number: jax.Array, layer: str) -> jax.Array:
        return number / now[layer].size

    return {
        "dead_fraction": by_layer(lambda layer: of_units(jnp.sum(now[layer]), layer)),
        "dead_position_fraction": by_layer(
            lambda layer: units.dead_positions(counts[layer]) * task.flat_zero
        ),
        "dormant_fraction": by_layer(
            lambda layer: of_units(jnp.sum(units.dormant(counts[layer], task.dormant_threshold)), layer)
        ),
        "died_fraction": by_layer(lambda layer: of_units(units.died(before[layer], now[layer]), layer)),
        "revived_fraction": by_layer(lambda layer: of_units(units.revived(before[layer], now[layer]), layer)),
    }


def _custom_diagnostics(evaluation: Evaluation, state: State, split: tuple[Any, Any]) -> Record:
    task, network, data, _ = evaluation
    inputs, targets = (array[: task.probe] for array in split)
    outputs, activations, _ = network.apply(state.parameters, state.rest, data.prepare(inputs), train=False)
    targets = data.prepare_targets(targets)
    return {name: function(outputs, activations, targets) for name, function in task.diagnostics.items()}


def metric_coordinates(metrics: Mapping[str, Metric | SetMetric]) -> dict[str, tuple[str, ...]]:
    """Labels along the axes of the metrics' values, by the axes' names.

    Raises:
        InputError: two metrics have different labels along an axis of one name.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name, metric in metrics.items():
        for axis, labels in getattr(metric, "coordinates", {}).items():
            reserved = axis in ("trial", "epoch", "step", "layer")
            if reserved or found.setdefault(axis, tuple(labels)) != tuple(labels):
                remedy = f"the axis {axis} has other labels elsewhere; rename it"
                raise InputError("configuration.metrics", name, remedy)
    return found


def evaluation_variables(task: Supervised, data: Dataset) -> dict[str, Variable]:
    """Variables that `measure_model` and `measure_set` record."""
    zero = "0 by definition where the activation has no flat zero (leaky_relu, elu, gelu, tanh, ...)"

    def dead_variable(words: str) -> Variable:
        return Variable(words, "1", ("layer",), zero, defined=task.flat_zero)

    variables = {
        "zero_fraction": Variable("share of exactly zero entries among the kernels"),
        "dead_fraction": dead_variable("share of dead units: zero on the whole training set"),
        "dead_position_fraction": dead_variable(
            "share of pairs (position, unit) that are zero on the whole training set"
        ),
        "dormant_fraction": Variable(
            f"share of dormant units, threshold {task.dormant_threshold:g}", "1", ("layer",)
        ),
        "died_fraction": dead_variable("share of units that died since the previous evaluation"),
        "revived_fraction": dead_variable("share of units that revived since the previous evaluation"),
    }
    if "effective_rank" in task.diagnostics:
        words = f"effective rank of the post-activations of {task.probe} training examples"
        variables["effective_rank"] = Variable(words, "1", ("layer",))
    levels = chance_levels(task, data)
    for split, words in {"train": "training", "validation": "validation", "test": "test"}.items():
        loss = f"{split}_loss"
        variables[loss] = Variable(
            f"loss on the {words} set, without the penalty", _loss_units(task, data), chance=levels.get(loss)
        )
        for metric_name, metric in task.metrics.items():
            metric_units = data.target_units if metric.units == "units of the targets" else metric.units
            name, words_of = f"{split}_{metric_name}", f"{metric_name} on the {words} set"
            dims = tuple(getattr(metric, "coordinates", ()))
            variables[name] = Variable(
                words_of, metric_units or "1", dims, better=metric.better, chance=levels.get(name)
            )
    return variables


def _loss_units(task: Supervised, data: Dataset) -> str:
    """Units of the loss; "1" unless it is a built-in loss in units of the targets."""
    if data.target_mean is not None:
        return "1"
    if task.loss is mae and data.target_units:
        return data.target_units
    return f"{data.target_units}²" if task.loss is mse and data.target_units else "1"
