"""Kill a run at random moments, resume it, and compare every array with an uninterrupted run, bit for bit.

    python scripts/kill_and_resume.py scripts/studies/learning_rate.toml --kills 300
    python scripts/kill_and_resume.py STUDY.toml --signal TERM

Half of the kills come at a random time during training, the other half within milliseconds of a new file in the run
folder. A checkpoint is saved after every call. The exit status is 1 if a run differs from the uninterrupted one or
leaves an unreadable folder.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import xarray as xr

import jaxlab.cli.app  # noqa: F401  slow to import, so it is imported before the children are forked
from jaxlab import cli
from jaxlab.engine import EndRecord
from jaxlab.store import read_records

WHERE = ("records", "checkpoints/*", "weights", ".")
# This process must start no JAX device, or it could not fork. So it compares record files, and results by xarray.


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", help="the study file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as for jaxlab run")
    parser.add_argument("--kills", type=int, default=100, help="number of kills (default: 100)")
    parser.add_argument(
        "--signal", choices=("KILL", "TERM", "USR1"), default="KILL", help="signal to send (default: KILL)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments (default: 0)")
    given = parser.parse_args(arguments)
    changes = [word for change in given.set for word in ("--set", change)]
    with tempfile.TemporaryDirectory() as folder:
        command = ["run", given.study, *changes, "--checkpoint-every", "0", "--out"]
        return kill_often(
            command, Path(folder), given.kills, getattr(signal, f"SIG{given.signal}"), given.seed
        )


def kill_often(command: list[str], folder: Path, kills: int, number: signal.Signals, seed: int) -> int:
    """Kill runs ``kills`` times; returns 0 if none differs from the uninterrupted run, else 1."""
    reference = folder / "reference"
    child = start([*command, str(reference)], folder / "log")
    moment(child, reference, 1)
    began = time.monotonic()
    if wait(child) != 0:
        print((folder / "log").read_text(), file=sys.stderr)
        return 1
    span = time.monotonic() - began
    rng, done, finished = random.Random(seed), 0, 0
    run = folder / "run"
    while done < kills or run.exists():
        child = start([*command, str(run)], folder / "log")
        killed = done < kills and kill(child, run, rng, span, number)
        status = wait(child)
        done += killed
        complete = (run / "complete").exists()
        expected = {0} if not killed else {-signal.SIGKILL, 0} if number == signal.SIGKILL else {75, 0}
        wrong = f"exit status {status}" if status not in expected else ""
        wrong = wrong or differences(reference, run) or (complete and results_differ(reference, run))
        if wrong:
            kept = shutil.copytree(run, Path(tempfile.mkdtemp()) / "run")
            print(f"after {done} kills: {wrong}; {kept}\n{(folder / 'log').read_text()}", file=sys.stderr)
            return 1
        if status == 0:
            finished += 1
            shutil.rmtree(run)
    print(
        f"{done} times {number.name}, {finished} runs finished; every array is bitwise equal to the uninterrupted run's"
    )
    return 0


def start(command: list[str], log: Path) -> int:
    """Run the command line in a forked child process, which has everything imported."""
    child = os.fork()
    if child:
        return child
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = ["jaxlab", *command]
    status = 0
    try:
        cli.main()
    except SystemExit as end:
        status = end.code or 0
    finally:
        sys.stdout.flush()
        os._exit(status)


def kill(child: int, run: Path, rng: random.Random, span: float, number: signal.Signals) -> bool:
    """Send the signal at a random moment within ``span`` seconds; returns False if the child ends first."""
    if rng.random() < 0.5:
        late = rng.uniform(0, 0.7 * span)
        came = moment(child, run, 1)
    else:
        late = rng.uniform(0, 0.01)
        came = moment(child, run, rng.randint(1, 12))
    time.sleep(late)
    if not came or ended(child):
        return False
    os.kill(child, number)
    return True


def moment(child: int, run: Path, changes: int) -> bool:
    """Wait until the file names in a run folder have changed this many times; returns False if the child ends first."""
    seen = contents(run)
    while not ended(child):
        now = contents(run)
        changes -= now != seen
        seen = now
        if changes <= 0:
            return True
        time.sleep(0.001)
    return False


def ended(child: int) -> bool:
    """Whether the process has ended; `wait` can still collect its status."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def contents(run: Path) -> set[str]:
    """Names of the files in a run folder and its subfolders."""
    found = set()
    for folder in WHERE:
        for path in run.glob(f"{folder}/*"):
            found.add(path.name)
    return found


def wait(child: int) -> int:
    """Wait for the process; returns its exit status, or minus the number of the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def differences(reference: Path, run: Path) -> str:
    """Description of the first recorded value or stop that differs from the uninterrupted run; empty if none does."""
    expected, stops = recorded(reference)
    found, stopped = recorded(run)
    for key, value in found.items():
        if expected.get(key) != value:
            return "trial {}, epoch {}, {}: differs".format(*key)
    wrong = [stop for stop in stopped.items() if stop not in stops.items()]
    return f"trial {wrong[0][0]} stopped differently: {wrong[0][1]}" if wrong else ""


def recorded(run: Path) -> tuple[dict, dict]:
    """The bits of every recorded value by trial, epoch and name; and when and why each trial was stopped."""
    values, found = {}, read_records(run / "records")
    for _, record in (*found.epochs, *found.ends):
        for name, array in record.values.items():
            for row, trial in enumerate(record.trials.tolist()):
                if isinstance(record, EndRecord):
                    values[trial, int(record.epochs[row]), name] = array[row].tobytes()
                else:
                    for at, epoch in enumerate(record.epochs.tolist()):
                        values[trial, epoch, name] = array[row, at].tobytes()
    return values, {trial: (rung.epoch, *stop) for rung in found.rungs for trial, stop in rung.stops.items()}


def results_differ(reference: Path, run: Path) -> str:
    """Name of the first variable of a finished run that differs from the uninterrupted one; empty if none does."""
    expected, found = (xr.open_zarr(each / "results.zarr").load() for each in (reference, run))
    names = sorted(set(expected.variables) | set(found.variables))
    return next((f"{name} differs" for name in names if not same(expected, found, name)), "")


def same(one: xr.Dataset, other: xr.Dataset, name: str) -> bool:
    """Whether a variable is bitwise equal in both data sets."""
    if name not in one.variables or name not in other.variables or one[name].dtype != other[name].dtype:
        return False
    here, there = one[name].values, other[name].values
    return here.tolist() == there.tolist() if here.dtype.kind in "OTU" else here.tobytes() == there.tobytes()


if __name__ == "__main__":
    sys.exit(main())
