"""Read study files, which declare a study in TOML."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxlab import pruning
from jaxlab.checks import text, too_deep
from jaxlab.datasets import load
from jaxlab.errors import InputError, UnknownName
from jaxlab.space import from_table, grid
from jaxlab.study.fields import STUDY
from jaxlab.study.study import Study

#: Tables of a study file, in addition to the keys of `STUDY`.
TABLES = {
    "data": "a data set's name and its options, see `jaxlab.datasets`; by default digits",
    "configuration": "static fields, below",
    "hyperparameters": "values of traced scalars that the space does not vary, below",
    "pruning": "the rules that stop trials early, see `jaxlab.pruning`",
    "space": "the settings, see `jaxlab.space`",
}
#: A study file, or a table in it, as `tomllib` parses it.
Table = Mapping[str, Any]

#: Options of data sets that are paths.
_PATHS = ("folder", "path", "validation_path", "test_path")
_FUNCTION = re.compile(r"(?P<file>.+\.py):(?P<name>\w+)")


def load_study(path: str | os.PathLike, changes: Sequence[str] = ()) -> Study:
    """Read a study file::

        name = "learning_rate"
        epochs = 15
        keep = "best"                # weights to keep: none, last or best
        deterministic = "auto"       # bitwise reproducible on a GPU: true, false, or "auto" (where possible)

        [data]                       # a data set's name and its options, see jaxlab.datasets
        name = "digits"              # or name = "npz", path = "my_data.npz", next to the study file

        [configuration]              # static: a new value compiles a new program
        features = [16, 32]
        activation = "relu"          # or "my_file.py:my_function", next to the study file

        [hyperparameters]            # traced: a new value compiles nothing
        decay = 0.9

        [pruning]                    # the rules that stop trials early, see jaxlab.pruning
        median = { warmup_epochs = 3 }

        [space]                      # see jaxlab.space
        grid = { learning_rate = { log = [1e-4, 1], num = 13 }, seed = { range = 2 } }

    Paths in the file are relative to its folder, wherever the process was started.

    Args:
        path: path of the study file.
        changes: strings ``"dotted.key=value"``, applied before the study is checked: ``"epochs=3"``,
            ``"hyperparameters.l2=1e-4"``, ``"space.grid.seed=[0]"``. The value is parsed as TOML; a value that is not
            valid TOML is taken as a string.

    Returns:
        the study.

    Raises:
        InputError: the file cannot be read or a key or value is invalid; the message says what to do.
    """
    path = Path(path)
    table = _read(path)
    for change in changes:
        _apply(table, change)
    return study_from_table(table, path.parent, path.name)


def study_from_table(table: Table, folder: Path, file: str = "the study file") -> Study:
    """Make a study from a parsed study file.

    Args:
        table: content of the file.
        folder: folder that paths are relative to, those in ``file.py:function`` and those of the data.
        file: name of the file, for error messages.

    Returns:
        the study.

    Raises:
        InputError: a key or a value is invalid.
    """
    for key, value in table.items():
        if key not in STUDY and key not in TABLES:
            raise UnknownName(file, key, [*STUDY, *TABLES], "key")
        if key in TABLES and key != "space" and not isinstance(value, dict):
            raise InputError(key, value, f"make it a table: [{key}]")
    fields = {key: STUDY[key].check(key, table[key]) for key in STUDY if key in table}
    if not re.fullmatch(r"\w[\w.-]*", fields.get("name", "study")):  # becomes the name of the run folder
        remedy = "use letters, digits, '_', '-' and '.', a letter or digit first"
        raise InputError("name", table["name"], remedy)
    options = dict(table.get("data", {"name": "digits"}))
    if "name" not in options:
        raise InputError("data", options, 'say which: name = "digits"')
    for key in ("name", "url", *_PATHS):
        if key in options:
            text(f"data.{key}", options[key])
    options |= {key: str(folder / options[key]) for key in _PATHS if key in options}
    return Study(
        load(options.pop("name"), **options),
        from_table(_functions(table["space"], folder, "space")) if "space" in table else grid(),
        configuration=_functions(table.get("configuration", {}), folder, "configuration"),
        hyperparameters=table.get("hyperparameters", {}),
        rules=pruning.from_table(_functions(table.get("pruning", {}), folder, "pruning")),
        source={"folder": str(folder.absolute()), "table": dict(table)},
        **fields,
    )


def uses_functions(value: Any) -> bool:
    """Whether a parsed study file refers to functions in Python files, which only training may import."""
    if isinstance(value, dict):
        return any(map(uses_functions, value.values()))
    if isinstance(value, list):
        return any(map(uses_functions, value))
    return isinstance(value, str) and _FUNCTION.fullmatch(value) is not None


def _read(path: Path) -> dict[str, Any]:
    try:
        return _parsed(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        remedy = "does not exist; name a .toml file"
    except (OSError, UnicodeDecodeError) as error:
        remedy = f"cannot be read ({error}); name a .toml file"
    except ValueError as error:
        remedy = f"is not valid TOML: {error}"
    raise InputError("study file", str(path), remedy)


def _parsed(text: str) -> dict[str, Any]:
    """Parse TOML text.

    Raises:
        ValueError: the text is not valid TOML, or is nested too deeply to be used.
    """
    with contextlib.suppress(RecursionError):
        table = tomllib.loads(text)
        if not too_deep(table):
            return table
    raise ValueError("it is nested too deeply")


def _apply(table: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    if not equals or not key.strip():
        raise InputError("--set", change, "write key=value, e.g. epochs=3 or hyperparameters.l2=1e-4")
    try:
        found = _parsed(f"value = {text}")
    except ValueError:
        found = {"value": text}
    if set(found) != {"value"}:
        raise InputError("--set", change, "give one key and one value; repeat --set for more")
    value = found["value"]
    *outer, last = key.strip().split(".")
    for name in outer:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise InputError("--set", change, f"{name} is no table of the study file")
    table[last] = value


def _functions(value: Any, folder: Path, field: str) -> Any:
    """Replace each ``"file.py:function"`` in a value, its lists and its tables; ``field`` is for error messages."""
    if isinstance(value, dict):
        return {key: _functions(each, folder, f"{field}.{key}") for key, each in value.items()}
    if isinstance(value, list):
        return [_functions(each, folder, field) for each in value]
    found = _FUNCTION.fullmatch(value) if isinstance(value, str) else None
    return _function(folder / found["file"], found["name"], field, value) if found else value


def _function(path: Path, name: str, field: str, given: str) -> Callable:
    if not os.path.isfile(path):  # never raises, even for an invalid file name
        raise InputError(field, given, f"there is no file {path}")
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the file may raise anything
        raise InputError(field, given, f"{path} cannot be imported: {error!r}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise InputError(field, given, f"{path.name} defines no function {name}")
    return function
