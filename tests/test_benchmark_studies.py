"""Studies that the benchmark measures: their trials, and ratios within rounds on a clock of known steps."""

import sys
import types

import numpy as np
import pytest
from benchmarked import IMAGES, STUDIES

from benchmark import run, studies, summary
from benchmark.budget import Budget
from benchmark.cells import CELLS
from benchmark.contenders import trial_of
from benchmark.machine import Matmul
from benchmark.options import options_from
from benchmark.problem import make_problem
from jaxlab.models import CNN


def test_the_silent_network_counts_no_units():
    problem = make_problem(IMAGES, 1, 2)
    quiet, loud = (trial_of(problem, kind) for kind in (studies.OutputsOnly, CNN))
    assert quiet.coordinates["layer"] == ()
    assert loud.coordinates["layer"] == ("conv_0", "conv_1")


class FakeStudy:
    """Takes the next of the given seconds, a tenth of it for the compiler, on a clock of its own."""

    def __init__(self, clock, seconds, outs):
        self.clock, self.seconds, self.outs = clock, iter(seconds), outs

    def run(self, out, width, width_cache):
        self.outs.append(out)
        seconds = next(self.seconds)
        self.clock[0] += seconds
        about = {"compile_seconds": seconds / 10, "probe_seconds": seconds / 10, "width": 3}
        return types.SimpleNamespace(attrs=about)


def faked_studies(monkeypatch, *seconds):
    """Every study that `studies` makes takes these seconds, one list a study, in the order of making them."""
    clock, outs, lists = [0.0], [], iter(seconds)
    monkeypatch.setattr(studies, "study_of", lambda *given: FakeStudy(clock, next(lists), outs))
    monkeypatch.setattr(studies, "time", types.SimpleNamespace(perf_counter=lambda: clock[0]))
    return outs


def test_a_share_is_the_median_of_ratios_within_rounds_without_compilation(monkeypatch, tmp_path):
    outs = faked_studies(monkeypatch, [50.0, 10.0, 20.0, 40.0], [4.0, 6.0, 20.0])
    found = studies.measure_stopping(STUDIES, 2, 3, tmp_path / "widths.json")
    assert found["seconds"] == {"full": pytest.approx([8, 16, 32]), "stopping": pytest.approx([3.2, 4.8, 16])}
    assert found["share"] == pytest.approx(0.4)
    assert found["widths"] == {"full": 3, "stopping": 3}
    assert outs == [None] * 7


def test_what_saving_costs_is_the_median_of_ratios_within_rounds(monkeypatch, tmp_path):
    monkeypatch.setattr(studies, "SAVED_SECONDS", 24.0)
    outs = faked_studies(monkeypatch, [2.0], [12.0], [50.0, 10.0, 20.0, 40.0], [11.0, 24.0, 42.0])
    found = studies.measure_saving(STUDIES, 2, 3, tmp_path / "widths.json")
    assert found["epochs"] == 30  # ten epochs more take 8 of these seconds
    assert found["ratio"] == pytest.approx(1.1)
    folders = [out for out in outs if out is not None]
    assert len(set(folders)) == 3
    assert not any(out.parent.exists() for out in folders)


def test_three_trials_in_four_stop_after_a_tenth_of_the_epochs():
    results = studies.study_of(STUDIES, 8, studies.EPOCHS, (studies.three_in_four,)).run(width=2)
    assert results.epochs_run.values.tolist() == [40, 4, 4, 4, 40, 4, 4, 4]


def test_the_studys_trials_are_those_of_the_contenders():
    problem = make_problem(STUDIES, 3)
    study = studies.study_of(STUDIES, 3, 1)
    (group,) = study.groups
    np.testing.assert_array_equal(group.hyperparameters["learning_rate"], problem.learning_rates)
    np.testing.assert_array_equal(group.hyperparameters["seed"], problem.seeds)
    assert study.steps_per_epoch(group) == problem.steps


@pytest.mark.parametrize("cell", ["32x32", "8x8"])
def test_studies_that_cannot_be_measured_say_why(monkeypatch, cell):
    if cell == "8x8":
        monkeypatch.setitem(sys.modules, "zarr", None)
    row = studies.absent(CELLS[cell])
    assert row["absent"] in ("a study takes about 790 s", "zarr is not installed")
    assert summary.summarise({"stopping": [row]}) == []
    monkeypatch.setattr(run, "fastest_matmul", lambda: Matmul(1, lambda calls: None, 1e-3))
    measuring = run.Measuring(options_from(cells=cell, parts="stopping", trials="2").filled(), Budget(1e6))
    assert [None for _ in measuring.all()] == [None]
    assert measuring.found["stopping"] == [row]
    assert measuring.found["dropped"] == []
