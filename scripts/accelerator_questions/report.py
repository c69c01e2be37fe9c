"""The report of ``scripts/accelerator.py``: all rows as JSON, answers and tables as Markdown."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerator_questions import Question
from jaxlab.errors import InputError

_INTRODUCTION = """\
Each question was asked in a separate process with a time limit by `scripts/accelerator.py`;
`scripts/accelerator_questions/` contains one file per question. The JSON file of the same name holds every row."""


class Report:
    """The answers so far, written to ``FOLDER/DEVICE-accelerator.json`` and ``.md``.

    The device's name is known once the first question runs. Answers of an earlier run in these files stay until their
    question is asked again.

    Args:
        questions: all questions, in order.
        folder: folder of the two files.
        small: whether sizes are tiny; the file names then end in ``-small``.
        command: the command line, for the record.
    """

    def __init__(self, questions: Sequence[Question], folder: Path, small: bool, command: str):
        self.order = list(questions)
        self.folder, self.small, self.command = folder, small, command
        self.date = datetime.date.today().isoformat()
        self.environment: dict[str, Any] | None = None
        self.answers: dict[str, dict[str, Any]] = {}

    @property
    def paths(self) -> tuple[Path, Path]:
        """Paths of the JSON and of the Markdown file."""
        device = (self.environment or {}).get("name", "unknown")
        name = f"{device}-accelerator{'-small' if self.small else ''}"
        return self.folder / f"{name}.json", self.folder / f"{name}.md"

    def begin(self, question: Question, limit: float) -> None:
        """Begin the answer to a question that is asked now."""
        self.answers[question.name] = {
            "date": self.date,
            "command": self.command,
            "environment": self.environment,
            "limit": limit,
            "outcome": "in progress",
            "notes": [],
            "says": [],
            "tables": [],
            "rows": [],
        }

    def take(self, question: Question, lines: Sequence[Mapping[str, Any]]) -> None:
        """Add lines that the question's process wrote."""
        found = self.answers[question.name]
        for line in lines:
            if "environment" in line:
                found["environment"] = line["environment"]
                self._where(line["environment"])
            elif "row" in line:
                found["rows"].append(line["row"])
            elif "note" in line:
                found["notes"].append(line["note"])
            else:
                found |= line["answer"]
        if any("environment" not in line for line in lines):
            self.write()

    def end(self, question: Question, outcome: str, seconds: float, log: str = "") -> None:
        """End the answer: ``outcome`` is "answered", or what went wrong; ``log`` is the end of the process's output."""
        self.answers[question.name] |= {"outcome": outcome, "seconds": seconds}
        if log:
            self.answers[question.name]["log"] = log
        self.write()

    def leave_out(self, question: Question, why: str) -> None:
        """Record that a question is not asked; an earlier answer to it stays."""
        if question.name not in self.answers:
            self.begin(question, 0)
            self.answers[question.name]["outcome"] = f"not asked: {why}"
        if self.environment is not None:
            self.write()

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """The rows of every question, by its name."""
        return {name: found["rows"] for name, found in self.answers.items()}

    def write(self) -> None:
        """Write both files, each atomically."""
        content = {
            "environment": self.environment,
            "date": self.date,
            "command": self.command,
            "small": self.small,
            "questions": {each.name: self.answers[each.name] for each in self._known()},
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        for path, text in zip(
            self.paths, (json.dumps(content, indent=1) + "\n", self.markdown()), strict=True
        ):
            fresh = path.with_name(path.name + ".new")
            fresh.write_text(text)
            fresh.replace(path)

    def markdown(self) -> str:
        """The report as Markdown."""
        where = self.environment or {}
        lines = [
            f"# Measurements of {where.get('device_kind', 'an unknown device')}",
            "",
            f"{_about(where)}{self.date}." if where else f"No process reached the device; {self.date}.",
            "",
            f"    {self.command}",
            "",
            *(["**Tiny sizes (`--small`): the figures mean nothing.**", ""] if self.small else []),
            _INTRODUCTION,
            "",
            *_table(("", "question", "answer"), [self._line(each) for each in self.order]),
        ]
        for each in self._known():
            lines += ["", *self._section(each)]
        return "\n".join(lines) + "\n"

    def _known(self) -> list[Question]:
        return [each for each in self.order if each.name in self.answers]

    def _line(self, question: Question) -> list[str]:
        """The row of a question in the table at the top."""
        found = self.answers.get(question.name)
        number, words = str(self.order.index(question) + 1), f"{question.words} (`{question.name}`)"
        if found is None:
            return [number, words, "not asked"]
        said = found["says"][0] if found["says"] else ""
        failed = "" if found["outcome"] == "answered" else f"**{found['outcome']}**"
        return [number, words, " ".join(part for part in (failed, said) if part)]

    def _section(self, question: Question) -> list[str]:
        found = self.answers[question.name]
        lines = [
            f"## {self.order.index(question) + 1}. {question.name.capitalize()}",
            "",
            f"*{question.words}*",
        ]
        if found["outcome"].startswith("not asked"):
            return [*lines, "", f"{found['outcome'].capitalize()}."]
        for said in found["says"]:
            lines += ["", said]
        for table in found["tables"]:
            lines += ["", *([f"{table['title']}", ""] if table["title"] else [])]
            lines += _table(table["columns"], table["rows"])
        for note in found["notes"]:
            lines += ["", note]
        return [*lines, "", self._small_print(found)]

    def _small_print(self, found: Mapping[str, Any]) -> str:
        words = []
        if found["outcome"] == "answered":
            words.append(f"Took {found['seconds']:.0f} s of at most {found['limit']:.0f} s.")
        else:
            words.append(f"**{found['outcome'][0].upper()}{found['outcome'][1:]}.**")
        where = found["environment"] or {}
        if (found["date"], where.get("versions")) != (self.date, (self.environment or where).get("versions")):
            words.append(f"From an earlier run, `{found['command']}`: {_about(where)}{found['date']}.")
        elif found["command"] != self.command:
            words.append(f"From `{found['command']}` on the same day.")
        return " ".join(words)

    def _where(self, environment: dict[str, Any]) -> None:
        """Set the device; the first time, read the answers that an earlier run wrote to its files."""
        known = self.environment is not None
        self.environment = environment
        if known:
            return
        earlier = _read(self.paths[0])
        for name, found in earlier.items():
            if self.answers.get(name, {}).get("outcome", "not asked").startswith("not asked"):
                self.answers[name] = found


def check_folder(folder: Path) -> Path:
    """Return the folder; an `InputError` if it is something else."""
    if folder.exists() and not folder.is_dir():
        raise InputError("--out", str(folder), "give a folder")
    return folder


def _about(where: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{package} {version}" for package, version in where.get("versions", {}).items())
    count = where.get("cores", "?")
    cores = f"{count} core{'s' * (count != 1)}"
    device = f"{where.get('devices', 1)} × {where.get('device_kind', 'unknown')}"
    return f"{device}; {where.get('processor', 'unknown processor')}, {cores}; {versions}; "


def _read(path: Path) -> dict[str, Any]:
    """The answers of an earlier run."""
    try:
        return json.loads(path.read_text())["questions"]
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError):
        print(f"accelerator.py: {path} cannot be read and is replaced", file=sys.stderr)
        return {}


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [list(columns), ["---"] * len(columns), *(list(row) for row in rows)]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
