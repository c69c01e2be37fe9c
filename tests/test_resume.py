"""A run resumes from wherever it was left: stopped, extended, with settings added; or says why it cannot."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import optax
import pytest
from small import digits, grid, study

from jaxlab import InputError, RunInterrupted, Study, pruning, read_results, verify
from jaxlab.engine import clear_programs
from jaxlab.store import only_writer, read_records

SPACE = grid(learning_rate=[1e-3, 1e-2, 1e30], seed=[0, 1])


def halving(history):
    """Half of the cohort stops after the first epoch."""
    return (np.arange(len(history.running)) % 2 == 0) & (history.epoch == 1)


SMALL = digits(train=64, other=40)


def its(epochs=3, space=SPACE, rules=(halving,), keep="none", **configuration):
    static = {"model": "mlp", "features": [5], "dropout": True} | configuration
    return dataclasses.replace(study(space, epochs, SMALL, **static), rules=rules, keep=keep)


@pytest.fixture(scope="module", params=[(), (halving,)], ids=["no rule", "a rule"])
def rules(request):
    return request.param


@pytest.fixture(scope="module")
def whole(rules, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, its(rules=rules).run(folder, width=2)


def assert_same(one, other, leave_out=()):
    assert set(one.data_vars) == set(other.data_vars)
    for name in set(one.data_vars) - set(leave_out):
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


class After:
    """Asks for a stop once it was itself asked so many times."""

    def __init__(self, times):
        self.left = times

    def __call__(self):
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("times", [1, 4])
def test_a_run_stopped_again_and_again_ends_with_the_same_bits(whole, rules, times, tmp_path):
    starts = 0
    while True:
        starts += 1
        clear_programs()  # as a process of its own compiles anew
        try:
            stop = After(times * (starts - 1))
            found = its(rules=rules).run(tmp_path / "run", width=2, stop=stop, checkpoint_seconds=0.0)
            break
        except RunInterrupted:
            assert starts == 1 or read_results(tmp_path / "run").sizes["trial"] == 6
        assert starts < 20
    assert starts >= 3
    assert_same(found, whole[1])
    assert_same(read_results(tmp_path / "run"), whole[1])


def test_on_another_number_of_devices_at_the_same_width(whole, rules, tmp_path):
    with pytest.raises(RunInterrupted):
        its(rules=rules).run(tmp_path / "run", devices=jax.devices()[:1], width=2, stop=After(5))
    assert_same(its(rules=rules).run(tmp_path / "run"), whole[1])


def test_a_finished_run_is_extended_to_the_bits_of_a_longer_one(whole, rules, tmp_path):
    short = its(2, rules=rules).run(tmp_path / "run", width=2)
    assert (short.epochs_run <= 2).all()
    assert_same(its(rules=rules).run(tmp_path / "run"), whole[1])
    description = json.loads((tmp_path / "run" / "run.json").read_text())
    assert description["specification"]["epochs"] == 3


def test_added_settings_are_a_cohort_of_their_own(whole, rules, tmp_path):
    """Old trials keep their numbers and bits; a setting of a new group too; rules look at the new ones alone."""
    folder = shutil.copytree(whole[0], tmp_path / "run")
    before = len(read_records(folder / "records").epochs)
    more = SPACE + grid(learning_rate=[3e-3], activation=["elu", "relu"], seed=[0, 1])
    found = its(space=more, rules=rules).run(folder)
    assert found.cohort.values.tolist() == [0] * 6 + [1] * 4
    assert_same(found.isel(trial=slice(6)), whole[1])
    alone = its(space=more[6:], rules=rules).run(width=2)
    for name in ("train_loss", "dead_fraction", "outcome", "test_accuracy"):
        order = [found.trial_id.values.tolist().index(each) for each in alone.trial_id.values]
        np.testing.assert_array_equal(found[name].values[order], alone[name].values, err_msg=name)
    added = read_records(folder / "records").epochs[before:]
    assert {trial for _, record in added for trial in record.trials.tolist()} == {6, 7, 8, 9}


def test_cohorts_are_extended_together(tmp_path):
    its(1, grid(seed=[0, 1]), ()).run(tmp_path / "run", width=2)
    its(1, grid(seed=[0, 1, 2]), ()).run(tmp_path / "run")
    found = its(2, grid(seed=[0, 1, 2]), ()).run(tmp_path / "run")
    assert found.epochs_run.values.tolist() == [2, 2, 2]
    assert found.cohort.values.tolist() == [0, 0, 1]
    assert_same(found, its(2, grid(seed=[0, 1, 2]), ()).run(width=2), leave_out=["cohort"])


def trained_for(tmp_path, epochs=1, **its_):
    its(epochs, grid(seed=[0]), **its_).run(tmp_path / "run", width=2)
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"schedule": "warmup_cosine"},
            "epochs = 2: the run has 1, and its schedule warmup_cosine depends on",
        ),
        ({"rules": (pruning.Hyperband(),)}, "epochs = 2: the run has 1, and its rule hyperband depends on"),
    ],
)
def test_what_depends_on_the_number_of_epochs_is_not_extended(tmp_path, more, message):
    more = {"rules": ()} | more
    folder = trained_for(tmp_path, **more)
    with pytest.raises(InputError, match=message):
        its(2, grid(seed=[0]), **more).run(folder)
    assert (folder / "complete").exists()


def sgd(configuration, hyperparameters):
    return optax.sgd(0.1)


def own(optimizer):
    return Study(digits(), grid(seed=[0]), 1, {"features": [3], "optimizer": optimizer})


def test_other_code_is_refused(tmp_path):
    own(sgd).run(tmp_path / "run", width=1)
    other = lambda configuration, hyperparameters: optax.sgd(0.2)  # noqa: E731
    other.__qualname__ = sgd.__qualname__
    for epochs in (1, 2):  # a finished run that is read, and one that is extended
        with pytest.raises(InputError, match=r"the code that trains cnn has changed"):
            dataclasses.replace(own(other), epochs=epochs).run(tmp_path / "run")
    assert own(other).run(tmp_path / "run", accept_changes=True).sizes["trial"] == 1


def changed(folder, change):
    """A copy of a run that says of itself what it is not."""
    (folder / "complete").unlink()
    description = json.loads((folder / "run.json").read_text())
    change(description)
    (folder / "run.json").write_text(json.dumps(description))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["environment"]["versions"].update(jax="0.1"), r"jax is .* and was 0\.1"),
        (lambda d: d["environment"].update(device_kind="H100"), "the device is cpu and was H100"),
        (lambda d: d["environment"].update(processor="Z80"), "the processor is .* and was Z80"),
        (lambda d: d["groups"][0].update(fingerprint="f"), "the code that trains mlp has changed"),
    ],
)
def test_what_has_changed_is_said_and_has_to_be_accepted(tmp_path, change, words):
    folder = trained_for(tmp_path, rules=())
    changed(folder, change)
    two = its(2, grid(seed=[0]), ())
    with pytest.raises(InputError, match=rf"{words}.*--accept-changes"):
        two.run(folder)
    told = two.run(folder, accept_changes=True).attrs["changes"]
    assert told == read_results(folder).attrs["changes"]
    assert verify(folder, 1, study=two).changes == (f"during the run, {told}",)
    (noted,) = json.loads((folder / "run.json").read_text())["changes"]
    assert noted.startswith(words.split()[0]) or noted.startswith("the")


def test_python_and_numpy_may_change(tmp_path):
    folder = trained_for(tmp_path, rules=())
    changed(folder, lambda d: d["environment"]["versions"].update(python="2.7", numpy="1.0"))
    assert its(2, grid(seed=[0]), ()).run(folder).epochs_run.values.tolist() == [2]
    assert json.loads((folder / "run.json").read_text())["changes"] == []


def test_a_run_begun_by_another_meanwhile_is_not_overwritten(tmp_path):
    """Both found the folder free; the other was faster, and is done."""

    def overtaken(progress):
        if not (tmp_path / "run").exists():
            its(1, grid(seed=[0]), ()).run(tmp_path / "run", width=2)

    with pytest.raises(InputError, match=r"out = .*another process has begun a run there: run it again"):
        its(1, grid(seed=[5]), ()).run(tmp_path / "run", width=2, progress=overtaken)
    assert read_results(tmp_path / "run").seed.values.tolist() == [0]


def test_a_second_writer_is_refused_and_reading_is_not(tmp_path):
    with pytest.raises(RunInterrupted):
        its().run(tmp_path / "run", width=2, stop=After(3))
    with only_writer(tmp_path / "run"):
        with pytest.raises(InputError, match=r"out = .*another process trains it .*pid"):
            its().run(tmp_path / "run")
        assert read_results(tmp_path / "run").sizes["trial"] == 6


def test_rungs_are_recorded_with_reason_and_epoch(tmp_path):
    rule = pruning.SuccessiveHalving(eta=2, metric="validation_loss")
    found = its(4, grid(learning_rate=[1e-4, 1e-2, 1e30], seed=[0, 1]), (rule,)).run(
        tmp_path / "run", width=2
    )
    assert sorted(found.outcome.values.tolist()) == ["completed"] + ["diverged"] * 2 + ["pruned"] * 3
    pruned = found.isel(trial=found.outcome.values == "pruned")
    assert set(pruned.stopped_by.values) == {"successive_halving"}
    assert all("validation_loss at epoch" in reason for reason in pruned.reason.values)
    diverged = found.isel(trial=found.outcome.values == "diverged")
    assert set(diverged.stopped_by.values) == {"divergence"}
    assert not np.isnan(pruned.test_loss).any()
    for trial in range(6):
        epochs = int(found.epochs_run[trial])
        assert np.isnan(found.train_loss[trial, epochs + 1 :]).all()


def test_rules_compare_over_groups(tmp_path):
    """Two configurations are one cohort: halving keeps half of all, not half of each."""
    rule = pruning.SuccessiveHalving(eta=4, metric="train_loss")
    found = its(2, grid(learning_rate=[1e-6, 1e-2], activation=["relu", "tanh"]), (rule,)).run(width=2)
    assert (found.outcome == "completed").sum() == 1


def test_what_is_no_rule_is_refused():
    with pytest.raises(InputError, match=r"rules = .*give rules such as pruning.Median\(\)"):
        its(rules=[pruning.Median])
