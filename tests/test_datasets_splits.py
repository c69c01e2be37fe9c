"""Splits that are drawn: the laws of stratified draws and of draws by group; keys of an .npz file."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer

from jaxlab import datasets
from jaxlab.errors import InputError

SPLITS = ("validation", "test", "train")  # in the order in which they are drawn
fractions = st.floats(0.05, 0.45)
seeds = st.integers(0, 2**32)


def draw(targets, **options):
    """The examples of each split in the order of the draw, where the input of an example is its number."""
    inputs = np.arange(len(targets), dtype=np.float32)[:, None]
    data = datasets.from_arrays((inputs, targets), scale=1, **options)
    return [getattr(data, name).inputs[:, 0].astype(int) for name in SPLITS]


def is_partition(splits, examples):
    return sorted(np.concatenate(splits).tolist()) == list(range(examples)) and all(map(len, splits))


def wanted_sizes(options, examples):
    return [max(1, round(options[f"{name}_fraction"] * examples)) for name in SPLITS[:2]]


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 60), min_size=2, max_size=6).filter(lambda counts: sum(counts) >= 30),
    validation_fraction=fractions,
    test_fraction=fractions,
    split_seed=seeds,
    shuffle=seeds,
)
def test_each_class_keeps_its_proportion(counts, shuffle, **options):
    labels = np.random.default_rng(shuffle).permutation(np.repeat(np.arange(len(counts)), counts))
    splits = draw(labels, classes=len(counts), stratify=True, **options)
    examples = len(labels)
    assert is_partition(splits, examples)
    assert [len(split) for split in splits[:2]] == wanted_sizes(options, examples)
    for index, split in enumerate(splits):
        found = np.bincount(labels[split], minlength=len(counts))
        wanted = len(split) * np.array(counts) / examples
        bound = (1 + len(counts) * np.array(counts) / examples) / 2
        assert (np.abs(found - wanted) <= bound * (1 if index == 0 else 2) + 1e-9).all()
    for split, other in zip(splits, draw(labels, classes=len(counts), **options), strict=True):
        np.testing.assert_array_equal(split, other)  # it is the default


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=8, max_size=30),
    validation_fraction=st.floats(0.05, 0.2),
    test_fraction=st.floats(0.05, 0.2),
    split_seed=seeds,
    shuffle=seeds,
    text=st.booleans(),
)
def test_no_group_is_in_two_splits(sizes, shuffle, text, **options):
    groups = np.random.default_rng(shuffle).permutation(np.repeat(np.arange(len(sizes)), sizes))
    named = np.array([f"patient {group}" for group in groups]) if text else groups * 7 - 3
    targets = np.linspace(0, 1, len(groups))
    splits = draw(targets, groups=named, **options)
    assert is_partition(splits, len(groups))
    within = [set(groups[split].tolist()) for split in splits]
    assert sum(map(len, within)) == len(sizes)
    for split, wanted in zip(splits, wanted_sizes(options, len(groups)), strict=False):
        assert abs(len(split) - wanted) < max(sizes)


def test_groups_of_one_example_are_drawn_to_the_exact_size():
    splits = draw(np.arange(100) % 2, groups=np.arange(100), validation_fraction=0.2, test_fraction=0.3)
    assert list(map(len, splits)) == [20, 30, 50]


def test_draws_depend_on_the_seed_and_on_how_they_are_drawn():
    labels = np.arange(120) % 3
    ways = {"stratified": {}, "plain": {"stratify": False}, "by group": {"groups": np.arange(120) // 4}}
    drawn = {way: draw(labels, **options)[0].tolist() for way, options in ways.items()}
    assert len(set(map(tuple, drawn.values()))) == 3
    for way, options in ways.items():
        assert draw(labels, **options)[0].tolist() == drawn[way]
        assert draw(labels, split_seed=1, **options)[0].tolist() != drawn[way]
    counts = [
        np.bincount(labels[draw(labels, split_seed=seed, stratify=False)[0]], minlength=3)
        for seed in range(9)
    ]
    assert any((count != 4).any() for count in counts)


def test_a_given_test_set_needs_no_group():
    labels, groups = np.arange(60) % 2, np.arange(60) // 6
    inputs = np.arange(60.0)[:, None]
    data = datasets.from_arrays((inputs, labels), test=(inputs[:3] + 100, labels[:3]), groups=groups, scale=1)
    drawn = [set((split.inputs[:, 0] // 6).astype(int)) for split in (data.train, data.validation)]
    assert not drawn[0] & drawn[1]
    assert len(data.test.targets) == 3


@pytest.mark.parametrize(
    ("options", "field", "says"),
    [
        ({"stratify": "yes"}, "stratify", "true or false"),
        ({"stratify": True, "numbers": True}, "stratify", "omit it: numbers have no classes"),
        ({"stratify": True, "groups": np.arange(40)}, "stratify", "groups or stratify, not both"),
        ({"groups": np.arange(39)}, "groups", "one group for each of the 40 training examples"),
        ({"groups": np.ones((40, 2))}, "groups", "one group for each"),
        ({"groups": "patient"}, "groups", "one group for each"),
        ({"groups": [None, "a"] * 20}, "groups", "without missing ones"),
        ({"groups": [float("nan"), "a"] * 20}, "groups", "without missing ones"),
        ({"groups": [float("nan"), 1.0] * 20}, "groups", "a group is missing"),
        ({"groups": [[1], [2, 3]] * 20}, "groups", "rows of equal lengths"),
        ({"groups": np.zeros(40)}, "validation_fraction", "leaves nothing to train on of 1 groups"),
        ({"groups": np.arange(40) // 20}, "test_fraction", "leaves nothing to train on of 2 groups"),
        ({"groups": np.arange(40), "given": True}, "groups", "nothing is drawn"),
    ],
)
def test_bad_draws(options, field, says):
    options = dict(options)
    inputs = np.linspace(0, 1, 40)[:, None]
    pair = inputs, (inputs[:, 0] if options.pop("numbers", False) else np.arange(40) % 2)
    others = {"validation": pair, "test": pair} if options.pop("given", False) else {}
    with pytest.raises(InputError) as error:
        datasets.from_arrays(pair, **others, **options)
    assert error.value.field == field
    assert says in str(error.value)


@pytest.fixture
def tumours(tmp_path):
    """Real data under names of one's own: features, diagnosis as text, and a made-up clinic."""
    found = load_breast_cancer()
    path = tmp_path / "tumours.npz"
    np.savez(
        path,
        features=found.data,
        diagnosis=found.target_names[found.target],
        clinic=np.arange(569) % 20,
        first=found.data[:50],
        of_first=found.target_names[found.target[:50]],
    )
    return path, found


def test_keys_of_an_npz_file(tumours):
    path, found = tumours
    data = datasets.from_npz(path, keys=("features", "diagnosis"), scale=1)
    assert data.class_names == ("benign", "malignant")
    assert [len(split.targets) for split in (data.train, data.validation, data.test)] == [455, 57, 57]
    given = datasets.load(
        "npz",
        path=str(path),
        keys={"train": ["features", "diagnosis"], "test": ["first", "of_first"]},
        scale=1,
    )
    np.testing.assert_array_equal(given.test.inputs, found.data[:50].astype(np.float32))
    assert [given.class_names[label] for label in given.test.targets[:2]] == found.target_names[
        found.target[:2]
    ].tolist()
    clinic = {row.tobytes(): number % 20 for number, row in enumerate(found.data.astype(np.float32))}
    grouped = datasets.load("npz", path=str(path), keys=["features", "diagnosis"], groups="clinic", scale=1)
    drawn = [
        {clinic[row.tobytes()] for row in split.inputs}
        for split in (grouped.train, grouped.validation, grouped.test)
    ]
    assert sum(map(len, drawn)) == 20


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {},
            "lacks x_train and y_train, holds features, diagnosis, clinic, first, of_first; name the arrays",
        ),
        (
            {"keys": ("features", "target")},
            "lacks target, holds features, diagnosis, clinic, first, of_first; name",
        ),
        ({"keys": {"train": ("features", "diagnosis"), "test": ("x", "y")}}, "lacks x, holds features"),
        ({"keys": ("features", "diagnosis"), "groups": "patient"}, "lacks patient, holds features"),
        ({"keys": "features"}, "keys = 'features': give a pair (inputs, targets) of keys"),
        ({"keys": ["features"]}, "give a pair"),
        ({"keys": {"train": 3}}, "give a pair"),
        ({"keys": {"training": ("features", "diagnosis")}}, "keys = 'training': did you mean 'train'?"),
        ({"keys": {"test": ("first", "of_first")}}, 'name the arrays of "train"'),
        ({"keys": ("features", "diagnosis"), "groups": 3}, "groups = 3: give the key of an array"),
    ],
)
def test_bad_keys(tumours, options, says):
    with pytest.raises(InputError) as error:
        datasets.from_npz(tumours[0], scale=1, **options)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
