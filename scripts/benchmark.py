"""How fast are many trials, against everything that one would write instead?

    python scripts/benchmark.py --quick
    python scripts/benchmark.py
    python scripts/benchmark.py --budget 600
    python scripts/benchmark.py --cells 8x8,28x28 --trials 16 --contenders loop,vmap --out /tmp/benchmark

Trains the same trials with jaxlab, a Python loop around a jitted step, lax.scan, vmap, lax.map, PyTorch (where it is
installed: a loop and torch.func) and one process per trial. All of them must give the same losses before anything is
timed; then they take turns. Writes DEVICE.json, with the seconds of every round, and DEVICE.md.

Takes about an hour on two CPU cores. ``--quick`` has a budget of 180 seconds, ``--budget SECONDS`` of as many,
counted from the start of the process: what there is no time for is dropped, the least important first, and named in
the files and on standard error.
"""

import sys

from jaxlab.benchmark.main import main

if __name__ == "__main__":
    sys.exit(main(__doc__))
