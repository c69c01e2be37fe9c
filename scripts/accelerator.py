"""Measure an accelerator: nine questions in ten minutes, the most important first.

    python scripts/accelerator.py
    python scripts/accelerator.py --only neighbours,lowerings --budget 300
    python scripts/accelerator.py --small --out /tmp/accelerator

Run it where JAX sees an NVIDIA GPU or a TPU. It uses the first device. It needs jax, flax, optax, numpy and xarray; if
PyTorch and zarr are installed, it measures them, too.

Each question runs in a separate process with a time limit, so that a crash or a hang loses only one answer. The script
writes DEVICE-accelerator.json and DEVICE-accelerator.md into docs/benchmarks after every measurement, so that an
interruption loses nothing. Time that a question does not use is passed on to the next. Questions that ``--only`` leaves
out keep the answers of earlier runs in these files.

Numbers to expect: none yet, since it has never run on an accelerator. With --small it runs every question with tiny
sizes on a CPU, in three minutes on two cores; the figures then mean nothing.
"""

import argparse
import contextlib
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

_ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(_ROOT / "scripts"), str(_ROOT)]  # runs from a clone in which jaxlab is not installed

from accelerator_questions import BUDGET, QUESTIONS, Question  # noqa: E402
from accelerator_questions.report import Report, check_folder  # noqa: E402
from jaxlab.errors import InputError, did_you_mean  # noqa: E402

OUT = _ROOT / "docs" / "benchmarks"
#: Fewest seconds for a question; JAX alone takes that long to start.
LEAST_SECONDS = 5.0
_LOG_LINES = 40
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Options(NamedTuple):
    """The options of the script.

    Attributes:
        questions: the questions to ask, in order.
        budget: seconds for all of them.
        out: folder of the report.
        small: whether to use tiny sizes.
        command: the command line, for the record.
    """

    questions: Sequence[Question]
    budget: float = BUDGET
    out: Path = OUT
    small: bool = False
    command: str = "python scripts/accelerator.py"


class Interrupted(Exception):
    """A SIGINT (Ctrl-C) or SIGTERM was received; the argument is its number."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask the questions and write the report; returns the exit status.

    It is 0 if every question is answered, 1 if not, 2 for bad input, and 128 + N after signal N.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ", ".join(f"{number} {each.name}" for number, each in enumerate(QUESTIONS, 1))
    parser.add_argument(
        "--only", action="append", metavar="QUESTIONS", help=f"comma-separated names or numbers, from {names}"
    )
    parser.add_argument("--budget", metavar="SECONDS", help=f"time for all questions (default: {BUDGET:.0f})")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="folder of the report (default: docs/benchmarks)"
    )
    parser.add_argument("--small", action="store_true", help="use tiny sizes, on any device")
    given = parser.parse_args(arguments)
    try:
        options = Options(
            chosen(given.only),
            seconds("--budget", given.budget) if given.budget is not None else BUDGET,
            check_folder(given.out or OUT),
            given.small,
            shlex.join(
                ["python", "scripts/accelerator.py", *(sys.argv[1:] if arguments is None else arguments)]
            ),
        )
        return ask_all(options)
    except InputError as error:
        print(f"accelerator.py: {error}", file=sys.stderr)
        return 2


def chosen(only: Sequence[str] | None) -> list[Question]:
    """Select questions by name or number, in the order of `QUESTIONS`; all of them by default.

    Raises:
        InputError: a name or number is unknown.
    """
    if only is None:
        return list(QUESTIONS)
    known = {name: each for number, each in enumerate(QUESTIONS, 1) for name in (each.name, str(number))}
    words = [word.strip() for text in only for word in text.split(",") if word.strip()]
    remedy = f"give some of {', '.join(each.name for each in QUESTIONS)}, or their numbers"
    for word in words or [""]:
        if word not in known:
            raise InputError("--only", word, f"{did_you_mean(word, known)}{remedy}")
    return [each for each in QUESTIONS if each in [known[word] for word in words]]


def seconds(field: str, text: str) -> float:
    """Parse a positive number of seconds."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not (math.isfinite(found) and found > 0):
        raise InputError(field, text, "give a number of seconds > 0")
    return found


def ask_all(options: Options, known: Sequence[Question] = QUESTIONS) -> int:
    """Ask the questions one after the other within the budget and write the report; returns the exit status of `main`.

    Raises:
        InputError: there is no accelerator, and the sizes are not small.
    """
    report = Report(known, options.out, options.small, options.command)
    handlers = {number: signal.signal(number, _interrupt) for number in _SIGNALS}
    end = time.monotonic() + options.budget
    failed = False
    try:
        with tempfile.TemporaryDirectory() as folder:
            for index, question in enumerate(options.questions):
                left = end - time.monotonic()
                if left < LEAST_SECONDS:
                    report.leave_out(question, f"the budget of {options.budget:g} s was used up")
                    say(f"{question.name}: not asked, the budget of {options.budget:g} s is used up")
                    failed = True
                    continue
                share = question.seconds / sum(each.seconds for each in options.questions[index:])
                failed |= ask(question, left * share, report, Path(folder)) != "answered"
    except Interrupted as interruption:
        say(
            "interrupted"
            if report.environment is None
            else f"interrupted; {report.paths[1]} holds the answers so far"
        )
        return 128 + interruption.args[0]
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    report.write()
    say(f"wrote {report.paths[1]}")
    return 1 if failed else 0


def ask(question: Question, limit: float, report: Report, folder: Path) -> str:
    """Ask one question in a separate process, killed at its limit; returns the outcome, "answered" if all is well."""
    rows, log, earlier = (folder / f"{question.name}.{ending}" for ending in ("rows", "log", "earlier"))
    earlier.write_text(json.dumps(report.rows()))
    began = time.monotonic()
    arguments = ["--rows", rows, "--earlier", earlier, "--until", time.time() + limit]
    command = [*question.program, *map(str, arguments), *(["--small"] if report.small else [])]
    say(f"{question.name}: {question.words} At most {limit:.0f} s.")
    report.begin(question, limit)
    outcome, written = "", _Written(rows)
    with open(log, "wb") as output:
        # In a new session, the child's own children can be killed with it, and Ctrl-C reaches this process only.
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=_environment(folder, report.small) | question.environment,
        )
    try:
        outcome = _followed(child, question, report, written, log, limit)
    except Interrupted:
        outcome = "interrupted"
        raise
    finally:
        _kill(child)
        # Nothing is written without an accelerator, or after an interruption before one was found.
        if outcome and (report.environment is not None or outcome != "interrupted"):
            report.take(question, written.lines())
            kept = "" if outcome == "answered" else _end_of(log)
            report.end(question, outcome, time.monotonic() - began, kept)
    say(f"{question.name}: {outcome}, {time.monotonic() - began:.0f} s")
    for sentence in report.answers[question.name]["says"]:
        say(f"  {sentence}")
    return outcome


def say(line: str) -> None:
    """Print progress on standard error."""
    print(line, file=sys.stderr, flush=True)


class _Written:
    """Reads the complete lines that a process appends to a file."""

    def __init__(self, path: Path):
        self._path, self._read = path, 0

    def lines(self) -> list[dict[str, Any]]:
        """The lines since the last call."""
        if not self._path.exists():
            return []
        with open(self._path, "rb") as file:
            file.seek(self._read)
            complete = file.read().rpartition(b"\n")[0]
        if not complete:
            return []
        self._read += len(complete) + 1
        return [json.loads(line) for line in complete.splitlines()]


def _followed(
    child: subprocess.Popen, question: Question, report: Report, written: _Written, log: Path, limit: float
) -> str:
    """Add what a process writes to the report until it ends or its time is up; returns the outcome."""
    end = time.monotonic() + limit
    while True:
        status = child.poll()
        lines = written.lines()
        if any(line.get("environment", {}).get("platform") == "cpu" for line in lines) and not report.small:
            remedy = "JAX sees no accelerator: install JAX's plugin for yours, or try the script on a CPU with --small"
            raise InputError("device", "cpu", remedy)
        report.take(question, lines)
        if status is not None:
            return _ended(status, log)
        if time.monotonic() > end:
            return f"timed out after {limit:.0f} s"
        time.sleep(0.1)


def _environment(folder: Path, small: bool) -> dict[str, str]:
    """Environment of every child: this clone first on the path, one device, and JAX's compilation cache.

    With tiny sizes, whose figures mean nothing, all children share a compilation cache.
    """
    path = [str(_ROOT / "scripts"), str(_ROOT), os.environ.get("PYTHONPATH", "")]
    found = {
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0],
        "JAX_ENABLE_COMPILATION_CACHE": "true" if small else "false",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return os.environ | found


def _ended(status: int, log: Path) -> str:
    """The outcome of a process, in words."""
    if status == 0:
        return "answered"
    how = f"exit status {status}" if status > 0 else f"killed by {signal.Signals(-status).name}"
    lines = _end_of(log).splitlines()
    return f"{how}: {lines[-1].strip()}" if lines else how


def _end_of(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return "\n".join(lines[-_LOG_LINES:])


def _kill(child: subprocess.Popen) -> None:
    """Kill the process and everything that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _interrupt(number: int, frame: Any) -> None:
    for each in _SIGNALS:  # a second signal would interrupt the writing of the report
        signal.signal(each, signal.SIG_IGN)
    raise Interrupted(number)


if __name__ == "__main__":
    sys.exit(main())
