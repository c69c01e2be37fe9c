"""Optax's optimizers and schedules by name, and the settings that they read by the names of their parameters.

The name ``"optax.nadam"`` stands for `optax.nadam`. A parameter takes the setting of its name if a study declares one,
traced from the hyperparameters or static from the configuration, and else keeps its default.
"""

import difflib
import functools
import inspect
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Union, get_args, get_origin

import jax
import optax

from jaxlab.checks import Check, flag, plain, python, traceable
from jaxlab.errors import InputError

#: The names of Optax's functions, as a pattern.
PATTERN = "optax.*"
#: Short words for some of its optimizers.
SHORT = {"adamw": "optax.adamw", "lion": "optax.lion", "muon": "optax.contrib.muon"}

# Parameters that a trial sets itself.
_SET = ("learning_rate", "key", "seed")
# Values of a schedule without a default, relative to the learning rate.
_RELATIVE = {"value": 1.0, "init_value": 1.0, "peak_value": 1.0, "end_value": 0.0}
# Averages decay by these, unless the function's default says that they are something else.
_DECAYS = ("b1", "b2", "b3", "beta", "beta3", "rho", "momentum", "adam_b1", "adam_b2")


class Parameter(NamedTuple):
    """A parameter of a function of Optax that a study may declare.

    Attributes:
        name: its name.
        default: its default; None where it has none.
        required: whether it has no default.
        static: whether it is configuration (a flag, a count, a word, a list) rather than a number that can be traced.
        declarable: whether a study can write its values.
    """

    name: str
    default: Any
    required: bool
    static: bool
    declarable: bool

    def check(self, traced: bool) -> Check:
        """The check of its value, as a hyperparameter if ``traced``, else as configuration."""
        if not traced and not isinstance(self.default, float):
            if self.name.endswith("mask"):
                return _mask
            return flag if isinstance(self.default, bool) else plain
        if self.name in _DECAYS and (self.default is None or self.default < 1):
            return functools.partial(traceable, least=0, below=1)
        not_negative = self.name.startswith(("eps", "weight_decay"))
        return functools.partial(traceable, least=0) if not_negative else traceable


@dataclass(frozen=True)
class OptaxFunction:
    """An optimizer or a schedule of Optax.

    Attributes:
        name: its full name.
        function: the function.
    """

    name: str
    function: Callable

    @property
    def is_schedule(self) -> bool:
        """Whether it builds a schedule."""
        return self._signature.return_annotation == optax.Schedule

    @property
    def takes_rate(self) -> bool:
        """Whether it has a learning rate."""
        return "learning_rate" in self._signature.parameters

    @property
    def takes_schedule(self) -> bool:
        """Whether a schedule may change its learning rate."""
        kinds = get_args(self._signature.parameters["learning_rate"].annotation) if self.takes_rate else ()
        return any(get_origin(kind) is Callable for kind in kinds)

    @functools.cached_property
    def parameters(self) -> dict[str, Parameter]:
        """What a study may declare, by name."""
        # Optax annotates a number that a schedule compares in Python as int or float, other numbers as arrays.
        in_python = (bool, int, str, float) if self.is_schedule else (bool, int, str)
        found = {}
        for name, each in self._signature.parameters.items():
            required = each.default is each.empty
            default = None if required else each.default
            static = (
                each.annotation in in_python
                or isinstance(default, int)
                or not (default is None or isinstance(default, float))
                or name.endswith(("mask", "dtype"))
            )
            declarable = each.annotation in (bool, int, str, float) or get_origin(each.annotation) in _UNIONS
            found[name] = Parameter(name, default, required, static, declarable)
        return {name: each for name, each in found.items() if name not in _SET}

    @property
    def relative_values(self) -> dict[str, float]:
        """Values that a schedule requires, where a study declares none: relative to the learning rate."""
        found = {
            name: _RELATIVE[name]
            for name, each in self.parameters.items()
            if each.required and name in _RELATIVE
        }
        return found | ({"init_value": 0.0} if {"init_value", "peak_value"} <= set(found) else {})

    @property
    def default_numbers(self) -> dict[str, float | None]:
        """Defaults of its numbers, a learning rate included; None where a study must declare one."""
        numbers = {
            name: float(each.default) if _is_number(each.default) else None
            for name, each in self.parameters.items()
            if not each.static
        }
        rate = self._signature.parameters["learning_rate"].default if self.takes_rate else None
        return numbers | ({"learning_rate": float(rate)} if _is_number(rate) else {}) | self.relative_values

    def chance(self, seed: jax.typing.ArrayLike) -> dict[str, Any]:
        """The argument by which an optimizer that draws random numbers gets a trial's seed; none for the others."""
        if "key" in self._signature.parameters:
            return {"key": jax.random.key(seed)}
        return {"seed": seed} if "seed" in self._signature.parameters else {}

    def __call__(
        self,
        configuration: Mapping[str, Any],
        hyperparameters: Mapping[str, Any],
        fixed: Mapping[str, Any],
        conversions: Mapping[str, Callable[[Any], Any]],
    ) -> Any:
        """Call it with ``fixed`` and with the settings of its parameters' names, which take precedence.

        A configuration value of None stands for the parameter's default; ``conversions`` turn other values of the
        configuration into what Optax takes, by name.

        Raises:
            InputError: a parameter without a default has no value.
        """
        arguments = dict(fixed)
        for name, parameter in self.parameters.items():
            if name in hyperparameters:
                arguments[name] = hyperparameters[name]
            elif name in configuration and configuration[name] is not None:
                arguments[name] = conversions.get(name, lambda value: value)(configuration[name])
            elif name not in fixed and parameter.required:
                field = f"configuration.{'schedule' if self.is_schedule else 'optimizer'}"
                raise InputError(field, self.name, f"needs {name}{_how_to_give(parameter)}")
        return self.function(**arguments)

    @functools.cached_property
    def _signature(self) -> inspect.Signature:
        return inspect.signature(self.function)


@functools.cache
def optimizers() -> dict[str, OptaxFunction]:
    """Every public function of `optax` and `optax.contrib` that builds a whole optimizer from a learning rate."""
    rates = {"learning_rate", "max_learning_rate"}
    return {
        name: OptaxFunction(name, function)
        for name, function in _public(optax, optax.contrib).items()
        if "scale_by" not in name and rates & set(inspect.signature(function).parameters)
    }


@functools.cache
def schedules() -> dict[str, OptaxFunction]:
    """Every public function of `optax` that builds a schedule from numbers."""
    found = {name: OptaxFunction(name, function) for name, function in _public(optax).items()}
    return {name: each for name, each in found.items() if each.is_schedule and name != "optax.join_schedules"}


def find(given: Any) -> OptaxFunction | None:
    """The optimizer or schedule of Optax that a name stands for; None for anything else."""
    name = SHORT.get(given, given) if isinstance(given, str) else None
    return optimizers().get(name) or schedules().get(name)


def check_name(field: str, value: str, known: Mapping[str, OptaxFunction]) -> str:
    """Check the name of a function of Optax: one of `optimizers` or `schedules`."""
    if value not in known:
        kind = field.rpartition(".")[2]
        article = "an" if kind == "optimizer" else "a"
        remedy = _suggestion(value, known, 0.7) or f"take one of {', '.join(known)}"
        raise InputError(field, value, f"is not {article} {kind} of the installed Optax: {remedy}")
    return value


def check_missing_prefix(field: str, value: Any, known: Mapping[str, OptaxFunction]) -> None:
    """Raise InputError where a value is a name of Optax without ``optax.``."""
    suggestion = _suggestion(value, known, 1.0) if isinstance(value, str) else ""
    if suggestion:
        raise InputError(field, value, suggestion)


def _suggestion(value: str, known: Mapping[str, OptaxFunction], likeness: float) -> str:
    last = {name.rpartition(".")[2]: name for name in known}
    close = difflib.get_close_matches(value.rpartition(".")[2].lower(), last, n=1, cutoff=likeness)
    return f"did you mean {last[close[0]]!r}?" if close else ""


def _public(*modules: types.ModuleType) -> dict[str, Callable]:
    return {
        f"{module.__name__}.{name}": value
        for module in modules
        for name, value in vars(module).items()
        if not name.startswith("_") and inspect.isroutine(getattr(value, "func", value))
    }


_UNIONS = (Union, types.UnionType)


def _mask(field: str, value: Any) -> Any:
    value = python(value)
    if not (isinstance(value, bool) or callable(value) or value == "kernels"):
        remedy = 'give "kernels", or a function from the parameters to a tree of true and false'
        raise InputError(field, value, remedy)
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _how_to_give(parameter: Parameter) -> str:
    if not parameter.declarable:
        return ", which a study cannot declare: give a function that calls it instead of its name"
    kind = "configuration" if parameter.static else "hyperparameters"
    return f", which is not declared: declare it under {kind}"
