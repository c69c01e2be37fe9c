"""Inputs and targets in pandas and xarray, without importing either."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxlab.checks import python
from jaxlab.errors import InputError

_DTYPES = {"b": np.bool_, "i": np.int64, "u": np.uint64, "f": np.float64}


def is_frame(values: Any) -> bool:
    """Whether a value is a pandas DataFrame."""
    return _of_pandas(values) and hasattr(values, "columns")


def is_categorical(values: Any) -> bool:
    """Whether a value is a pandas Series of categories."""
    return _of_pandas(values) and hasattr(getattr(values, "dtype", None), "categories")


def _of_pandas(values: Any) -> bool:
    return type(values).__module__.split(".")[0] == "pandas"


def without_pandas(field: str, values: Any) -> Any:
    """Convert numbers in pandas to a NumPy array; return anything else as it is.

    A frame of one dtype keeps it. A frame of several gets the dtype that holds them all.

    Raises:
        InputError: a column is not numeric, or a number is missing.
    """
    if is_frame(values):
        if values.shape[1] == 0:
            raise InputError(field, list(values.shape), "give at least one column")
        names = values.columns.tolist()
        columns = [_numbers(field, name, values.iloc[:, index]) for index, name in enumerate(names)]
        return np.stack(columns, axis=1)
    if (
        _of_pandas(values)
        and getattr(values, "ndim", 0) == 1
        and getattr(values.dtype, "kind", "O") in _DTYPES
    ):
        return _numbers(field, None, values)
    return values


def _numbers(field: str, name: Any, column: Any) -> np.ndarray:
    """The numbers of a column, whose dtype may be one of pandas' own, such as ``Int64``."""
    where = field if name is None else f"{field}[{name!r}]"
    kind = getattr(column.dtype, "kind", "O")
    if kind not in _DTYPES:
        remedy = f"give numbers; encode text first, e.g. pandas.get_dummies(frame, columns=[{name!r}])"
        if kind in "mM":
            remedy = "give numbers, e.g. days since a start"
        raise InputError(where, str(column.dtype), remedy)
    missing = int(column.isna().sum())
    if missing:
        remedy = f"{missing:,} of {len(column):,} numbers are missing; fill them (fillna) or drop the rows (dropna)"
        raise InputError(where, "nan", remedy)
    return column.to_numpy() if isinstance(column.dtype, np.dtype) else column.to_numpy(_DTYPES[kind])


def check_same_rows(field: str, inputs: Any, others: Any) -> None:
    """Raise InputError where pandas or xarray labels the rows of ``others``, which ``field`` names, differently."""
    dims = [_dims(each) for each in (inputs, others)]
    if all(dims) and dims[0][0] != dims[1][0]:
        remedy = f"the first dimension of the inputs is {dims[0][0]!r}; transpose one of them"
        raise InputError(field, dims[1][0], remedy)
    first, second = _row_labels(inputs), _row_labels(others)
    if first is None or second is None or len(first) != len(second) or first.equals(second):
        return
    labels = list(zip(map(python, first), map(python, second), strict=True))
    row, (one, other) = next((each for each in enumerate(labels) if each[1][0] != each[1][1]), (0, labels[0]))
    remedy = f"the index of row {row} is {one!r} in the inputs; sort both alike, or reset_index(drop=True)"
    raise InputError(field, other, remedy)


def _dims(values: Any) -> tuple[Any, ...]:
    """The names of an xarray DataArray's dimensions; empty for anything else."""
    dims = getattr(values, "dims", ())
    return dims if isinstance(dims, tuple) else ()


def _row_labels(values: Any) -> Any:
    """The index of the rows; None if there is none."""
    if _of_pandas(values):
        return getattr(values, "index", None)
    dims = _dims(values)
    return values.indexes.get(dims[0]) if dims and hasattr(values, "indexes") else None
