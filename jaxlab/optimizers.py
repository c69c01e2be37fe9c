"""Built-in optimizers, with every hyperparameter traced."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from jaxlab.checks import one_of
from jaxlab.errors import InputError
from jaxlab.schedules import SCHEDULES
from jaxlab.settings import Configuration, Hyperparameters
from jaxlab.transforms import (
    add_decoupled_l2,
    add_l1,
    add_l2,
    proximal_l1,
    rmsprop,
    scale_by_learning_rate,
    scale_by_rms,
    trace,
)

#: Gradient scaling of each optimizer by name, ``(configuration, hyperparameters) -> transform``.
OPTIMIZERS: dict[str, Callable[[Configuration, Hyperparameters], optax.GradientTransformation]] = {
    "rmsprop": lambda c, h: scale_by_rms(h.decay, h.eps, centered=c.centered),
    "sgd": lambda c, h: optax.identity(),
    "adam": lambda c, h: optax.scale_by_adam(h.beta1, h.beta2, h.eps),
    "adagrad": lambda c, h: optax.scale_by_rss(0.0, h.eps),
}


def build_optimizer(
    configuration: Configuration,
    hyperparameters: Hyperparameters,
    steps_per_epoch: int,
    epochs: int,
    schedule: str | optax.Schedule,
) -> optax.GradientTransformation:
    """Chain penalties, scaling, momentum and learning rate in the order that ``l1_type`` and ``l2_type`` imply.

    Coupled penalties are added to the gradient before the scaling. Decoupled L2 is added after scaling and momentum and
    before the learning rate, as in AdamW. Proximal L1 combines scaling and step in one transform.
    """
    c, h = configuration, hyperparameters
    rate = h.learning_rate
    if callable(schedule):
        rate = _scaled(schedule, rate)
    elif schedule != "constant":
        rate = SCHEDULES[schedule].build(rate, h, steps_per_epoch, steps_per_epoch * epochs)
    l2 = [add_l2(h.l2)] if c.l2_type == "coupled" else []
    if c.l1_type == "proximal":
        scaling = {} if c.optimizer == "sgd" else {"decay": h.decay, "eps": h.eps, "centered": c.centered}
        return optax.chain(*l2, proximal_l1(rate, h.l1, **scaling))
    before = [add_l1(h.l1), *l2]
    momentum = h.momentum if c.momentum_type != "none" else None
    nesterov = c.momentum_type == "nesterov"
    if c.optimizer == "rmsprop" and c.l2_type == "coupled":
        return optax.chain(*before, rmsprop(rate, h.decay, h.eps, momentum, nesterov, c.centered))
    step = [OPTIMIZERS[c.optimizer](c, h)]
    step += [] if momentum is None else [trace(momentum, nesterov)]
    step += [] if c.l2_type == "coupled" else [add_decoupled_l2(h.l2)]
    return optax.chain(*before, *step, scale_by_learning_rate(rate))


def _scaled(schedule: optax.Schedule, rate: jax.Array) -> optax.Schedule:
    return lambda step: rate * schedule(step)


def optimizer(field: str, value: Any) -> Any:
    """Check an optimizer: the name of a built-in one, or a custom function that builds one."""
    if isinstance(value, optax.GradientTransformation):
        remedy = (
            "is built already: give a function of (configuration, hyperparameters) that builds it, such as"
        )
        raise InputError(field, value, f"{remedy} lambda c, h: optax.adamw(h.learning_rate)")
    return one_of(field, value, OPTIMIZERS, or_function=True)


def check_optimizer(configuration: Configuration) -> None:
    """Raise InputError if the built-in optimizer does not support the combination of fields."""
    c = configuration
    if callable(c.optimizer) or c.l1_type != "proximal":
        return
    if c.optimizer not in ("rmsprop", "sgd"):
        remedy = f"does not work with {c.optimizer}: set configuration.optimizer to rmsprop or sgd"
        raise InputError("configuration.l1_type", c.l1_type, remedy)
    for field, needed in (("momentum_type", "none"), ("l2_type", "coupled")):
        if c[field] != needed:
            raise InputError(
                f"configuration.{field}", c[field], f"does not work with proximal L1: set it to {needed}"
            )
