"""A trained model, from the weights that a run kept."""

import functools
import logging
import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from jaxlab.datasets import prepared
from jaxlab.engine import to_device, unflat
from jaxlab.errors import InputError
from jaxlab.store import RunFolder, as_type, read_weights
from jaxlab.study.build import model_of
from jaxlab.study.checks import one_of
from jaxlab.study.fields import checked_configuration
from jaxlab.study.resolve import traced_values
from jaxlab.settings import Configuration, Hyperparameters
from jaxlab.trial import build_model


class Shapes(NamedTuple):
    """What a built-in model needs to know of the data."""

    input_shape: tuple[int, ...]
    outputs: int


def load_model(
    run: str | os.PathLike,
    trial: int | str,
    weights: str | None = None,
    *,
    functions: dict[str, Callable] | None = None,
    inputs: str | None = None,
) -> nnx.Module:
    """The model of one trial as it was trained, in evaluation mode.

    >>> model = jaxlab.load_model("runs/fashion", 12, inputs="raw")
    >>> outputs, activations = model(data.test.inputs)

    The network was trained on stored inputs · scale + shift, and both numbers belong to the data set. A model of
    "prepared" inputs wants that done first, by `Dataset.prepare`: without it the outputs are plausible and wrong. A
    model of "raw" inputs does it itself.

    Nothing in the run folder is executed: functions of your own that the model was built with are given again.

    Args:
        run: the run folder, of a study with ``keep="last"`` or ``keep="best"``.
        trial: its number along the results' dimension ``trial``, or its ``trial_id``.
        weights: "best", of the epoch with the best validation metric, or "last"; by default the best that were kept.
        functions: configuration fields that were functions of your own, such as ``{"model": build}``.
        inputs: what the module is called with: "prepared" inputs, or "raw" ones as the data set stores them. By
            default prepared, and the log notes once that they have to be, unless scale is 1 and shift 0.

    Returns:
        the module; a built-in one returns ``(outputs, activations)``.

    Raises:
        InputError: there is no such run or trial, no weights were kept, or they are of another model.
    """
    if inputs is not None:
        one_of(("prepared", "raw"), "kind of input")("inputs", inputs)
    folder = RunFolder(run)
    description = folder.describe()
    number = _number(trial, description["coordinates"]["trial_id"])
    entry = next(group for group in description["groups"] if number in group["trials"])
    found = _found(read_weights(folder.weights_path, number), weights, run)
    configuration = _configuration(entry["configuration"], functions or {})
    columns = description["coordinates"]
    names = set(columns) - set(configuration) - {"trial_id"}
    values = {name: columns[name][number] for name in sorted(names) if columns[name][number] is not None}
    hyperparameters = traced_values({name: np.asarray(value) for name, value in values.items()})
    data = description["specification"]["data"]
    if "input_shape" not in data:
        raise InputError("run", str(run), "is of a triple of your own: jaxlab knows no model in it")
    shapes = Shapes(tuple(data["input_shape"]), data["outputs"])
    model = _model(configuration, hyperparameters, shapes, found)
    scale, shift = (
        each if isinstance(each, float) else None for each in (data.get("scale"), data.get("shift"))
    )
    return _of_inputs(model, inputs, scale, shift)


class OfRaw(nnx.Module):
    """A model called with inputs as a data set stores them."""

    def __init__(self, model: nnx.Module, scale: float, shift: float):
        self.model, self.scale, self.shift = model, scale, shift

    def __call__(self, inputs: jax.typing.ArrayLike) -> Any:
        return self.model(prepared(inputs, self.scale, self.shift))


def _of_inputs(model: nnx.Module, inputs: str | None, scale: float | None, shift: float | None) -> nnx.Module:
    if inputs == "raw":
        if scale is None or shift is None:
            remedy = "this run does not say its scale and shift: take prepared inputs, and Dataset.prepare"
            raise InputError("inputs", inputs, remedy)
        model = OfRaw(model, scale, shift)
        model.eval()
    elif inputs is None and (scale, shift) != (1, 0):
        _note_preparation(scale, shift)
    return model


@functools.cache
def _note_preparation(scale: float | None, shift: float | None) -> None:
    how = "stored inputs * scale + shift" if scale is None else f"stored inputs * {scale:g} + {shift:g}"
    logging.getLogger("jaxlab").warning(
        "a loaded model takes prepared inputs, %s: call it with data.prepare(inputs), or load it with "
        'inputs="raw" (inputs="prepared" silences this)',
        how,
    )


def _model(
    configuration: Configuration,
    hyperparameters: Hyperparameters,
    shapes: Shapes,
    found: dict[str, np.ndarray],
) -> nnx.Module:
    build = partial(build_model, model_of(configuration, shapes), configuration, configuration.convolution)
    graph, parameters, rest = nnx.split(nnx.eval_shape(build, hyperparameters), nnx.Param, ...)
    like = {"parameters": parameters, "rest": rest}
    kept = unflat({path: leaf[None] for path, leaf in _typed(found, like).items()}, like)
    kept = to_device(jax.tree.map(lambda leaf: np.asarray(leaf[0]), kept), like)
    model = nnx.merge(graph, kept["parameters"], kept["rest"])
    model.eval()
    return model


def _typed(found: dict[str, np.ndarray], like: Any) -> dict[str, np.ndarray]:
    """The arrays in the model's types; what it has for PRNG keys stays their data."""
    leaves = jax.tree_util.tree_leaves_with_path(like)
    dtypes = {jax.tree_util.keystr(path): leaf.dtype for path, leaf in leaves}
    dtypes = {path: dtype for path, dtype in dtypes.items() if isinstance(dtype, np.dtype)}
    return {path: as_type(leaf, dtypes.get(path, leaf.dtype), path) for path, leaf in found.items()}


def _number(trial: int | str, ids: list[str]) -> int:
    if isinstance(trial, str):
        if trial in ids:
            return ids.index(trial)
        raise InputError("trial", trial, "is no trial_id of this run; see the results' coordinate trial_id")
    if not isinstance(trial, (int, np.integer)) or not 0 <= trial < len(ids):
        raise InputError("trial", trial, f"give a number from 0 to {len(ids) - 1}, or a trial_id")
    return int(trial)


def _found(kept: dict[str, dict[str, np.ndarray]], which: str | None, run: Any) -> dict[str, np.ndarray]:
    if not kept:
        remedy = (
            'has no weights of this trial: train with keep = "best" or keep = "last", to the trial\'s end'
        )
        raise InputError("run", str(run), remedy)
    if which is None:
        which = "best" if "best" in kept else "last"
    if which not in kept:
        raise InputError("weights", which, f"this run kept {' and '.join(sorted(kept))}")
    return kept[which]


def _configuration(recorded: dict[str, Any], functions: dict[str, Callable]) -> Configuration:
    """A group's configuration from JSON, with the user's functions put back."""
    unknown = sorted(set(functions) - set(recorded))
    if unknown:
        raise InputError("functions", unknown[0], "is no configuration field of this run")
    fields = {}
    for name, value in recorded.items():
        names = [each["function"] for each in _each(value) if isinstance(each, dict)]
        if name in functions:
            fields[name] = functions[name]
        elif names and name in _OF_THE_MODEL:
            remedy = f"was {', '.join(names)} in this run: give it again, functions={{{name!r}: ...}}"
            raise InputError("functions", name, remedy)
        elif names:  # of the training alone
            fields[name] = tuple(names)
        else:
            fields[name] = checked_configuration(name, value)
    return Configuration(fields)


def _each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


_OF_THE_MODEL = ("model", "activation", "kernel_init", "bias_init")
