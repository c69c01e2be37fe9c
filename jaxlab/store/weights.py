"""Files of the weights of trials that ended."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from jaxlab.errors import InputError
from jaxlab.store.arrays import Arrays, read_arrays, read_note, with_prefix, write_arrays
from jaxlab.store.disk import disk_errors, make_folder

_REMEDY = "train the study again in another folder"


@dataclass(frozen=True)
class _Kept:
    """What a file holds: weights of ``trials`` at the ``epochs`` at which they ended."""

    trials: list[int]
    epochs: list[int]
    which: list[Literal["last", "best"]]

    def __post_init__(self) -> None:
        if len(self.trials) != len(self.epochs):
            raise ValueError("it does not have one epoch for each trial")


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
    _write(folder, arrays, _Kept(trials.tolist(), epochs.tolist(), list(weights)))


def discard_weights(folder: Path, after: Mapping[int, int]) -> None:
    """Remove the weights of the given trials that ended after an epoch; see `Records.discard`.

    Raises:
        InputError: a file that must change is damaged, or cannot be read or removed.
    """
    for file in _files(folder):
        kept = read_note(file, _Kept)
        if kept is None:  # damaged: `read_weights` reports it
            continue
        ends = zip(kept.trials, kept.epochs, strict=True)
        rows = [row for row, (trial, end) in enumerate(ends) if end <= after.get(trial, end)]
        if len(rows) == len(kept.trials):
            continue
        if rows:
            arrays, _ = _read(file)
            trials, epochs = ([column[row] for row in rows] for column in (kept.trials, kept.epochs))
            _write(
                folder, {name: leaf[rows] for name, leaf in arrays.items()}, _Kept(trials, epochs, kept.which)
            )
        with disk_errors(folder):
            file.unlink(missing_ok=True)


def read_weights(folder: Path, trial: int) -> dict[str, Arrays]:
    """Read one trial's weights from when it last ended, by ``"last"`` and ``"best"``; empty if there are none.

    A damaged file that may belong to other trials is skipped with a warning.

    Raises:
        InputError: the file is damaged, or no file has the trial and one of them is damaged.
    """
    found, damaged = [], None
    for file in _files(folder):
        try:
            kept = read_note(file, _Kept) or _read(file)[1]
        except InputError as error:  # it may belong to other trials
            damaged = error
            continue
        if trial in kept.trials:
            found.append((kept.epochs[kept.trials.index(trial)], _time(file), file))
    if not found:
        if damaged is not None:
            raise damaged
        return {}
    if damaged is not None:
        warnings.warn(f"{damaged}; skipped", stacklevel=3)
    arrays, kept = _read(max(found)[2])
    row = kept.trials.index(trial)
    # The ellipsis makes a scalar an array, too.
    return {
        which: {name: leaf[row, ...] for name, leaf in with_prefix(arrays, f"{which}/").items()}
        for which in kept.which
    }


def _time(file: Path) -> int:
    """When a file was written; 0 if another process has removed it since."""
    try:
        return file.lstat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _files(folder: Path) -> Sequence[Path]:
    return sorted(folder.glob("w-*.safetensors"))


def _write(folder: Path, arrays: Arrays, kept: _Kept) -> None:
    with disk_errors(folder):
        make_folder(folder)
        stem = f"w-e{max(kept.epochs):06d}-t{kept.trials[0]:06d}"
        write_arrays(folder, stem, arrays, asdict(kept))


def _read(file: Path) -> tuple[Arrays, _Kept]:
    arrays, kept = read_arrays(file, _REMEDY, "weights", _Kept)
    if any(leaf.ndim == 0 or len(leaf) != len(kept.trials) for leaf in arrays.values()):
        raise InputError("weights", str(file), f"is damaged (it lacks rows of some trials); {_REMEDY}")
    return arrays, kept
