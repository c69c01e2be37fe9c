"""Learning-rate schedules by name; every number of a schedule may be traced.

A schedule is built while tracing, from the peak learning rate and its own hyperparameters. The result is an
Optax schedule ``step -> learning rate``; the first step is 0, and steps past the planned end are defined too.
Only the step counts are static::

    rate = SCHEDULES["warmup_cosine"].build(1e-3, {"warmup_fraction": 0.05}, 100, 2000)
    optimizer = jaxlab.transforms.rmsprop(rate)

Schedules of Optax have their names, such as ``"optax.cosine_decay_schedule"``, see `of_optax`.
"""

from collections.abc import Callable, Collection, Mapping
from fnmatch import fnmatch
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxlab import optax_functions
from jaxlab.checks import one_of, scalar, whole
from jaxlab.errors import InputError

Numbers = Mapping[str, jax.typing.ArrayLike]


class Schedule(NamedTuple):
    """A schedule and the hyperparameters that it adds to a trial.

    Attributes:
        build: ``(peak, hyperparameters, steps_per_epoch, total_steps) -> optax schedule``. ``peak`` is a
            learning rate of the optimizer; other names in ``hyperparameters`` are ignored, and missing ones
            take their defaults.
        hyperparameters: the traced numbers that it reads, name -> default.
        needs_total_steps: whether the values depend on ``total_steps``, i.e. on the planned length of training.
    """

    build: Callable[[jax.typing.ArrayLike, Numbers, int, int], optax.Schedule]
    hyperparameters: dict[str, float]
    needs_total_steps: bool


# Ranges of concrete numbers; the others are >= 0.
_RANGES = {"warmup_fraction": {"least": 0, "most": 1}, "drop_every": {"above": 0}}


def constant(
    peak: jax.typing.ArrayLike, hyperparameters: Numbers, steps_per_epoch: int, total_steps: int
) -> optax.Schedule:
    """ηₙ = peak.

    Raises:
        InputError: a concrete peak that is negative or not finite.
    """
    _read(peak, {}, hyperparameters, steps_per_epoch)
    return lambda step: peak * jnp.ones(jnp.shape(step))


def warmup_cosine(
    peak: jax.typing.ArrayLike, hyperparameters: Numbers, steps_per_epoch: int, total_steps: int
) -> optax.Schedule:
    """Linear warm-up from 0 to the peak, then half a cosine down to a fraction of the peak::

        W = warmup_fraction · N                          N = total_steps; W need not be whole
        ηₙ = peak · n/W                                  n < W, so the first update is zero where W > 0
        ηₙ = peak · (f + (1 − f)·(1 + cos π·p)/2)        p = (n − W)/(N − W), f = final_fraction
        ηₙ = peak · f                                    n > N

    Hyperparameters: ``warmup_fraction`` (0.1) of all steps, from 0 to 1; ``final_fraction`` (0) of the peak.

    Raises:
        InputError: a concrete number out of its range, ``total_steps`` or ``steps_per_epoch`` below 1.

    Source: Loshchilov & Hutter, SGDR, 2017; warm-up: Goyal et al., arXiv:1706.02677, 2017.
    """
    chosen = _read(peak, WARMUP_COSINE, hyperparameters, steps_per_epoch)
    whole("total_steps", total_steps, 1, remedy="give the number of training steps, at least 1")
    warmup = chosen["warmup_fraction"] * total_steps
    final = chosen["final_fraction"]

    def schedule(step):
        step = jnp.asarray(step, float)
        rising = step / _or_one(warmup)
        progress = jnp.clip((step - warmup) / _or_one(total_steps - warmup), 0, 1)
        falling = final + (1 - final) * (1 + jnp.cos(jnp.pi * progress)) / 2
        return peak * jnp.where(step < warmup, rising, falling)

    return schedule


def exponential(
    peak: jax.typing.ArrayLike, hyperparameters: Numbers, steps_per_epoch: int, total_steps: int
) -> optax.Schedule:
    """ηₙ = peak · decay_rate^(n / steps_per_epoch): continuous, a factor ``decay_rate`` (0.9) per epoch.

    Raises:
        InputError: a concrete number that is negative or not finite, ``steps_per_epoch`` below 1.
    """
    chosen = _read(peak, EXPONENTIAL, hyperparameters, steps_per_epoch)
    return lambda step: peak * jnp.power(chosen["decay_rate"], jnp.asarray(step, float) / steps_per_epoch)


def step_down(
    peak: jax.typing.ArrayLike, hyperparameters: Numbers, steps_per_epoch: int, total_steps: int
) -> optax.Schedule:
    """ηₙ = peak · drop_factor^k, k the number of whole periods of ``drop_every`` epochs before step n.

    Hyperparameters: ``drop_factor`` (0.1); ``drop_every`` (10), in epochs, which need not be whole: a drop takes
    place at the nearest step. The first epoch at the lower rate is epoch number ``drop_every``, counted from 0.

    Raises:
        InputError: a concrete number out of its range, ``steps_per_epoch`` below 1.
    """
    chosen = _read(peak, STEP, hyperparameters, steps_per_epoch)
    period = chosen["drop_every"] * steps_per_epoch

    def schedule(step):
        # Half a step keeps the quotient clear of whole numbers, where rounding would decide.
        drops = jnp.floor((jnp.asarray(step, float) + 0.5) / period)
        return peak * jnp.power(chosen["drop_factor"], drops)

    return schedule


WARMUP_COSINE = {"warmup_fraction": 0.1, "final_fraction": 0.0}
EXPONENTIAL = {"decay_rate": 0.9}
STEP = {"drop_factor": 0.1, "drop_every": 10.0}

SCHEDULES: dict[str, Schedule] = {
    "constant": Schedule(constant, {}, False),
    "warmup_cosine": Schedule(warmup_cosine, WARMUP_COSINE, True),
    "exponential": Schedule(exponential, EXPONENTIAL, False),
    "step": Schedule(step_down, STEP, False),
}


# All steps of the training, where Optax has no default.
_ALL_STEPS = ("transition_steps", "decay_steps")


def check_schedule(field: str, value: Any) -> Any:
    """Check a schedule: a name of `SCHEDULES`, the name of one of Optax, or a function from a step to a factor."""
    if isinstance(value, str) and fnmatch(value, optax_functions.PATTERN):
        return optax_functions.check_name(field, value, optax_functions.schedules())
    if isinstance(value, str) and value not in SCHEDULES:
        optax_functions.check_missing_prefix(field, value, optax_functions.schedules())
    return one_of(field, value, SCHEDULES, or_function=True)


def of_optax(
    name: str, configuration: Mapping[str, Any], hyperparameters: Numbers, total_steps: int
) -> optax.Schedule:
    """A schedule of Optax by its name, as a factor on the learning rate::

        ηₙ = learning_rate · s(n)

    Its parameters take the settings of their names, see `jaxlab.optax_functions`; its values are relative to the
    learning rate. The value that Optax requires is 1 (``peak_value``, or ``init_value`` or ``value`` without a peak);
    ``init_value`` below a peak and ``end_value`` are 0; ``transition_steps`` and ``decay_steps`` are all steps of the
    training. ``boundaries_and_scales`` is a list of pairs ``[step, scale]``.

    Args:
        name: such as ``"optax.cosine_decay_schedule"``.
        configuration: static settings by name; steps stand here, since Optax compares them in Python.
        hyperparameters: numbers by name, which may be traced where Optax does not look at their values.
        total_steps: steps of the training.

    Raises:
        InputError: a parameter that is required has no value.
    """
    schedule = optax_functions.schedules()[name]
    fixed = schedule.relative_values | dict.fromkeys(_lengths(schedule), total_steps)
    return schedule(configuration, hyperparameters, fixed, {"boundaries_and_scales": _by_step})


def needs_total_steps(configuration: Mapping[str, Any], hyperparameters: Collection[str]) -> bool:
    """Whether the schedule of a configuration depends on the planned length of training.

    Args:
        configuration: static settings by name.
        hyperparameters: names of the hyperparameters.
    """
    schedule = configuration.get("schedule")
    if not isinstance(schedule, str) or schedule in SCHEDULES:
        return schedule in SCHEDULES and SCHEDULES[schedule].needs_total_steps
    declared = {*configuration, *hyperparameters}
    return not declared.issuperset(_lengths(optax_functions.schedules()[schedule]))


def _lengths(schedule: optax_functions.OptaxFunction) -> list[str]:
    """The parameters that are all steps of the training unless a study declares them."""
    return [name for name, each in schedule.parameters.items() if name in _ALL_STEPS and each.required]


def _by_step(pairs: Any) -> dict[int, float]:
    try:
        return {int(step): float(scale) for step, scale in pairs}
    except (TypeError, ValueError):
        remedy = "give pairs of a step and a factor, such as [[500, 0.1], [800, 0.1]]"
        raise InputError("configuration.boundaries_and_scales", pairs, remedy) from None


def _read(
    peak: jax.typing.ArrayLike, defaults: dict[str, float], given: Numbers, steps_per_epoch: int
) -> dict[str, jax.typing.ArrayLike]:
    """Read the numbers named in ``defaults``; raise InputError for a concrete number out of range."""
    whole("steps_per_epoch", steps_per_epoch, 1, remedy="give the number of steps per epoch, at least 1")
    chosen = {name: given.get(name, default) for name, default in defaults.items()}
    for name, number in {"peak": peak, **chosen}.items():
        scalar(name, number, **_RANGES.get(name, {"least": 0}))
    return chosen


def _or_one(number: jax.typing.ArrayLike) -> jax.Array:
    """The number, or 1 in place of 0: a safe divisor for a branch that ``where`` discards."""
    return jnp.where(jnp.asarray(number) == 0, 1, number)
