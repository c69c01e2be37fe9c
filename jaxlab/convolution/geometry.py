"""The static shape of one convolution: sizes of the image, the window and the output."""

from collections.abc import Sequence
from typing import NamedTuple

from jax import lax

from jaxlab.errors import InputError

Pads = tuple[tuple[int, int], ...]


class Geometry(NamedTuple):
    """Sizes per spatial axis; hashable, so that it can be a parameter of a primitive.

    Attributes:
        image: of the input, unpadded.
        window: taps of the kernel.
        strides: steps between two places of the window.
        pads: zeros (low, high); negative crops.
        dilation: distance between neighbouring taps.
        groups: of channels.
    """

    image: tuple[int, ...]
    window: tuple[int, ...]
    strides: tuple[int, ...]
    pads: Pads
    dilation: tuple[int, ...]
    groups: int

    @property
    def span(self) -> tuple[int, ...]:
        """What the window covers, from its first to its last tap, both included."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.window, self.dilation, strict=True))

    @property
    def padded(self) -> tuple[int, ...]:
        """Of the padded input."""
        return tuple(n + low + high for n, (low, high) in zip(self.image, self.pads, strict=True))

    @property
    def places(self) -> tuple[int, ...]:
        """Of the output."""
        return tuple((n - k) // s + 1 for n, k, s in zip(self.padded, self.span, self.strides, strict=True))


def check_window(shape: Sequence[int], geometry: Geometry) -> None:
    """Raise an InputError where the window fits nowhere in the padded input of some shape."""
    if any(n < k for n, k in zip(geometry.padded, geometry.span, strict=True)):
        remedy = f"pad it or give a larger one: a kernel that spans {geometry.span} fits nowhere in {geometry.padded}"
        raise InputError("lhs.shape", tuple(shape), remedy)


def geometry_of(
    image: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    padding: str | Sequence[Sequence[int]],
    dilation: Sequence[int],
    groups: int,
) -> Geometry:
    """A Geometry from the arguments of a convolution that fit each other."""
    shape = Geometry(tuple(image), tuple(window), tuple(strides), (), tuple(dilation), groups)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(shape.image, shape.span, shape.strides, padding)
    return shape._replace(pads=tuple((int(low), int(high)) for low, high in padding))
