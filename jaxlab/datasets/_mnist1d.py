"""MNIST-1D, generated with its authors' package."""

from __future__ import annotations

import random
import warnings
from types import ModuleType
from typing import Any

import numpy as np

from jaxlab import checks
from jaxlab.datasets.dataset import Dataset, Split
from jaxlab.errors import InputError, how_to_install

VALIDATION = 1_000


def mnist1d(data_seed: Any = 42) -> Dataset:
    """MNIST-1D: ten stretched, shifted and noisy curves of 40 points (Greydanus & Kobak, arXiv 2011.14439).

    Splits 4,000/1,000/1,000. Train and test are the arrays that the package ``mnist1d`` generates with its
    default arguments (seed 42), as in the published table: 4,000 to train on, 1,000 to test on. A larger run of
    the generator would not contain them, so the validation split is a separate run: 1,000 curves with
    ``data_seed + 1``, 100 of each class. Each run is standardised by its own mean and standard deviation, as the
    package does; those of the validation run differ by less than 1 % of the deviation.

    Inputs float32 [N, 40, 1]. Nothing is downloaded; generating takes about a second, and importing the package
    another. The global random states of Python and NumPy are restored.

    Args:
        data_seed: seed of the generator; another seed gives new data of the same distribution.

    Raises:
        InputError: the package is missing, or the seed is not an integer from 0 to 2³² − 2.
    """
    # The package seeds NumPy with it and with the next number.
    data_seed = checks.whole("data_seed", data_seed, 0, 2**32 - 2)
    generator = _import_package()
    published = _generate(generator, seed=data_seed)
    extra = _generate(generator, seed=data_seed + 1, num_samples=VALIDATION, train_split=1.0)
    return Dataset(
        name="mnist1d",
        train=_split(published["x"], published["y"]),
        validation=_split(extra["x"], extra["y"]),
        test=_split(published["x_test"], published["y_test"]),
        classes=10,
    )


def _split(x: np.ndarray, y: np.ndarray) -> Split:
    return Split(x.astype(np.float32)[..., None], y.astype(np.int32))


def _import_package() -> ModuleType:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of the package's imports
            import mnist1d.data
    except ImportError:
        remedy = f"needs the package mnist1d: {how_to_install('data')}"
        raise InputError("dataset", "mnist1d", remedy) from None
    return mnist1d.data


def _generate(generator: ModuleType, **changes: int | float) -> dict[str, Any]:
    arguments = generator.get_dataset_args()
    vars(arguments).update(changes)
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 (the package seeds the global generators)
    try:
        return generator.make_dataset(arguments)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
