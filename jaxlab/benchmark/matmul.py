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

    @property
    def rate(self) -> float:
        """FLOP/s of the fastest call so far."""
        return self.flops / self.seconds


#: Larger products are not tried where a single one would take longer than this.
LONGEST = 1.0


def fastest_matmul() -> Matmul:
    """Of a few sizes, the one with the highest rate; tried twice each."""
    sizes = (1024, 2048, 3072) if jax.default_backend() == "cpu" else (2048, 4096, 8192)
    found = [_matmul(sizes[0])]
    for size in sizes[1:]:
        if found[-1].seconds * (size / found[-1].size) ** 3 <= LONGEST:
            found.append(_matmul(size))
    return max(found, key=lambda each: each.rate)


def _matmul(size: int) -> Matmul:
    a = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(lambda a: a @ a)

    def run(calls: int) -> None:
        jax.block_until_ready([product(a) for _ in range(calls)])

    run(1)
    return Matmul(size, run, min(seconds_of(run, 1) for _ in range(2)))
