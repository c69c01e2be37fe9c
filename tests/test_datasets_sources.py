"""Data sets that need no file: digits, rotated digits, MNIST-1D."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from sklearn.datasets import load_digits
from sklearn.linear_model import Ridge

from jaxlab import datasets
from jaxlab.errors import InputError

NAMES = ("train", "validation", "test")
NO_ANGLE = 1e-300  # the largest angle: every angle is 0 in float32


def splits(data):
    return [getattr(data, name) for name in NAMES]


def test_digits_are_those_of_scikit_learn_in_their_order():
    published = load_digits()
    places = {image.tobytes(): place for place, image in enumerate(published.images.astype(np.uint8))}
    assert len(places) == 1797
    found = []
    for split in splits(datasets.digits()):
        at = [places[image.tobytes()] for image in split.inputs]
        assert at == sorted(at)
        np.testing.assert_array_equal(split.targets, published.target[at])
        found += at
    assert sorted(found) == list(range(1797))


@pytest.mark.parametrize("seed", [0, 1])
def test_digits_are_split_once_and_in_proportion(seed):
    data = datasets.digits(split_seed=seed)
    assert [len(split.inputs) for split in splits(data)] == [1077, 360, 360]
    together = np.concatenate([split.inputs for split in splits(data)]).reshape(1797, 64)
    labels = np.concatenate([split.targets for split in splits(data)])
    published = load_digits()
    every = sorted((*map(int, image), label) for image, label in zip(together, labels, strict=True))
    assert every == sorted(
        (*map(int, image), label) for image, label in zip(published.data, published.target, strict=True)
    )
    for split in splits(data):
        expected = np.bincount(published.target) * len(split.targets) / 1797
        assert np.abs(np.bincount(split.targets) - expected).max() < 1.5
    assert float(data.prepare(data.train.inputs).max()) == 1


def test_digits_of_another_seed_are_split_otherwise():
    a, b = datasets.digits(), datasets.digits(split_seed=1)
    assert not np.array_equal(a.test.inputs, b.test.inputs)


@pytest.fixture(scope="module")
def rotated():
    return datasets.rotated_digits()


def test_predicting_zero_has_the_documented_errors(rotated):
    assert (rotated.outputs, rotated.target_units, rotated.classes) == (1, "degree", None)
    assert [len(split.inputs) for split in splits(rotated)] == [4308, 1440, 1440]
    for angles in (split.targets.astype(np.float64) for split in splits(rotated)):
        # |angle| has deviation 45/√12, angle² has deviation 45²·√(4/45): three standard errors.
        assert np.abs(angles).mean() == pytest.approx(22.5, abs=3 * 45 / np.sqrt(12 * len(angles)))
        bound = 3 * 45**2 * np.sqrt(4 / 45 / len(angles))
        assert np.square(angles).mean() == pytest.approx(25.98**2, abs=bound)
        assert np.abs(angles).max() <= 45


@pytest.mark.parametrize("seed", [0, 3])
def test_no_base_image_is_in_two_splits(seed):
    """Without rotation the copies of a base image are equal, which shows the splits that hold it."""
    data = datasets.rotated_digits(max_angle=NO_ANGLE, copies=3, split_seed=seed)
    held = [{image.tobytes() for image in split.inputs} for split in splits(data)]
    assert [len(split.inputs) for split in splits(data)] == [3231, 1080, 1080]
    assert not held[0] & held[1]
    assert not held[0] & held[2]
    assert not held[1] & held[2]
    assert [len(images) for images in held] == [1077, 360, 360]


def test_every_copy_has_an_angle_of_its_own(rotated):
    angles = np.concatenate([split.targets[:, 0] for split in splits(rotated)])
    assert len(np.unique(angles)) > 0.999 * len(angles)
    assert abs(np.corrcoef(rotated.train.targets[:1077, 0], rotated.train.targets[1077:2154, 0])[0, 1]) < 0.1


@pytest.fixture(scope="module")
def turned():
    """Base images ``[N, 16, 16]`` before rotation, the same after rotation by any angle, and the angles."""
    still = datasets.rotated_digits(max_angle=NO_ANGLE, copies=1).train.inputs
    train = datasets.rotated_digits(max_angle=180, copies=8).train
    return (
        np.tile(still[..., 0], (8, 1, 1)).astype(float),
        train.inputs[..., 0].astype(float),
        train.targets[:, 0],
    )


def test_rotation_is_scipys_bilinear_interpolation_rounded():
    base, train = datasets.digits().train, datasets.rotated_digits(max_angle=180, copies=1).train
    y, x = ((np.indices((16, 16)) - 7.5) / 1.5).reshape(2, -1)
    for image, rotated, degrees in zip(
        base.inputs[..., 0], train.inputs[..., 0], train.targets[:, 0], strict=True
    ):
        radians = np.deg2rad(np.float64(degrees))
        rows = 3.5 + np.cos(radians) * y + np.sin(radians) * x
        columns = 3.5 - np.sin(radians) * y + np.cos(radians) * x
        levels = image.astype(np.float64) * 255 / 16
        expected = map_coordinates(levels, [rows, columns], order=1, mode="grid-constant").reshape(16, 16)
        np.testing.assert_allclose(rotated, expected, rtol=0, atol=0.5 + 1e-9)


def test_positive_angles_are_counter_clockwise(turned):
    still, rotated, angles = turned
    quarter = np.abs(angles - 90) < 0.5
    assert quarter.sum() > 10
    np.testing.assert_allclose(rotated[quarter], np.rot90(still[quarter], axes=(1, 2)), atol=10)


def test_a_rotated_digit_keeps_its_ink(turned):
    """Little is cut off at the corners."""
    still, rotated, _ = turned
    np.testing.assert_allclose(rotated.sum((1, 2)) / still.sum((1, 2)), 1, atol=0.05)


def test_the_angle_can_be_learned(rotated):
    def features(split):
        return split.inputs.reshape(len(split.inputs), -1) / 255

    model = Ridge(10.0).fit(features(rotated.train), rotated.train.targets[:, 0])
    error = model.predict(features(rotated.test)) - rotated.test.targets[:, 0]
    assert np.abs(error).mean() < 6


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"max_angle": 0}, "max_angle"),
        ({"max_angle": 181}, "max_angle"),
        ({"max_angle": float("nan")}, "max_angle"),
        ({"max_angle": "45"}, "max_angle"),
        ({"copies": 0}, "copies"),
        ({"copies": 1.5}, "copies"),
        ({"split_seed": -1}, "split_seed"),
        ({"angle_seed": "x"}, "angle_seed"),
    ],
)
def test_bad_option_of_rotated_digits(options, field):
    with pytest.raises(InputError) as error:
        datasets.rotated_digits(**options)
    assert error.value.field == field


@pytest.fixture(scope="module")
def one_dimensional():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = datasets.mnist1d()
    assert caught == []
    return data


def test_mnist1d_restores_the_global_random_states():
    """In a process without the checks of type hints, which draw from Python's generator."""
    code = """
import random, numpy
from jaxlab import datasets
before = random.getstate(), numpy.random.get_state()[1].tolist()
datasets.mnist1d()
print(before == (random.getstate(), numpy.random.get_state()[1].tolist()))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "True"


def test_mnist1d_is_the_package_own(one_dimensional):
    from mnist1d.data import get_dataset_args, make_dataset

    published = make_dataset(get_dataset_args())
    data = one_dimensional
    for split, x, y in ((data.train, "x", "y"), (data.test, "x_test", "y_test")):
        np.testing.assert_array_equal(split.inputs[..., 0], published[x].astype(np.float32))
        np.testing.assert_array_equal(split.targets, published[y])
    assert (data.input_shape, data.classes, data.train.inputs.dtype) == ((40, 1), 10, np.float32)


def test_mnist1d_validation_is_fresh_and_of_the_same_distribution(one_dimensional):
    data = one_dimensional
    assert [len(split.inputs) for split in splits(data)] == [4000, 1000, 1000]
    np.testing.assert_array_equal(np.bincount(data.validation.targets), 100)
    # No curve of the training split again, however scaled: for that, correlation would be 1.
    train, fresh = (
        (curves - curves.mean(1, keepdims=True)) / curves.std(1, keepdims=True)
        for curves in (data.train.inputs[..., 0], data.validation.inputs[..., 0])
    )
    assert (fresh @ train.T / 40).max() < 0.9999
    # The class means of the two splits agree within what 100 curves allow.
    for label in range(10):
        a, b = (split.inputs[split.targets == label, :, 0] for split in (data.train, data.validation))
        error = np.sqrt(a.var(0) / len(a) + b.var(0) / len(b))
        assert (np.abs(a.mean(0) - b.mean(0)) / error).max() < 4.5


@pytest.mark.parametrize("source", [datasets.cifar10, datasets.fashion_mnist])
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"folder": 5}, "folder = 5: give a path"),
        ({"download": "yes"}, "download = 'yes': give true or false"),
        ({"url": None}, "url = None: give text"),
    ],
)
def test_bad_option_of_a_downloaded_data_set(source, options, says):
    with pytest.raises(InputError, match=says):
        source(**options)


def test_mnist1d_missing_or_with_a_bad_seed(monkeypatch):
    for seed, says in ((-1, r"whole number in \[0, "), (2**32 - 1, r"whole number in \[0, ")):
        with pytest.raises(InputError, match=says):
            datasets.mnist1d(data_seed=seed)
    monkeypatch.setitem(sys.modules, "mnist1d", None)
    monkeypatch.setitem(sys.modules, "mnist1d.data", None)
    with pytest.raises(InputError, match=r"pip install -e '\.\[data\]' in a clone"):
        datasets.mnist1d()


def test_the_package_imports_nothing_optional():
    code = (
        "import sys, jaxlab.datasets;"
        "print([m for m in ('pooch', 'mnist1d', 'sklearn', 'matplotlib', 'requests') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
