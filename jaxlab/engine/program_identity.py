"""Digest of a traced program: equal in every process, and different if numbers could differ."""

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

from jaxlab.engine.code import code_digest, is_installed

# Parameters without effect on numbers: derivative rules, since traced programs contain the derivatives; the functions
# of a PRNG, since the dtype of its keys identifies it; names and locations of functions.
_IGNORED_PARAMETERS = {
    "jit": {"name"},
    "pjit": {"name"},
    "pallas_call": {"name", "name_and_src_info", "debug_info"},
    "custom_jvp_call": {"jvp_jaxpr_fun", "jvp_jaxpr_thunk"},
    "custom_vjp_call": {"fwd_jaxpr_thunk", "bwd"},
    "random_seed": {"impl"},
    "random_wrap": {"impl"},
}
#: Types whose ``repr`` determines the value.
_PLAIN = (type(None), bool, int, float, complex, str, bytes, np.dtype, enum.Enum, slice, range)
#: Likewise, names of types that JAX does not export.
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
    """Identity of a program, by what it computes.

    Attributes:
        digest: hash of operations, shapes, dtypes and closed-over arrays.
        complete: whether two programs with this digest certainly compute the same. False if the program calls back
            into Python, has an effect, or has a parameter of an unknown type. Such a parameter enters the digest by
            the name of its type and its ``repr``, a function by its code.
        constant_bytes: size of the closed-over arrays.
        operations: names of the operations.
    """

    digest: str
    complete: bool
    constant_bytes: int
    operations: frozenset[str]


def identity(program: ClosedJaxpr) -> Identity:
    """Compute the identity of a traced program; names of variables and functions and addresses do not count."""
    hasher = _Hasher()
    hasher.program(program)
    return Identity(
        hasher.hash.hexdigest(), hasher.complete, hasher.constant_bytes, frozenset(hasher.operations)
    )


class _Hasher:
    """Hasher that reads a program from beginning to end."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()
        self.complete = True
        self.constant_bytes = 0
        self.operations: set[str] = set()

    def add(self, *words: object) -> None:
        """Add strings to the hash, each with its length, so that boundaries count."""
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
        self.add("equation", name)
        self.operations.add(name)
        self.read(numbers, equation.invars)
        ignored = _IGNORED_PARAMETERS.get(name, ())
        self.mapping({key: value for key, value in equation.params.items() if key not in ignored})
        self.mapping({key: getattr(equation.ctx, key, None) for key in _CONTEXT})
        self.complete &= not equation.effects
        self.bind(numbers, equation.outvars)

    def bind(self, numbers: dict[Var, int], variables: Iterable[Var]) -> None:
        for variable in variables:
            numbers[variable] = len(numbers)
            self.add("variable", *_type(variable.aval))

    def read(self, numbers: Mapping[Var, int], atoms: Sequence[Var | Literal]) -> None:
        self.add(len(atoms))
        for atom in atoms:
            if isinstance(atom, Literal):
                self.add("literal", *_type(atom.aval))
                self.array(atom.val)
            else:
                self.add(numbers[atom])

    def value(self, value: Any) -> None:
        """Add a parameter of an operation."""
        self.add(type(value).__qualname__)
        if isinstance(value, ClosedJaxpr):
            self.program(value)
        elif isinstance(value, Jaxpr):
            self.jaxpr(value)
        elif isinstance(value, (np.ndarray, np.generic, jax.Array)):
            self.array(value)
        elif isinstance(value, Mapping):
            self.mapping(value)
        elif isinstance(value, AbstractSet):
            self.add(*sorted(map(_digest, value)))
        elif isinstance(value, (tuple, list)):
            self.add(len(value))
            for each in value:
                self.value(each)
        else:
            self.scalar(value)

    def scalar(self, value: Any) -> None:
        """Add a parameter that is not a container."""
        if isinstance(value, Mesh):
            devices = [getattr(each, "id", None) for each in value.devices.flat]
            self.add(value.axis_names, value.devices.shape, devices)
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
            self.add(code_digest(value) if _is_user_function(value) else _ADDRESS.sub("", repr(value)))

    def mapping(self, values: Mapping[Any, Any]) -> None:
        self.add(len(values))
        for key, value in sorted(values.items(), key=lambda item: str(item[0])):
            self.value(key)
            self.value(value)

    def array(self, values: Any) -> None:
        if jax.dtypes.issubdtype(getattr(values, "dtype", None), jax.dtypes.prng_key):
            self.add(values.dtype)
            values = jax.random.key_data(values)
        values = np.asarray(values)
        self.complete &= values.dtype != object
        self.add(values.dtype, values.shape)
        self.hash.update(values.tobytes())
        self.constant_bytes += values.nbytes


def _is_user_function(value: Any) -> bool:
    """Whether a value is a user-defined Python function, such as a callback."""
    if isinstance(value, partial):
        return _is_user_function(value.func)
    function = callable(value) and not isinstance(value, type)
    return function and not is_installed(getattr(value, "__module__", None))


def _type(aval: Any) -> tuple[str, Any]:
    return aval.str_short(), getattr(aval, "weak_type", False)


def _digest(value: Any) -> str:
    hasher = _Hasher()
    hasher.value(value)
    return f"{hasher.hash.hexdigest()} {hasher.complete}"
