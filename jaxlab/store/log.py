"""What a run recorded, as a sequence of immutable pieces."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxlab.engine import Piece
from jaxlab.errors import InputError
from jaxlab.store.description import DIMS, Description
from jaxlab.store.files import disk_errors, read_arrays, write_arrays
from jaxlab.store.lock import trained_by_another

# Writing takes at most this share of the time, so that short segments share a file; but nothing waits longer than this.
_SHARE = 0.01
_LONGEST = 10.0


class Rung(NamedTuple):
    """Who stopped at one rung.

    Attributes:
        stage: the trials that train together, by the name of their stage.
        epoch: that all of them had reached.
        stops: ``(outcome, rule, reason)`` by the number of the trial.
    """

    stage: str
    epoch: int
    stops: Mapping[int, tuple[str, str, str]]


class Recorded(NamedTuple):
    """Everything that pieces hold: ``(group, piece)`` with trials numbered within the study, and the rungs."""

    pieces: list[tuple[int, Piece]]
    rungs: list[Rung]

    def add(self, group: int, piece: Piece) -> None:
        """One more piece."""
        self.pieces.append((group, piece._replace(ended=None)))

    def forget(self, trials: np.ndarray, epochs: np.ndarray) -> None:
        """What some trials recorded after some epochs, one for each of them, counts no more; nor do later stops."""
        if not len(trials):
            return
        last = dict(zip(trials.tolist(), epochs.tolist(), strict=True))
        found = []
        for group, piece in self.pieces:
            its = [trial for trial in piece.trials.tolist() if trial in last]
            limits = np.array([last[trial] for trial in its], int)
            found += [(group, part) for part in (piece.until(np.array(its, int), limits) if its else [piece])]
        self.pieces[:] = found
        kept = []
        for rung in self.rungs:
            stops = {
                trial: stop for trial, stop in rung.stops.items() if rung.epoch <= last.get(trial, rung.epoch)
            }
            kept += [rung._replace(stops=stops)] if stops or not rung.stops else []
        self.rungs[:] = kept


class Log:
    """The pieces in one folder, for the one process that writes them.

    What is added is on disk at the next `flush`; `settle` flushes unless that would take too much of the time.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._waiting = Recorded([], [])
        self._next = 1 + max((int(path.name[1:9]) for path in _files(folder)), default=-1)
        self._flushed, self._cost = -np.inf, 0.0

    def add(self, group: int, piece: Piece) -> None:
        """What a call recorded."""
        self._waiting.add(group, piece)

    def stop(self, rung: Rung) -> None:
        """Who stopped at a rung."""
        self._waiting.rungs.append(rung)

    def forget(self, trials: np.ndarray, epochs: np.ndarray) -> None:
        """Write at once that `Recorded.forget` applies to everything so far."""
        self.flush()
        self._write([], {"rungs": [], "forget": [trials.tolist(), epochs.tolist()]})

    def settle(self) -> None:
        """A segment is finished: write what it recorded, unless the last time was so recent that it would slow it."""
        if time.perf_counter() - self._flushed >= min(self._cost / _SHARE, _LONGEST):
            self.flush()

    def flush(self) -> None:
        """Write everything added so far, as one piece, whole and for good."""
        if not (self._waiting.pieces or self._waiting.rungs):
            return
        began = time.perf_counter()
        self._write(self._waiting.pieces, {"rungs": [rung._asdict() for rung in self._waiting.rungs]})
        self._waiting = Recorded([], [])
        self._flushed = time.perf_counter()
        self._cost = self._flushed - began

    def _write(self, pieces: Sequence[tuple[int, Piece]], note: dict[str, Any]) -> None:
        arrays, blocks = _blocks(pieces)
        with disk_errors(self.folder):
            write_arrays(self.folder, f"p{self._next:08d}", arrays, {"blocks": blocks} | note)
        self._next += 1


class _Shape:
    """What the pieces of a run must fit."""

    def __init__(self, description: Description):
        self.trials, self.epochs = len(description["coordinates"]["trial_id"]), description["epochs"]
        self.groups = description["groups"]
        self.dims = {name: label[DIMS] for group in self.groups for name, label in group["variables"].items()}
        self.labelled = {dim for group in self.groups for dim in group["coordinates"]}
        self.group_of = np.empty(self.trials, int)
        for index, group in enumerate(self.groups):
            self.group_of[group["trials"]] = index

    def check(self, recorded: Recorded) -> None:
        """Raise ValueError for what cannot be of the run."""
        for group, piece in recorded.pieces:
            if not self._fits(group, piece):
                raise ValueError(f"group {group}, trials {piece.trials}, epochs {piece.epochs}")
        for rung in recorded.rungs:
            if (
                not all(0 <= trial < self.trials for trial in rung.stops)
                or not 0 <= rung.epoch <= self.epochs
            ):
                raise ValueError(f"stops {rung.stops} at epoch {rung.epoch}")

    def _fits(self, group: int, piece: Piece) -> bool:
        inside = _within(piece.trials, 0, self.trials - 1) and _within(piece.epochs, 0, self.epochs)
        if not inside or not 0 <= group < len(self.groups) or not (piece.final or len(piece.epochs)):
            return False
        if np.any(self.group_of[piece.trials] != group):
            return False
        names = self.groups[group]["coordinates"]
        for name, values in piece.record.items():
            own = values.shape[1 if piece.final else 2 :]
            dims = self.dims.get(name, [""] * len(own))
            if len(own) != len(dims) or any(
                dim in self.labelled and extent != len(names.get(dim, ()))
                for dim, extent in zip(dims, own, strict=True)
            ):
                return False
        return True


def _within(numbers: np.ndarray, least: int, most: int) -> bool:
    return not len(numbers) or bool(numbers.min() >= least and numbers.max() <= most)


def read_log(
    folder: Path,
    description: Description | None = None,
    on_damage: Callable[[InputError], None] | None = None,
) -> Recorded:
    """All pieces in a folder, in the order in which they were written; where two hold the same, the later one counts.

    Args:
        folder: of the pieces.
        description: of the run; what does not fit it is damaged.
        on_damage: called with the error of each damaged piece, which is left out; by default it is raised.
    """
    found = Recorded([], [])
    shape = None if description is None else _Shape(description)
    remedy = f"remove it and {folder.parent / 'states'}, and the run trains it again"
    if other := trained_by_another(folder.parent):
        remedy = f"once no process trains the run{other}, {remedy}"
    for path in _files(folder):
        try:
            (pieces, rungs), forgotten = _read(path, shape, remedy)
        except InputError as error:
            if on_damage is None:
                raise
            on_damage(error)
        else:
            found.forget(*forgotten)
            found.pieces.extend(pieces)
            found.rungs.extend(rungs)
    return found


def _read(path: Path, shape: _Shape | None, remedy: str) -> tuple[Recorded, tuple[np.ndarray, np.ndarray]]:
    """What one file holds, and what it says is to be forgotten of the files before."""
    arrays, note = read_arrays(path, remedy)
    try:
        pieces = [_piece(arrays, f"{i}/", block) for i, block in enumerate(note["blocks"])]
        recorded = Recorded(pieces, [_rung(each) for each in note["rungs"]])
        forgotten = _forgotten(note.get("forget", ([], [])))
        if shape is not None:
            shape.check(recorded)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError("piece", str(path), f"is no piece of a run ({error!r}); {remedy}") from error
    return recorded, forgotten


def _rung(note: Any) -> Rung:
    stops = {int(trial): tuple(stop) for trial, stop in note["stops"].items()}
    texts = [note["stage"], *(word for stop in stops.values() for word in stop)]
    if not all(isinstance(text, str) for text in texts) or any(len(stop) != 3 for stop in stops.values()):
        raise ValueError(f"stops {stops}")
    if type(note["epoch"]) is not int:
        raise TypeError(f"epoch {note['epoch']!r}")
    return Rung(note["stage"], note["epoch"], stops)


def _forgotten(note: Any) -> tuple[np.ndarray, np.ndarray]:
    trials, epochs = note
    if any(type(each) is not int for each in (*trials, *epochs)) or len(trials) != len(epochs):
        raise ValueError(f"forget {note}")
    return np.array(trials, int), np.array(epochs, int)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"p{'[0-9]' * 8}-*.npz"))


def _blocks(pieces: Iterable[tuple[int, Piece]]) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """Pieces of one group and the same epochs joined, since a file of few arrays is quick to write."""
    together: dict[tuple, list[Piece]] = {}
    for group, piece in pieces:
        epochs = () if piece.final else tuple(piece.epochs.tolist())
        together.setdefault((group, piece.final, epochs), []).append(piece)
    arrays: dict[str, np.ndarray] = {}
    blocks = []
    for index, ((group, final, _), parts) in enumerate(together.items()):
        blocks.append({"group": group, "final": final})
        arrays[f"{index}/trials"] = np.concatenate([part.trials for part in parts])
        arrays[f"{index}/epochs"] = (
            np.concatenate([part.epochs for part in parts]) if final else parts[0].epochs
        )
        for name in parts[0].record:
            arrays[f"{index}/record/{name}"] = np.concatenate([part.record[name] for part in parts])
    return arrays, blocks


def _piece(arrays: Mapping[str, np.ndarray], prefix: str, block: Any) -> tuple[int, Piece]:
    """One block of a file; raises where its arrays are not of the kinds and shapes that a piece has."""
    group, final = block["group"], block["final"]
    start = f"{prefix}record/"
    record = {name.removeprefix(start): values for name, values in arrays.items() if name.startswith(start)}
    if type(group) is not int or type(final) is not bool:
        raise TypeError(f"group {group!r}, final {final!r}")
    piece = Piece(arrays[f"{prefix}trials"], arrays[f"{prefix}epochs"], record, final)
    whole = all(each.ndim == 1 and each.dtype.kind in "iu" for each in (piece.trials, piece.epochs))
    lead = (len(piece.trials),) if final else (len(piece.trials), len(piece.epochs))
    if not whole or (final and len(piece.epochs) != len(piece.trials)):
        raise ValueError(f"trials {piece.trials}, epochs {piece.epochs}")
    for name, values in record.items():
        if values.shape[: len(lead)] != lead or values.dtype.kind not in "biufcV":
            raise ValueError(f"{name} is {values.dtype} {list(values.shape)}")
    return group, piece
