"""The process of one question, started by ``scripts/accelerator.py``.

python -m accelerator_questions NAME --rows FILE --until TIME --earlier FILE [--small]
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import signal
import time
from pathlib import Path

from accelerator_questions.asking import Asking
from benchmark.machine import device_name, environment


def main() -> None:
    """Ask the question named on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--until", type=float, required=True)
    parser.add_argument("--earlier", type=Path, required=True)
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args()
    # The driver kills a process that takes too long. If the driver itself was killed, this alarm does.
    signal.alarm(max(1, math.ceil(given.until - time.time()) + 10))
    question = importlib.import_module(f"accelerator_questions.{given.name}")
    earlier = json.loads(given.earlier.read_text())
    asking = Asking(given.rows, given.until, given.small, earlier, question.answer)
    where = environment()
    asking.where(where | {"name": device_name(where)})
    question.ask(asking)


if __name__ == "__main__":
    main()
