import numpy as np
import pytest
import synthetic
import xarray as xr

from jaxlab import InputError, analysis
from jaxlab.pruning import Outcome, Stop

TABLES = [analysis.divergence_table, analysis.overfitting_table, analysis.dead_units_table]


@pytest.fixture
def study():
    return synthetic.example()


def test_the_summary_in_words(study):
    answers = dict(analysis.summary(study))
    assert answers == {
        "best setting": "learning rate 0.1, L2 0: validation accuracy 85.0 % (mean of 2 seeds, 84.0 % to 86.0 %), "
        "test 80.0 %",
        "diverged": "0 of 16 trials",
        "largest stable learning rate": "L2 0: 0.1 (unstable at 1); L2 0.5: 0.01 (unstable at 0.1)",
        "sensitivity to learning rate": "0.875 at every L2 (mean training loss above the best, 0.01 to 10)",
        "largest generalisation gap": "learning rate 1, L2 0.5: 20.0 points of accuracy (training 90.0 %, "
        "validation 70.0 %); validation loss ends at 1 x its minimum",
        "dead units": "0 % before training, up to 80 % at the end (learning rate 10, L2 0)",
        "10 % of units dead": "L2 0: from learning rate 1 on (in some layer from 0.1); "
        "L2 0.5: from learning rate 0.1 on",
        "40 % of units dead": "L2 0: from learning rate 1 on; L2 0.5: from learning rate 10 on (in some layer from 1)",
    }


def test_the_summary_says_who_diverged():
    results = synthetic.results({"learning_rate": [0.1, 1.0, 10.0]}, bad=[-1, 40, 7])
    assert dict(analysis.summary(results))["diverged"] == (
        "2 of 3 trials, the smallest learning rate 1; first bad step 7 at the earliest"
    )


def test_the_summary_says_who_was_stopped():
    settings = synthetic.grid(learning_rate=[0.1, 1.0], seed=[0, 1, 2])
    pruned = Stop(Outcome.PRUNED, "median", "lost")
    early = Stop(Outcome.STOPPED_EARLY, "patience", "no better")
    results = synthetic.results(
        settings,
        validation=[0.8, 0.9, 0.1, 0.1, 0.1, 0.1],
        reached=[4, 4, 1, 2, 1, 4],
        stops={2: pruned, 3: early, 4: pruned},
    )
    answers = dict(analysis.summary(results))
    assert list(answers)[2] == "stopped by rules"
    assert answers["stopped by rules"] == (
        "3 of 6 trials (median 2, patience 1), after 1 to 2 epochs; 67 % of all epochs trained"
    )
    assert answers["best setting"] == (
        "learning rate 0.1: validation accuracy 85.0 % (mean of 2 of 3 seeds, 80.0 % to 90.0 %; the others pruned)"
    )
    results = synthetic.results(settings, validation=[0.8, *[0.1] * 5], stops={1: pruned, 2: pruned})
    assert "80.0 % (1 of 3 seeds; the others pruned)" in dict(analysis.summary(results))["best setting"]


def test_the_summary_says_who_did_not_learn():
    results = synthetic.results(
        {"learning_rate": [0.0, 0.1, 1.0]}, loss=[2.0, 1.0, 1.9], train=[0.1, 0.9, 0.3], chance=0.3
    )
    answers = dict(analysis.summary(results))
    assert answers["did not learn"] == (
        "2 of 3 trials, learning rate 0 and 1: stable, but no better than before training or than a constant answer"
    )
    assert answers["largest stable learning rate"] == (
        "1 (the largest tried; 100 % of its trials did not learn)"
    )
    assert "100 %" in analysis.divergence_table(results).splitlines()[2]
    assert "chance level: validation 30.0 %" in analysis.overfitting_table(results)


def test_the_summary_says_which_seeds_were_not_finite():
    settings = synthetic.grid(learning_rate=[0.1], seed=[0, 1, 2])
    answers = dict(analysis.summary(synthetic.results(settings, validation=[0.8, 0.9, np.nan])))
    assert answers["best setting"] == (
        "validation accuracy 85.0 % (mean of 2 of 3 seeds, 80.0 % to 90.0 %; the others not finite); "
        "every setting has a trial that diverged or is not finite"
    )
    assert answers["largest generalisation gap"].startswith(
        "5.0 points of accuracy (training 90.0 %, validation 85.0 %; 2 of 3 seeds, the others not finite)"
    )
    table = analysis.overfitting_table(synthetic.results(settings, validation=[0.8, 0.9, np.nan]))
    assert table.splitlines()[2].count("not finite") == 2  # validation and gap


def test_the_summary_says_for_which_trials_dead_units_are_defined():
    settings = synthetic.grid(learning_rate=[0.1, 1.0], activation=["relu", "elu"])
    dead, able = [[0.2], [0.0], [0.6], [0.0]], np.array([True, False] * 2)
    results = synthetic.results(settings, dead=dead, can_die=able)
    assert dict(analysis.summary(results))["dead units"] == (
        "0 % before training, up to 60 % at the end (learning rate 1, activation relu; "
        "of the 2 of 4 trials whose activation has a flat zero)"
    )
    lines = analysis.dead_units_table(results).splitlines()
    assert [line.split()[-1] for line in lines[2:6]] == ["%", "%", "-", "-"]
    none = results.assign(can_die=results.can_die & False)
    assert dict(analysis.summary(none))["dead units"] == "not defined: no activation has a flat zero"


def test_answers_name_their_settings_or_stand_in_a_table():
    few = synthetic.grid(learning_rate=[0.1, 1.0], decay=[0.5, 0.9], l2=[0.0, 1.0])
    results = synthetic.results(few, loss=[1.0, 1.0, 1.0, 1.0, 3.0, 3.0, 3.0, 1.0])
    assert dict(analysis.summary(results))["largest stable learning rate"] == (
        "decay 0.5, L2 0 and decay 0.5, L2 1 and decay 0.9, L2 0: 0.1 (unstable at 1); "
        "decay 0.9, L2 1: 1 (the largest tried)"
    )
    assert analysis.limits_table(results) == ""
    many = synthetic.grid(learning_rate=[0.1, 1.0], decay=[0.5, 0.9, 0.99, 0.999], l2=[0.0, 1.0])
    loss = np.ones(16)
    loss[9] = 3.0
    results = synthetic.results(many, loss=loss)
    assert dict(analysis.summary(results))["largest stable learning rate"] == (
        "differs between the 8 settings of decay and L2, see the table of limits"
    )
    title, heading, _, *rows = analysis.limits_table(results).splitlines()
    assert title == "limits of learning rate"
    assert heading.split() == ["decay", "L2", "largest", "stable", "unstable", "at", "sensitivity"]
    assert [row.split()[:4] for row in rows[:3]] == [
        ["0.5", "0", "1", "-"], ["0.5", "1", "0.1", "1"], ["0.9", "0", "1", "-"]
    ]  # fmt: skip


def test_a_name_that_no_trained_trial_uses_is_said_and_not_printed():
    settings = {"decay": [np.nan, 0.9], "optimizer": ["sgd", "rmsprop"], "nesterov": ["", "yes"]}
    results = synthetic.results(settings, reached=[2, -1], bad=[1, -1])
    answers = dict(analysis.summary(results))
    assert answers["best setting"].startswith("optimizer sgd: ")
    assert answers["diverged"].startswith("1 of 2 trials; first bad step")
    assert analysis.limits_table(results) == ""


def test_settings_that_agree_to_three_digits_are_told_apart():
    results = synthetic.results({"learning_rate": [0.0012341, 0.0012342, 0.5]})
    lines = analysis.divergence_table(results).splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["0.0012341", "0.0012342", "0.5"]


@pytest.mark.parametrize(
    ("value", "words"),
    [(123.4, "123 K"), (12345.6, "12346 K"), (100000.0, "100000 K"), (1234567.0, "1.23e6 K")],
)
def test_large_values_are_written_out_with_their_units(value, words):
    results = synthetic.results({"seed": [0]}, validation=[value], metric="mae", better="lower", units="K")
    assert analysis.summary(results)[0].answer == f"validation MAE {words}"


def test_events_of_units_that_die_again_are_no_percentages():
    results = synthetic.results({"seed": [0]}, dead=[[0.5, 0.5]])
    results["died_fraction"] = xr.full_like(results.dead_fraction, 0.265)
    assert analysis.dead_units_table(results).splitlines()[2].split()[-1] == "1.06"


ODD = {
    "one trial": lambda: synthetic.results({"learning_rate": [0.1], "seed": [0]}),
    "no learning rate": lambda: synthetic.results({"momentum": [0.1, 0.9]}),
    "no numbers": lambda: synthetic.results({"activation": ["relu", "tanh"], "seed": [0, 0]}),
    "random": lambda: synthetic.results({"learning_rate": [0.1, 0.2, 0.3], "l2": [0.3, 0.2, 0.1]}),
    "all diverged": lambda: synthetic.rates(bad=np.full(16, 3), dead=np.zeros((16, 2))),
    "unfinished": lambda: synthetic.rates(
        reached=[4] * 5 + [1] * 3 + [0] * 3 + [-1] * 5, dead=np.ones((16, 2))
    ),
    "not begun": lambda: synthetic.rates(reached=[-1] * 16, dead=np.ones((16, 2))),
    "regression": lambda: synthetic.rates(metric="mae", better="lower", units="degrees"),
    "many axes": lambda: synthetic.results(
        synthetic.grid(
            learning_rate=[0.1, 1.0], l2=[0.0, 0.1, 0.2, 0.3], decay=[0.5, 0.9], activation=["relu", "elu"]
        )
    ),
    "whole numbers": lambda: synthetic.results({"batch_size": [8, 64, 512]}, loss=[1.0, 1.0, 3.0]),
    "one layer": lambda: synthetic.rates(dead=np.full((16, 1), 0.5)),
    "custom": lambda: xr.Dataset(
        {"returns": (("trial", "epoch"), np.zeros((2, 3)))},
        {"trial": [0, 1], "epoch": [0, 1, 2], "seed": ("trial", [0, 1])},
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_the_summary_has_an_answer_for_every_run(name):
    rows = analysis.summary(ODD[name]())
    assert len(rows) == 8
    assert all(row.answer and "nan" not in row.answer and "\n" not in row.answer for row in rows)
    if name == "custom":
        assert {row.answer for row in rows} == {"not recorded"}


@pytest.mark.parametrize("function", TABLES)
def test_tables_are_aligned_and_fit_the_terminal(study, function):
    lines = function(study).splitlines()
    body = lines[: lines.index("")]
    assert len(body) == 2 + 8
    assert len({len(line) for line in body}) == 1
    assert max(map(len, lines[: len(body)])) <= 100
    assert body[0].split()[:4] == ["L2", "learning", "rate", "trials"]
    assert body[2].split()[:3] == ["0", "0.01", "2"]


def test_what_the_tables_say(study):
    unstable = analysis.divergence_table(study).splitlines()[4].split()
    assert unstable == ["0", "1", "2", "0", "%", "100", "%", "0", "%", "-", "0", "%", "1.5"]
    best = analysis.overfitting_table(study).splitlines()[3].split()
    assert best[:10] == ["0", "0.1", "2", "95.0", "%", "85.0", "%", "80.0", "%", "10.0"]
    dead = analysis.dead_units_table(study)
    assert dead.splitlines()[5].split() == ["0", "10", "2", "0", "%", "80", "%", "80", "%", "80", "%"]
    assert "40 % of units dead: L2 0: from learning rate 1 on" in dead


@pytest.mark.parametrize("function", [*TABLES, analysis.best_setting, analysis.largest_stable])
def test_what_a_custom_run_lacks_is_named(function):
    with pytest.raises(InputError, match="is not recorded in this run"):
        function(ODD["custom"]())


def test_limits_that_three_digits_do_not_tell_apart_have_more():
    settings = synthetic.grid(learning_rate=[0.12301, 0.12304, 0.5], l2=[0.1 * each for each in range(8)])
    bad = np.where(settings["learning_rate"] > 0.12302, 1, -1)
    rows = {row.question: row.answer for row in analysis.summary(synthetic.results(settings, bad=bad))}
    assert rows["largest stable learning rate"] == "0.12301 (unstable at 0.12304) at every L2"
    cells = analysis.limits_table(synthetic.results(settings, bad=bad)).splitlines()[3].split()
    assert cells[1:3] == ["0.12301", "0.12304"]


def test_the_range_of_trials_that_did_not_learn_has_no_more_digits_than_it_needs():
    rates = [0.10001, 0.10002, 0.2, 0.3, 0.4]
    idle = synthetic.results({"learning_rate": rates}, loss=[2.0] * 5, train=[0.1] * 5, validation=[0.1] * 5)
    rows = {row.question: row.answer for row in analysis.summary(idle)}
    assert rows["did not learn"].startswith("5 of 5 trials, learning rate 0.1 to 0.4: ")
