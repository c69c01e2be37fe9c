"""What a run recorded, as a sequence of immutable pieces."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxlab.engine import Piece
from jaxlab.errors import InputError
from jaxlab.store.files import disk_errors, read_arrays, write_arrays

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
        last = dict(zip(trials.tolist(), epochs.tolist(), strict=True))
        self.pieces[:] = [
            (group, part) for group, piece in self.pieces for part in piece.until(trials, epochs)
        ]
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


def read_log(
    folder: Path,
    description: Mapping[str, Any] | None = None,
    on_damage: Callable[[InputError], None] | None = None,
) -> Recorded:
    """All pieces in a folder, in the order in which they were written; where two hold the same, the later one counts.

    Args:
        folder: of the pieces.
        description: of the run; what does not fit it is damaged.
        on_damage: called with the error of each damaged piece, which is left out; by default it is raised.
    """
    found = Recorded([], [])
    for path in _files(folder):
        try:
            (pieces, rungs), forgotten = _read(path, description)
        except InputError as error:
            if on_damage is None:
                raise
            on_damage(error)
        else:
            found.forget(*forgotten)
            found.pieces.extend(pieces)
            found.rungs.extend(rungs)
    return found


def _read(
    path: Path, description: Mapping[str, Any] | None
) -> tuple[Recorded, tuple[np.ndarray, np.ndarray]]:
    """What one file holds, and what it says is to be forgotten of the files before."""
    remedy = f"remove it and {path.parent.parent / 'states'}, and the run trains it again"
    arrays, note = read_arrays(path, remedy)
    try:
        pieces = [(block["group"], _piece(arrays, f"{i}/", block)) for i, block in enumerate(note["blocks"])]
        rungs = [
            Rung(
                rung["stage"],
                rung["epoch"],
                {int(trial): tuple(stop) for trial, stop in rung["stops"].items()},
            )
            for rung in note["rungs"]
        ]
        trials, epochs = note.get("forget", ([], []))
        forgotten = np.array(trials, int), np.array(epochs, int)
        if len(trials) != len(epochs) or forgotten[0].ndim != 1:
            raise ValueError(f"forget {note['forget']}")
        if description is not None:
            _check(pieces, rungs, description)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError("piece", str(path), f"is no piece of a run ({error!r}); {remedy}") from error
    return Recorded(pieces, rungs), forgotten


def _check(pieces: list[tuple[int, Piece]], rungs: list[Rung], description: Mapping[str, Any]) -> None:
    """Raise ValueError for what cannot be of the run that is described."""
    trials = len(description["coordinates"]["trial_id"])
    for group, piece in pieces:
        epochs = piece.epochs.tolist()
        shape = (len(piece.trials),) if piece.final else (len(piece.trials), len(epochs))
        fits = group in range(len(description["groups"])) and set(piece.trials.tolist()) <= set(range(trials))
        fits = fits and set(epochs) <= set(range(description["epochs"] + 1)) and epochs
        if not fits or any(values.shape[: len(shape)] != shape for values in piece.record.values()):
            raise ValueError(f"group {group}, trials {piece.trials}, epochs {piece.epochs}")
    for rung in rungs:
        whole = all(
            len(stop) == 3 and all(isinstance(word, str) for word in stop) for stop in rung.stops.values()
        )
        if not whole or not set(rung.stops) <= set(range(trials)):
            raise ValueError(f"stops {rung.stops}")


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


def _piece(arrays: Mapping[str, np.ndarray], prefix: str, block: Mapping[str, Any]) -> Piece:
    start = f"{prefix}record/"
    record = {name.removeprefix(start): values for name, values in arrays.items() if name.startswith(start)}
    return Piece(arrays[f"{prefix}trials"], arrays[f"{prefix}epochs"], record, bool(block["final"]))
