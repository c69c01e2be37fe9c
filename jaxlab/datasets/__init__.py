"""Data sets as host arrays with fixed splits: built-in ones by name, custom ones from arrays, tables or files."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from jaxlab.checks import one_of
from jaxlab.datasets._arrays import ARRAY_OPTIONS, from_arrays, from_npz
from jaxlab.datasets._cifar10 import cifar10
from jaxlab.datasets._digits import digits, rotated_digits
from jaxlab.datasets._fashion_mnist import fashion_mnist
from jaxlab.datasets._folder import from_folder
from jaxlab.datasets._mnist1d import mnist1d
from jaxlab.datasets._tables import from_csv, from_frame
from jaxlab.datasets.augment import AUGMENTATIONS, flip, shift
from jaxlab.datasets.dataset import Dataset, Split, prepared, restored
from jaxlab.datasets.options import modify
from jaxlab.errors import InputError, UnknownName

__all__ = [
    "AUGMENTATIONS",
    "DATASETS",
    "Dataset",
    "Split",
    "cifar10",
    "digits",
    "fashion_mnist",
    "flip",
    "from_arrays",
    "from_csv",
    "from_folder",
    "from_frame",
    "from_npz",
    "load",
    "mnist1d",
    "modify",
    "prepared",
    "restored",
    "rotated_digits",
    "shift",
]

DATASETS: dict[str, Callable[..., Dataset]] = {
    "cifar10": cifar10,
    "csv": from_csv,
    "digits": digits,
    "fashion_mnist": fashion_mnist,
    "folder": from_folder,
    "mnist1d": mnist1d,
    "npz": from_npz,
    "rotated_digits": rotated_digits,
}


def load(name: Any, **options: Any) -> Dataset:
    """Load a data set by name: ``modify(DATASETS[name](**specific), **common)``.

    Args:
        name: a key of `DATASETS`.
        **options: options of that data set's function and of `modify`.

    Raises:
        InputError: the name or an option is unknown, a required option is missing, or one of the two functions
            raises it.
    """
    one_of("dataset", name, DATASETS)
    specific, required = _options(DATASETS[name])
    common, _ = _options(modify)
    for option in options:
        if option not in specific | common:
            raise UnknownName(f"the options of {name}", option, specific | common)
    for option in required:
        if option not in options:
            raise InputError(option, None, f"{name} requires this option; give {option}")
    given = {option: options[option] for option in specific if option in options}
    scaled = options.get("input_range") is not None or options.get("standardize") not in (None, False)
    if "scale" in specific and scaled:
        given.setdefault("scale", 1.0)  # these options determine the scale, so it is not guessed
    dataset = DATASETS[name](**given)
    return modify(dataset, **{option: options[option] for option in common if option in options})


def _options(function: Callable[..., Dataset]) -> tuple[dict[str, inspect.Parameter], list[str]]:
    """A function's options by name, and the names of those without a default."""
    parameters = dict(inspect.signature(function).parameters)
    if parameters.pop("options", None) is not None:  # those of from_arrays
        parameters = ARRAY_OPTIONS | parameters
    parameters.pop("dataset", None)
    required = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    return parameters, required
