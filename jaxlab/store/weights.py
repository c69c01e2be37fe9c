"""Files of the weights of trials that ended."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxlab.errors import InputError
from jaxlab.store.arrays import Arrays, read_arrays, read_note, write_arrays
from jaxlab.store.files import disk_errors, make_folder

_REMEDY = "train the study again in another folder"


def write_weights(
    folder: Path, trials: np.ndarray, epochs: np.ndarray, weights: Mapping[str, Mapping[str, np.ndarray]]
) -> None:
    """Write the weights of some trials to a file.

    Args:
        folder: folder of the files.
        trials: numbers of the trials, ``[n]``.
        epochs: last epoch of each trial, ``[n]``.
        weights: ``"last"`` and possibly ``"best"``: leaves by path, each with a leading axis of ``n``.
    """
    arrays = {f"{which}/{path}": leaf for which, leaves in weights.items() for path, leaf in leaves.items()}
    with disk_errors(folder):
        make_folder(folder)
        note = {"trials": trials.tolist(), "epochs": epochs.tolist(), "which": list(weights)}
        write_arrays(folder, f"w-e{int(epochs.max()):06d}-t{int(trials[0]):06d}", arrays, note)


def read_weights(folder: Path, trial: int) -> dict[str, Arrays]:
    """Read one trial's weights from when it last ended, by ``"last"`` and ``"best"``; empty if there are none.

    A damaged file that may belong to other trials is skipped with a warning.

    Raises:
        InputError: the file is damaged, or no file has the trial and one of them is damaged.
    """
    latest, path, damaged = -1, None, None
    for file in sorted(
        folder.glob("w-*.safetensors"), key=lambda file: (file.lstat().st_mtime_ns, file.name)
    ):
        try:
            epoch = _ended(file, trial)
        except InputError as error:  # it may belong to other trials
            damaged = error
            continue
        if epoch is not None and epoch >= latest:
            latest, path = epoch, file
    if path is None:
        if damaged is not None:
            raise damaged
        return {}
    if damaged is not None:
        warnings.warn(f"{damaged}; skipped", stacklevel=3)
    arrays, note = read_arrays(path, _REMEDY, "weights")
    row = note["trials"].index(trial)
    if any(leaf.ndim == 0 or len(leaf) != len(note["trials"]) for leaf in arrays.values()):
        raise InputError("weights", str(path), f"is damaged (it lacks rows of some trials); {_REMEDY}")
    return {which: _row(arrays, f"{which}/", row) for which in note["which"]}


def _ended(file: Path, trial: int) -> int | None:
    """The last epoch of a trial whose weights are in a file; None if they are not."""
    note = read_note(file) or read_arrays(file, _REMEDY, "weights")[1]
    try:
        found = dict(zip(note["trials"], note["epochs"], strict=True)).get(trial)
        if (found is not None and type(found) is not int) or not set(note["which"]) <= {"last", "best"}:
            raise TypeError(note)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("weights", str(file), f"is damaged ({error!r}); {_REMEDY}") from error
    return found


def _row(arrays: Mapping[str, np.ndarray], prefix: str, row: int) -> Arrays:
    # The ellipsis makes a scalar an array, too.
    return {
        name.removeprefix(prefix): leaf[row, ...] for name, leaf in arrays.items() if name.startswith(prefix)
    }
