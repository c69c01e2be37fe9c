"""All trials in one program that a user gets from JAX alone: ``vmap``, and ``lax.map``."""

from __future__ import annotations

from collections.abc import Callable

import jax

from jaxlab.benchmark.contenders.loops import together
from jaxlab.benchmark.contenders.protocol import Prepared
from jaxlab.benchmark.problem import Problem


def vmap(problem: Problem, steps: int) -> Prepared:
    """Side by side: every convolution becomes a grouped one."""
    return together(problem, steps, lambda one: jax.vmap(one, in_axes=(0, 0, None, None, None)))


def map_(problem: Problem, steps: int) -> Prepared:
    """One after the other inside the program."""

    def mapped(one: Callable) -> Callable:
        return lambda state, rates, *shared: jax.lax.map(lambda trial: one(*trial, *shared), (state, rates))

    return together(problem, steps, mapped)
