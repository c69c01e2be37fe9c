"""Load a trained model from the weights in a run folder."""

import functools
import logging
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxlab.checks import one_of
from jaxlab.datasets import prepared
from jaxlab.engine import to_device, unflatten
from jaxlab.errors import InputError, UnknownName
from jaxlab.settings import Configuration, Hyperparameters, as_traced
from jaxlab.store import Data, RunFolder, read_weights
from jaxlab.study.build import model_of
from jaxlab.study.fields import CONFIGURATION, checked_configuration
from jaxlab.trial import build_model


def load_model(
    run: str | os.PathLike,
    trial: int | str,
    weights: str | None = None,
    *,
    functions: dict[str, Callable] | None = None,
    inputs: str | None = None,
) -> nnx.Module:
    """Load the trained model of one trial, in evaluation mode.

    >>> model = jaxlab.load_model("runs/fashion", 12, inputs="raw")
    >>> outputs, activations = model(data.test.inputs)

    The network was trained on prepared inputs: stored inputs · scale + shift, where scale and shift belong to the data
    set. A model loaded with ``inputs="prepared"`` expects inputs that `Dataset.prepare` returns; raw inputs give
    outputs that are plausible and wrong. A model loaded with ``inputs="raw"`` prepares its inputs itself.

    Nothing in the run folder is executed. Custom functions that built the model are passed again as ``functions``.

    Args:
        run: run folder of a study with ``keep="last"`` or ``keep="best"``.
        trial: number of the trial along the results' dimension ``trial``, or its ``trial_id``.
        weights: "best", the weights of the epoch with the best validation metric, or "last". By default "best" if the
            run kept them, else "last".
        functions: custom functions of the run's configuration by field, such as ``{"model": build}``.
        inputs: inputs that the module takes: "prepared", or "raw" as the data set stores them. The default is
            prepared, with one log warning that says so unless scale is 1 and shift is 0.

    Returns:
        the module; a built-in one returns ``(outputs, activations)``.

    Raises:
        InputError: the run or the trial does not exist, the run kept no weights, or they belong to another model.
    """
    if inputs is not None:
        one_of("inputs", inputs, ("prepared", "raw"))
    folder = RunFolder(run)
    description = folder.describe()
    number = _number(trial, description.trial_ids)
    entry = next(group for group in description.groups if number in group.trials)
    found = _found(read_weights(folder.weights_path, number), weights, run)
    configuration = _configuration(entry.configuration, functions or {})
    values = {name: column[number] for name, column in sorted(description.coordinates.items())}
    others = {"trial_id", *configuration, *(name for name, value in values.items() if value is None)}
    hyperparameters = as_traced({name: value for name, value in values.items() if name not in others})
    data = description.specification.data
    if data.input_shape is None:
        raise InputError("run", str(run), "is of a custom triple: jaxlab knows no model in it")
    model = _model(configuration, hyperparameters, data, found)
    scale, shift = (tuple(each) if isinstance(each, list) else each for each in (data.scale, data.shift))
    return _of_inputs(model, inputs, scale, shift)


#: One number, or one for each channel.
_Affine = float | tuple[float, ...]


class OfRaw(nnx.Module):
    """A model that takes raw inputs, as the data set stores them, and prepares them itself."""

    def __init__(self, model: nnx.Module, scale: _Affine, shift: _Affine):
        self.model, self.scale, self.shift = model, scale, shift

    def __call__(self, inputs: jax.typing.ArrayLike) -> Any:
        return self.model(prepared(inputs, self.scale, self.shift))


def _of_inputs(
    model: nnx.Module, inputs: str | None, scale: _Affine | None, shift: _Affine | None
) -> nnx.Module:
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
def _note_preparation(scale: _Affine | None, shift: _Affine | None) -> None:
    numbers = isinstance(scale, float) and isinstance(shift, float)
    how = f"stored inputs * {scale:g} + {shift:g}" if numbers else "stored inputs * scale + shift"
    logging.getLogger("jaxlab").warning(
        "a loaded model takes prepared inputs, %s: call it with data.prepare(inputs), or load it with "
        'inputs="raw" (inputs="prepared" silences this)',
        how,
    )


def _model(
    configuration: Configuration,
    hyperparameters: Hyperparameters,
    data: Data,
    found: dict[str, np.ndarray],
) -> nnx.Module:
    build = partial(build_model, model_of(configuration, data), configuration, configuration.convolution)
    graph, parameters, rest = nnx.split(nnx.eval_shape(build, hyperparameters), nnx.Param, ...)
    like = {"parameters": parameters, "rest": rest}
    kept = unflatten({path: leaf[None] for path, leaf in found.items()}, like)
    kept = to_device(jax.tree.map(lambda leaf: np.asarray(leaf[0]), kept), like)
    model = nnx.merge(graph, kept["parameters"], kept["rest"])
    model.eval()
    return model


def _number(trial: int | str, ids: list[str]) -> int:
    if isinstance(trial, str):
        if trial in ids:
            return ids.index(trial)
        remedy = "is not a trial_id of this run; see the results' coordinate trial_id"
        raise InputError("trial", trial, remedy)
    if not isinstance(trial, (int, np.integer)) or not 0 <= trial < len(ids):
        raise InputError("trial", trial, f"give a number from 0 to {len(ids) - 1}, or a trial_id")
    return int(trial)


def _found(
    kept: dict[str, dict[str, np.ndarray]], which: str | None, run: str | os.PathLike
) -> dict[str, np.ndarray]:
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
    """Restore a group's configuration from JSON, with the custom functions put back."""
    for name in functions:
        if name not in recorded:
            raise UnknownName("functions", name, recorded, "field")
    fields = {}
    for name, value in recorded.items():
        names = [
            each["function"]
            for each in (value if isinstance(value, list) else [value])
            if isinstance(each, dict)
        ]
        if name in functions:
            fields[name] = functions[name]
        elif names and _builds_model(name):
            remedy = f"was {', '.join(names)} in this run: give it again, functions={{{name!r}: ...}}"
            raise InputError("functions", name, remedy)
        elif names:  # used in training only
            fields[name] = tuple(names)
        else:
            fields[name] = checked_configuration(name, value)
    return Configuration(fields)


def _builds_model(name: str) -> bool:
    """Whether a configuration field is used to build the model."""
    return name == "model" or (name in CONFIGURATION and "model" in CONFIGURATION[name].needs)
