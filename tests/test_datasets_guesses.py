"""What is guessed of arrays: printed in one line, with a warning where it is doubtful, and settled by an argument."""

import numpy as np
import pytest

from jaxlab import datasets

N = 60


def inputs(*shape, dtype=np.float32, high=1):
    """Values from 0 to ``high``, both included."""
    return np.linspace(0, high, N * int(np.prod(shape))).reshape(N, *shape).astype(dtype)


def read(x=None, y=None, **options):
    x = inputs(5) if x is None else x
    y = np.arange(N) % 3 if y is None else y
    return datasets.from_arrays((x, y), (x, y), (x, y), **options)


def test_a_data_set_in_one_line_and_in_four():
    data = read(inputs(20, 24, 3, high=255), np.minimum(np.arange(N) % 5, 3), scale=1, classes=5)
    line = "train 60 × 20×24×3 float32 in [0, 255], 5 classes, largest 40 %; validation 60; test 60"
    assert data.summary() == line
    assert repr(data).splitlines() == [
        "<Dataset arrays>",
        "inputs    20×24×3 float32 in [0, 255]",
        "targets   5 classes, largest 40 %",
        "examples  train 60, validation 60, test 60",
    ]
    named = read(y=np.array([f"kind {each}" for each in np.arange(N) % 9]))
    assert "9 classes (kind 0, kind 1, kind 2, kind 3, ..., kind 8), largest 12 %" in named.summary()
    assert "3 classes (a, b, c), largest" in repr(read(class_names=["a", "b", "c"]))
    seen = read(inputs(4, 4, 1, dtype=np.uint8, high=250), scale=-0.5, shift=1)
    assert "train 60 × 4×4×1 uint8 in [0, 250], seen as [-124, 1], 3 classes" in seen.summary()
    numbers = read(y=np.linspace(-45, 45, N), target_units="degree")
    assert numbers.summary().startswith("train 60 × 5 float32 in [0, 1], 1 target in [-45, 45] degree;")
    assert "2 targets in [0, 1];" in read(y=inputs(2)).summary()
    assert datasets.digits().summary() == (
        "train 1,077 × 8×8×1 uint8 in [0, 16], seen as [0, 1], 10 classes, largest 10 %; validation 360; test 360"
    )


COUNTS = np.repeat([0, 1, 2, 9], N // 4)
ONE_HOT = np.eye(3, dtype=np.float32)[np.arange(N) % 3]


@pytest.mark.parametrize(
    ("arrays", "warning", "settled"),
    [
        (
            {"y": 1 + np.arange(N) % 10},
            "the labels are 1 to 10, taken as 11 classes of which 0 has no example: set first_label = 1",
            {"first_label = 1": 10, "classes = 11": 11},
        ),
        (
            {"y": COUNTS},
            "whole numbers 0 to 9, taken as labels of 10 classes, 6 of them without an example",
            {"classes = 10": 10, "targets = 'numbers'": None},
        ),
        (
            {"y": np.arange(N) % 30},
            "labels of 30 classes, and may be counts",
            {"classes = 30": 30, "targets = 'numbers'": None},
        ),
        (
            {"y": ONE_HOT},
            "a single 1 among 3 numbers, taken as regression",
            {"targets = 'one_hot'": 3, "targets = 'numbers'": None},
        ),
        (
            {"y": np.arange(N) % 4.0},
            "the whole numbers 0 to 3 in floating point, taken as regression",
            {"targets = 'labels'": 4, "targets = 'numbers'": None},
        ),
    ],
)
def test_doubtful_targets(arrays, warning, settled):
    with pytest.warns(UserWarning, match="targets|labels") as caught:
        read(**arrays)
    (message,) = (str(each.message) for each in caught)
    assert warning in message
    for said, classes in settled.items():
        assert said in message
        option, _, value = said.partition(" = ")
        assert read(**arrays, **{option: int(value) if value.isdigit() else value[1:-1]}).classes == classes


@pytest.mark.parametrize(
    ("x", "warning", "settled"),
    [
        (
            inputs(3, 8, 9),
            "the inputs are 3×8×9, taken as 9 channels",
            {"channels = 'first'": {"channels": "first"}, "channels = 'last'": {"channels": "last"}},
        ),
        (
            inputs(1, 40),
            "the inputs are 1×40, taken as 40 channels",
            {"channels = 'first'": {"channels": "first"}, "channels = 'last'": {"channels": "last"}},
        ),
        (
            inputs(8, 9, dtype=np.uint8, high=255),
            "the inputs are 8×9 of uint8, taken as signals of 9 channels",
            {"add_channel = true": {"add_channel": True}, "channels = 'last'": {"channels": "last"}},
        ),
        (
            inputs(5, high=255),
            "the inputs are in [0, 255], which the network sees as they are",
            {"set scale": {"scale": 1 / 255}, "scale = 1": {"scale": 1}},
        ),
        (
            inputs(5, dtype=np.int64, high=255) - 255,
            "the inputs are in [-255, 0]",
            {"set scale": {"scale": 1 / 255}},
        ),
        (
            inputs(5, dtype=np.uint8, high=1),
            "uint8 in [0, 1], which the network sees as [0, 0.003922]",
            {"set scale, 1/1": {"scale": 1.0}, "1/255": {"scale": 1 / 255}},
        ),
    ],
)
def test_doubtful_inputs(x, warning, settled):
    with pytest.warns(UserWarning, match="the inputs are") as caught:
        read(x)
    (message,) = (str(each.message) for each in caught)
    assert warning in message
    for said, options in settled.items():
        assert said in message
        read(x, **options)


def test_channels_in_front_are_moved_behind():
    x = inputs(3, 8, 9)
    np.testing.assert_array_equal(read(x, channels="first").train.inputs, x.transpose(0, 2, 3, 1))


def test_one_hot_rows_and_labels_from_1_become_labels_from_0():
    np.testing.assert_array_equal(
        read(y=ONE_HOT.astype(int), targets="one_hot").train.targets, np.arange(N) % 3
    )
    np.testing.assert_array_equal(read(y=1 + np.arange(N) % 3, first_label=1).train.targets, np.arange(N) % 3)


def test_a_scale_that_other_options_give_is_not_guessed(tmp_path):
    x, y = inputs(5, high=255), np.arange(N) % 3
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y)
    for options in ({"standardize": True}, {"input_range": [0, 1]}):
        data = datasets.load("npz", path=str(tmp_path / "data.npz"), **options)
        assert float(data.prepare(data.train.inputs).max()) < 2
    np.savez(tmp_path / "bytes.npz", x_train=x.astype(np.uint8), y_train=y)
    for options in ({"standardize": False}, {"input_range": None}):
        with pytest.warns(UserWarning, match="which the network sees as they are"):
            datasets.load("npz", path=str(tmp_path / "data.npz"), **options)
        assert datasets.load("npz", path=str(tmp_path / "bytes.npz"), **options).scale == 1 / 255
