"""What a traced program computes, as a digest: equal in every process, different wherever numbers could differ."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var
from jax.sharding import Mesh, NamedSharding

from jaxlab.engine.code import code_digest, installed

# Parameters that change nothing: rules for derivatives, since what differentiates is traced too; the functions of a
# generator of random numbers, since the type of its keys names it; what a function is called and where it is defined.
_LEFT_OUT = {
    "jit": {"name"},
    "pjit": {"name"},
    "pallas_call": {"name", "name_and_src_info", "debug_info"},
    "custom_jvp_call": {"jvp_jaxpr_fun", "jvp_jaxpr_thunk"},
    "custom_vjp_call": {"fwd_jaxpr_thunk", "bwd"},
    "random_seed": {"impl"},
    "random_wrap": {"impl"},
}
#: Their text holds all that they are.
_PLAIN = (type(None), bool, int, float, complex, str, bytes, np.dtype, enum.Enum, slice, range)
#: Likewise, by the names of types that JAX does not export.
_PLAIN_OF_JAX = {
    "AbstractMesh",
    "FTPyTree",
    "FTTuple",
    "P",
    "PartitionSpec",
    "PyTreeDef",
    "ShapedArray",
    "UnspecifiedValue",
}
_CONTEXT = ("compute_type", "threefry_partitionable", "cur_abstract_mesh", "xla_metadata")
_ADDRESS = re.compile(r"0x[0-9a-f]+")


class Identity(NamedTuple):
    """What a program computes.

    Attributes:
        digest: of its operations, shapes, dtypes and the arrays that it closes over.
        complete: whether two programs of the same digest compute the same for certain. It is False where the program
            calls Python back, has an effect, or has a parameter of a type that is not known here; such a parameter
            is in the digest with the name of its type and its text, a function with its code.
        constant_bytes: of the arrays that it closes over.
        operations: names of the operations that it consists of.
    """

    digest: str
    complete: bool
    constant_bytes: int
    operations: frozenset[str]


def identity(program: ClosedJaxpr) -> Identity:
    """The identity of a traced program; names of variables and functions and addresses are no part of it."""
    reader = _Reader()
    reader.program(program)
    return Identity(
        reader.hash.hexdigest(), reader.complete, reader.constant_bytes, frozenset(reader.operations)
    )


class _Reader:
    """Reads a program from beginning to end into one hash."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()
        self.complete = True
        self.constant_bytes = 0
        self.operations: set[str] = set()

    def say(self, *words: object) -> None:
        """Add texts, each with its length, so that none runs into the next."""
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
        self.operations.add(name)
        self.read(numbers, equation.invars)
        left_out = _LEFT_OUT.get(name, ())
        self.mapping({key: value for key, value in equation.params.items() if key not in left_out})
        self.mapping({key: getattr(equation.ctx, key, None) for key in _CONTEXT})
        self.complete &= not equation.effects
        self.bind(numbers, equation.outvars)

    def bind(self, numbers: dict[Var, int], variables: Iterable[Var]) -> None:
        for variable in variables:
            numbers[variable] = len(numbers)
            self.say("variable", *_type(variable.aval))

    def read(self, numbers: Mapping[Var, int], atoms: Sequence[Var | Literal]) -> None:
        self.say(len(atoms))
        for atom in atoms:
            if isinstance(atom, Literal):
                self.say("literal", *_type(atom.aval))
                self.array(atom.val)
            else:
                self.say(numbers[atom])

    def value(self, value: Any) -> None:
        """A parameter of an operation."""
        self.say(type(value).__qualname__)
        if isinstance(value, ClosedJaxpr):
            self.program(value)
        elif isinstance(value, Jaxpr):
            self.jaxpr(value)
        elif isinstance(value, (np.ndarray, np.generic, jax.Array)):
            self.array(value)
        elif isinstance(value, Mapping):
            self.mapping(value)
        elif isinstance(value, AbstractSet):
            self.say(*sorted(map(_digest, value)))
        elif isinstance(value, (tuple, list)):
            self.say(len(value))
            for each in value:
                self.value(each)
        else:
            self.single(value)

    def single(self, value: Any) -> None:
        """A parameter that is not a container."""
        if isinstance(value, Mesh):
            devices = [getattr(each, "id", None) for each in value.devices.flat]
            self.say(value.axis_names, value.devices.shape, devices)
        elif isinstance(value, NamedSharding):
            self.value((value.mesh, value.spec, value.memory_kind))
        elif type(value).__name__ == "HashableArray":
            self.array(value.val)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            self.mapping({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
        else:
            of_jax = type(value).__module__.split(".")[0] in ("jax", "jaxlib")
            plain = isinstance(value, _PLAIN) or (of_jax and type(value).__name__ in _PLAIN_OF_JAX)
            self.complete &= plain or (isinstance(value, type) and issubclass(value, np.generic))
            self.say(code_digest(value) if _of_a_user(value) else _ADDRESS.sub("", repr(value)))

    def mapping(self, values: Mapping[Any, Any]) -> None:
        self.say(len(values))
        for key, value in sorted(values.items(), key=lambda item: str(item[0])):
            self.value(key)
            self.value(value)

    def array(self, values: Any) -> None:
        if jax.dtypes.issubdtype(getattr(values, "dtype", None), jax.dtypes.prng_key):
            self.say(values.dtype)
            values = jax.random.key_data(values)
        values = np.asarray(values)
        self.complete &= values.dtype != object
        self.say(values.dtype, values.shape)
        self.hash.update(values.tobytes())
        self.constant_bytes += values.nbytes


def _of_a_user(value: Any) -> bool:
    """Whether a Python function, called back perhaps, that no installed package defines."""
    if isinstance(value, partial):
        return _of_a_user(value.func)
    return (
        callable(value) and not isinstance(value, type) and not installed(getattr(value, "__module__", None))
    )


def _type(aval: Any) -> tuple[str, Any]:
    return aval.str_short(), getattr(aval, "weak_type", False)


def _digest(value: Any) -> str:
    reader = _Reader()
    reader.value(value)
    return f"{reader.hash.hexdigest()} {reader.complete}"
