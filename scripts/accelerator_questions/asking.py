"""The context of a question's process: its time, its rows, and the rows of earlier questions."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

Row = dict[str, Any]
T = TypeVar("T")


class Table(NamedTuple):
    """A table of the report; ``title`` is printed above it."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""


class Answer(NamedTuple):
    """The answer to a question: sentences, the most important first, and tables."""

    says: Sequence[str]
    tables: Sequence[Table]


class Step(NamedTuple):
    """One measurement, and its name in the note if there is no time for it."""

    words: str
    ask: Callable[[], None]


class Asking:
    """A question in progress. It appends lines of JSON to a file, which the driver reads.

    Args:
        path: the file.
        until: time by which the question must end, in seconds of `time.time`.
        small: whether to use tiny sizes.
        earlier: rows of other questions, by the question's name.
        answer: ``rows -> Answer``, called after every row.
    """

    def __init__(
        self,
        path: Path,
        until: float,
        small: bool,
        earlier: Mapping[str, Sequence[Row]],
        answer: Callable[[list[Row]], Answer],
    ):
        self.small, self.earlier = small, earlier
        self.rows: list[Row] = []
        self._path, self._answer = path, answer
        self._until = until

    def row(self, **values: Any) -> None:
        """Add a row to the report, and then the answer, so that an error in the answer loses no row."""
        self.rows.append(plain(values))
        self._write({"row": self.rows[-1]})
        says, tables = self._answer(self.rows)
        tables = [table._asdict() for table in tables]
        self._write({"answer": {"says": list(says), "tables": tables}})

    def note(self, words: str) -> None:
        """Add a remark to the report."""
        self._write({"note": words})

    def where(self, environment: Mapping[str, Any]) -> None:
        """Report the machine on which the question is asked."""
        self._write({"environment": dict(environment)})

    def left(self) -> float:
        """Seconds left."""
        return self._until - time.time()

    def in_time(self, items: Iterable[T], words: Callable[[T], str] = str) -> Iterator[T]:
        """Yield items as long as there is time for one more like the last; a note lists the rest."""
        items, took = list(items), 0.0
        for index, item in enumerate(items):
            if took > self.left():
                self.note(f"No time was left for {_listed([words(each) for each in items[index:]])}.")
                return
            began = time.monotonic()
            yield item
            took = time.monotonic() - began

    def _write(self, line: Row) -> None:
        with open(self._path, "a") as file:
            file.write(json.dumps(line) + "\n")


def plain(value: Any) -> Any:
    """A JSON-serialisable copy: arrays become lists, NumPy scalars become Python's, non-finite numbers become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def elsewhere(module: str, job: Any, environment: Mapping[str, str] | None = None) -> Any:
    """Compute a job in another process: ``python -m accelerator_questions.MODULE JOB`` prints it as its last line.

    Raises:
        RuntimeError: the process failed. It shares the standard error of this process.
    """
    command = [sys.executable, "-m", f"{__package__}.{module}", json.dumps(job)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ | (environment or {}))
    if done.returncode:
        raise RuntimeError(f"the second process ended with exit status {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def _listed(words: Sequence[str], most: int = 6) -> str:
    """Join words with commas and "and"; of many words, the last ones become a count."""
    shown = list(words[:most])
    if len(words) > most:
        shown.append(f"{len(words) - most} more")
    return ", ".join(shown[:-1]) + " and " + shown[-1] if len(shown) > 1 else "".join(shown)
