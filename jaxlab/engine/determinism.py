"""Compiler options for determinism, and operations without a deterministic form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jaxlab.errors import InputError

# A trial's numbers must not depend on its neighbours, so a GPU may neither use atomics nor choose kernels by timing.
# These options apply to the programs of one group; the XLA_FLAGS of the process belong to the user.
_DETERMINISTIC = {"gpu": {"xla_gpu_exclude_nondeterministic_ops": True, "xla_gpu_autotune_level": 0}}
_COMPILER_MESSAGE = re.compile(
    r"HLO instruction %?([\w-]+?)[.\d]* does not have a deterministic implementation"
)
_REMEDIES = {"select-and-scatter": " or pool with jaxlab.pooling.max_pool"}


def check_deterministic(value: Any) -> bool | str:
    """Check that a value is True, False or "auto"."""
    if value is True or value is False or value == "auto":
        return value
    raise InputError("deterministic", value, 'give true, false or "auto"')


def deterministic_options(backend: str) -> Mapping[str, Any]:
    """XLA options that make every operation of a backend deterministic; empty if all operations are."""
    return _DETERMINISTIC.get(backend, {})


def nondeterministic_operation(error: Exception) -> str | None:
    """Name of the operation without a deterministic form because of which compilation failed, or None."""
    found = _COMPILER_MESSAGE.search(str(error))
    return found and found[1]


def determinism_error(operation: str) -> InputError:
    """Error for ``deterministic=True`` and an operation without a deterministic form."""
    remedy = f'{operation} has no deterministic form on this device; give "auto" or false,'
    return InputError(
        "deterministic", True, f"{remedy}{_REMEDIES.get(operation, ' or avoid this operation')}"
    )
