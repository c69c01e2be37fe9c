"""Signals that end a run: it finishes the call in progress, saves, and exits with a status that asks to be requeued."""

from __future__ import annotations

import atexit
import signal
from types import FrameType, TracebackType

from jaxlab.cli.terminal import say

#: Exit status of a run that a batch system may requeue (EX_TEMPFAIL).
REQUEUE = 75
INTERRUPTED = 130
_NAMES = ("SIGINT", "SIGTERM", "SIGUSR1")


class Signals:
    """Handle SIGINT, SIGTERM and SIGUSR1 while the context is open.

    The owner sets ``training`` once there is something to save, and ``over`` once everything is on disk. After that
    only Ctrl-C has an effect, on the printing of the results. When the context closes, or a signal has ended the run,
    the process is about to exit, and later signals of a batch system do not change its exit status.
    """

    def __init__(self) -> None:
        self.training, self.over = False, False
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Signals:
        for name in _NAMES:
            if hasattr(signal, name):
                self._before[getattr(signal, name)] = signal.signal(getattr(signal, name), self._handle)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        ending = self.over or self.received is not None
        for number, handler in self._before.items():
            if number == signal.SIGINT or not ending:
                signal.signal(number, handler)
            else:  # handled by `_handle` until the interpreter, and with it a handler in Python, ends
                atexit.register(signal.signal, number, signal.SIG_IGN)

    def asked(self) -> bool:
        """Whether the run should stop."""
        return self.received is not None

    @property
    def status(self) -> int:
        """The exit status of the process."""
        return INTERRUPTED if self.received == signal.SIGINT else REQUEUE

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.over and number != signal.SIGINT:
            return
        again = self.received is not None
        if again and number != signal.SIGINT:  # it is ending already
            return
        self.received = signal.Signals(number)
        if not self.training or (again and number == signal.SIGINT):
            raise KeyboardInterrupt
        more = "; Ctrl-C again stops at once" if number == signal.SIGINT else ""
        say(f"jaxlab: {self.received.name}: finishing the call in progress, then saving{more}")
