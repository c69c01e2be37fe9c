"""Resuming and extending in spite of reordered settings, lost files, untimely stops, other files in their place."""

import functools
import json
import os
import shutil

import numpy as np
import optax
import pytest
from small import grid
from test_resume import After, assert_same, changed, halving, its

from jaxlab import InputError, RunInterrupted, Study, pruning, read_results
from jaxlab.engine import EpochRecord
from jaxlab.store import RecordWriter, RunFolder, read_records
from jaxlab.trial import Trial

REVERSED = grid(seed=[1, 0], learning_rate=[1e30, 1e-2, 1e-3])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, its(rules=()).run(folder, width=2)


def test_settings_in_another_order_resume_as_themselves(whole, tmp_path):
    with pytest.raises(RunInterrupted):
        its(rules=()).run(tmp_path / "run", width=2, stop=After(8), checkpoint_seconds=0.0)
    assert 0 < read_results(tmp_path / "run").epochs_run.min() < 3
    assert_same(its(rules=(), space=REVERSED).run(tmp_path / "run"), whole[1])


def test_a_finished_run_is_extended_with_settings_in_another_order(whole, tmp_path):
    its(1, rules=()).run(tmp_path / "run", width=2)
    assert_same(its(3, rules=(), space=REVERSED).run(tmp_path / "run"), whole[1])


TWO = grid(activation=["relu", "tanh"]) * grid(seed=[0, 1])


def interrupted_in_the_second_group(folder):
    """A record file for each epoch, since the interval between two checkpoints is 0."""

    def watch(progress):
        seen.append(progress)

    def stop():
        return bool(seen) and seen[-1].group == 1 and seen[-1].trial_epochs > 9

    seen = []

    with pytest.raises(RunInterrupted):
        its(3, TWO, ()).run(folder, width=1, progress=watch, stop=stop, checkpoint_seconds=0.0)


def lose(folder):
    """Remove record files from the middle of the first group's training."""
    for path in sorted((folder / "records").iterdir()):
        (copy := folder / "alone").mkdir()
        shutil.copy(path, copy)
        records = read_records(copy).epochs
        shutil.rmtree(copy)
        if any(group == 0 and 2 in record.epochs for group, record in records):
            path.unlink()


def test_what_is_lost_of_a_finished_group_is_trained_again(tmp_path):
    """As the remedy for a damaged file says: remove it and the checkpoints."""
    interrupted_in_the_second_group(tmp_path / "run")
    lose(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    assert_same(its(3, TWO, ()).run(tmp_path / "run"), its(3, TWO, ()).run(width=1))


def test_checkpoints_without_what_was_recorded_before_are_refused(tmp_path):
    interrupted_in_the_second_group(tmp_path / "run")
    lose(tmp_path / "run")
    with pytest.raises(InputError, match=r"records = .*the record of trial 0 at epoch 2 is missing: remove"):
        its(3, TWO, ()).run(tmp_path / "run")


def test_what_is_lost_of_trials_that_stopped_is_missed_too(tmp_path):
    with pytest.raises(RunInterrupted):
        its().run(tmp_path / "run", width=2, stop=After(8), checkpoint_seconds=0.0)
    results = read_results(tmp_path / "run")
    assert (results.epochs_run == 1).sum() >= 3
    folder = tmp_path / "run" / "records"
    records = read_records(folder)
    shutil.rmtree(folder)
    folder.mkdir()
    writer = RecordWriter(folder)
    for rung in records.rungs:
        writer.stop(rung)
    stopped = int(np.flatnonzero(results.epochs_run == 1)[0])
    for group, record in records.epochs:
        writer.add(group, record if record.epochs[0] else record.rows(record.trials != stopped))
    for group, record in records.ends:
        writer.add(group, record)
    writer.flush()
    with pytest.raises(InputError, match=rf"the record of trial {stopped} at epoch 0 is missing"):
        its().run(tmp_path / "run")


def test_a_stop_is_asked_for_before_anything_is_compiled(tmp_path):
    with pytest.raises(RunInterrupted):
        its().run(tmp_path / "run", stop=lambda: True)
    assert not (tmp_path / "run").exists()


def test_a_stop_is_asked_for_among_the_last_records(whole, tmp_path):
    def watch(progress):
        seen.append(progress)

    def stop():
        over.extend(each for each in seen[-1:] if each.trial_epochs == each.all_trial_epochs)
        return len(over) > 2  # once when the last epoch is recorded, then with each last record

    seen, over = [], []

    with pytest.raises(RunInterrupted):
        its(rules=()).run(tmp_path / "run", width=1, progress=watch, stop=stop)
    assert not RunFolder(tmp_path / "run").complete
    ended = sum(len(record.trials) for _, record in read_records(tmp_path / "run" / "records").ends)
    assert 0 < ended < 6
    assert_same(its(rules=()).run(tmp_path / "run"), its(rules=()).run(width=1))


def scaled(configuration, hyperparameters, rate):
    return optax.sgd(rate)


def test_functions_that_differ_in_what_is_bound_to_them(tmp_path):
    both = [functools.partial(scaled, rate=rate) for rate in (0.1, 0.2)]

    def of(epochs):
        return its(epochs, grid(optimizer=both, seed=[0]), ())

    of(1).run(tmp_path / "run", width=1)
    assert_same(of(2).run(tmp_path / "run"), of(2).run(width=1))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (pruning.Median(metric="validation_acc"), "did you mean 'validation_accuracy'"),
        (pruning.Patience(metric="test_accuracy"), "recorded per epoch are"),
        (pruning.AllOf([pruning.Hyperband(metric="dead_fraction")]), "is not one number per epoch"),
        (pruning.SuccessiveHalving(metric="gradient_norm"), "is better neither high nor low"),
    ],
)
def test_a_metric_that_is_no_curve_is_told_before_anything_is_written(tmp_path, rule, message):
    with pytest.raises(
        InputError,
        match=rf"pruning\.{rule.rules[0].name if rule.name == 'all_of' else rule.name}\.metric.*{message}",
    ):
        its(rules=(rule,)).run(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_metric_that_does_not_exist_is_told_before_anything_is_compiled(tmp_path):
    seen = []
    with pytest.raises(InputError, match=r"pruning\.median\.metric.*did you mean 'validation_accuracy'"):
        its(rules=(pruning.Median(metric="validation_acc"),)).run(tmp_path / "run", progress=seen.append)
    assert seen == []


@pytest.mark.parametrize(
    "rule", [pruning.GeneralizationLoss(warmup_epochs=9), pruning.ProductivityQuotient(), pruning.Up()]
)
def test_rules_that_want_a_validation_loss_say_so_at_once(tmp_path, rule):
    def init(hyperparameters, shared):
        return np.float32(0)

    def train(hyperparameters, state, shared, epoch):
        return state + 1, {}

    def evaluate(hyperparameters, state, shared, final):
        return state, {"last" if final else "reward": state}

    study = Study(
        trial=lambda configuration: Trial(init, train, evaluate),
        shared=np.zeros(1),
        rules=[rule],
    )
    with pytest.raises(
        InputError, match=rf"pruning\.{rule.name} = 'validation_loss'.*recorded per epoch are"
    ):
        study.run(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_curve_that_begins_with_the_first_epoch_may_be_compared(tmp_path):
    rule = pruning.SuccessiveHalving(eta=2, metric="minibatch_loss")
    assert (its(rules=(rule,)).run().stopped_by == "successive_halving").sum() == 3


def test_other_code_of_a_later_group_is_refused_before_the_first_is_extended(tmp_path):
    its(1, TWO, ()).run(tmp_path / "run", width=2)
    changed(tmp_path / "run", lambda run: run["groups"][1].update(fingerprint="f"))
    (tmp_path / "run" / "complete").touch()
    with pytest.raises(InputError, match="the code that trains mlp has changed"):
        its(2, TWO, ()).run(tmp_path / "run")
    assert (tmp_path / "run" / "complete").exists()
    assert RunFolder(tmp_path / "run").describe().epochs == 1


def test_a_finished_run_is_read_where_nothing_can_be_written(whole, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert_same(its(rules=()).run(whole[0]), whole[1])


def test_records_of_something_unknown_are_left_alone(whole, tmp_path):
    shutil.copytree(whole[0] / "records", tmp_path / "run" / "records")
    with pytest.raises(InputError, match="is neither empty nor a jaxlab run folder"):
        its().run(tmp_path / "run")


@pytest.mark.parametrize("seconds", [-1, float("nan"), True])
def test_the_interval_is_a_number(tmp_path, seconds):
    with pytest.raises(InputError, match=r"checkpoint_seconds = .*give a"):
        its().run(tmp_path / "run", checkpoint_seconds=seconds)


WRONG = {
    "name": lambda run: run["specification"].pop("name"),
    "changes": lambda run: run.update(changes=[1]),
    "no groups": lambda run: run.update(groups={}),
    "groups": lambda run: run.update(groups=[1]),
    "trials": lambda run: run["groups"][0].update(trials=[0, 0, 1, 2, 3, 4]),
    "configuration": lambda run: run["groups"][0].update(configuration=[]),
    "label": lambda run: run["groups"][0]["variables"].update(train_loss="loss"),
    "width": lambda run: run["groups"][0].update(width=0),
    "fingerprint": lambda run: run["groups"][0].update(fingerprint=3),
    "nondeterministic": lambda run: run["groups"][0].update(nondeterministic=1),
    "cohorts": lambda run: run.update(cohorts=[7]),
    "column": lambda run: run["coordinates"].update(seed=[0]),
    "no trials": lambda run: run["coordinates"].pop("trial_id"),
    "devices": lambda run: run["environment"].update(devices="many"),
    "versions": lambda run: run["environment"].pop("versions"),
    "data": lambda run: run["specification"].pop("data"),
    "epochs": lambda run: run["specification"].update(epochs=0),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_description_that_is_none_is_damaged(whole, tmp_path, change):
    folder = shutil.copytree(whole[0], tmp_path / "run")
    description = json.loads((folder / "run.json").read_text())
    change(description)
    (folder / "run.json").write_text(json.dumps(description))
    for use in (read_results, its(4, rules=()).run):
        with pytest.raises(InputError, match=r"run = .*run\.json': is damaged: "):
            use(folder)


def foreign(group=0, trials=(0,), epochs=(1,), shape=None):
    shape = (len(trials), len(epochs)) if shape is None else shape
    return group, EpochRecord(
        np.array(trials, int), np.array(epochs, int), {"train_loss": np.zeros(shape, np.float32)}
    )


@pytest.mark.parametrize(
    "record",
    [
        foreign(group=1), foreign(group=-1), foreign(trials=(6,)), foreign(trials=(-1,)), foreign(epochs=(4,)),
        foreign(epochs=()), foreign(shape=(1,)), foreign(shape=(2, 1)),
    ],
)  # fmt: skip
def test_a_whole_record_file_of_another_run_is_named_and_left_out(whole, tmp_path, record):
    folder = shutil.copytree(whole[0], tmp_path / "run")
    (folder / "complete").unlink()
    writer = RecordWriter(folder / "records")
    writer.add(*record)
    writer.flush()
    with pytest.warns(UserWarning, match=r"record file = .*is not a record file of this run"):
        assert_same(read_results(folder), whole[1])
    with pytest.raises(InputError, match=r"record file = .*is not a record file of this run .*remove it"):
        its(rules=()).run(folder)


def switched(history):
    """What decides it is no part of its code."""
    return (np.arange(len(history.running)) % 2 == 0) & (history.epoch == int(os.environ["SWITCHED_AT"]))


@pytest.mark.parametrize(("before", "after"), [(2, 9), (9, 2), (2, 3), (3, 2)])
def test_an_accepted_change_discards_the_records_newer_than_the_checkpoint(
    tmp_path, monkeypatch, before, after
):
    """Records of five epochs, a checkpoint of one; then other numbers have the rule decide otherwise."""
    five, folder = its(5, rules=(switched,)), tmp_path / "run"
    monkeypatch.setenv("SWITCHED_AT", str(before))
    with pytest.raises(RunInterrupted):
        five.run(folder, width=2, stop=After(6), checkpoint_seconds=1e9)
    checkpoints = shutil.copytree(folder / "checkpoints", tmp_path / "checkpoints")
    assert read_results(folder).epochs_run.max() == 1
    five.run(folder, checkpoint_seconds=1e9)
    assert read_results(folder).epochs_run.max() == 5
    shutil.rmtree(folder / "checkpoints")
    shutil.copytree(checkpoints, folder / "checkpoints")
    changed(folder, lambda run: run["environment"]["versions"].update(jax="0.1"))
    monkeypatch.setenv("SWITCHED_AT", str(after))
    RecordWriter(folder / "records").discard(dict.fromkeys(range(6), 4))  # as if it had died before the end
    straight = five.run(width=2)
    found = five.run(folder, accept_changes=True)
    assert_same(found, straight)
    assert_same(read_results(folder), straight)
    (folder / "complete").unlink()
    assert_same(read_results(folder), straight)
    assert five.run(folder).attrs["changes"].startswith("jax is ")


def test_a_trial_that_stopped_is_not_decided_again(tmp_path):
    """A finished run that is extended keeps who stopped."""
    short = its(2).run(tmp_path / "run", width=2)
    longer = its(3).run(tmp_path / "run")
    stopped = short.stopped_by.values == "halving"
    assert stopped.any()
    np.testing.assert_array_equal(longer.epochs_run.values[stopped], short.epochs_run.values[stopped])
    assert halving.__name__ == "halving"
