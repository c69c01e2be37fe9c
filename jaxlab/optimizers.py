"""Optimizers by name, built in or Optax's, with every hyperparameter traced."""

from collections.abc import Callable
from fnmatch import fnmatch
from functools import partial
from typing import Any

import jax
import optax

from jaxlab import optax_functions
from jaxlab.checks import one_of
from jaxlab.errors import InputError
from jaxlab.schedules import SCHEDULES, of_optax
from jaxlab.settings import Configuration, Hyperparameters
from jaxlab.transforms import (
    add_decoupled_l2,
    add_l1,
    add_l2,
    clip_by_global_norm,
    kernels,
    proximal_l1,
    rmsprop,
    scale_by_learning_rate,
    scale_by_rms,
    trace,
)

#: Gradient scaling of each optimizer by name, ``(configuration, hyperparameters) -> transform``.
OPTIMIZERS: dict[str, Callable[[Configuration, Hyperparameters], optax.GradientTransformation]] = {
    "rmsprop": lambda c, h: scale_by_rms(h.decay, h.eps, **_variant(c)),
    "sgd": lambda c, h: optax.identity(),
    "adam": lambda c, h: optax.scale_by_adam(h.beta1, h.beta2, h.eps),
    "adagrad": lambda c, h: optax.scale_by_rss(0.0, h.eps),
}


#: The names of Optax's optimizers, as patterns.
OF_OPTAX = (*optax_functions.SHORT, optax_functions.PATTERN)

# Two weights of schedule-free optimizers have one place in a trial.
_EVALUATED_ELSEWHERE = "optax.contrib.schedule_free"


def build_optimizer(
    configuration: Configuration,
    hyperparameters: Hyperparameters,
    steps_per_epoch: int,
    epochs: int,
    schedule: str | optax.Schedule,
) -> optax.GradientTransformation:
    """Build an optimizer by its name, with the gradient clipped to the norm ``clip_norm`` first, if that is declared.

    An optimizer of Optax gets the learning rate or the schedule, and the declared settings of its parameters' names.
    """
    c, h = configuration, hyperparameters
    name = optax_name(c.optimizer)
    rate = partial(rate_of, c, h, steps_per_epoch, epochs, schedule)
    optimizer = _built_in(c, h, rate()) if name is None else _of_optax(name, c, h, schedule, rate)
    return optax.chain(clip_by_global_norm(h["clip_norm"]), optimizer) if "clip_norm" in h else optimizer


def optax_name(optimizer: Any) -> str | None:
    """The full name of an optimizer of Optax; None for another one."""
    if not isinstance(optimizer, str) or not any(fnmatch(optimizer, pattern) for pattern in OF_OPTAX):
        return None
    return optax_functions.SHORT.get(optimizer, optimizer)


def rate_of(
    configuration: Configuration,
    hyperparameters: Hyperparameters,
    steps_per_epoch: int,
    epochs: int,
    schedule: str | optax.Schedule,
) -> jax.typing.ArrayLike | optax.Schedule:
    """The learning rate, or the schedule of it; a function and a schedule of Optax are factors on it."""
    h, total = hyperparameters, steps_per_epoch * epochs
    if schedule == "constant":
        return h.learning_rate
    if schedule in SCHEDULES:
        return SCHEDULES[schedule].build(h.learning_rate, h, steps_per_epoch, total)
    factor = schedule if callable(schedule) else of_optax(schedule, configuration, h, total)
    return _scaled(factor, h.learning_rate)


def _scaled(schedule: optax.Schedule, rate: jax.typing.ArrayLike) -> optax.Schedule:
    return lambda step: rate * schedule(step)


def _of_optax(
    name: str,
    c: Configuration,
    h: Hyperparameters,
    schedule: str | optax.Schedule,
    rate: Callable[[], jax.typing.ArrayLike | optax.Schedule],
) -> optax.GradientTransformation:
    """Build an optimizer of Optax; ``rate`` is called only if the optimizer has a learning rate."""
    optimizer = optax_functions.optimizers()[name]
    _check_shared(optimizer, schedule)
    if schedule != "constant" and not optimizer.takes_schedule:
        remedy = f"{name} has no learning rate that a schedule could change: remove it"
        raise InputError("configuration.schedule", schedule, remedy)
    fixed = optimizer.chance(h["seed"])
    if optimizer.takes_rate:
        fixed["learning_rate"] = rate()
    return optimizer(c, h, fixed, {each: _mask for each in optimizer.parameters if each.endswith("mask")})


def _check_shared(optimizer: optax_functions.OptaxFunction, schedule: str | optax.Schedule) -> None:
    """Raise InputError where an optimizer of Optax and a schedule read a number of the same name."""
    if callable(schedule):
        return
    built_in = SCHEDULES.get(schedule)
    read = built_in.hyperparameters if built_in else optax_functions.schedules()[schedule].parameters
    for shared in sorted(set(read) & set(optimizer.parameters)):
        remedy = f"reads {shared}, as {optimizer.name} does: take another schedule, or give one of them as a function"
        raise InputError("configuration.schedule", schedule, remedy)


def _mask(given: Any) -> Any:
    """A mask of Optax: the word "kernels" stands for `jaxlab.transforms.kernels`."""
    return kernels if isinstance(given, str) and given == "kernels" else given


def _built_in(
    c: Configuration, h: Hyperparameters, rate: jax.typing.ArrayLike | optax.Schedule
) -> optax.GradientTransformation:
    """Chain penalties, scaling, momentum and learning rate in the order that ``l1_type`` and ``l2_type`` imply.

    Coupled penalties are added to the gradient before the scaling. Decoupled L2 is added after scaling and momentum and
    before the learning rate, as in AdamW. Proximal L1 combines scaling and step in one transform.
    """
    l2 = [add_l2(h.l2)] if c.l2_type == "coupled" else []
    if c.l1_type == "proximal":
        scaling = {} if c.optimizer == "sgd" else {"decay": h.decay, "eps": h.eps, **_variant(c)}
        return optax.chain(*l2, proximal_l1(rate, h.l1, **scaling))
    before = [add_l1(h.l1), *l2]
    momentum = h.momentum if c.momentum_type != "none" else None
    nesterov = c.momentum_type == "nesterov"
    if c.optimizer == "rmsprop" and c.l2_type == "coupled":
        return optax.chain(*before, rmsprop(rate, h.decay, h.eps, momentum, nesterov, **_variant(c)))
    step = [OPTIMIZERS[c.optimizer](c, h)]
    step += [] if momentum is None else [trace(momentum, nesterov)]
    step += [] if c.l2_type == "coupled" else [add_decoupled_l2(h.l2)]
    return optax.chain(*before, *step, scale_by_learning_rate(rate))


def _variant(c: Configuration) -> dict[str, Any]:
    return {"centered": c.centered, "eps_position": c.eps_position}


def optimizer(field: str, value: Any) -> Any:
    """Check an optimizer: the name of a built-in one or one of Optax, or a custom function that builds one."""
    if isinstance(value, optax.GradientTransformation):
        remedy = (
            "is built already: give a function of (configuration, hyperparameters) that builds it, such as"
        )
        raise InputError(field, value, f"{remedy} lambda c, h: optax.adamw(h.learning_rate)")
    name = optax_name(value)
    if name is None:
        known = (*OPTIMIZERS, *optax_functions.SHORT)
        if isinstance(value, str) and value not in known:
            optax_functions.check_missing_prefix(field, value, optax_functions.optimizers())
        return one_of(field, value, known, or_function=True)
    optax_functions.check_name(field, name, optax_functions.optimizers())
    if name.startswith(_EVALUATED_ELSEWHERE):
        remedy = "evaluates other weights than it trains, which a trial does not: take another optimizer"
        raise InputError(field, value, remedy)
    return value


def check_optimizer(configuration: Configuration) -> None:
    """Raise InputError if the built-in optimizer does not support the combination of fields."""
    c = configuration
    if c.optimizer not in OPTIMIZERS or c.l1_type != "proximal":
        return
    if c.optimizer not in ("rmsprop", "sgd"):
        remedy = f"does not work with {c.optimizer}: set configuration.optimizer to rmsprop or sgd"
        raise InputError("configuration.l1_type", c.l1_type, remedy)
    for field, needed in (("momentum_type", "none"), ("l2_type", "coupled")):
        if c[field] != needed:
            raise InputError(
                f"configuration.{field}", c[field], f"does not work with proximal L1: set it to {needed}"
            )
