"""jaxlab against everything that a user would write instead: the same trials, checked, then timed in turns."""

from __future__ import annotations

from jaxlab.benchmark.cells import CELLS
from jaxlab.benchmark.contenders import CONTENDERS
from jaxlab.benchmark.devices import one_device_per_core
from jaxlab.benchmark.main import exit_status, options_from
from jaxlab.benchmark.options import Options
from jaxlab.benchmark.run import benchmark

__all__ = [
    "CELLS",
    "CONTENDERS",
    "Options",
    "benchmark",
    "exit_status",
    "one_device_per_core",
    "options_from",
]
