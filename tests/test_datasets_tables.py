"""Data sets from pandas and xarray: arrays with labelled rows, columns of a frame, CSV files."""

import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.datasets import load_diabetes, load_iris

from jaxlab import datasets, load_study
from jaxlab.errors import InputError


@pytest.fixture(scope="module")
def diabetes():
    return load_diabetes(as_frame=True).frame


@pytest.fixture(scope="module")
def iris():
    found = load_iris(as_frame=True)
    return found.data.assign(species=found.target_names[found.target], flower=np.arange(150) // 5)


def same(data, other):
    """Whether two data sets are equal but for their names."""
    arrays = [
        each
        for name in ("train", "validation", "test")
        for each in zip(getattr(data, name), getattr(other, name), strict=True)
    ]
    return data.class_names == other.class_names and all(np.array_equal(*pair) for pair in arrays)


def test_a_frame_is_its_arrays(diabetes):
    data = datasets.from_frame(diabetes, target="target", target_units="1")
    columns = diabetes.drop(columns="target")
    assert data.name == "frame"
    assert (data.input_shape, data.outputs, data.classes) == ((10,), 1, None)
    arrays = columns.to_numpy(), diabetes.target.to_numpy()
    assert same(data, datasets.from_arrays(arrays))
    assert same(data, datasets.from_arrays((columns, diabetes.target)))
    assert same(data, datasets.from_arrays((xr.DataArray(columns), xr.DataArray(diabetes.target))))
    two = datasets.from_frame(diabetes, target=["target", "bmi"], inputs=["age", "sex"])
    assert (two.input_shape, two.outputs) == ((2,), 2)
    np.testing.assert_array_equal(
        datasets.from_frame(diabetes, diabetes[:9], target="target", inputs="age").test.inputs,
        diabetes[["age"]][:9].to_numpy(np.float32),
    )


def test_text_in_the_target_column_is_labels_and_groups_are_a_column(iris):
    data = datasets.from_frame(iris, target="species", groups="flower", name="iris")
    assert data.class_names == ("setosa", "versicolor", "virginica")
    assert (data.name, data.input_shape) == ("iris", (4,))
    rows = {
        tuple(row): flower
        for row, flower in zip(iris.iloc[:, :4].to_numpy(np.float32), iris.flower, strict=True)
    }
    drawn = [{rows[tuple(row)] for row in split.inputs} for split in (data.train, data.validation, data.test)]
    assert sum(map(len, drawn)) - len(set.union(*drawn)) <= 1  # iris holds one flower twice
    assert same(data, datasets.from_arrays((iris.iloc[:, :4], iris.species), groups=iris.flower))


def test_columns_of_several_types():
    frame = pd.DataFrame(
        {
            "whole": pd.array([1, 2, 3, 4], "Int64"),
            "flag": [True, False, True, False],
            "nullable flag": pd.array([True, False, True, True], "boolean"),
            "number": np.array([0.5, 1.5, 2.5, 3.5], np.float32),
            "nullable": pd.array([0.25, 1, 2, 3], "Float32"),
        }
    )
    data = datasets.from_arrays(*[(frame, [0, 1, 0, 1])] * 3)
    assert data.train.inputs.dtype == np.float32
    np.testing.assert_array_equal(data.train.inputs[0], [1, 1, 1, 0.5, 0.25])
    bytes_ = pd.DataFrame({"a": np.array([0, 255], np.uint8), "b": np.array([7, 8], np.uint8)})
    assert datasets.from_arrays(*[(bytes_, [0, 1])] * 3).train.inputs.dtype == np.uint8
    numbers = datasets.from_arrays(*[(frame, frame["nullable"])] * 3)
    np.testing.assert_array_equal(numbers.train.targets[:, 0], [0.25, 1, 2, 3])
    assert datasets.from_arrays(*[(frame, pd.Series(pd.array([0, 1, 2, 1], "Int64")))] * 3).classes == 3


COLUMNS = pd.DataFrame({"a": [1.0, 2, 3, 4], "b": [4.0, 3, 2, 1]})


@pytest.mark.parametrize(
    ("inputs", "targets", "field", "says"),
    [
        (
            COLUMNS.assign(c=["x", "y", "x", "y"]),
            [0, 1, 0, 1],
            "train.inputs['c']",
            "get_dummies(frame, columns=['c'])",
        ),
        (COLUMNS.assign(c=pd.Categorical(list("xyxy"))), [0, 1, 0, 1], "train.inputs['c']", "get_dummies"),
        (COLUMNS.assign(c=pd.Timestamp(0)), [0, 1, 0, 1], "train.inputs['c']", "days since a start"),
        (
            COLUMNS.assign(c=[1, None, None, 2]),
            [0, 1, 0, 1],
            "train.inputs['c']",
            "2 of 4 numbers are missing",
        ),
        (
            COLUMNS.assign(c=pd.array([1, None, 3, 2], "Int64")),
            [0, 1, 0, 1],
            "train.inputs['c']",
            "1 of 4 numbers",
        ),
        (COLUMNS[[]], [0, 1, 0, 1], "train.inputs", "at least one column"),
        (COLUMNS.a, [0, 1, 0, 1], "train.inputs", "[N, *spatial, C]"),
        (COLUMNS, pd.Series([1.5, None, 3, 4]), "train.targets", "1 of 4 numbers are missing"),
        (
            COLUMNS,
            pd.Series([0, 1, 0, 1], index=[0, 1, 3, 2]),
            "train.targets",
            "index of row 2 is 2 in the inputs",
        ),
        (COLUMNS, COLUMNS[["a"]].sample(frac=1, random_state=1), "train.targets", "reset_index(drop=True)"),
        (COLUMNS, pd.Series([0, 1, 0]), "train.targets", "one target per input"),
        (
            xr.DataArray(np.ones((2, 4)), dims=("channel", "time")),
            xr.DataArray([0, 1, 0, 1], dims="time"),
            "train.targets",
            "the first dimension of the inputs is 'channel'; transpose",
        ),
        (
            xr.DataArray(np.ones((3, 1)), dims=("day", "band"), coords={"day": [1, 2, 3]}),
            xr.DataArray([0, 1, 0], dims="day", coords={"day": [1, 3, 2]}),
            "train.targets",
            "the index of row 1 is 2 in the inputs",
        ),
        (xr.Dataset({"a": ("x", [1.0])}), [0], "train.inputs", "NumPy cannot read it"),
    ],
)
def test_bad_pandas_and_xarray(inputs, targets, field, says):
    with pytest.raises(InputError) as error:
        datasets.from_arrays((inputs, targets))
    assert error.value.field == field
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("frames", "options", "says"),
    [
        ((), {"target": "prise"}, "unknown column 'prise' in the frame train; did you mean 'price'?"),
        ((), {"target": "price", "inputs": ["area", "romms"]}, "did you mean 'rooms'?"),
        ((), {"target": "price", "groups": "city"}, "unknown column 'city' in the frame train"),
        ((), {"target": "price", "inputs": ["area", "price"]}, "inputs = 'price': is the target"),
        ((), {"target": []}, "target = []: give at least one column"),
        ((), {"target": "price", "inputs": []}, "inputs = []: give at least one column"),
        ((), {"target": ["price", "area", "rooms"]}, "inputs = []: give at least one column"),
        ((), {"target": "price", "clases": 3}, "unknown name 'clases' in the options of from_frame"),
        ((), {"target": "price", "targets": "price"}, "targets = 'price': give one of auto, labels"),
        ((pd.DataFrame({"area": [1.0], "rooms": [2]}),), {"target": "price"}, "'price' in the frame test"),
        ((np.ones((2, 3)),), {"target": "price"}, "test = 'ndarray': give a pandas DataFrame"),
    ],
)
def test_bad_frames(frames, options, says):
    houses = pd.DataFrame(
        {"area": np.linspace(1, 2, 30), "rooms": np.arange(30) % 4, "price": np.linspace(2, 5, 30)}
    )
    with pytest.raises(InputError) as error:
        datasets.from_frame(houses, *frames, **options)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_groups_of_other_rows():
    columns = pd.DataFrame({"a": np.linspace(0, 1, 30)})
    groups = pd.Series(np.arange(30) // 3)
    assert datasets.from_arrays((columns, np.arange(30) % 2), groups=groups).classes == 2
    with pytest.raises(InputError, match="the index of row 0 is 0 in the inputs") as error:
        datasets.from_arrays((columns, np.arange(30) % 2), groups=groups[::-1])
    assert error.value.field == "groups"


def test_a_column_twice():
    frame = pd.DataFrame(np.ones((30, 3)), columns=["a", "a", "b"])
    with pytest.raises(InputError, match="'a': is the name of several columns"):
        datasets.from_frame(frame, target="b")


def test_a_csv_file_is_its_frame(tmp_path, iris, monkeypatch):
    iris.to_csv(tmp_path / "iris.csv", index=False)
    iris[:40].to_csv(tmp_path / "test.csv", index=False)
    data = datasets.from_csv(
        tmp_path / "iris.csv", target="species", test_path=tmp_path / "test.csv", groups="flower"
    )
    assert data.name == "iris"
    assert same(data, datasets.from_frame(iris, iris[:40], target="species", groups="flower"))
    (tmp_path / "study.toml").write_text(
        '[data]\nname = "csv"\npath = "iris.csv"\ntest_path = "test.csv"\ntarget = "species"\ngroups = "flower"\n'
        '[configuration]\nmodel = "mlp"\n'
    )
    monkeypatch.chdir("/")
    assert load_study(tmp_path / "study.toml").data.fingerprint() == data.fingerprint()


def test_row_numbers_in_a_csv_file_warn(tmp_path, iris):
    iris.to_csv(tmp_path / "iris.csv")
    options = {"path": tmp_path / "iris.csv", "target": "species", "groups": "flower", "scale": 1}
    with pytest.warns(UserWarning, match="'Unnamed: 0' is taken as an input") as caught:
        assert datasets.from_csv(**options).input_shape == (5,)
    assert len(caught) == 1
    assert datasets.from_csv(**options, inputs=list(iris.columns[:4])).input_shape == (4,)


def test_bad_csv_files(tmp_path, monkeypatch):
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n3,4,5\n")
    (tmp_path / "good.csv").write_text("a,b\n" + "1.5,2\n2.5,3\n" * 9)
    for options, says in (
        ({"path": tmp_path / "none.csv"}, "path = .*none.csv': no such file"),
        ({"path": tmp_path / "empty.csv"}, "is not a CSV file"),
        ({"path": tmp_path / "ragged.csv"}, "is not a CSV file"),
        ({"path": tmp_path / "good.csv", "test_path": tmp_path / "none.csv"}, "test_path = .*no such file"),
        ({"path": tmp_path / "good.csv", "test_path": 3}, "test_path = 3: give a path"),
        ({"path": 3}, "path = 3: give a path"),
        ({"path": tmp_path / "good.csv", "seperator": ";"}, "unknown name 'seperator'"),
    ):
        with pytest.raises(InputError, match=says) as error:
            datasets.from_csv(**options, target="a")
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="csv requires this option; give target"):
        datasets.load("csv", path=str(tmp_path / "good.csv"))
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match="needs pandas: pip install"):
        datasets.from_csv(tmp_path / "good.csv", target="a")
