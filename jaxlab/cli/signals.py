"""Signals that end a run: it finishes the call under way, saves, and says by its exit status that it can go on."""

from __future__ import annotations

import atexit
import signal
from types import FrameType, TracebackType

from jaxlab.cli.terminal import say

#: Of a run that a batch system may requeue (EX_TEMPFAIL).
REQUEUE = 75
INTERRUPTED = 130
_NAMES = ("SIGINT", "SIGTERM", "SIGUSR1")


class Signals:
    """Listens while it is open. Its owner sets ``training``, before which there is nothing to save, and ``over``.

    Once ``over`` is set, only Ctrl-C has an effect: everything is on disk, and the results are still to be printed.
    After that, and after a signal that ended the run, the process is about to exit: later signals of a batch system do
    not change its exit status.
    """

    def __init__(self) -> None:
        self.training, self.over = False, False
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Signals:
        for name in _NAMES:
            if hasattr(signal, name):
                self._before[getattr(signal, name)] = signal.signal(getattr(signal, name), self._hear)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        ending = self.over or self.received is not None
        for number, handler in self._before.items():
            if number == signal.SIGINT or not ending:
                signal.signal(number, handler)
            else:  # heard by `_hear` until the interpreter ends, which takes away what is written in Python
                atexit.register(signal.signal, number, signal.SIG_IGN)

    def asked(self) -> bool:
        """Whether the run should stop."""
        return self.received is not None

    @property
    def status(self) -> int:
        """What the process should exit with."""
        return INTERRUPTED if self.received == signal.SIGINT else REQUEUE

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.over and number != signal.SIGINT:
            return
        again = self.received is not None
        if again and number != signal.SIGINT:  # it is ending already
            return
        self.received = signal.Signals(number)
        if not self.training or (again and number == signal.SIGINT):
            raise KeyboardInterrupt
        more = "; Ctrl-C again stops at once" if number == signal.SIGINT else ""
        say(f"jaxlab: {self.received.name}: finishing the call under way, then saving{more}")
