"""Build the trial that the engine maps over, from one group's configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlab import losses, metrics
from jaxlab.datasets import AUGMENTATIONS, Dataset
from jaxlab.diagnostics import effective_rank
from jaxlab.errors import InputError, name_of
from jaxlab.losses import LOSSES
from jaxlab.metrics import BETTER, METRICS, Metric, SetMetric, Targets
from jaxlab.models import ACTIVATIONS, MODELS, has_flat_zero
from jaxlab.optimizers import build_optimizer
from jaxlab.settings import Configuration, Hyperparameters, named_parameters
from jaxlab.study.fields import CONFIGURATION, HYPERPARAMETERS
from jaxlab.study.own import failed, guarded, wrong_result
from jaxlab.trial import Supervised, Trial, supervised


def supervised_trial(
    configuration: Configuration,
    example: Hyperparameters,
    data: Dataset,
    epochs: int,
    data_seed: int,
    keep: str,
) -> Trial:
    """Build the supervised trial of one group.

    Args:
        configuration: the group's complete configuration, see `jaxlab.study.fields.CONFIGURATION`.
        example: the declared hyperparameters; their values do not matter.
        data: the data set.
        epochs: planned number of epochs; a schedule may depend on it.
        data_seed: seed of the minibatch order.
        keep: weights to keep, see `Supervised`.
    """
    c = configuration
    examples = len(data.train.targets)
    if c.batch_size > examples:
        raise InputError(
            "configuration.batch_size", c.batch_size, f"the training set has {examples} examples"
        )
    _check_targets(c, data)
    own = map(callable, (c.model, c.loss, c.get("activation")))
    built = {
        "model": model_of(c, data),
        "optimizer": _optimizer(c, examples // c.batch_size, epochs),
        "loss": _per_example("loss", c.loss) if callable(c.loss) else LOSSES[c.loss],
        "metrics": _metrics(c.metrics, data),
        "diagnostics": _diagnostics([name for name in c.diagnostics if name != "update_cosine"]),
        "augment": _augment(c.augment),
        "separable": not any(own),  # unknown for custom functions
        "data_seed": data_seed,
        "update_cosine": "update_cosine" in c.diagnostics,
        "flat_zero": _flat_zero(c),
        "keep": keep,
    }
    as_declared = {name: value for name, value in c.items() if name in Supervised._fields}
    return supervised(Supervised(**(as_declared | built)), c, example, data)


@runtime_checkable
class Shapes(Protocol):
    """What a built-in model needs to know of the data."""

    input_shape: Sequence[int]
    outputs: int


def model_of(configuration: Configuration, data: Shapes) -> Callable[..., nnx.Module]:
    """The function that builds a group's model; it reads only ``input_shape`` and ``outputs`` of ``data``."""
    model = configuration.model
    return model if callable(model) else partial(_built, data=data)


def _optimizer(configuration: Configuration, steps_per_epoch: int, epochs: int) -> Callable:
    optimizer, schedule = configuration.optimizer, configuration.get("schedule")
    if callable(optimizer):
        return optimizer
    if callable(schedule):
        schedule = guarded("configuration.schedule", schedule, ("step",), "a factor on the learning rate")
    return partial(build_optimizer, steps_per_epoch=steps_per_epoch, epochs=epochs, schedule=schedule)


def _check_targets(configuration: Configuration, data: Dataset) -> None:
    """Raise InputError unless the built-in losses and metrics suit the targets: class labels or numbers."""
    kind = "labels" if data.classes else "numbers"
    fields = {"loss": ((configuration.loss,), losses), "metrics": (configuration.metrics, metrics)}
    for field, (names, room) in fields.items():
        suited = room.OF_LABELS if data.classes else room.OF_NUMBERS
        for name in names:
            if isinstance(name, str) and name not in suited:
                remedy = f"the targets of {data.name} are {kind}: take {' or '.join(suited)}"
                raise InputError(f"configuration.{field}", name, remedy)


def _built(
    configuration: Configuration, hyperparameters: Hyperparameters, rngs: nnx.Rngs, data: Shapes
) -> nnx.Module:
    """Build a built-in model: each field or hyperparameter that needs a model is a keyword of the model's class."""
    given = {"configuration": configuration, "hyperparameters": hyperparameters}
    keywords = {
        field.name: given[kind][field.name]
        for kind, table in (("configuration", CONFIGURATION), ("hyperparameters", HYPERPARAMETERS))
        for field in table.values()
        if "model" in field.needs and field.has_effect(configuration)
    }
    del keywords["dropout"]  # only switches dropout_rate on
    for name, convert in _CONVERTED.items():
        keywords[name] = convert(keywords[name])
    # None stands for the model's default.
    keywords = {name: value for name, value in keywords.items() if value is not None}
    return MODELS[configuration.model](data.input_shape, data.outputs, **keywords, rngs=rngs)


def _activation(given: str | Callable) -> str | Callable:
    if isinstance(given, str) or any(given is known for known in ACTIVATIONS.values()):
        return given
    returns = "an array of the shape of x"
    return guarded("configuration.activation", given, ("x",), returns, lambda x: x.shape)


def _initializer(field: str, given: str | Callable | None) -> str | Callable | None:
    if not callable(given):
        return given
    arguments, returns = ("key", "shape", "dtype"), "an array of that shape"
    return guarded(f"configuration.{field}", given, arguments, returns, lambda key, shape, dtype: shape)


_CONVERTED: dict[str, Callable[[Any], Any]] = {
    "activation": _activation,
    "kernel_init": partial(_initializer, "kernel_init"),
    "bias_init": partial(_initializer, "bias_init"),
    "dtype": {"float32": None, "bfloat16": jnp.bfloat16}.get,
}


def _flat_zero(configuration: Configuration) -> bool:
    """Whether units can be dead: ``dead_units`` if set, else by the activation; custom models are taken to use ReLU."""
    if configuration.dead_units is not None:
        return configuration.dead_units
    return callable(configuration.model) or has_flat_zero(configuration.activation)


def _metrics(given: tuple, data: Dataset) -> dict[str, Metric | SetMetric]:
    targets = Targets(data.outputs, tuple(map(str, range(data.classes or 0))))
    return _by_name("metrics", {"loss"}, given, lambda each: _metric(each, targets))


def _metric(given: str | Callable, targets: Targets) -> Metric | SetMetric:
    """A metric by name; or of a custom function, either of ``(outputs, targets)`` or of `Targets`."""
    field = "configuration.metrics"
    if isinstance(given, str):
        known = METRICS[given]
        return known if isinstance(known, Metric) else known(targets)
    if len(named_parameters(given, 0)) == 1:
        return _set_metric(field, given, targets)
    if getattr(given, "better", None) not in BETTER:
        remedy = 'does not say which direction is better: decorate it with jaxlab.metrics.better("higher") or ("lower")'
        raise InputError(field, given, remedy)
    return Metric(_per_example("metrics", given), given.better, getattr(given, "units", "1"))


def _set_metric(field: str, given: Callable, targets: Targets) -> SetMetric:
    try:
        metric = given(targets)
    except Exception as error:  # custom code may raise anything
        raise failed(field, given, error) from error
    if not isinstance(metric, SetMetric):
        raise wrong_result(field, given, metric, "a jaxlab.metrics.SetMetric, or take (outputs, targets)")
    if metric.better not in (*BETTER, ""):
        remedy = (
            f'returns a metric with better = {metric.better!r}: give "higher", "lower", or "" for neither'
        )
        raise InputError(field, given, remedy)
    return metric


def _diagnostics(given: list) -> dict[str, Callable]:
    seen = ("outputs", "activations", "targets")
    return _by_name(
        "diagnostics",
        set(),
        given,
        lambda each: guarded("configuration.diagnostics", each, seen) if callable(each) else _effective_rank,
    )


def _by_name(field: str, taken: set[str], given: Sequence[Any], make: Callable[[Any], Any]) -> dict[str, Any]:
    """Recorded functions by name; raise InputError for a name used twice."""
    found: dict[str, Any] = {}
    for each in given:
        name = _name(each)
        if name in found or name in taken:
            raise InputError(
                f"configuration.{field}", name, "is the name of another recorded variable; rename it"
            )
        found[name] = make(each)
    return found


def _per_example(field: str, given: Callable) -> Callable:
    if any(given is each for each in LOSSES.values()):
        return given
    return guarded(
        f"configuration.{field}", given, ("outputs", "targets"), "one value per example [B]", named=True
    )


def _name(given: str | Callable) -> str:
    while isinstance(given, partial):
        given = given.func
    return given if isinstance(given, str) else name_of(given).rpartition(".")[2]


def _effective_rank(outputs: jax.Array, activations: dict[str, jax.Array], targets: jax.Array) -> jax.Array:
    if not activations:
        raise InputError(
            "configuration.diagnostics", "effective_rank", "needs a model that returns its activations"
        )
    return jnp.stack([effective_rank(h) for h in activations.values()])


def _augment(given: tuple) -> Callable | None:
    functions = [
        guarded("configuration.augment", each, ("key", "inputs")) if callable(each) else AUGMENTATIONS[each]
        for each in given
    ]
    if not functions:
        return None

    def augment(key: jax.Array, inputs: jax.Array) -> jax.Array:
        for index, function in enumerate(functions):
            inputs = function(jax.random.fold_in(key, index), inputs)
        return inputs

    return augment
