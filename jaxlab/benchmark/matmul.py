"""The machine's own rate: the largest square matrix product."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from jaxlab.benchmark.timing import seconds_of


class Matmul(NamedTuple):
    """A float32 product of n × n matrices at JAX's default precision, on the first device: a CPU's has all cores."""

    size: int
    run: Callable[[int], None]
    seconds: float

    @property
    def flops(self) -> int:
        """Of one call."""
        return 2 * self.size**3


def fastest_matmul() -> Matmul:
    """Of a few sizes, the one with the highest rate; tried twice each."""
    sizes = (1024, 2048, 3072) if jax.default_backend() == "cpu" else (2048, 4096, 8192)
    return max((_matmul(size) for size in sizes), key=lambda each: each.flops / each.seconds)


def _matmul(size: int) -> Matmul:
    a = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(lambda a: a @ a)

    def run(calls: int) -> None:
        jax.block_until_ready([product(a) for _ in range(calls)])

    run(1)
    return Matmul(size, run, min(seconds_of(run, 1) for _ in range(2)))
