"""A process that trains a few trials from nothing: ``python -m jaxlab.benchmark.worker '{...}'``.

Its argument is JSON: contender, cell, first trial, count, and the core to stay on, or null for all. It trains
short trials and prints the losses of the first steps as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial

from jaxlab.benchmark.devices import one_device_per_core


def main(argument: str) -> None:
    """Train and print."""
    job = json.loads(argument)
    if job["core"] is not None:
        os.sched_setaffinity(0, {job["core"]})
    one_device_per_core()
    from jaxlab.benchmark.cells import CELLS
    from jaxlab.benchmark.contenders import CONTENDERS
    from jaxlab.benchmark.contenders.fused import fused
    from jaxlab.benchmark.problem import CHECKED_STEPS, make_problem
    from jaxlab.benchmark.rows import OURS

    cell = CELLS[job["cell"]]
    per_call = cell.short_call
    problem = make_problem(cell, job["first"] + job["count"], per_call)
    part = problem.part(job["first"], job["count"])
    calls = cell.short_trial // per_call
    prepare = (
        partial(fused, epochs=calls) if job["contender"] == OURS else CONTENDERS[job["contender"]].prepare
    )
    losses = prepare(part, per_call).run(calls)
    print(json.dumps(losses[:, :CHECKED_STEPS].tolist()))


if __name__ == "__main__":
    main(sys.argv[1])
