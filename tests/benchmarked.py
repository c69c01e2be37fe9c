"""Tiny cells, contenders with known losses and a machine of known speed, for tests of the benchmark."""

import types

import numpy as np

from benchmark import contest, run, timing, work
from benchmark.budget import Budget
from benchmark.cells import Cell
from benchmark.contenders import CONTENDERS
from benchmark.machine import Matmul
from benchmark.options import options_from
from benchmark.problem import Contender, Prepared

IMAGES = Cell("images", (6, 5, 2), 8, (3, 4), short_trial=4)
SIGNALS = Cell("signals", (12, 1), 8, (3, 4), (5, 3), 2, 1, 1)
STUDIES = Cell("study", (8, 8, 1), 4, (2,), (3,))


def fake(losses, calls):
    """A contender that records its calls."""

    def prepare(problem, steps):
        def run(count):
            calls.append(count)
            return losses(problem, count * problem.steps)

        return Prepared(run, problem.trials, problem.steps)

    return Contender("fake", prepare)


def right(problem, steps):
    return np.full((problem.trials, steps), 2.0)


class Hands:
    """A clock that the test moves."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Machine:
    """A machine on which every piece of work takes ``slowness`` times its guess, by a clock that only work moves.

    It replaces what the benchmark measures, since the speed of a real machine is unknown.
    """

    def __init__(self, monkeypatch, slowness):
        self.clock, self.did, self.call = Hands(), [], 0.01 * slowness
        self.guesses = work.Guesses(Budget(), timing.Plan(1, 0.25), 4e11, 1, {})
        matmul = Matmul(1000, lambda calls: None, 5e-3)
        monkeypatch.setattr(run, "fastest_matmul", lambda: matmul)
        monkeypatch.setattr(contest, "time", types.SimpleNamespace(perf_counter=self.clock))
        monkeypatch.setattr(contest, "seconds_of", self.seconds_of)
        for name, contender in CONTENDERS.items():
            prepare = self.contender(name, slowness * contender.seconds, self.call)
            monkeypatch.setitem(CONTENDERS, name, contender._replace(prepare=prepare, missing=str))
        monkeypatch.setattr(run, "fused", CONTENDERS["jaxlab"].prepare)

        def alone(part, cell, contender=""):
            each = work.Work(part, cell.name, 0, contender)
            self.work(each, slowness * self.guesses.first(each))
            return {"cell": cell.name, "trials": 4, "epoch_ratio": 1.0, "evaluation_ratio": 1.0}

        def processes(cell, *_):
            alone("contenders", cell, "processes")
            return [], None

        monkeypatch.setattr(run, "measure_processes", processes)
        monkeypatch.setattr(run, "measure_diagnostics", lambda cell, *_: alone("diagnostics", cell))
        monkeypatch.setattr(run, "measure_study", lambda part, cell, *_: alone(part, cell))

    def contender(self, name, seconds, call):
        """What prepares a contender that takes so many seconds to compile, and so many for each call."""

        def prepare(problem, steps, width=None):
            def run(calls):
                self.clock.now += calls * call
                return right(problem, min(calls, 4) * steps)

            self.work(work.Work("contenders", problem.cell.name, 0, name), seconds)
            return Prepared(run, problem.trials, steps)

        return prepare

    def seconds_of(self, run, calls):
        began = self.clock.now
        run(calls)
        return self.clock.now - began

    def work(self, each, seconds):
        self.did.append(each)
        self.clock.now += seconds

    def measure(self, seconds, **options):
        """What was found within a budget of so many seconds, and how many seconds it took."""
        measuring = run.Measuring(options_from(**options).filled(), Budget(seconds, 0.0, self.clock))
        began = self.clock.now
        for _ in measuring.all():
            pass
        return measuring.found, self.clock.now - began
