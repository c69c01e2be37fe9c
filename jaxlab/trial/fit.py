"""Checks on shapes alone, before compilation, that model, loss and metrics fit the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxlab.datasets import Dataset
from jaxlab.errors import InputError
from jaxlab.losses import LOSSES
from jaxlab.metrics import METRICS, Metric, SetMetric
from jaxlab.trial.task import Supervised

#: Exceptions that JAX and Flax raise for shapes and types that do not fit.
MISMATCH = (TypeError, ValueError)
# Examples of the abstract batch: an unlikely number of classes, so that no other axis is mistaken for that of examples.
_BATCH = 1009


def outputs_and_activations(result: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Split the result of a model's call into outputs and activations; raise InputError if it has another form."""
    outputs, activations = result if isinstance(result, tuple) and len(result) == 2 else (result, {})
    field = "configuration.model's outputs"
    if not isinstance(outputs, jax.Array | np.ndarray) or not isinstance(activations, Mapping):
        remedy = "return outputs [B, K], or (outputs, activations) with a dict from layers to arrays"
        raise InputError(field, _describe(result), remedy)
    if not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise InputError(
            field, _describe(outputs), "return floating point: logits or predictions, not labels"
        )
    return outputs, dict(activations)


def check_batch(outputs: jax.Array, activations: Mapping[str, jax.Array], examples: int) -> None:
    """Raise InputError unless the first axis of outputs and activations is that of the examples."""
    if outputs.ndim < 2 or outputs.shape[0] != examples:
        remedy = f"return one row for each of the {examples} inputs, [{examples}, K], also where K is 1"
        raise InputError("configuration.model's outputs", _describe(outputs), remedy)
    for layer, value in activations.items():
        if jnp.ndim(value) < 2 or jnp.shape(value)[0] != examples:
            remedy = f"return post-activations [{examples}, ..., units] of the {examples} inputs"
            raise InputError(f"configuration.model's activations of {layer}", jnp.shape(value), remedy)


def check_fit(task: Supervised, outputs: jax.ShapeDtypeStruct, data: Dataset) -> None:
    """Raise InputError unless loss and metrics fit the outputs of the model and the targets.

    Args:
        task: provides the loss and the metrics.
        outputs: outputs of the model for one batch.
        data: provides the targets.
    """
    targets = data.train.targets
    batch = [jax.ShapeDtypeStruct((_BATCH, *each.shape[1:]), each.dtype) for each in (outputs, targets)]
    loss = _without_settings(task.loss)
    custom_loss = not any(loss is known for known in LOSSES.values())
    if data.target_mean is not None:
        _check_width("standardize_targets", outputs, data)
    if not custom_loss:
        _check_width(f"the loss {loss.__name__}", outputs, data)
    custom = {name: metric for name, metric in task.metrics.items() if not _is_built_in(name, metric)}
    for name in task.metrics:
        if name not in custom:
            _check_width(name, outputs, data)
    if custom_loss:
        _check_values("loss", task.loss, *batch)
    for name, metric in custom.items():
        if isinstance(metric, SetMetric):
            _check_sums(name, metric, *batch)
            _check_padding(name, metric, outputs, targets)
        else:
            _check_values(name, metric.example, *batch)
    if custom_loss and data.classes is not None:
        _check_labels(task.loss, outputs, data.classes)


def _is_built_in(name: str, metric: Metric | SetMetric) -> bool:
    if isinstance(metric, SetMetric):
        return name in METRICS
    return any(metric.example is getattr(known, "example", None) for known in METRICS.values())


def _without_settings(function: Callable) -> Callable:
    return function.func if isinstance(function, partial) and not function.args else function


def _check_sums(name: str, metric: SetMetric, *batch: jax.ShapeDtypeStruct) -> None:
    """Check that a set metric keeps the shapes of its sums, and returns one value for each of its labels."""
    field, valid = "configuration.metrics", jax.ShapeDtypeStruct((_BATCH,), bool)
    try:
        sums = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, metric.init()))
        after = jax.eval_shape(metric.update, sums, *batch, valid)
        value = jax.eval_shape(metric.finish, sums)
    except Exception as error:  # custom code may raise anything
        raise InputError(field, name, f"fails: {one_line(error)}") from error
    trees = [
        (jax.tree.structure(tree), list(map(_describe, jax.tree.leaves(tree)))) for tree in (sums, after)
    ]
    if trees[0] != trees[1]:
        before, after = (", ".join(leaves) or "nothing" for _, leaves in trees)
        remedy = f"its init returns {before} and its update {after}: keep structure, shapes and dtypes"
        raise InputError(field, name, remedy)
    shape = tuple(map(len, metric.coordinates.values()))
    if getattr(value, "shape", None) != shape:
        found = list(value.shape) if hasattr(value, "shape") else type(value).__name__
        raise InputError(
            field, name, f"its finish returns {found}, but its coordinates have shape {list(shape)}"
        )


def _check_padding(name: str, metric: SetMetric, outputs: jax.ShapeDtypeStruct, targets: np.ndarray) -> None:
    """Check that a set metric leaves out the examples that are not valid."""
    rng = np.random.default_rng(0)
    rows = 8, *outputs.shape[1:]
    some, labels = rng.normal(size=rows).astype(outputs.dtype), targets[rng.integers(len(targets), size=8)]
    valid = np.arange(8) < 5

    @jax.jit
    def measured(outputs: ArrayLike, targets: ArrayLike, valid: ArrayLike) -> jax.Array:
        sums = jax.tree.map(jnp.asarray, metric.init())
        return metric.finish(metric.update(sums, outputs, targets, valid))

    alone, padded = measured(some[:5], labels[:5], valid[:5]), measured(some, labels, valid)
    if not np.allclose(alone, padded, rtol=1e-3, atol=1e-5, equal_nan=True):
        remedy = "counts the examples that pad a batch: leave out those where valid_B is False"
        raise InputError("configuration.metrics", name, remedy)


def _check_width(name: str, outputs: jax.ShapeDtypeStruct, data: Dataset) -> None:
    """Check that a built-in loss or metric gets one output per class, or one per target."""
    if outputs.shape[1:] != (data.outputs,):
        one = "class" if data.classes else "regression target"
        remedy = f"{name} needs one output for each {one} of {data.name}, [B, {data.outputs}]"
        raise InputError("configuration.model's outputs", _describe_batch(outputs), remedy)


def _check_values(
    name: str, function: Callable, outputs: jax.ShapeDtypeStruct, targets: jax.ShapeDtypeStruct
) -> None:
    """Check that a custom loss or metric returns one number per example, and a loss floating point."""
    field, given = ("loss" if name == "loss" else "metrics"), getattr(function, "__name__", name)
    try:
        values = jax.eval_shape(function, outputs, targets)
    except MISMATCH as error:  # includes an InputError of a built-in loss that the function calls
        shapes = f"outputs {_describe_batch(outputs)} and targets {_describe_batch(targets)}"
        raise InputError(f"configuration.{field}", given, f"fails on {shapes}: {one_line(error)}") from error
    shape, dtype = getattr(values, "shape", None), getattr(values, "dtype", None)
    if shape != (_BATCH,):
        shown = type(values).__name__ if shape is None else _describe_batch(values)
        raise InputError(
            f"configuration.{field}", given, f"must return one value per example [B], not {shown}"
        )
    if field == "loss" and not jnp.issubdtype(dtype, jnp.floating):
        raise InputError("configuration.loss", given, f"must return floating point, not {dtype.name}")


def _check_labels(loss: Callable, outputs: jax.ShapeDtypeStruct, classes: int) -> None:
    """Check that a custom loss accepts every class: the same outputs must not give NaN for some labels only."""
    labels = np.unique(np.linspace(0, classes - 1, min(classes, 256)).astype(np.int32))
    same = jnp.full((len(labels), *outputs.shape[1:]), 1 / outputs.shape[-1], outputs.dtype)
    bad = np.isnan(jax.jit(loss)(same, labels))
    if bad.any() and not bad.all():
        remedy = f"is NaN for label {labels[bad.argmax()]} of {classes} classes and outputs {_describe_batch(outputs)}"
        raise InputError("configuration.loss", getattr(loss, "__name__", "loss"), remedy)


def one_line(error: Exception) -> str:
    """Describe an error in one line, with B for the size of the abstract batch."""
    line = error.remedy if isinstance(error, InputError) else str(error).strip()
    return (line.splitlines() or [type(error).__name__])[0].replace(str(_BATCH), "B")


def _describe_batch(array: Any) -> str:
    """Describe dtype and shape of an array, with B for the batch axis."""
    if not array.shape:
        return f"{array.dtype.name} []"
    first = "B" if array.shape[0] in (_BATCH, 2) else str(array.shape[0])
    return f"{array.dtype.name} [{', '.join([first, *map(str, array.shape[1:])])}]"


def _describe(result: Any) -> str:
    """Describe the value that a model returned."""
    if isinstance(result, jax.Array | np.ndarray | jax.ShapeDtypeStruct):
        return f"{result.dtype.name} {list(result.shape)}"
    if isinstance(result, tuple | list):
        return f"a {type(result).__name__} of {len(result)}"
    return type(result).__name__
