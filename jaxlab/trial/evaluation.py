"""One pass over a set that measures loss, metrics and units, each example exactly once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxlab.datasets import Dataset
from jaxlab.diagnostics import all_finite, units, zero_fraction
from jaxlab.losses import mae, mse
from jaxlab.trial.chance import chance_levels
from jaxlab.trial.network import Network
from jaxlab.trial.order import padded_batches
from jaxlab.trial.protocol import Record, Variable
from jaxlab.trial.task import State, Supervised


class Evaluation(NamedTuple):
    """What evaluating needs to know of the task; ``prepare`` turns stored inputs into what the network sees."""

    task: Supervised
    network: Network
    prepare: Callable[[jax.Array], jax.Array]
    batch_size: int


def _pass(evaluation: Evaluation, state: State, split: tuple[Any, Any], watch: bool):
    """Sums of losses and metrics over a set, and the layers' counts where ``watch`` asks for them."""
    task, network, prepare, batch_size = evaluation
    inputs, targets = split
    index_NxB, valid_NxB = padded_batches(len(targets), batch_size)
    functions = {"loss": task.loss} | {name: metric.example for name, metric in task.metrics.items()}

    def body(carry, batch):
        sums, counts = carry
        index_B, valid_B = batch
        outputs, activations, _ = network.apply(
            state.parameters, state.rest, prepare(jnp.take(inputs, index_B, axis=0)), train=False
        )
        labels = jnp.take(targets, index_B, axis=0)
        values = {name: function(outputs, labels) for name, function in functions.items()}
        sums = {name: sums[name] + jnp.sum(jnp.where(valid_B, value, 0)) for name, value in values.items()}
        counts = {
            layer: units.update(counts[layer], activations[layer], valid_B, layer in network.examples_last)
            for layer in counts
        }
        return (sums, counts), None

    start = (
        {name: jnp.zeros((), jnp.result_type(float)) for name in functions},
        {
            layer: units.init(jax.ShapeDtypeStruct(shape, jnp.result_type(float)))
            for layer, shape in network.layers.items()
        }
        if watch
        else {},
    )
    (sums, counts), _ = jax.lax.scan(body, start, (jnp.asarray(index_NxB), jnp.asarray(valid_NxB)))
    means = {name: total / len(targets) for name, total in sums.items()}
    return means, counts


def _named(evaluation: Evaluation, means: dict[str, jax.Array], prefix: str) -> Record:
    finish = {name: metric.finish for name, metric in evaluation.task.metrics.items()}
    return {f"{prefix}_{name}": finish.get(name, lambda mean: mean)(mean) for name, mean in means.items()}


def measure_set(evaluation: Evaluation, state: State, split: tuple[Any, Any], prefix: str) -> Record:
    """Loss and metrics of one set: ``{prefix}_loss`` and ``{prefix}_{metric}``."""
    means, _ = _pass(evaluation, state, split, watch=False)
    return _named(evaluation, means, prefix)


def measure_model(evaluation: Evaluation, state: State, shared: Any):
    """Everything recorded at an epoch's end with the same weights, and who is dead, by layer."""
    task, network = evaluation.task, evaluation.network
    means, counts = _pass(evaluation, state, shared["train"], watch=True)
    record = _named(evaluation, means, "train")
    record |= measure_set(evaluation, state, shared["validation"], "validation")
    # A step's loss is that before its update: what the last update did shows in these alone.
    finite = all_finite((record["train_loss"], record["validation_loss"]))
    record["first_bad_step"] = jnp.where(finite, -1, state.step)
    record["zero_fraction"] = zero_fraction(state.parameters)
    now = {layer: units.dead(counts[layer]) & task.flat_zero for layer in network.layers}
    if network.layers:
        record |= _unit_record(task, counts, state.dead, now)
    if task.diagnostics:
        record |= _probe(evaluation, state, shared["train"])
    return record, now


def _unit_record(task: Supervised, counts: dict, before: dict, now: dict) -> Record:
    """Shares of each layer's units, ``[layer]``."""

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


def _probe(evaluation: Evaluation, state: State, split: tuple[Any, Any]) -> Record:
    task, network, prepare, _ = evaluation
    inputs, targets = (array[: task.probe] for array in split)
    outputs, activations, _ = network.apply(state.parameters, state.rest, prepare(inputs), train=False)
    return {name: function(outputs, activations, targets) for name, function in task.diagnostics.items()}


def evaluation_variables(task: Supervised, data: Dataset) -> dict[str, Variable]:
    """Labels of what `measure_model` and `measure_set` record."""
    zero = "0 by definition where the activation has no flat zero (leaky_relu, elu, gelu, tanh, ...)"

    def of_dead(words: str) -> Variable:
        return Variable(words, "1", ("layer",), zero, defined=task.flat_zero)

    variables = {
        "zero_fraction": Variable("share of exactly zero entries among the kernels"),
        "dead_fraction": of_dead("share of dead units: zero on the whole training set"),
        "dead_position_fraction": of_dead(
            "share of pairs (position, unit) that are zero on the whole training set"
        ),
        "dormant_fraction": Variable(
            f"share of dormant units, threshold {task.dormant_threshold:g}", "1", ("layer",)
        ),
        "died_fraction": of_dead("share of units that died since the evaluation before"),
        "revived_fraction": of_dead("share of units that revived since the evaluation before"),
    }
    if "effective_rank" in task.diagnostics:
        words = f"effective rank of the post-activations of {task.probe} training examples"
        variables["effective_rank"] = Variable(words, "1", ("layer",))
    levels = chance_levels(task, data)
    for split, words in {"train": "training", "validation": "validation", "test": "test"}.items():
        loss = f"{split}_loss"
        variables[loss] = Variable(
            f"loss on the {words} set, penalty apart", _loss_units(task, data), chance=levels.get(loss)
        )
        for metric_name, metric in task.metrics.items():
            own = data.target_units if metric.units == "units of the targets" else metric.units
            name, words_of = f"{split}_{metric_name}", f"{metric_name} on the {words} set"
            variables[name] = Variable(words_of, own or "1", better=metric.better, chance=levels.get(name))
    return variables


def _loss_units(task: Supervised, data: Dataset) -> str:
    """Those of the built-in losses that have some."""
    if task.loss is mae and data.target_units:
        return data.target_units
    return f"{data.target_units}²" if task.loss is mse and data.target_units else "1"
