"""Static sizes of a convolution: image, window and output."""

from collections.abc import Sequence
from typing import NamedTuple

from jax import lax

from jaxlab.errors import InputError

Pads = tuple[tuple[int, int], ...]


class Geometry(NamedTuple):
    """Sizes of a convolution per spatial axis; hashable, so usable as a static argument.

    Attributes:
        image: size of the unpadded input.
        window: number of taps of the kernel.
        strides: distance between neighbouring positions of the window.
        pads: zeros (low, high); a negative number crops.
        dilation: distance between neighbouring taps.
        groups: number of channel groups.
    """

    image: tuple[int, ...]
    window: tuple[int, ...]
    strides: tuple[int, ...]
    pads: Pads
    dilation: tuple[int, ...]
    groups: int

    @property
    def span(self) -> tuple[int, ...]:
        """Extent of the window from its first to its last tap, both included."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.window, self.dilation, strict=True))

    @property
    def padded(self) -> tuple[int, ...]:
        """Size of the padded input."""
        return tuple(n + low + high for n, (low, high) in zip(self.image, self.pads, strict=True))

    @property
    def output(self) -> tuple[int, ...]:
        """Size of the output."""
        return tuple((n - k) // s + 1 for n, k, s in zip(self.padded, self.span, self.strides, strict=True))


def check_window(shape: Sequence[int], geometry: Geometry) -> None:
    """Raise InputError if the window does not fit in the padded input; ``shape`` is that of the input."""
    if any(n < k for n, k in zip(geometry.padded, geometry.span, strict=True)):
        remedy = (
            f"a kernel that spans {geometry.span} does not fit in {geometry.padded}; pad or enlarge the input"
        )
        raise InputError("lhs.shape", tuple(shape), remedy)


def geometry_of(
    image: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    padding: str | Sequence[Sequence[int]],
    dilation: Sequence[int],
    groups: int,
) -> Geometry:
    """Build a Geometry from the arguments of a convolution, which must fit each other."""
    geometry = Geometry(tuple(image), tuple(window), tuple(strides), (), tuple(dilation), groups)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(geometry.image, geometry.span, geometry.strides, padding)
    return geometry._replace(pads=tuple((int(low), int(high)) for low, high in padding))
