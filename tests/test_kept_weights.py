"""Weights that a run kept give back working models, and a finished run is verified bit for bit."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from small import digits, grid, plain_model, study

from jaxlab import InputError, load_model, pruning, verify
from jaxlab.store import Log, read_log

SMALL = digits(train=64, other=40)
SPACE = grid(learning_rate=[1e-2, 0.3, 1e30], seed=[0, 1])


def its(keep="best", rules=(), epochs=3, space=SPACE, **configuration):
    static = {"features": [3], "batch_norm": True, "dropout": True} | configuration
    return dataclasses.replace(study(space, epochs, SMALL, **static), keep=keep, rules=rules)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept") / "run"
    return folder, its(rules=(pruning.SuccessiveHalving(eta=2),)).run(folder, width=2)


def accuracy(model, split):
    outputs, _ = model(SMALL.prepare(split.inputs))
    return np.mean(np.argmax(outputs, axis=1) == split.targets)


@pytest.mark.parametrize("which", ["last", "best"])
def test_a_loaded_model_has_the_recorded_accuracies(finished, which):
    folder, results = finished
    for trial in np.flatnonzero(results.outcome.values != "diverged"):
        model = load_model(folder, int(trial), which)
        epoch = int(results.epochs_run[trial] if which == "last" else results.best_epoch[trial])
        recorded = float(results.validation_accuracy[trial, epoch])
        assert accuracy(model, SMALL.validation) == pytest.approx(recorded, abs=1e-6)
        test = results.test_accuracy if which == "last" else results.test_accuracy_at_best
        assert accuracy(model, SMALL.test) == pytest.approx(float(test[trial]), abs=1e-6)


def test_the_best_weights_are_the_default_and_ids_name_trials(finished):
    folder, results = finished
    best = load_model(folder, str(results.trial_id.values[0]))
    inputs = SMALL.prepare(SMALL.test.inputs)
    np.testing.assert_array_equal(best(inputs)[0], load_model(folder, 0, "best")(inputs)[0])


def test_a_model_of_ones_own_is_given_again(tmp_path):
    mine = dataclasses.replace(
        study(grid(seed=[0]), 1, SMALL), configuration={"model": plain_model}, keep="last"
    )
    results = mine.run(tmp_path / "run")
    with pytest.raises(InputError, match=r"functions = 'model': was small\.plain_model.*give it again"):
        load_model(tmp_path / "run", 0)
    model = load_model(tmp_path / "run", 0, functions={"model": plain_model})
    found = np.mean(np.argmax(model(SMALL.prepare(SMALL.test.inputs)), axis=1) == SMALL.test.targets)
    assert found == pytest.approx(float(results.test_accuracy[0]), abs=1e-6)


def test_what_was_not_kept_is_named(finished, tmp_path):
    folder, _ = finished
    for trial, message in (
        (-1, r"trial = -1: give"),
        (99, "trial = 99: give a number from 0 to 5"),
        ("abc", "trial = 'abc': is no trial_id"),
    ):
        with pytest.raises(InputError, match=message):
            load_model(folder, trial)
    with pytest.raises(InputError, match="functions = 'modle'"):
        load_model(folder, 0, functions={"modle": plain_model})
    its("none", space=grid(seed=[0]), epochs=1).run(tmp_path / "run")
    with pytest.raises(InputError, match=r'has no weights of this trial: train with keep = "best"'):
        load_model(tmp_path / "run", 0)


def test_a_finished_run_is_verified(finished):
    study_ = its(rules=(pruning.SuccessiveHalving(eta=2),))
    found = verify(finished[0], 6, study=study_)
    assert found.equal
    assert found.changes == ()
    assert [verdict.trial for verdict in found.trials] == list(range(6))
    assert len(verify(finished[0], 2, study=study_, seed=1).trials) == 2


def test_what_is_not_reproduced_is_named_with_what_changed(finished, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    group, piece = next(each for each in read_log(folder / "pieces").pieces if not each[1].final)
    wrong = piece.record["train_loss"].copy()
    wrong[0] = np.nextafter(wrong[0], 9)
    log = Log(folder / "pieces")
    log.add(group, piece._replace(record=piece.record | {"train_loss": wrong}))
    log.flush()
    description = json.loads((folder / "run.json").read_text())
    description["environment"]["versions"]["jax"] = "0.1"
    (folder / "run.json").write_text(json.dumps(description))
    found = verify(folder, 6, study=its(rules=(pruning.SuccessiveHalving(eta=2),)))
    assert not found.equal
    assert found.trials[0].differs == (f"train_loss at epoch {piece.epochs[0]}",)
    assert not any(verdict.differs for verdict in found.trials[1:])
    assert found.changes[0].startswith("jax is ")


def edited(finished, tmp_path, change):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    description = json.loads((folder / "run.json").read_text())
    change(description)
    (folder / "run.json").write_text(json.dumps(description))
    return folder


def test_another_number_of_devices_is_told(finished, tmp_path):
    folder = edited(finished, tmp_path, lambda run: run["environment"].update(devices=99))
    found = verify(folder, 1, study=its(rules=(pruning.SuccessiveHalving(eta=2),)))
    assert found.changes == (f"the number of devices is {len(jax.devices())} and was 99",)


def test_only_trials_of_the_run_are_trained_again(finished):
    more = SPACE + grid(learning_rate=[0.1], activation=["relu", "tanh"], seed=range(20))
    found = verify(finished[0], 99, study=its(rules=(pruning.SuccessiveHalving(eta=2),), space=more))
    assert found.equal
    assert [verdict.trial for verdict in found.trials] == list(range(6))


@pytest.mark.parametrize(
    ("data", "why"),
    [({"url": "http://somewhere"}, "has its data from an address"), ({"name": "a.py:b"}, "uses functions")],
)
def test_what_a_run_says_of_its_data_is_not_followed_anywhere(finished, tmp_path, data, why):
    source = {"folder": str(tmp_path), "table": {"data": data, "space": {"grid": {"seed": [0]}}}}
    folder = edited(finished, tmp_path, lambda run: run.update(source=source))
    with pytest.raises(InputError, match=rf"study = None: the run {why}.*: give the study"):
        verify(folder)


def test_a_study_file_need_not_say_its_data(finished, tmp_path):
    """The default is digits, which are not the data of this run."""
    source = {"folder": str(tmp_path), "table": {"space": {"grid": {"seed": [0]}}}}
    folder = edited(finished, tmp_path, lambda run: run.update(source=source))
    with pytest.raises(InputError, match="is not the study of"):
        verify(folder)


def test_the_seed_of_the_choice_is_checked(finished):
    with pytest.raises(InputError, match=r"seed = .*give a whole number"):
        verify(finished[0], study=its(rules=(pruning.SuccessiveHalving(eta=2),)), seed=-1)


def test_verify_wants_the_runs_own_study(finished):
    with pytest.raises(
        InputError, match="study = None: the run was not begun from a study file: give the study"
    ):
        verify(finished[0])
    with pytest.raises(InputError, match="is not the study of"):
        verify(finished[0], study=its())
