"""What is trained: small networks of the sizes at which whole studies are run, and five of arbitrary sizes."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from jaxlab.errors import InputError, did_you_mean

CLASSES = 10
#: Steps between two looks from the host, where they are cheap enough: an epoch of a small data set.
MOST_STEPS = 16


class Cell(NamedTuple):
    """One network on inputs of one size, trained by RMSProp on the cross-entropy of ten classes.

    Attributes:
        name: as in the tables.
        input_shape: (*spatial, C) of the uint8 inputs.
        batch_size: examples per step.
        features: channels of each convolution; a ReLU follows each, and one dense layer of ten outputs the last.
        kernel_sizes: per convolution, the same along every spatial axis.
        stride: of every convolution.
        padding: ``"SAME"``, or cells on each side.
        pool: window and stride of the max pooling behind every convolution; 1 is none.
        at_once: examples that go through the network at once where both sides of a comparison must do the same.
        short_trial: steps of a trial that is short enough for starting a process to matter.
        from_nothing: whether 64 short trials are also timed in processes of their own, start-up included.
        studied: whether diagnostics and whole studies are measured too; the awkward cells only have contenders.
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
        """How many axes are spatial."""
        return len(self.input_shape) - 1


CELLS: dict[str, Cell] = {
    cell.name: cell
    for cell in (
        Cell("8x8", (8, 8, 1), 64, (16, 32), at_once=64, from_nothing=True),
        Cell("28x28", (28, 28, 1), 128, (16, 32), short_trial=48),
        Cell("32x32", (32, 32, 3), 128, (32, 64, 128), (3, 3, 3), at_once=4, short_trial=4),
        Cell("mnist1d", (40, 1), 100, (25, 25, 25), (5, 3, 3), 2, 1, 1, at_once=100, from_nothing=True),
        # The first five that `jaxlab.benchmark.awkward.awkward` draws with seed 0.
        Cell("awkward-1", (19, 17, 3), 58, (6, 7), (3, 3), 2, 2, 2, at_once=58, studied=False),
        Cell("awkward-2", (53, 4), 126, (27, 24, 25), (5, 3, 5), 2, 1, 1, at_once=126, studied=False),
        Cell("awkward-3", (13, 13, 1), 32, (5, 29), (5, 5), 1, "SAME", 2, at_once=32, studied=False),
        Cell("awkward-4", (72, 3), 66, (25, 14, 16), (5, 5, 5), 1, 1, 3, at_once=66, studied=False),
        Cell("awkward-5", (13, 15, 3), 124, (22, 6), (3, 5), 2, 2, 2, at_once=124, studied=False),
    )
}

#: Those of arbitrary sizes, which only have contenders.
AWKWARD = tuple(name for name, cell in CELLS.items() if not cell.studied)


def chosen(field: str, names: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """The names, each once, if all of them are known.

    Raises:
        InputError: for an unknown name, or none at all.
    """
    names, known = tuple(dict.fromkeys(names)), tuple(known)
    for name in names:
        if name not in known:
            raise InputError(field, name, f"{did_you_mean(name, known)}give some of {', '.join(known)}")
    if not names:
        raise InputError(field, names, f"give some of {', '.join(known)}")
    return names


def model_options(cell: Cell) -> dict[str, Any]:
    """The keywords of ``models.CNN`` that make the cell's network."""
    return {
        "features": cell.features,
        "kernel_sizes": list(cell.kernel_sizes),
        "strides": cell.stride,
        "padding": cell.padding,
        "pool_sizes": cell.pool,
    }
