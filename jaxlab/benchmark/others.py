"""Whether the machine did something else while it was measured."""

import os
import time
from pathlib import Path
from typing import NamedTuple

from jaxlab.devices import cores

#: More than this share of the cores' time for other processes, and the rounds are not to be trusted.
MOST = 0.05


class Clock(NamedTuple):
    """Seconds: on the wall, of all cores at work, and of this process and its children."""

    wall: float
    busy: float
    own: float


def clock() -> Clock | None:
    """Now; None where the system does not tell (it is Linux that does)."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    except OSError:
        return None
    user, nice, system, _idle, _waiting, interrupts, soft, stolen = map(int, fields)
    ticks = user + nice + system + interrupts + soft + stolen
    return Clock(time.perf_counter(), ticks / os.sysconf("SC_CLK_TCK"), sum(os.times()[:4]))


def others_share(before: Clock | None, after: Clock | None) -> float | None:
    """The share of this process' cores that others took in between, 0 to 1; None where that is not known."""
    if before is None or after is None:
        return None
    elsewhere = (after.busy - before.busy) - (after.own - before.own)
    return min(1.0, max(0.0, elsewhere / ((after.wall - before.wall) * cores())))
