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
    values = (np.arange(n * np.prod(shape)) % 64).reshape(n, *shape)
    return values.astype(inputs), (np.arange(n) % 3).astype(targets)


def test_integer_targets_are_labels():
    data = datasets.from_arrays(pair(9), pair(6), pair(3))
    assert (data.classes, data.outputs, data.scale, data.name) == (3, 3, 1.0, "arrays")
    assert (data.train.inputs.dtype, data.train.targets.dtype) == (np.float32, np.int32)
    assert [len(split.targets) for split in splits(data)] == [9, 3, 6]
    np.testing.assert_array_equal(data.test.inputs, pair(6)[0])
    assert datasets.from_arrays(pair(9), pair(6), pair(3), classes=7).classes == 7
    assert datasets.from_arrays(pair(9), (pair(6)[0], np.array([0, 0, 0, 0, 3, 4])), pair(3)).classes == 5


@pytest.mark.parametrize("targets", [np.float64, np.float16, jnp.bfloat16])
def test_float_targets_are_regression(targets):
    x, y = pair(9, targets)
    data = datasets.from_arrays((x, y / 2), (x, y / 2), (x, y / 2), target_units="mm")
    assert (data.classes, data.outputs, data.target_units) == (None, 1, "mm")
    np.testing.assert_array_equal(data.train.targets, (np.arange(9) % 3 / 2)[:, None])
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
    x, y = np.arange(300.0)[:, None] / 4, np.repeat([0, 1, 2], 100)
    data = datasets.from_arrays((x, y), validation_fraction=0.2, test_fraction=0.1)
    assert [len(split.targets) for split in splits(data)] == [210, 60, 30]
    for split, per_class in zip(splits(data), (70, 20, 10), strict=True):
        np.testing.assert_array_equal(np.bincount(split.targets), per_class)
        np.testing.assert_array_equal(split.targets, split.inputs[:, 0] // 25)
    assert sorted(np.concatenate([split.inputs[:, 0] for split in splits(data)])) == x[:, 0].tolist()
    other = datasets.from_arrays((x, y), split_seed=1)
    assert not np.array_equal(other.test.inputs, datasets.from_arrays((x, y)).test.inputs)
    given = datasets.from_arrays((x, y), test=(x[:7], y[:7]))
    assert [len(split.targets) for split in splits(given)] == [270, 30, 7]


MASKED = np.ma.masked_equal([[1.0], [-1.0]], -1)


class Unreadable:
    """What an array on another device may do."""

    def __array__(self, *arguments, **options):
        raise RuntimeError("on another device")


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
        ([(pair(9)[0], pair(9)[1][:, None])], {}, "train.targets", "integer labels [N]"),
        ([pair(9), pair(3), (pair(9)[0], pair(9)[1] + 2)], {"classes": 4}, "validation.targets", "0 to 3"),
        ([(pair(9)[0], np.full(9, 2))], {}, "train.targets", "every example has this label"),
        ([(pair(9)[0], [*range(8), 2**31 - 2])], {}, "train.targets", "2,147,483,647 classes for 9 examples"),
        (
            [(pair(9)[0], pair(9)[1] + 1)],
            {"classes": 3},
            "train.targets",
            "or give first_label = 1",
        ),
        (
            [(pair(9)[0], np.arange(9) % 4 + 1)],
            {"classes": 3, "first_label": 1},
            "train.targets",
            "labels of 3 classes are 1 to 3; correct the label or classes",
        ),
        ([pair(9)], {"first_label": 1}, "train.targets", "give labels from 1"),
        (
            [(pair(9)[0], pair(9)[1] / 2)],
            {"targets": "labels"},
            "train.targets",
            "labels must be whole numbers",
        ),
        ([(pair(3)[0], np.eye(3) * 2)], {"targets": "one_hot"}, "train.targets[0]", "a single 1 among zeros"),
        ([pair(9)], {"targets": "one_hot"}, "train.targets", "one-hot rows [N, classes]"),
        ([pair(9)], {"targets": "numbers", "classes": 3}, "train.targets", "int32 [N] for 3 classes"),
        (
            [(pair(9)[0].reshape(9, 16), pair(9)[1])],
            {"channels": "first"},
            "train.inputs",
            "[N, C, *spatial]",
        ),
        ([pair(9)], {"channels": "first", "add_channel": True}, "add_channel", "omit add_channel"),
        ([pair(1)], {"classes": 3}, "validation_fraction", "nothing to train on of 1 examples"),
        ([(np.array([["a"], ["b"]]), np.array([0, 1]))], {}, "train.inputs", "real numbers"),
        ([(np.array([[{}], [{}]]), np.array([0, 1]))], {}, "train.inputs", "real numbers"),
        (
            [(np.ones((2, 1)) * 1j, np.array([0, 1]))],
            {},
            "train.inputs",
            "real numbers; e.g. real and imaginary",
        ),
        ([(np.zeros((2, 1), "M8[s]"), np.array([0, 1]))], {}, "train.inputs", "real numbers; e.g. seconds"),
        ([(np.zeros((2, 1), "m8[s]"), np.array([0, 1]))], {}, "train.inputs", "real numbers; e.g. seconds"),
        ([(np.zeros((2, 1), "f4,i4"), np.array([0, 1]))], {}, "train.inputs", "real numbers; named fields"),
        ([(np.zeros((2, 1), [("a", "f4")]), np.array([0, 1]))], {}, "train.inputs", "numbers; named fields"),
        ([(np.ones((2, 1)), np.array([0, 1.5], object))], {}, "train.targets", "real numbers; convert"),
        ([(np.ones((2, 1)), np.ones((2, 1), object))], {}, "train.targets", "real numbers; convert"),
        ([(MASKED, np.array([0, 1]))], {}, "train.inputs", "the mask would be lost"),
        ([([*MASKED], np.array([0, 1]))], {}, "train.inputs", "the mask would be lost"),
        ([([[MASKED], (MASKED,)], np.array([0, 1]))], {}, "train.inputs", "the mask would be lost"),
        ([([[1.0], [np.ma.masked]], np.array([0, 1]))], {}, "train.inputs", "the mask would be lost"),
        ([(np.ones((2, 1)), MASKED[:, 0])], {}, "train.targets", "the mask would be lost"),
        ([(Unreadable(), np.array([0, 1]))], {}, "train.inputs", "NumPy cannot read it (on another device)"),
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
        ([pair(9)], {"split_seed": -1}, "split_seed", "whole number >= 0"),
        ([(pair(9)[0], pair(8)[1])], {}, "train.targets", "one target per input"),
        ([(pair(8)[0], pair(9)[1])], {}, "train.targets", "one target per input"),
        ([(pair(9)[0], np.zeros(9, int))], {"classes": 1}, "classes", "at least 2"),
        ([(np.float64(3), np.arange(9) % 2)], {}, "train.inputs", "[N, *spatial, C]"),
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
        (lambda path: write(path, b"x,y\n1,2\n"), "pickled objects or is not an .npz file"),
        (lambda path: write(path, whole(path.parent)[:-200]), "truncated or corrupt"),
        (lambda path: write(path, with_a_bit_flipped(whole(path.parent))), "truncated or corrupt"),
        (lambda path: write(path, whole(path.parent)[:-900]), "truncated or corrupt"),
        (lambda path: np.savez(path, x_train=np.array([{}, {}]), y_train=np.zeros(2)), "pickled objects"),
        (
            lambda path: np.savez(path, x=np.ones(2), t=1),
            "lacks x_train and y_train, holds x, t; name the arrays",
        ),
        (lambda path: np.savez(path), "lacks x_train and y_train, holds nothing"),
        (
            lambda path: np.savez(path, x_train=np.ones((2, 1))),
            "lacks y_train, holds x_train; name the arrays",
        ),
        (
            lambda path: np.savez(path, x_train=np.ones((2, 1)), y_train=np.ones(2), y_test=np.ones(2)),
            "x_test",
        ),
        (lambda path: write(path, one_array()), "holds a single array"),
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


@pytest.mark.parametrize(
    ("option", "says"),
    [("clases", "did you mean 'classes'?"), ("key", "known names are classes, class_names")],
)
def test_an_unknown_option_is_named(tmp_path, option, says):
    with pytest.raises(InputError, match=f"unknown name '{option}' in the options of from_npz; ") as error:
        datasets.from_npz(tmp_path / "data.npz", **{option: 3})
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("path", 5, "give a path"),
        ("add_channel", 1, "give true or false"),
        ("classes", "10", "give a whole number, at least 2, or None for regression"),
        ("classes", 10.0, "give a whole number"),
        ("classes", True, "give a whole number"),
        ("scale", "1", "give a finite number other than 0"),
        ("scale", 10**400, "give a finite number other than 0"),
        ("scale", 1e39, "in float32"),
        ("scale", 1e-60, "in float32"),
        ("shift", "0", "give a finite number"),
        ("shift", [0.0, 1.0], "give one number, or one for each of the 1 channels"),
        ("targets", "label", "did you mean 'labels'? give one of auto, labels"),
        ("targets", 3, "give one of auto, labels"),
        ("channels", "frist", "did you mean 'first'?"),
        ("first_label", "1", "give a whole number >= 0"),
        ("validation_fraction", "0.1", "above 0 and below 1"),
        ("validation_fraction", float("nan"), "above 0 and below 1"),
        ("split_seed", 0.5, "whole number >= 0"),
        ("name", 5, "give text"),
        ("target_units", None, "give text"),
    ],
)
def test_an_option_of_a_wrong_type_is_named(tmp_path, option, value, says):
    """Those of `from_npz` are those of `from_arrays`."""
    x, y = pair(20)
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y)
    with pytest.raises(InputError) as error:
        datasets.from_npz(**{"path": tmp_path / "data.npz"} | {option: value})
    assert (error.value.field, error.value.value) == (option, value)
    assert says in str(error.value)


def test_an_error_names_the_array_that_was_given():
    """Where validation and test are drawn, too: not the place after the draw."""
    x, y = pair(40, shape=(1,))
    for index in range(0, 40, 7):
        broken = x.copy()
        broken[index] = np.nan
        with pytest.raises(InputError) as error:
            datasets.from_arrays((broken, y))
        assert error.value.field == f"train.inputs[{index}, 0]"
        with pytest.raises(InputError) as error:
            datasets.from_arrays((x, np.where(np.arange(40) == index, 7, y)), classes=3)
        assert error.value.field == "train.targets"


def test_nothing_is_copied_where_nothing_is_drawn():
    x, y = pair(9, np.int32, inputs=np.float32)
    given = datasets.from_arrays((x, y), (x, y), (x, y))
    assert np.shares_memory(given.train.inputs, x)
    assert datasets.from_arrays((x, y), (x, y)).train.inputs.base is not x
