"""Compilation of a group's programs, the same for training, planning and verifying."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import jax

from jaxlab.engine import Choice, compile_group, fingerprint, is_out_of_memory
from jaxlab.errors import InputError
from jaxlab.pruning import stop_early
from jaxlab.runs.job import Job
from jaxlab.space import Group
from jaxlab.trial import Trial

# With stopping rules, the smallest width at most this much slower than the fastest is chosen: survivors fill it better.
_SLOWER = 0.1


def compile_for(
    job: Job,
    group: Group,
    trial: Trial,
    width: int | None,
    devices: Sequence[jax.Device],
    *,
    cache: str | os.PathLike | None = None,
    notify: Callable[[int], None] = lambda width: None,
) -> Choice:
    """Compile the programs of one group of a job, whose triple is ``trial``; see `jaxlab.engine.compile_group`."""
    return compile_group(
        trial,
        group.hyperparameters,
        job.arrays,
        job.epochs,
        width,
        devices,
        cache=cache,
        smallest_within=_SLOWER if stop_early(job.rules) else 0.0,
        deterministic=job.deterministic,
        notify=notify,
    )


def fingerprint_of(job: Job, group: Group) -> str:
    """The fingerprint of a group's programs, which takes tracing but no compilation."""
    return fingerprint(job.trial_of(group), group.hyperparameters, job.arrays)


@contextmanager
def out_of_memory_names_width(width: Callable[[], int | str]) -> Iterator[None]:
    """Turn JAX's out-of-memory error into an InputError that names the width.

    Args:
        width: returns the width in use.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise InputError("width", width(), "out of memory: give a smaller --width") from error
