"""Data sets from a user's own arrays and .npz files."""

import io

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import datasets
from jaxlab.errors import InputError


def splits(data):
    return [data.train, data.validation, data.test]


def pair(n, targets=np.int64, shape=(4, 4, 1), inputs=np.float64):
    return np.arange(n * np.prod(shape)).reshape(n, *shape).astype(inputs), (np.arange(n) % 3).astype(targets)


def test_integer_targets_are_labels():
    data = datasets.from_arrays(pair(9), pair(6), pair(3))
    assert (data.classes, data.outputs, data.scale, data.name) == (3, 3, 1.0, "arrays")
    assert (data.train.inputs.dtype, data.train.targets.dtype) == (np.float32, np.int32)
    assert [len(split.targets) for split in splits(data)] == [9, 3, 6]
    np.testing.assert_array_equal(data.test.inputs, pair(6)[0])
    assert datasets.from_arrays(pair(9), pair(6), pair(3), classes=7).classes == 7
    assert datasets.from_arrays(pair(9), (pair(6)[0], np.array([0, 0, 0, 0, 0, 4])), pair(3)).classes == 5


@pytest.mark.parametrize("targets", [np.float64, np.float16, jnp.bfloat16])
def test_float_targets_are_regression(targets):
    data = datasets.from_arrays(pair(9, targets), pair(6, targets), pair(3, targets), target_units="mm")
    assert (data.classes, data.outputs, data.target_units) == (None, 1, "mm")
    np.testing.assert_array_equal(data.train.targets, (np.arange(9) % 3)[:, None])
    two = (np.zeros((9, 2)), np.ones((9, 5)))
    assert datasets.from_arrays(two, two, two).outputs == 5


@pytest.mark.parametrize("inputs", [np.bool_, np.int8, np.int64, np.float16, np.float64, jnp.bfloat16])
def test_inputs_other_than_uint8_become_float32(inputs):
    x, y = pair(3, shape=(2, 1), inputs=inputs)
    data = datasets.from_arrays((x, y), (x, y), (x, y))
    assert data.train.inputs.dtype == np.float32
    np.testing.assert_array_equal(data.train.inputs, x.astype(np.float32))


def test_uint8_is_kept_and_scaled():
    data = datasets.from_arrays(*[pair(3, inputs=np.uint8)] * 3)
    assert data.train.inputs.dtype == np.uint8
    assert data.scale == 1 / 255
    assert datasets.from_arrays(*[pair(3, inputs=np.uint8)] * 3, scale=2.0, shift=1.0).prepare(3) == 7


def test_jax_arrays_are_taken():
    x, y = jnp.ones((5, 2)), jnp.arange(5) % 2
    data = datasets.from_arrays((x, y), (x, y), (x, y))
    assert type(data.train.inputs) is np.ndarray
    assert data.classes == 2


def test_a_channel_is_added_when_told():
    three = [pair(3, shape=(6, 4))] * 3
    assert datasets.from_arrays(*three).input_shape == (6, 4)
    assert datasets.from_arrays(*three, add_channel=True).input_shape == (6, 4, 1)


def test_splits_that_are_not_given_are_drawn_from_train():
    x, y = np.arange(300.0)[:, None], np.repeat([0, 1, 2], 100)
    data = datasets.from_arrays((x, y), validation_fraction=0.2, test_fraction=0.1)
    assert [len(split.targets) for split in splits(data)] == [210, 60, 30]
    for split, per_class in zip(splits(data), (70, 20, 10), strict=True):
        np.testing.assert_array_equal(np.bincount(split.targets), per_class)
        np.testing.assert_array_equal(split.targets, split.inputs[:, 0] // 100)
    assert sorted(np.concatenate([split.inputs[:, 0] for split in splits(data)])) == list(range(300))
    other = datasets.from_arrays((x, y), split_seed=1)
    assert not np.array_equal(other.test.inputs, datasets.from_arrays((x, y)).test.inputs)
    given = datasets.from_arrays((x, y), test=(x[:7], y[:7]))
    assert [len(split.targets) for split in splits(given)] == [270, 30, 7]


@pytest.mark.parametrize(
    ("arguments", "options", "field", "says"),
    [
        ([pair(9)[0]], {}, "train", "pair (inputs, targets)"),
        ([5], {}, "train", "pair (inputs, targets)"),
        ([pair(9), pair(3, np.float32)], {}, "test.targets", "float32"),
        ([pair(9, np.float32)], {"classes": 3}, "train.targets", "int32 [N] for 3 classes"),
        ([pair(9)], {"classes": 2}, "train.targets", "labels of 2 classes are 0 to 1"),
        ([(pair(9)[0], pair(9)[1] - 1)], {}, "train.targets", "labels from 0"),
        ([(pair(9)[0], pair(9)[1] + 2**32)], {}, "train.targets", "labels from 0"),
        ([(pair(9)[0], pair(9)[1][:, None])], {}, "train.targets", "integer labels as [N]"),
        ([(np.array([["a"], ["b"]]), np.array([0, 1]))], {}, "train.inputs", "real numbers"),
        ([(np.array([[{}], [{}]]), np.array([0, 1]))], {}, "train.inputs", "real numbers"),
        ([(np.ones((2, 1)) * 1j, np.array([0, 1]))], {}, "train.inputs", "real numbers"),
        ([([[1], [2, 3]], [0, 1])], {}, "train.inputs", "equal lengths"),
        ([(np.full((9, 1), 1e39), pair(9)[1])], {}, "[0, 0]", "inf"),
        ([pair(9)], {"validation_fraction": 0}, "validation_fraction", "above 0 and below 1"),
        ([pair(9)], {"test_fraction": 1.0}, "test_fraction", "above 0 and below 1"),
        (
            [pair(9)],
            {"validation_fraction": 0.6, "test_fraction": 0.5},
            "test_fraction",
            "nothing to train on",
        ),
        ([pair(9)], {"split_seed": -1}, "split_seed", "integer >= 0"),
        ([(pair(9)[0], pair(8)[1])], {}, "train.targets", "one target per input"),
        ([(pair(8)[0], pair(9)[1])], {}, "train.targets", "one target per input"),
        ([(pair(9)[0], np.zeros(9, int))], {"classes": 1}, "classes", "at least 2"),
        ([(np.float64(3), np.zeros(9, int))], {}, "train.inputs", "[N, *spatial, C]"),
        ([(np.zeros((0, 1)), np.zeros(0, int))], {}, "train.inputs", "at least one"),
    ],
)
def test_bad_arrays(arguments, options, field, says):
    with pytest.raises(InputError) as error:
        datasets.from_arrays(*arguments, **options)
    assert error.value.field.endswith(field)
    assert says in str(error.value)


def test_npz_file(tmp_path):
    x, y = pair(20, shape=(4, 4), inputs=np.uint8)
    path = tmp_path / "mine.npz"
    np.savez_compressed(
        path, x_train=x, y_train=y, x_test=x[:5], y_test=y[:5], notes=np.array(["left alone"])
    )
    data = datasets.load("npz", path=str(path), add_channel=True, validation_fraction=0.25)
    assert (data.name, data.input_shape) == ("mine", (4, 4, 1))
    assert [len(split.targets) for split in splits(data)] == [15, 5, 5]
    np.testing.assert_array_equal(data.test.inputs[..., 0], x[:5])
    assert datasets.from_npz(path, name="other", add_channel=True).name == "other"


def write(path, content):
    path.write_bytes(content)


def whole(tmp_path):
    x, y = pair(20)
    np.savez(tmp_path / "whole.npz", x_train=x, y_train=y)
    return (tmp_path / "whole.npz").read_bytes()


def with_a_bit_flipped(content):
    content = bytearray(content)
    content[len(content) // 4] ^= 1  # inside x_train
    return bytes(content)


def one_array():
    file = io.BytesIO()
    np.save(file, np.ones(2))
    return file.getvalue()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "no such file"),
        (lambda path: write(path, b""), "write it again"),
        (lambda path: write(path, b"x,y\n1,2\n"), "pickled objects or is no .npz file"),
        (lambda path: write(path, whole(path.parent)[:-200]), "truncated or corrupt"),
        (lambda path: write(path, with_a_bit_flipped(whole(path.parent))), "truncated or corrupt"),
        (lambda path: write(path, whole(path.parent)[:-900]), "truncated or corrupt"),
        (lambda path: np.savez(path, x_train=np.array([{}, {}]), y_train=np.zeros(2)), "pickled objects"),
        (lambda path: np.savez(path, x=np.ones(2)), "lacks x_train and y_train"),
        (lambda path: np.savez(path, x_train=np.ones((2, 1))), "lacks y_train; write both"),
        (
            lambda path: np.savez(path, x_train=np.ones((2, 1)), y_train=np.ones(2), y_test=np.ones(2)),
            "x_test",
        ),
        (lambda path: write(path, one_array()), "holds one array"),
    ],
)
def test_bad_npz_file(tmp_path, make, says):
    path = tmp_path / "bad.npz"
    make(path)
    with pytest.raises(InputError) as error:
        datasets.from_npz(path)
    assert error.value.field == "path"
    assert error.value.value == str(path)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
