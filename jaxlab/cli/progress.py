"""Progress of a run, on standard error."""

from __future__ import annotations

import time
from types import TracebackType

from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from jaxlab.cli.signals import Signals
from jaxlab.cli.terminal import Terminal, say, visible
from jaxlab.study import Progress


class Watcher:
    """A progress bar on a terminal; elsewhere (a batch job's log) a line every half minute.

    Args:
        name: name of the study or command, which begins each line.
        signals: is notified of the phase.
        intro: a line to print with the first progress; before it, the input may still turn out to be bad.
    """

    def __init__(self, name: str, signals: Signals | None = None, intro: str = ""):
        self.signals, self.intro = signals, intro
        self.console = console = Terminal(stderr=True)
        self.name, self.said = name, time.monotonic()
        self.bar = Bar(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(),
            TextColumn("{task.fields[words]}", markup=False),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.task: TaskID = self.bar.add_task(visible(name), total=None, words="tracing")

    def __enter__(self) -> Watcher:
        self.bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.stop()

    def __call__(self, progress: Progress) -> None:
        if self.signals is not None:
            self.signals.training = progress.phase == "training"
            self.signals.over = progress.phase == "done"
        if self.intro:
            self.console.print(f"{self.name}: {self.intro}", markup=False, highlight=False, soft_wrap=True)
            self.intro = ""
        words = describe(progress)
        total = progress.all_trial_epochs if progress.phase in ("training", "done") else None
        self.bar.update(self.task, completed=progress.trial_epochs, total=total, words=words)
        due = time.monotonic() - self.said > 30 or progress.phase != "training"
        if due and not self.console.is_terminal:
            self.said = time.monotonic()
            say(f"{self.name}: {words}")


def describe(progress: Progress) -> str:
    """Progress as one line: trials, epochs, diverged and stopped trials, speed."""
    group = f"group {progress.group + 1}/{progress.groups} " if progress.groups > 1 else ""
    epoch = progress.trial_epochs / progress.trials
    if progress.phase == "compiling":
        resumes = epoch > 0 and not progress.trial_steps  # an earlier process trained these epochs
        return f"{group}compiling" + f"; resumes from epoch {epoch:.1f}" * resumes
    if progress.phase == "probing":
        return f"{group}choosing the width, measuring {progress.width}"
    epochs = progress.all_trial_epochs // progress.trials
    rate = f" · {progress.rate:,.0f} trial-steps/s" if progress.rate else ""
    ended = f"{progress.diverged} diverged" + f", {progress.stopped} stopped" * (progress.stopped > 0)
    return f"{group}{progress.trials} trials · epoch {epoch:.1f}/{epochs} · {ended}{rate}"
