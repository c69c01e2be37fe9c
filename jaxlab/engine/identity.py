"""What a traced program computes, as a digest: the same in every process, another one for other numbers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var
from jax.sharding import Mesh

# Parameters that change nothing: rules for derivatives, since what differentiates is traced too; the functions of a
# generator of random numbers, since the type of its keys names it.
_LEFT_OUT = {
    "custom_jvp_call": {"jvp_jaxpr_fun", "jvp_jaxpr_thunk"},
    "custom_vjp_call": {"fwd_jaxpr_thunk", "bwd"},
    "random_seed": {"impl"},
    "random_wrap": {"impl"},
}
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


class Identity(NamedTuple):
    """What a program computes.

    Attributes:
        digest: of its operations, shapes, dtypes and the arrays that it closes over.
        complete: whether nothing is missing from the digest. A function that the program calls back (or an operation
            with an effect, or a parameter of an unknown kind) is known by its name alone.
    """

    digest: str
    complete: bool


def identity(program: ClosedJaxpr) -> Identity:
    """The identity of a traced program, names of variables and addresses in memory apart."""
    reader = _Reader()
    reader.program(program)
    return Identity(reader.hash.hexdigest(), reader.complete)


class _Reader:
    """Reads a program from beginning to end into one hash."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()
        self.complete = True

    def say(self, *words: object) -> None:
        """Texts, apart from one another."""
        for word in words:
            encoded = str(word).encode()
            self.hash.update(b"%d:" % len(encoded) + encoded)

    def program(self, program: ClosedJaxpr) -> None:
        self.jaxpr(program.jaxpr)
        for const in program.consts:
            self.array(const)

    def jaxpr(self, jaxpr: Jaxpr) -> None:
        numbers: dict[Var, int] = {}
        self.bind(numbers, (*jaxpr.constvars, *jaxpr.invars))
        for equation in jaxpr.eqns:
            self.equation(equation, numbers)
        self.read(numbers, jaxpr.outvars)

    def equation(self, equation: JaxprEqn, numbers: dict[Var, int]) -> None:
        name = equation.primitive.name
        self.say("equation", name)
        self.read(numbers, equation.invars)
        left_out = _LEFT_OUT.get(name, ())
        for key, value in sorted(equation.params.items()):
            if key not in left_out:
                self.say(key)
                self.value(value)
        context = equation.ctx
        self.say(context.compute_type, context.threefry_partitionable)
        self.complete &= not equation.effects
        self.bind(numbers, equation.outvars)

    def bind(self, numbers: dict[Var, int], variables: Iterable[Var]) -> None:
        for variable in variables:
            numbers[variable] = len(numbers)
            self.say("variable", variable.aval.str_short(), getattr(variable.aval, "weak_type", False))

    def read(self, numbers: Mapping[Var, int], atoms: Sequence[Var | Literal]) -> None:
        self.say(len(atoms))
        for atom in atoms:
            if isinstance(atom, Literal):
                self.say("literal", atom.aval.str_short(), getattr(atom.aval, "weak_type", False))
                self.array(atom.val)
            else:
                self.say(numbers[atom])

    def value(self, value: Any) -> None:
        """A parameter of an operation."""
        if isinstance(value, ClosedJaxpr):
            self.program(value)
        elif isinstance(value, Jaxpr):
            self.jaxpr(value)
        elif isinstance(value, (np.ndarray, jax.Array)):
            self.array(value)
        elif isinstance(value, Mesh):
            devices = [getattr(each, "id", None) for each in value.devices.flat]
            self.say("mesh", value.axis_names, value.axis_sizes, devices)
        elif isinstance(value, Mapping):
            self.value(sorted(value.items()))
        elif isinstance(value, (tuple, list)):
            self.say(type(value).__name__, len(value))
            for each in value:
                self.value(each)
        else:
            text = repr(value)
            self.complete &= not (callable(value) or " at 0x" in text)
            self.say(type(value).__name__, _ADDRESS.sub("", text))

    def array(self, values: Any) -> None:
        if jax.dtypes.issubdtype(getattr(values, "dtype", None), jax.dtypes.prng_key):
            self.say(values.dtype)
            values = jax.random.key_data(values)
        values = np.asarray(values)
        self.say(values.dtype, values.shape)
        self.hash.update(values.tobytes())
