"""Arithmetic of one training step, counted by hand: convolutions and dense layers, nothing else."""

import math
from typing import NamedTuple

from jaxlab.benchmark.cells import CLASSES, Cell


class Layer(NamedTuple):
    """A trainable layer as a matrix product: ``places`` rows of ``fan_in``, times ``fan_in × features``."""

    places: int
    fan_in: int
    features: int

    @property
    def flops(self) -> int:
        """Of the product, for one example; a multiplication and an addition are two."""
        return 2 * self.places * self.fan_in * self.features


def layers_of(cell: Cell) -> list[Layer]:
    """The convolutions, and the dense layer behind them."""
    channels, pooled = cell.input_shape[-1], cell.input_shape[:-1]
    layers = []
    for features, kernel, (sizes, after) in zip(
        cell.features, cell.kernel_sizes, sizes_of(cell), strict=True
    ):
        layers.append(Layer(math.prod(sizes), channels * kernel**cell.axes, features))
        channels, pooled = features, after
    return [*layers, Layer(1, math.prod(pooled) * channels, CLASSES)]


def sizes_of(cell: Cell) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The spatial sizes behind each convolution, and behind its pooling."""
    found = []
    spatial = cell.input_shape[:-1]
    for kernel in cell.kernel_sizes:
        convolved = tuple(_places(cell, size, kernel) for size in spatial)
        spatial = tuple(size // cell.pool for size in convolved)
        found.append((convolved, spatial))
    return found


def _places(cell: Cell, size: int, kernel: int) -> int:
    if cell.padding == "SAME":
        return -(-size // cell.stride)
    return (size + 2 * int(cell.padding) - kernel) // cell.stride + 1


def step_flops(cell: Cell) -> int:
    """Of one step of one trial: forward, gradient of the kernels, gradient of the inputs but the first layer's.

    Biases, activations, pooling, loss and optimizer are left out; places outside a padded image are counted.
    """
    layers = layers_of(cell)
    return cell.batch_size * (3 * sum(layer.flops for layer in layers) - layers[0].flops)
