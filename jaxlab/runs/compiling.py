"""A group's programs, compiled the same way for training, planning and verifying."""

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

# With rules, the smallest width that is at most this much slower than the fastest: survivors fill packs better.
_SLOWER = 0.1


def compile_for(
    job: Job,
    group: Group,
    trial: Trial,
    width: int | None,
    devices: Sequence[jax.Device],
    *,
    cache: str | os.PathLike | None = None,
    tell: Callable[[int], None] = lambda width: None,
) -> Choice:
    """`jaxlab.engine.compile_group` of one of a job's groups; ``trial`` is its triple."""
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
        notify=tell,
    )


def fingerprint_of(job: Job, group: Group) -> str:
    """The fingerprint of the programs that would train a group, which are traced and not compiled."""
    return fingerprint(job.trial_of(group), group.hyperparameters, job.arrays)


@contextmanager
def out_of_memory_names_width(width: Callable[[], int | str]) -> Iterator[None]:
    """Turn JAX's error where memory runs out into one line that says what to change.

    Args:
        width: gives the width in use.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise InputError("width", width(), "out of memory: give a smaller --width") from error
