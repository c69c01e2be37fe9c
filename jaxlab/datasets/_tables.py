"""Data sets from the columns of a table: a pandas DataFrame or a CSV file."""

from __future__ import annotations

import warnings
from typing import Any

from jaxlab import checks
from jaxlab.datasets._arrays import check_options, from_arrays
from jaxlab.datasets.dataset import Dataset
from jaxlab.datasets.frames import is_frame
from jaxlab.errors import InputError, UnknownName, how_to_install


def from_frame(
    train: Any,
    test: Any = None,
    validation: Any = None,
    *,
    target: Any,
    inputs: Any = None,
    groups: Any = None,
    **options: Any,
) -> Dataset:
    """Make a data set from the columns of pandas DataFrames: inputs [N, columns], one row for each example.

    >>> datasets.from_frame(houses, target="price", inputs=["area", "rooms"], target_units="€")

    Text or whole numbers in the target column are labels (classification), other numbers those of a regression; see
    `from_arrays`. Text among the inputs is an error: `pandas.get_dummies` encodes it.

    Args:
        train: DataFrame.
        test, validation: DataFrames with the same columns; a missing one is drawn from ``train``.
        target: name of the target column, or a list of names for several regression targets.
        inputs: names of the input columns; by default all except target and groups.
        groups: name of the column of groups, see `from_arrays`.
        **options: options of `from_arrays`.

    Raises:
        InputError: a frame is not a DataFrame or lacks a column, or `from_arrays` raises it.
    """
    check_options("from_frame", options)
    frames = {"train": train, "validation": validation, "test": test}
    frames = {split: frame for split, frame in frames.items() if frame is not None}
    for split, frame in frames.items():
        if not is_frame(frame):
            raise InputError(split, type(frame).__name__, "give a pandas DataFrame, or use from_arrays")
    targets = _names("target", target)
    others = [*targets, *([] if groups is None else [groups])]
    if inputs is None:
        inputs = [name for name in frames["train"].columns.tolist() if name not in others]
    inputs = _names("inputs", inputs)
    for name in targets:
        if name in inputs:
            raise InputError("inputs", name, "is the target; leave it out of the inputs")
    for split, frame in frames.items():
        columns = frame.columns.tolist()
        for name in [*others, *inputs] if split == "train" else [*targets, *inputs]:
            if name not in columns:
                raise UnknownName(f"the frame {split}", name, map(str, columns), "column")
            if columns.count(name) > 1:
                raise InputError(split, name, "is the name of several columns; rename one")
    if groups is not None:
        options["groups"] = frames["train"][groups]
    pairs = {split: (frame[inputs], frame[targets]) for split, frame in frames.items()}
    return from_arrays(**pairs, **{"name": "frame"} | options)


def _names(field: str, given: Any) -> list[Any]:
    """One name or several as a list."""
    names = given if isinstance(given, list | tuple) else [given]
    if not names:
        raise InputError(field, given, "give at least one column")
    return list(names)


def from_csv(
    path: Any,
    *,
    target: Any,
    inputs: Any = None,
    validation_path: Any = None,
    test_path: Any = None,
    groups: Any = None,
    **options: Any,
) -> Dataset:
    """Load a data set from a CSV file with column names in its first line, as `pandas.read_csv` reads it.

    Args:
        path: path of the file.
        target, inputs, groups: names of columns, see `from_frame`.
        validation_path, test_path: further files with the same columns; a missing split is drawn from ``path``.
        **options: options of `from_arrays`; ``name`` defaults to the file name without its extension.

    Raises:
        InputError: pandas is missing, a file cannot be read, or `from_frame` raises it.
    """
    path = checks.path("path", path)
    check_options("from_csv", options)
    paths = {"path": path, "validation_path": validation_path, "test_path": test_path}
    frames = [None if each is None else _read_csv(field, each) for field, each in paths.items()]
    train, validation, test = frames
    row_numbers = [name for name in train.columns if str(name).startswith("Unnamed: ")]
    if inputs is None and row_numbers:  # an index, which to_csv writes without a name
        warnings.warn(
            f"the column {row_numbers[0]!r} is taken as an input, but has no name and may number the rows: write the "
            "file with to_csv(index=False), or list the inputs",
            stacklevel=2,
        )
    named = {"name": path.stem} | options
    return from_frame(train, test, validation, target=target, inputs=inputs, groups=groups, **named)


def _read_csv(field: str, path: Any) -> Any:
    path = checks.path(field, path)
    try:
        import pandas
    except ImportError:
        raise InputError(field, str(path), f"needs pandas: {how_to_install('cli')}") from None
    if not path.is_file():
        raise InputError(field, str(path), "no such file; give the path of a CSV file")
    try:
        return pandas.read_csv(path)
    except Exception as error:  # a parser may raise anything for a broken file
        reason = " ".join(str(error).split())
        raise InputError(field, str(path), f"is not a CSV file ({reason}); correct it") from None
