"""Weights that a run kept give back working models, and a finished run is verified bit for bit."""

import dataclasses
import json
import shutil

import jax
import ml_dtypes
import numpy as np
import optax
import pytest
from small import digits, grid, plain_model, study

from jaxlab import InputError, load_model, pruning, verify
from jaxlab.store import RecordWriter, discard_weights, read_records, read_weights, write_weights
from jaxlab.store.arrays import write_arrays

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


def test_a_model_of_raw_inputs_prepares_them(finished):
    raw, prepared = (load_model(finished[0], 0, inputs=each) for each in ("raw", "prepared"))
    inputs = SMALL.test.inputs
    np.testing.assert_array_equal(raw(inputs)[0], prepared(SMALL.prepare(inputs))[0])
    assert not np.allclose(raw(inputs)[0], prepared(inputs)[0], rtol=0.1)
    with pytest.raises(InputError, match="inputs = 'row': did you mean 'raw'"):
        load_model(finished[0], 0, inputs="row")


def test_a_run_that_does_not_say_its_scale_gives_models_of_prepared_inputs_alone(finished, tmp_path):
    folder = edited(finished, tmp_path, lambda run: run["specification"]["data"].update(scale=None))
    load_model(folder, 0)
    with pytest.raises(InputError, match="inputs = 'raw': this run does not say its scale and shift"):
        load_model(folder, 0, inputs="raw")


def test_it_is_noted_once_that_a_model_takes_prepared_inputs(finished, tmp_path, caplog):
    folder = edited(
        finished, tmp_path, lambda run: run["specification"]["data"].update(scale=0.125, shift=3.0)
    )
    for inputs in ("prepared", "raw", None, None):
        load_model(folder, 0, inputs=inputs)
    (note,) = caplog.messages
    assert (
        "a loaded model takes prepared inputs, stored inputs * 0.125 + 3: call it with data.prepare" in note
    )


def test_a_custom_model_is_given_again(tmp_path):
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
        ("abc", "trial = 'abc': is not a trial_id of this run"),
    ):
        with pytest.raises(InputError, match=message):
            load_model(folder, trial)
    with pytest.raises(InputError, match="unknown field 'modle' in functions"):
        load_model(folder, 0, functions={"modle": plain_model})
    its("none", space=grid(seed=[0]), epochs=1).run(tmp_path / "run")
    with pytest.raises(InputError, match=r'has no weights of this trial: train with keep = "best"'):
        load_model(tmp_path / "run", 0)


def weights_of(trials, epoch, which=("last",), dtype=np.float32):
    """Leaves that tell which trial's they are, and when kept."""
    numbers = np.array(trials)[:, None] * 10 + epoch + np.arange(3) / 8
    return {
        name: {"['a'].kernel/x": numbers.astype(dtype), "bias": numbers[:, 0].astype(dtype)} for name in which
    }


def test_weights_are_read_by_trial_and_the_latest_epoch_wins(tmp_path):
    folder = tmp_path / "weights"
    assert read_weights(folder, 0) == {}
    # Written out of order; file names say the latest epoch of several trials, not each one's.
    for trials, epochs in [
        ([4, 5, 2], [7, 1, 3]),
        ([9, 2], [8, 6]),
        ([5, 2], [5, 5]),
        ([2], [4]),
        ([12], [0]),
        ([10, 13], [3, 20]),
        ([10, 14], [7, 30]),
    ]:
        kept = weights_of(trials, np.array(epochs)[:, None], ("last", "best"))
        write_weights(folder, np.array(trials), np.array(epochs), kept)
    for trial, epoch in [(4, 7), (5, 5), (2, 6), (9, 8), (12, 0), (10, 7)]:
        found = read_weights(folder, trial)
        assert list(found) == ["last", "best"]
        expected = weights_of([trial], epoch)["last"]
        for leaves in found.values():
            assert {path: leaf.tolist() for path, leaf in leaves.items()} == {
                path: leaf[0].tolist() for path, leaf in expected.items()
            }
            assert all(leaf.dtype == np.float32 for leaf in leaves.values())
    assert read_weights(folder, 1) == {}


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e5m2", "float8_e4m3fn", "int4"])
def test_weights_of_types_that_numpy_does_not_know_come_back_as_their_type(tmp_path, dtype):
    dtype = np.dtype(getattr(ml_dtypes, dtype))
    kept = weights_of([0, 3], 0, dtype=dtype)["last"]
    write_weights(tmp_path, np.array([0, 3]), np.array([1, 1]), {"last": kept})
    for row, trial in enumerate([0, 3]):
        found = read_weights(tmp_path, trial)["last"]
        for path, leaf in kept.items():
            assert (found[path].dtype, found[path].shape) == (dtype, leaf.shape[1:])
            assert found[path].tobytes() == leaf[row].tobytes()


def test_any_damage_to_weights_is_noticed_where_they_are_read(tmp_path):
    """Also in what says whose they are."""
    write_weights(tmp_path, np.array([0]), np.array([1]), weights_of([0], 1))
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    damaged = [
        content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :] for at in range(len(content))
    ]
    damaged += [content[:size] for size in range(0, len(content), 50)]
    for each in damaged:
        path.write_bytes(each)
        with pytest.raises(
            InputError, match=r"weights = .*is damaged .*; train the study again in another folder"
        ):
            read_weights(tmp_path, 0)


def test_damaged_weights_of_other_trials_are_skipped_with_a_warning(tmp_path):
    write_weights(tmp_path, np.array([1]), np.array([1]), weights_of([1], 1))
    (other,) = tmp_path.iterdir()
    other.write_bytes(other.read_bytes()[:50])
    write_weights(tmp_path, np.array([0]), np.array([1]), weights_of([0], 1))
    with pytest.warns(UserWarning, match=rf"weights = .*{other.name}.*is damaged .*; skipped"):
        assert list(read_weights(tmp_path, 0)) == ["last"]


@pytest.mark.parametrize(
    ("note", "rows"),
    [
        ({"trials": [0], "epochs": [1, 2], "which": ["last"]}, 1),
        ({"trials": [0], "epochs": ["1"], "which": ["last"]}, 1),
        ({"trials": [0], "epochs": [1], "which": ["other"]}, 1),
        ({"trials": 0, "epochs": 1, "which": ["last"]}, 1),
        ({"trials": [0], "epochs": [1]}, 1),
        ([], 1),
        (None, 1),
        ({"trials": [0], "epochs": [1], "which": ["last"]}, 2),
    ],
)
def test_a_whole_file_of_something_else_is_damage_too(tmp_path, note, rows):
    write_arrays(tmp_path, "w-e000001-t000000", {"last/w": np.ones(rows)}, note)
    with pytest.raises(InputError, match=r"weights = .*is damaged"):
        read_weights(tmp_path, 0)


def test_weights_of_another_model_are_refused(finished, tmp_path):
    """Such as of another type."""
    folder = shutil.copytree(finished[0], tmp_path / "run")
    for kept in read_weights(folder / "weights", 0).values():
        wide = {path: leaf[None].astype(np.float64) for path, leaf in kept.items()}
        write_weights(folder / "weights", np.array([0]), np.array([99]), {"last": wide})
    with pytest.raises(InputError, match="does not belong to the state of this study"):
        load_model(folder, 0)


def test_discarded_weights_are_not_read(tmp_path):
    """The last epochs of trials 0 to 3 are discarded, those of trial 4 are not."""
    for trials, epoch in [([0, 1], 1), ([0, 1, 4], 3), ([2], 3), ([3, 4], 2)]:
        kept = weights_of(trials, epoch, ("last", "best"))
        write_weights(tmp_path, np.array(trials), np.full(len(trials), epoch), kept)
    for _ in range(2):
        discard_weights(tmp_path, {0: 2, 1: 0, 2: -1, 3: 2})
        for trial, epoch in [(0, 1), (3, 2), (4, 3)]:
            found = read_weights(tmp_path, trial)["best"]
            assert found["bias"] == np.float32(10 * trial + epoch)
        assert read_weights(tmp_path, 1) == read_weights(tmp_path, 2) == {}


def test_after_an_accepted_change_weights_are_those_of_the_new_end(tmp_path):
    """Before it, the trials end later than after it."""
    factor = 1.0

    def optimizer(configuration, hyperparameters):
        return optax.sgd(factor * hyperparameters.learning_rate)

    def interrupted():
        if any((tmp_path / "run" / "weights").glob("*")):
            raise KeyboardInterrupt
        return False

    rules = (pruning.Patience(epochs=3, min_delta=100.0),)
    changed = its("last", rules, 5, grid(learning_rate=[1e-2], seed=[0, 1]), optimizer=optimizer)
    with pytest.raises(KeyboardInterrupt):
        changed.run(tmp_path / "run", width=1, stop=interrupted, checkpoint_seconds=1e6)
    assert len(list((tmp_path / "run" / "weights").iterdir())) == 1
    factor = 1e38
    results = changed.run(tmp_path / "run", width=1, accept_changes=True)
    assert (results.outcome == "diverged").all()
    changed.run(tmp_path / "whole", width=1)
    found, expected = (read_weights(tmp_path / name / "weights", 0)["last"] for name in ("run", "whole"))
    assert found.keys() == expected.keys()
    for path, leaf in expected.items():
        np.testing.assert_array_equal(found[path], leaf)


def test_on_a_full_disk_weights_kept_before_are_read(small_disk):
    folder, _ = small_disk
    write_weights(folder / "weights", np.array([0]), np.array([1]), {"last": {"w": np.ones((1, 1000))}})
    with pytest.raises(InputError, match=r"out = .*No space left"):
        write_weights(folder / "weights", np.array([0]), np.array([2]), {"last": {"w": np.ones((1, 9000))}})
    assert read_weights(folder / "weights", 0)["last"]["w"].tolist() == [1] * 1000


def test_a_finished_run_is_verified(finished):
    study_ = its(rules=(pruning.SuccessiveHalving(eta=2),))
    found = verify(finished[0], 6, study=study_)
    assert found.equal
    assert found.changes == ()
    assert [verdict.trial for verdict in found.trials] == list(range(6))
    assert len(verify(finished[0], 2, study=study_, seed=1).trials) == 2


def test_what_is_not_reproduced_is_named_with_what_changed(finished, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    group, record = read_records(folder / "records").epochs[0]
    wrong = record.values["train_loss"].copy()
    wrong[0] = np.nextafter(wrong[0], 9)
    writer = RecordWriter(folder / "records")
    writer.add(group, record._replace(values=record.values | {"train_loss": wrong}))
    writer.flush()
    description = json.loads((folder / "run.json").read_text())
    description["environment"]["versions"]["jax"] = "0.1"
    (folder / "run.json").write_text(json.dumps(description))
    found = verify(folder, 6, study=its(rules=(pruning.SuccessiveHalving(eta=2),)))
    assert not found.equal
    assert found.trials[0].differs == (f"train_loss at epoch {record.epochs[0]}",)
    assert not any(verdict.differs for verdict in found.trials[1:])
    assert found.changes[0].startswith("jax is ")


def edited(finished, tmp_path, change):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    description = json.loads((folder / "run.json").read_text())
    change(description)
    (folder / "run.json").write_text(json.dumps(description))
    return folder


def test_another_number_of_devices_is_named(finished, tmp_path):
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
    [
        ({"url": "http://somewhere"}, "has its data from an address"),
        ({"name": "a.py:b"}, "uses custom functions"),
    ],
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
        InputError, match="study = None: the run was not started from a study file: give the study"
    ):
        verify(finished[0])
    with pytest.raises(InputError, match="is not the study of"):
        verify(finished[0], study=its())
