"""Labels that are no numbers: encoded in sorted order, their names kept; and names given for the classes."""

import datetime
import json

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from sklearn.preprocessing import LabelEncoder
from small import digits

from jaxlab import Study, datasets, space
from jaxlab.errors import InputError
from jaxlab.store import RunFolder

WORDS = np.array(["pear", "fig", "apple", "fig"] * 15)
INPUTS = np.linspace(0, 1, len(WORDS))[:, None]


def read(labels, **options):
    return datasets.from_arrays((INPUTS, labels), (INPUTS, labels), (INPUTS, labels), **options)


def test_labels_of_iris_are_those_of_scikit_learn():
    iris = load_iris(as_frame=True)
    species = iris.target_names[iris.target]
    data = datasets.from_arrays((iris.data, species), (iris.data, species), (iris.data, species), name="iris")
    encoder = LabelEncoder().fit(species)
    np.testing.assert_array_equal(data.train.targets, encoder.transform(species))
    assert data.class_names == tuple(encoder.classes_) == ("setosa", "versicolor", "virginica")
    np.testing.assert_array_equal(data.train.inputs, iris.data.to_numpy(np.float32))


KINDS = {
    "text": WORDS,
    "list": WORDS.tolist(),
    "objects": WORDS.astype(object),
    "bytes": WORDS.astype("S"),
    "bytes as objects": WORDS.astype("S").astype(object),
    "Series": pd.Series(WORDS),
    "Series of objects": pd.Series(WORDS.astype(object)),
    "categories": pd.Series(WORDS, dtype="category"),
    "categories in another order": pd.Series(pd.Categorical(WORDS, ["pear", "fig", "apple", "none"])),
    "frame of one column": pd.DataFrame({"fruit": WORDS}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_any_kind_are_numbered_in_sorted_order(kind):
    data = read(KINDS[kind])
    assert data.class_names == ("apple", "fig", "pear")
    assert data.classes == 3
    np.testing.assert_array_equal(data.train.targets, np.unique(WORDS, return_inverse=True)[1])
    assert data.fingerprint() == read(WORDS).fingerprint()


def test_labels_that_are_neither_text_nor_numbers_are_sorted_by_their_values():
    days = [datetime.date(2026, 11, day) for day in (9, 10, 9)] * 20
    assert read(days).class_names == ("2026-11-09", "2026-11-10")
    sizes = pd.Series([10.5, 9.5, 10.5] * 20, dtype="category")
    assert read(sizes).class_names == ("9.5", "10.5")
    np.testing.assert_array_equal(read(sizes).train.targets[:3], [1, 0, 1])


def test_integer_categories_are_integer_labels():
    data = read(pd.Series([1, 0, 1] * 20, dtype="category"))
    assert data.class_names == ("0", "1")
    np.testing.assert_array_equal(data.train.targets[:3], [1, 0, 1])


def test_the_classes_are_those_of_all_splits():
    few = (INPUTS[:2], ["banana", "fig"])
    data = datasets.from_arrays((INPUTS, WORDS), test=few, validation=few)
    assert data.class_names == ("apple", "banana", "fig", "pear")
    assert data.test.targets.tolist() == [1, 2]


def test_classes_of_integer_labels_have_their_numbers_for_names():
    assert digits().class_names == tuple("0123456789")
    assert read(np.arange(60) % 3 + 1, first_label=1).class_names == ("1", "2", "3")
    assert read(INPUTS[:, 0]).class_names == ()


def test_given_names_are_in_the_order_of_the_labels():
    data = read(np.arange(60) % 2, class_names=["no", "yes"])
    assert (data.class_names, data.classes) == (("no", "yes"), 2)
    assert read(np.arange(60) % 2, class_names=["no", "yes", "unsure"]).classes == 3
    assert read(np.arange(60) % 2 + 1, class_names=("no", "yes"), first_label=1).train.targets.max() == 1
    ordered = read(WORDS, class_names=["pear", "fig", "apple", "kiwi"])
    assert ordered.class_names == ("pear", "fig", "apple", "kiwi")
    assert ordered.train.targets[:4].tolist() == [0, 1, 2, 1]
    assert datasets.modify(ordered, subset=20).class_names == ordered.class_names


def test_another_name_is_another_data_set():
    data = read(np.arange(60) % 2)
    assert data.fingerprint() == read(np.arange(60) % 2, class_names=["0", "1"]).fingerprint()
    assert data.fingerprint() != read(np.arange(60) % 2, class_names=["1", "0"]).fingerprint()


@pytest.mark.parametrize(
    ("labels", "options", "field", "says"),
    [
        (
            WORDS,
            {"class_names": ["apple", "fig"]},
            "train.targets[0]",
            "'pear': is not among the 2 class_names",
        ),
        (WORDS, {"class_names": ["a"]}, "class_names", "give 2 names"),
        (WORDS, {"class_names": "apple"}, "class_names", "give a list of texts"),
        (WORDS, {"class_names": ["apple", "fig", 3]}, "class_names", "give a list of texts"),
        (WORDS, {"class_names": ["apple", "fig", ""]}, "class_names", "give a list of texts"),
        (WORDS, {"class_names": 5}, "class_names", "give a list of texts"),
        (WORDS, {"class_names": ["apple", "fig", "pear", "fig"]}, "class_names", "'fig': is given twice"),
        (WORDS, {"class_names": ["apple", "fig", "pear"], "classes": 4}, "class_names", "give 4 names"),
        (WORDS, {"classes": 4}, "classes", "4: the labels have 3 names"),
        (WORDS, {"first_label": 1}, "first_label", "the labels are names"),
        (WORDS, {"targets": "numbers"}, "train.targets[0]", "'pear': is not a number"),
        (WORDS, {"targets": "one_hot"}, "train.targets[0]", 'omit targets = "one_hot"'),
        (
            np.arange(60) % 3,
            {"class_names": ["no", "yes"]},
            "train.targets",
            "labels of 2 classes are 0 to 1",
        ),
        (INPUTS[:, 0], {"class_names": ["no", "yes"]}, "train.targets", "int32 [N] for 2 classes"),
        (np.array(["fig"] * 60), {}, "train.targets", "every example has this label"),
        (WORDS.reshape(30, 2), {}, "train.targets", "one label for each example"),
        (["fig", None, *WORDS[2:]], {}, "train.targets[1]", "None: a label is missing"),
        (["fig", float("nan"), *WORDS[2:]], {}, "train.targets[1]", "a label is missing"),
        (pd.Series(["fig", pd.NA, *WORDS[2:]]), {}, "train.targets[1]", "a label is missing"),
        (
            pd.Series(["fig", None, *WORDS[2:]], dtype="category"),
            {},
            "train.targets[1]",
            "a label is missing",
        ),
        (pd.Series([1, None] * 30, dtype="category"), {}, "train.targets[1]", "a label is missing"),
        ([(1, 2), "fig", *WORDS[2:]], {}, "train.targets", "types tuple and str"),
        ([3, "fig", *WORDS[2:]], {}, "train.targets", "real numbers; convert them to one type"),
        (np.array([{}, {}] * 30, object), {}, "train.targets", "cannot be sorted"),
        (
            np.array([b"fig", "fig", datetime.date.today()] * 20, object),
            {},
            "train.targets",
            "types str and date",
        ),
    ],
)
def test_bad_labels(labels, options, field, says):
    with pytest.raises(InputError) as error:
        read(labels, **options)
    assert error.value.field == field
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_labels_of_one_split_are_numbers():
    with pytest.raises(InputError, match="the labels of train are no numbers") as error:
        datasets.from_arrays((INPUTS, WORDS), (INPUTS, np.arange(60) % 3))
    assert error.value.field == "test.targets"


def test_many_names_with_few_examples_warn():
    with pytest.warns(UserWarning, match="60 examples have 60 different values") as caught:
        datasets.from_arrays((INPUTS, [f"id {index}" for index in range(60)]))
    assert len(caught) == 1
    names = [f"id {index:02}" for index in range(60)]
    assert datasets.from_arrays((INPUTS, names), class_names=names).classes == 60


def test_a_data_set_checks_its_names():
    data = digits()
    split = data.train
    given = {"name": "toy", "train": split, "validation": split, "test": split}
    assert datasets.Dataset(**given, classes=10, class_names=list("abcdefghij")).class_names == tuple(
        "abcdefghij"
    )
    with pytest.raises(InputError, match="give 10 names, one for each class"):
        datasets.Dataset(**given, classes=10, class_names=["a", "b"])
    numbers = datasets.Split(split.inputs, np.ones((len(split.inputs), 1), np.float32))
    given = {"name": "toy", "train": numbers, "validation": numbers, "test": numbers}
    with pytest.raises(InputError, match="give none: the targets are numbers"):
        datasets.Dataset(**given, classes=None, class_names=["a", "b"])


def test_names_travel_into_the_run_and_label_the_confusion_matrix(tmp_path):
    data = datasets.from_arrays((INPUTS, WORDS), (INPUTS, WORDS), (INPUTS, WORDS))
    configuration = {"model": "mlp", "features": [2], "batch_size": 20, "metrics": ["accuracy", "confusion"]}
    results = Study(data, space.grid(), 1, configuration).run(tmp_path / "run")
    matrix = results.test_confusion.isel(trial=0)
    assert (
        matrix.target_class.values.tolist()
        == matrix.predicted_class.values.tolist()
        == ["apple", "fig", "pear"]
    )
    assert matrix.sel(target_class="fig").sum() == 30
    assert RunFolder(tmp_path / "run").describe().specification.data.class_names == ["apple", "fig", "pear"]
    kept = json.loads((tmp_path / "run" / "run.json").read_text())["specification"]["data"]
    assert kept["class_names"] == ["apple", "fig", "pear"]
