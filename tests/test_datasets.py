"""Dataset: what it accepts, what the network sees, its identity; loading by name; the host's random draws."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlab import datasets
from jaxlab.datasets import Dataset, Split
from jaxlab.datasets.draws import permutation, stratified_order, uniform
from jaxlab.errors import InputError


def classification(**changes):
    def split(n):
        return Split(np.arange(n * 12, dtype=np.uint8).reshape(n, 3, 4, 1), np.arange(n, dtype=np.int32) % 3)

    fields = {"name": "toy", "train": split(7), "validation": split(3), "test": split(2), "classes": 3}
    return Dataset(**fields | changes)


def regression(**changes):
    def split(n):
        return Split(np.ones((n, 5, 2), np.float32), np.ones((n, 4), np.float32))

    fields = {"name": "toy", "train": split(7), "validation": split(3), "test": split(2), "classes": None}
    return Dataset(**fields | changes)


def test_shape_of_inputs_and_width_of_outputs():
    assert (classification().input_shape, classification().outputs) == ((3, 4, 1), 3)
    assert (regression().input_shape, regression().outputs) == ((5, 2), 4)


def images(dtype=np.uint8, n=3, shape=(3, 4, 1)):
    return np.zeros((n, *shape), dtype)


def labels(*values):
    return np.array(values, np.int32)


BAD = [
    # make, part of data set, inputs, targets, field of the error, what the message says
    (classification, "train", images(np.float64), labels(0, 1, 2), "train.inputs", "float64"),
    (classification, "train", images()[:, 0, 0, 0], labels(0, 1, 2), "train.inputs", "[N, *spatial, C]"),
    (classification, "validation", images(n=0), labels(), "validation.inputs", "at least one example"),
    (classification, "test", images(), labels(0, 1), "test.targets", "3 inputs"),
    (classification, "test", images(), labels(0, 1, 3), "test.targets", "3: labels of 3 classes are 0 to 2"),
    (classification, "train", images(), labels(0, -1, 2), "train.targets", "-1: labels of 3 classes"),
    (classification, "train", images(), np.zeros(3, np.int64), "train.targets", "int32 [N] for 3 classes"),
    (classification, "train", images(), np.zeros((3, 1), np.int32), "train.targets", "int32 [N]"),
    (classification, "test", images(shape=(3, 5, 1)), labels(0, 1, 2), "test.inputs", "uint8 [N, 3, 4, 1]"),
    (classification, "test", images(np.float32), labels(0, 1, 2), "test.inputs", "like the training split"),
    (regression, "train", np.ones((2, 5, 2), np.float32), np.ones(2, np.float32), "train.targets", "[N, K]"),
    (regression, "train", np.ones((2, 5, 2), np.float32), labels(0, 1), "train.targets", "float32 [N, K]"),
    (regression, "test", np.ones((2, 5, 2), np.float32), np.ones((2, 3), np.float32), "test.targets", "N, 4"),
    (regression, "test", np.ones((0, 5, 2), np.float32), np.ones((0, 4), np.float32), "test.inputs", "least"),
]


@pytest.mark.parametrize(("make", "part", "inputs", "targets", "field", "says"), BAD)
def test_bad_split(make, part, inputs, targets, field, says):
    with pytest.raises(InputError) as error:
        make(**{part: Split(inputs, targets)})
    assert error.value.field == field
    assert says in str(error.value)


def test_other_arrays_than_numpy_are_pointed_to_from_arrays():
    with pytest.raises(InputError, match="from_arrays") as error:
        classification(train=Split._make([jnp.zeros((2, 3, 4, 1), jnp.uint8), labels(0, 1)]))
    assert error.value.field == "train.inputs"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("part", ["inputs", "targets"])
def test_not_finite_says_where(bad, part):
    good = regression().validation
    array = getattr(good, part).copy()
    array[(1,) + (0,) * (array.ndim - 1)] = bad
    with pytest.raises(InputError, match="remove NaN") as error:
        regression(validation=good._replace(**{part: array}))
    assert error.value.field.startswith(f"validation.{part}[1, 0")


def test_a_mask_is_refused():
    good = regression().validation
    with pytest.raises(InputError, match="the mask would be lost") as error:
        regression(validation=good._replace(inputs=np.ma.masked_equal(good.inputs, 1)))
    assert error.value.field == "validation.inputs"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("classes", 1),
        ("classes", "3"),
        ("scale", 0.0),
        ("scale", np.inf),
        ("scale", "1"),
        ("shift", np.nan),
        ("name", None),
    ],
)
def test_bad_field(field, value):
    with pytest.raises(InputError) as error:
        classification(**{field: value})
    assert error.value.field == field


def test_prepare_is_an_affine_map_to_float32():
    data = classification(scale=0.25, shift=-1)
    inputs = np.array([[0, 4], [8, 255]], np.uint8)
    expected = np.array([[-1, 0], [1, 62.75]], np.float32)
    for prepared in (data.prepare(inputs), jax.jit(data.prepare)(jnp.asarray(inputs))):
        assert prepared.dtype == jnp.float32
        np.testing.assert_array_equal(prepared, expected)


def test_prepare_stays_float32_in_x64(x64):
    assert classification(scale=0.1).prepare(np.ones((1, 3, 4, 1), np.uint8)).dtype == jnp.float32


def changed(split, part, index, value):
    array = getattr(split, part).copy()
    array[index] = value
    return split._replace(**{part: array})


def test_fingerprint_sees_every_field_and_value():
    base = classification()
    others = [
        classification(name="other"),
        classification(classes=4),
        classification(scale=0.5),
        classification(shift=0.5),
        classification(target_units="degree"),
        classification(train=changed(base.train, "inputs", (6, 2, 3, 0), 1)),
        classification(train=changed(base.train, "targets", 0, 2)),
        classification(validation=changed(base.validation, "inputs", (0, 0, 0, 0), 9)),
        classification(validation=changed(base.validation, "targets", 2, 0)),
        classification(test=changed(base.test, "inputs", (1, 0, 0, 0), 9)),
        classification(test=changed(base.test, "targets", 1, 2)),
        classification(validation=base.test, test=base.validation),
        classification(
            **{name: Split(getattr(base, name).inputs.reshape(-1, 4, 3, 1), getattr(base, name).targets)
               for name in ("train", "validation", "test")}
        ),
    ]  # fmt: skip
    prints = [data.fingerprint() for data in [base, *others]]
    assert len(set(prints)) == len(prints)


def test_fingerprint_is_of_values_not_of_memory():
    base = classification()
    strided = np.asfortranarray(base.train.inputs)
    same = classification(train=base.train._replace(inputs=strided), scale=1)
    assert same.fingerprint() == base.fingerprint()
    assert dataclasses.replace(base).fingerprint() == base.fingerprint()


def test_fingerprint_of_digits_is_the_same_everywhere():
    expected = "fd94f812d84b9179adfec55075e13017abf53845d2569bb37514064b25e8a9ce"
    assert datasets.digits().fingerprint() == expected


def test_a_dataset_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        classification().scale = 2.0


def test_load_passes_options_to_the_data_set_and_to_modify():
    data = datasets.load("rotated_digits", copies=1, max_angle=10, subset=50, input_range=[-1, 1])
    assert len(data.train.inputs) == 50
    assert len(data.test.inputs) == 360
    assert 5 < np.abs(data.test.targets).max() <= 10
    np.testing.assert_allclose([data.prepare(0), data.prepare(255)], [-1, 1], atol=1e-6)


def test_every_data_set_has_a_name():
    assert {function.__name__ for function in datasets.DATASETS.values()} == {
        "cifar10",
        "digits",
        "fashion_mnist",
        "from_csv",
        "from_folder",
        "from_npz",
        "mnist1d",
        "rotated_digits",
    }


@pytest.mark.parametrize(
    ("name", "options", "field", "says"),
    [
        ("digit", {}, "dataset", "did you mean 'digits'? give one of cifar10, csv, digits"),
        (5, {}, "dataset", "5: give one of"),
        (["digits"], {}, "dataset", "give one of"),
        ("zzz", {}, "dataset", "'zzz': give one of"),
        (
            "digits",
            {"subsett": 5},
            "the options of digits",
            "unknown name 'subsett' in the options of digits; did you mean 'subset'?",
        ),
        ("digits", {"folder": "x"}, "the options of digits", "known names are split_seed, subset"),
        ("digits", {"dataset": "x"}, "the options of digits", "known names are"),
        ("npz", {}, "path", "npz requires this option"),
        ("npz", {"path": "x", "add_chanel": True}, "the options of npz", "did you mean 'add_channel'?"),
        ("digits", {"split_seed": -1}, "split_seed", "whole number >= 0"),
        ("digits", {"seed": 1.5}, "seed", "whole number >= 0"),
    ],
)
def test_load_with_a_bad_name_or_option(name, options, field, says):
    with pytest.raises(InputError) as error:
        datasets.load(name, **options)
    assert error.value.field == field
    assert says in str(error.value)


def test_draws_are_the_same_everywhere():
    np.testing.assert_array_equal(permutation(0, "split", 8), [7, 6, 3, 5, 2, 4, 0, 1])
    assert uniform(1, "angle", 2).tolist() == [0.6889207367952033, 0.2282009353839075]


@given(st.integers(0, 2**70), st.integers(1, 200))
@settings(deadline=None, max_examples=30)
def test_permutations_and_uniforms(seed, n):
    assert sorted(permutation(seed, "a", n)) == list(range(n))
    draws = uniform(seed, "a", n)
    assert ((draws >= 0) & (draws < 1)).all()
    assert not np.array_equal(draws, uniform(seed, "b", n))
    assert not np.array_equal(draws, uniform(seed + 1, "a", n))


def test_uniforms_are_uniform():
    draws = np.sort(uniform(3, "a", 20_000))
    assert np.abs(draws - (np.arange(20_000) + 0.5) / 20_000).max() < 1.95 / np.sqrt(20_000)  # p = 0.001


@given(st.integers(0, 100), st.lists(st.integers(0, 4), min_size=1, max_size=120), st.data())
@settings(deadline=None, max_examples=50)
def test_every_stretch_of_a_stratified_order_holds_each_class_in_proportion(seed, values, data):
    targets = np.array(values)
    order = stratified_order(seed, "a", targets)
    assert sorted(order) == list(range(len(targets)))
    start = data.draw(st.integers(0, len(targets)))
    stop = data.draw(st.integers(start, len(targets)))
    held = np.bincount(targets[order[start:stop]], minlength=5)
    proportion = np.bincount(targets, minlength=5) * (stop - start) / len(targets)
    assert np.abs(held - proportion).max() <= 2


def test_stratified_order_is_random_within_and_between_classes():
    targets = np.repeat([0, 1], 50)
    first = [stratified_order(seed, "a", targets)[0] for seed in range(200)]
    assert len(set(first)) > 60
    assert 60 < sum(index < 50 for index in first) < 140
