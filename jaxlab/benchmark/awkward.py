"""Networks of random sizes, drawn by a seed, so that no lowering is tuned to them."""

from __future__ import annotations

import numpy as np

from jaxlab.benchmark.cells import Cell
from jaxlab.benchmark.flops import sizes_of, step_flops

SEED = 0
#: FLOP of one step of one trial: neither overhead alone, nor long.
LEAST, MOST = 5e6, 60e6


def awkward(seed: int = SEED, count: int = 5) -> list[Cell]:
    """Cells of sizes drawn at random, 2-D and 1-D in turn; the first five of seed 0 are in `CELLS`.

    Uniformly and independently: odd image sizes of 9 to 21 pixels along each axis, or 30 to 75 samples; 1 to 5 input
    channels; a batch of 32 to 128; two or three convolutions of 5 to 40 channels with kernels of 3 or 5; a stride of
    1 or 2; padding by 0 to 2, or ``"SAME"`` as well where the stride is 1; max pooling by 1 to 3. A draw is repeated
    where a size shrinks to nothing, all numbers of channels are multiples of 8, or a step takes less than `LEAST` or
    more than `MOST` FLOP.
    """
    draw = np.random.default_rng(seed)
    cells: list[Cell] = []
    while len(cells) < count:
        cell = _drawn(draw, 2 - len(cells) % 2, f"awkward-{len(cells) + 1}")
        shrinks = any(size < 1 for _, pooled in sizes_of(cell) for size in pooled)
        if not shrinks and any(each % 8 for each in cell.features) and LEAST <= step_flops(cell) <= MOST:
            cells.append(cell)
    return cells


def _drawn(draw: np.random.Generator, axes: int, name: str) -> Cell:
    def whole(low: int, high: int, count: int) -> tuple[int, ...]:
        return tuple(int(each) for each in draw.integers(low, high + 1, count))

    sizes = tuple(2 * half + 1 for half in whole(4, 10, 2)) if axes == 2 else whole(30, 75, 1)
    (channels,), (batch_size,), (layers,) = whole(1, 5, 1), whole(32, 128, 1), whole(2, 3, 1)
    features = whole(5, 40, layers)
    kernel_sizes = tuple(2 * half + 1 for half in whole(1, 2, layers))
    (stride,), (pool,) = whole(1, 2, 1), whole(1, 3, 1)
    paddings = (0, 1, 2, "SAME") if stride == 1 else (0, 1, 2)  # PyTorch has no "same" for other strides
    padding = paddings[draw.integers(len(paddings))]
    return Cell(
        name,
        (*sizes, channels),
        batch_size,
        features,
        kernel_sizes,
        stride,
        padding,
        pool,
        at_once=batch_size,
        studied=False,
    )
