"""What the compiler may use, and what to do where an operation has no deterministic form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jaxlab.errors import InputError

# A trial's numbers must not depend on its neighbours, so a GPU may neither use atomics nor choose kernels by timing.
# These options go to the programs of one group; the process' XLA_FLAGS are the user's.
_DETERMINISTIC = {"gpu": {"xla_gpu_exclude_nondeterministic_ops": True, "xla_gpu_autotune_level": 0}}
_REFUSAL = re.compile(r"HLO instruction %?([\w-]+?)[.\d]* does not have a deterministic implementation")
_REMEDIES = {"select-and-scatter": " or pool with jaxlab.pooling.max_pool"}


def check_deterministic(value: Any) -> bool | str:
    """True, False or "auto"; anything else is an InputError."""
    if value is True or value is False or value == "auto":
        return value
    raise InputError("deterministic", value, 'give true, false or "auto"')


def deterministic_options(backend: str) -> Mapping[str, Any]:
    """XLA options under which every operation is deterministic on a backend; empty where all of them are anyway."""
    return _DETERMINISTIC.get(backend, {})


def refused_operation(error: Exception) -> str | None:
    """The operation without a deterministic form for whose sake the compiler refused a program, or None."""
    found = _REFUSAL.search(str(error))
    return found and found[1]


def refusal(operation: str) -> InputError:
    """The error where determinism was demanded and an operation has none."""
    remedy = f'{operation} has no deterministic form on this device: give "auto" or false,'
    return InputError("deterministic", True, f"{remedy}{_REMEDIES.get(operation, ' or do without it')}")


def without_guarantee(operation: str) -> str:
    """Why a program is not deterministic, in one line for people and for the results."""
    return f"{operation} has no deterministic form on this device"
