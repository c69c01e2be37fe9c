"""The benchmark's cells: networks of the sizes that studies use, five of arbitrary sizes, and their FLOP counts."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from jaxlab.errors import InputError, did_you_mean

CLASSES = 10
#: Most steps in one call from the host, like an epoch of a small data set.
MOST_STEPS = 16
#: Fewest trials that enter the means over cells.
MANY = 16
#: Bounds on the FLOP of one step of one trial of a random cell: not mere overhead, and not long.
LEAST_FLOPS, MOST_FLOPS = 5e6, 60e6


class Cell(NamedTuple):
    """One network on inputs of one size, trained by RMSProp on the cross-entropy of ten classes.

    Attributes:
        name: its name in the tables.
        input_shape: (*spatial, C) of the uint8 inputs.
        batch_size: examples per step.
        features: channels of each convolution. A ReLU follows each, and one dense layer of ten outputs the last.
        kernel_sizes: per convolution, the same along every spatial axis.
        stride: of every convolution.
        padding: ``"SAME"``, or the number of zeros on each side.
        pool: window and stride of the max pooling after every convolution; 1 for none.
        at_once: examples per microbatch where both sides of a comparison need the same.
        short_trial: steps of a trial so short that the start of a process matters.
        from_nothing: whether 64 short trials are also timed in separate processes, start-up included.
        studied: whether diagnostics and whole studies are measured, too; the awkward cells only have contenders.
    """

    name: str
    input_shape: tuple[int, ...]
    batch_size: int
    features: tuple[int, ...]
    kernel_sizes: tuple[int, ...] = (3, 3)
    stride: int = 1
    padding: str | int = "SAME"
    pool: int = 2
    at_once: int = 16
    short_trial: int = 224
    from_nothing: bool = False
    studied: bool = True

    @property
    def short_call(self) -> int:
        """Steps in one call of a short trial."""
        return min(MOST_STEPS, self.short_trial)

    @property
    def axes(self) -> int:
        """The number of spatial axes."""
        return len(self.input_shape) - 1

    @property
    def model_options(self) -> dict[str, Any]:
        """Keyword arguments of `jaxlab.models.CNN` that build this network."""
        return {
            "features": self.features,
            "kernel_sizes": list(self.kernel_sizes),
            "strides": self.stride,
            "padding": self.padding,
            "pool_sizes": self.pool,
        }


CELLS: dict[str, Cell] = {
    cell.name: cell
    for cell in (
        Cell("8x8", (8, 8, 1), 64, (16, 32), at_once=64, from_nothing=True),
        Cell("28x28", (28, 28, 1), 128, (16, 32), short_trial=48),
        Cell("32x32", (32, 32, 3), 128, (32, 64, 128), (3, 3, 3), at_once=4, short_trial=4),
        Cell("mnist1d", (40, 1), 100, (25, 25, 25), (5, 3, 3), 2, 1, 1, at_once=100, from_nothing=True),
        # The first five that `awkward` draws with seed 0.
        Cell("awkward-1", (19, 17, 3), 58, (6, 7), (3, 3), 2, 2, 2, at_once=58, studied=False),
        Cell("awkward-2", (53, 4), 126, (27, 24, 25), (5, 3, 5), 2, 1, 1, at_once=126, studied=False),
        Cell("awkward-3", (13, 13, 1), 32, (5, 29), (5, 5), 1, "SAME", 2, at_once=32, studied=False),
        Cell("awkward-4", (72, 3), 66, (25, 14, 16), (5, 5, 5), 1, 1, 3, at_once=66, studied=False),
        Cell("awkward-5", (13, 15, 3), 124, (22, 6), (3, 5), 2, 2, 2, at_once=124, studied=False),
    )
}

#: The cells of arbitrary sizes, which only have contenders.
AWKWARD = tuple(name for name, cell in CELLS.items() if not cell.studied)


def chosen(field: str, names: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """The names without duplicates.

    Raises:
        InputError: a name is unknown, or there is none.
    """
    names, known = tuple(dict.fromkeys(names)), tuple(known)
    for name in names:
        if name not in known:
            raise InputError(field, name, f"{did_you_mean(name, known)}give some of {', '.join(known)}")
    if not names:
        raise InputError(field, names, f"give some of {', '.join(known)}")
    return names


class Layer(NamedTuple):
    """A trainable layer as the matrix product ``[places, fan_in] × [fan_in, features]`` for each example."""

    places: int
    fan_in: int
    features: int

    @property
    def flops(self) -> int:
        """FLOP of the product for one example; a multiplication and an addition are two."""
        return 2 * self.places * self.fan_in * self.features


def layers_of(cell: Cell) -> list[Layer]:
    """The convolutions and the final dense layer."""
    channels, pooled = cell.input_shape[-1], cell.input_shape[:-1]
    layers = []
    for features, kernel, (sizes, after) in zip(
        cell.features, cell.kernel_sizes, sizes_of(cell), strict=True
    ):
        layers.append(Layer(math.prod(sizes), channels * kernel**cell.axes, features))
        channels, pooled = features, after
    return [*layers, Layer(1, math.prod(pooled) * channels, CLASSES)]


def sizes_of(cell: Cell) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The spatial sizes after each convolution, and after its pooling."""

    def convolved(size: int, kernel: int) -> int:
        if cell.padding == "SAME":
            return -(-size // cell.stride)
        return (size + 2 * int(cell.padding) - kernel) // cell.stride + 1

    found = []
    spatial = cell.input_shape[:-1]
    for kernel in cell.kernel_sizes:
        sizes = tuple(convolved(size, kernel) for size in spatial)
        spatial = tuple(size // cell.pool for size in sizes)
        found.append((sizes, spatial))
    return found


def step_flops(cell: Cell) -> int:
    """FLOP of one step of one trial: forward pass and gradients of kernels and inputs (not of the network's inputs).

    The formula counts matrix products alone, including those with the zeros of the padding. It leaves out biases,
    activations, pooling, loss and optimizer.
    """
    layers = layers_of(cell)
    return cell.batch_size * (3 * sum(layer.flops for layer in layers) - layers[0].flops)


def awkward(seed: int = 0, count: int = 5) -> list[Cell]:
    """Draw cells of random sizes, to which no lowering is tuned; 2-D and 1-D alternate.

    Each property is uniform and independent: odd image sizes of 9 to 21 pixels along each axis, or 30 to 75 samples;
    1 to 5 input channels; a batch of 32 to 128; two or three convolutions of 5 to 40 channels with kernels of 3 or 5;
    a stride of 1 or 2; padding by 0 to 2, or also ``"SAME"`` if the stride is 1; max pooling by 1 to 3. A cell is
    redrawn if a size shrinks to 0, if all numbers of channels are multiples of 8, or if a step has less than
    `LEAST_FLOPS` or more than `MOST_FLOPS`.
    """
    draw = np.random.default_rng(seed)
    cells: list[Cell] = []
    while len(cells) < count:
        cell = _drawn(draw, 2 - len(cells) % 2, f"awkward-{len(cells) + 1}")
        shrinks = any(size < 1 for _, pooled in sizes_of(cell) for size in pooled)
        odd = any(each % 8 for each in cell.features)
        if not shrinks and odd and LEAST_FLOPS <= step_flops(cell) <= MOST_FLOPS:
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
    network = (batch_size, features, kernel_sizes, stride, padding, pool)
    return Cell(name, (*sizes, channels), *network, at_once=batch_size, studied=False)
