"""A group's programs, compiled the same way for whoever wants them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxlab.engine import Choice, compile_group, fingerprint
from jaxlab.pruning import stop_early
from jaxlab.space import Group
from jaxlab.study.resolve import hyperparameters_in
from jaxlab.trial import Trial

# With rules, the smallest width that is at most this much slower than the fastest: survivors fill packs better.
_SLOWER = 0.1


def compile_for(
    study: Any,
    group: Group,
    trial: Trial,
    width: int | None,
    devices: Sequence[jax.Device],
    *,
    cache: str | os.PathLike | None = None,
    tell: Callable[[int], None] = lambda width: None,
) -> Choice:
    """`compile_group` of one of a study's groups; ``trial`` is its triple."""
    return compile_group(
        trial,
        hyperparameters_in(group),
        study.arrays,
        study.epochs,
        width,
        devices,
        cache=cache,
        smallest_within=_SLOWER if stop_early(study.rules) else 0.0,
        deterministic=study.deterministic,
        tell=tell,
    )


def fingerprint_of(study: Any, group: Group) -> str:
    """Of the programs that would train a group; traced, not compiled."""
    return fingerprint(study.trial_of(group), hyperparameters_in(group), study.arrays)
