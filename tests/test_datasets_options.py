"""Options of every data set: subset, wrong labels, outliers, range of inputs."""

import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler

from jaxlab import Study, datasets, load_model
from jaxlab.datasets import Dataset, Split, modify
from jaxlab.errors import InputError
from jaxlab.space import grid
from jaxlab.store import RunFolder


@pytest.fixture(scope="module")
def digits():
    return datasets.digits()


@pytest.fixture(scope="module")
def angles():
    return datasets.rotated_digits(copies=1)


def numbered(n=1000):
    """Regression data whose inputs and targets say which example they are."""
    numbers = np.arange(n, dtype=np.float32)[:, None]
    split = Split(numbers, numbers)
    return Dataset("numbered", split, split, split, classes=None)


def test_without_options_nothing_changes(digits):
    assert modify(digits).fingerprint() == digits.fingerprint()


@pytest.mark.parametrize(
    "options", [{"subset": 100}, {"label_noise": 0.3}, {"input_range": (-1, 1)}, {"standardize": True}]
)
def test_validation_and_test_stay_and_the_identity_changes(digits, options):
    data = modify(digits, **options)
    for name in ("validation", "test"):
        for before, after in zip(getattr(digits, name), getattr(data, name), strict=True):
            np.testing.assert_array_equal(before, after)
    assert data.fingerprint() != digits.fingerprint()


@pytest.mark.parametrize("size", [1, 10, 137, 1077])
def test_subset_keeps_each_class_in_proportion(digits, size):
    train = modify(digits, subset=size).train
    assert len(train.inputs) == len(train.targets) == size
    expected = np.bincount(digits.train.targets) * size / 1077
    assert np.abs(np.bincount(train.targets, minlength=10) - expected).max() <= 1


def test_subset_is_nested_ordered_and_depends_on_the_seed():
    def kept(size, seed):
        train = modify(numbered(), subset=size, seed=seed).train
        np.testing.assert_array_equal(train.inputs, train.targets)
        return train.targets[:, 0].tolist()

    small, large = kept(100, 5), kept(300, 5)
    assert set(small) < set(large)
    assert small == sorted(small)
    assert kept(100, 5) == small
    assert kept(100, 6) != small
    assert len(set(large)) == 300


def test_subset_of_everything_is_the_data(digits):
    assert modify(digits, subset=1077).fingerprint() == digits.fingerprint()


@pytest.mark.parametrize(("fraction", "count"), [(0.0, 0), (0.25, 269), (1.0, 1077)])
def test_label_noise_replaces_exactly_its_fraction_by_other_classes(digits, fraction, count):
    noisy = modify(digits, label_noise=fraction).train
    wrong = noisy.targets != digits.train.targets
    assert wrong.sum() == count
    np.testing.assert_array_equal(noisy.inputs, digits.train.inputs)


def test_wrong_labels_are_uniform_over_the_other_classes():
    targets = np.full(9000, 3, np.int32)
    split = Split(np.zeros((9000, 1), np.uint8), targets)
    noisy = modify(Dataset("threes", split, split, split, classes=10), label_noise=1.0).train.targets
    counts = np.bincount(noisy, minlength=10)
    assert counts[3] == 0
    others = np.delete(counts, 3)
    assert ((others - 1000) ** 2 / 1000).sum() < 26.1  # chi-squared with 8 degrees of freedom, p = 0.001


def test_wrong_labels_are_nested_and_the_data_given_is_left_alone(digits):
    before = digits.fingerprint()
    few, many = (modify(digits, label_noise=f, seed=2).train.targets for f in (0.1, 0.4))
    wrong = few != digits.train.targets
    np.testing.assert_array_equal(few[wrong], many[wrong])
    assert not np.array_equal(few, modify(digits, label_noise=0.1, seed=3).train.targets)
    assert digits.fingerprint() == before


def test_outliers_move_the_mean_by_fraction_times_size(angles):
    data = modify(angles, outliers=0.1, outlier_size=180)
    moved = data.train.targets - angles.train.targets
    assert (moved != 0).sum() == 108
    np.testing.assert_allclose(moved[moved != 0], 180, atol=1e-4)
    assert moved.mean() == pytest.approx(180 * 108 / 1077, rel=1e-5)
    assert abs(np.median(data.train.targets) - np.median(angles.train.targets)) < 6


def test_outliers_come_after_the_subset(angles):
    data = modify(angles, subset=100, outliers=0.2, outlier_size=-1000.0)
    assert (data.train.targets < -900).sum() == 20


def test_input_range_maps_the_extremes_of_the_training_inputs(digits):
    for low, high in ((-1, 1), (0.5, 0.75)):
        data = modify(digits, input_range=(low, high), subset=3)
        prepared = np.asarray(data.prepare(digits.train.inputs))
        assert prepared.min() == pytest.approx(low, abs=1e-6)
        assert prepared.max() == pytest.approx(high, abs=1e-6)


def test_input_range_of_inputs_that_do_not_begin_at_zero():
    split = Split(np.array([[5.0], [7.0], [13.0]], np.float32), np.zeros(3, np.int32))
    data = modify(Dataset("offset", split, split, split, classes=2), input_range=[-1, 3])
    np.testing.assert_allclose(data.prepare(split.inputs)[:, 0], [-1, 0, 3], atol=1e-6)


def test_standardize_gives_the_training_inputs_mean_zero_and_deviation_one(digits):
    data = modify(digits, standardize=True)
    prepared = np.asarray(data.prepare(digits.train.inputs), np.float64)
    assert prepared.mean() == pytest.approx(0, abs=1e-6)
    assert prepared.std() == pytest.approx(1, abs=1e-6)


def test_each_column_of_a_table_is_standardised_as_by_scikit_learn():
    wine = load_wine()
    inputs = np.column_stack(
        [wine.data, np.full(len(wine.data), 7)]
    )  # 0.1 to 1680 by column, the last constant
    table = datasets.from_arrays((inputs, wine.target), scale=1)
    data = modify(table, standardize="channels", subset=50)
    scaler = StandardScaler().fit(table.train.inputs)
    np.testing.assert_allclose(
        data.prepare(table.test.inputs), scaler.transform(table.test.inputs), atol=2e-4
    )
    seen = np.asarray(data.prepare(table.train.inputs))
    low, high = seen.min(), seen.max()
    assert f"seen as [{low:.4g}, {high:.4g}]" in modify(table, standardize="channels").summary()
    assert data.fingerprint() != modify(table, standardize=True, subset=50).fingerprint()
    assert modify(data, standardize=True).scale != data.scale


def test_each_channel_of_images_is_standardised():
    inputs = np.random.default_rng(0).integers(0, 256, (50, 4, 5, 3), np.uint8) // np.array(
        [1, 2, 8], np.uint8
    )
    data = datasets.from_arrays((inputs, np.arange(50) % 2))
    seen = np.asarray(modify(data, standardize="channels").prepare(data.train.inputs))
    np.testing.assert_allclose(seen.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(seen.std(axis=(0, 1, 2)), 1, atol=1e-5)
    by_hand = datasets.from_arrays(
        (inputs, np.arange(50) % 2), scale=np.array([1, 2, 8]) / 255, shift=[-1, 0, 1]
    )
    np.testing.assert_allclose(
        by_hand.prepare(inputs[:1]), inputs[:1] * np.array([1, 2, 8]) / 255 + [-1, 0, 1], atol=1e-5
    )
    with pytest.raises(
        InputError, match=r"scale = \[1, 2\]: give one number, or one for each of the 3 channels"
    ):
        datasets.from_arrays((inputs, np.arange(50) % 2), scale=[1, 2])
    with pytest.raises(InputError, match=r"scale = 0: give a finite number other than 0"):
        datasets.from_arrays((inputs, np.arange(50) % 2), scale=[1, 2, 0])


def test_standardised_columns_are_in_the_run_and_in_the_loaded_model(tmp_path):
    wine = load_wine()
    data = modify(datasets.from_arrays((wine.data, wine.target), scale=1), standardize="channels")
    configuration = {"model": "mlp", "features": [8], "batch_size": 32}
    results = Study(data, grid(learning_rate=[0.01]), 20, configuration, keep="last").run(tmp_path / "run")
    kept = RunFolder(tmp_path / "run").describe().specification.data
    assert (kept.scale, kept.shift) == (list(data.scale), list(data.shift))
    outputs, _ = load_model(tmp_path / "run", 0, inputs="raw")(data.test.inputs)
    accuracy = np.mean(np.argmax(outputs, axis=1) == data.test.targets)
    assert results.test_accuracy[0] == pytest.approx(accuracy)
    assert accuracy > 0.8
    outputs_of_prepared, _ = load_model(tmp_path / "run", 0)(data.prepare(data.test.inputs))
    np.testing.assert_allclose(outputs, outputs_of_prepared, rtol=1e-5)


def constant():
    split = Split(np.ones((2, 1), np.uint8), np.zeros(2, np.int32))
    return Dataset("constant", split, split, split, classes=2)


@pytest.mark.parametrize(
    ("options", "field", "says"),
    [
        ({"subset": 0}, "subset", "1 to 1077"),
        ({"subset": 1078}, "subset", "1 to 1077"),
        ({"subset": 0.5}, "subset", "0.5"),
        ({"subset": True}, "subset", "True"),
        ({"label_noise": 1.5}, "label_noise", "between 0 and 1"),
        ({"label_noise": -0.1}, "label_noise", "between 0 and 1"),
        ({"label_noise": float("nan")}, "label_noise", "nan"),
        ({"label_noise": "much"}, "label_noise", "between 0 and 1"),
        ({"outliers": 0.1, "outlier_size": 5}, "outliers", "label_noise changes the labels"),
        ({"input_range": (1, -1)}, "input_range", "low < high"),
        ({"input_range": (0, float("inf"))}, "input_range", "finite"),
        ({"input_range": 3}, "input_range", "two finite numbers"),
        ({"input_range": (0, 1, 2)}, "input_range", "two finite numbers"),
        ({"input_range": "01"}, "input_range", "two finite numbers"),
        ({"input_range": [False, True]}, "input_range", "two finite numbers"),
        ({"standardize": 1}, "standardize", 'give true, false or "channels"'),
        ({"input_range": (0, 1), "standardize": True}, "standardize", "not both"),
        ({"input_range": (0, 1), "standardize": "channels"}, "standardize", "not both"),
        ({"standardize": "channel"}, "standardize", 'give true, false or "channels"'),
        ({"seed": -1}, "seed", "whole number >= 0"),
    ],
)
def test_bad_option(digits, options, field, says):
    with pytest.raises(InputError) as error:
        modify(digits, **options)
    assert error.value.field == field
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("options", "field", "says"),
    [
        ({"label_noise": 0.1}, "label_noise", "outliers changes the targets"),
        ({"outliers": 0.1}, "outlier_size", "in units of the targets"),
        ({"outliers": 0.1, "outlier_size": float("inf")}, "outlier_size", "finite"),
        ({"outliers": 0.1, "outlier_size": "5"}, "outlier_size", "finite"),
        ({"outliers": "0.1", "outlier_size": 5}, "outliers", "between 0 and 1"),
        ({"outliers": 2, "outlier_size": 1}, "outliers", "between 0 and 1"),
    ],
)
def test_bad_option_for_regression(options, field, says):
    with pytest.raises(InputError) as error:
        modify(numbered(), **options)
    assert error.value.field == field
    assert says in str(error.value)


@pytest.mark.parametrize("options", [{"standardize": True}, {"input_range": (0, 1)}])
def test_constant_inputs_cannot_be_rescaled(options):
    with pytest.raises(InputError, match="constant"):
        modify(constant(), **options)
