"""Runs on disk: what is written opens anywhere, is never half read, and never overwrites another study."""

import dataclasses
import itertools
import json
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from small import digits, grid
from small import study as tiny

from jaxlab import pruning, read_results
from jaxlab.errors import InputError
from jaxlab.store import Records, RunFolder
from jaxlab.store.dataset import assemble
from jaxlab.store.disk import read_tree, tree_digest

SPACE = grid(learning_rate=[1e-3, 1e-2, 1e30], l2=[0.0, 1e-3])


def study(space, epochs, data=None, **configuration):
    """Of two layers, whose order on the axis matters."""
    return tiny(space, epochs, data, **{"features": [3, 5]} | configuration)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run: its folder and what was returned."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        # A record file for each epoch, however quick: by this clock, much time passes between two of them.
        clock = SimpleNamespace(perf_counter=itertools.count(0, 1000).__next__)
        patch.setattr("jaxlab.store.records.time", clock)
        return folder, study(SPACE, 2).run(folder, width=2)


def copy_of(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def test_results_open_with_plain_xarray_and_without_warnings(finished):
    folder, returned = finished
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = xr.open_zarr(folder / "results.zarr").load()
    xr.testing.assert_identical(opened.drop_attrs(), returned.drop_attrs())


def test_results_open_without_jaxlab(finished):
    folder, _ = finished
    code = (
        "import sys, warnings; warnings.simplefilter('error'); import xarray\n"
        f"d = xarray.open_zarr({str(folder / 'results.zarr')!r}); print(d.sizes['trial'], 'jaxlab' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["6", "False"]


def test_every_variable_has_a_long_name_and_units(finished):
    _, results = finished
    for name, variable in results.data_vars.items():
        assert variable.attrs["long_name"], name
        assert variable.attrs["units"], name


def test_dimensions_coordinates_and_attributes(finished):
    _, results = finished
    assert dict(results.sizes) == {"trial": 6, "epoch": 3, "layer": 2}
    assert {"trial_id", "learning_rate", "l2", "seed", "decay", "eps"} <= set(results.coords)
    assert "batch_size" not in results.coords
    assert {"specification", "versions", "device_kind", "width", "compile_seconds", "train_seconds"} <= set(
        results.attrs
    )
    specification = json.loads(results.attrs["specification"])
    assert specification["epochs"] == 2
    assert "space" not in specification  # each setting stands in the coordinates


def test_what_a_diverged_trial_did_not_reach_is_missing(finished):
    _, results = finished
    diverged = results.isel(trial=results.learning_rate.values > 1)
    assert diverged.outcome.values.tolist() == ["diverged"] * 2
    assert (diverged.first_bad_step > 0).all()
    assert np.isnan(diverged.train_loss[:, 2]).all()
    assert diverged.epochs_run.values.tolist() == [1, 1]
    assert diverged.unstable.all()
    kept = results.isel(trial=results.learning_rate.values < 1)
    assert (kept.first_bad_step == -1).all()
    assert not np.isnan(kept.train_loss).any()


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([1, "1"], ["1", "'1'"]),
        ([None, "None", "relu"], ["", "None", "relu"]),
        ([True, 1, 0.5], ["True", "1", "0.5"]),
        ([[1], "[1]"], ["[1]", "'[1]'"]),
        (["1", "'1'", 1], ["'1'", "\"'1'\"", "1"]),
        ([2**53 + 1, 2**53, 0.5], ["9007199254740993", "9007199254740992", "0.5"]),
        ([True, None], ["True", ""]),
        ([1, None], [1.0, np.nan]),
        ([1, 0.5], [1.0, 0.5]),
        ([True, False], [True, False]),
        ([0.5, np.nan], [0.5, np.nan]),
    ],
)
def test_different_values_stay_different_as_coordinates(values, shown):
    ids = [f"id{index}" for index in range(len(values))]
    found = assemble([], Records(), 1, {"trial_id": ids, "field": values}, {}).field.values.tolist()
    assert list(map(repr, found)) == list(map(repr, shown))


def test_a_grid_unstacks_into_its_axes(finished):
    _, results = finished
    grid_ = results.set_index(trial=["learning_rate", "l2"]).unstack("trial")
    assert dict(grid_.validation_accuracy.sizes) == {"epoch": 3, "learning_rate": 3, "l2": 2}


def test_a_finished_run_is_read_and_not_trained_again(finished):
    folder, returned = finished
    before = (folder / "run.json").stat().st_mtime_ns
    xr.testing.assert_identical(study(SPACE, 2).run(folder).load(), read_results(folder))
    assert (folder / "run.json").stat().st_mtime_ns == before
    assert (returned.train_loss == read_results(folder).train_loss)[:4].all()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"epochs": 1}, r"epochs = 1: the run has 2 epochs already"),
        (
            {"features": [5]},
            r"space = .*has none of the run's trials: name another folder",
        ),
        ({"rules": [pruning.Median()]}, r"out = .*holds another study \(its rules differ\)"),
        ({"keep": "last"}, r"out = .*holds another study \(its keep differ\)"),
        ({"data": digits(train=140)}, r"out = .*holds another study \(its data differ\)"),
        ({"space": grid(learning_rate=[1e-3])}, r"space = .*lacks 5 of the run's 6 trials, such as"),
    ],
)
def test_another_study_is_never_overwritten(finished, other, message):
    folder, _ = finished
    content = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))
    its = {name: other.pop(name) for name in ("rules", "keep") if name in other}
    asked = study(other.pop("space", SPACE), other.pop("epochs", 2), other.pop("data", None), **other)
    with pytest.raises(InputError, match=message):
        dataclasses.replace(asked, **its).run(folder)
    assert sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*")) == content


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="is neither empty nor a jaxlab run folder"):
        study(SPACE, 1).run(tmp_path)
    for place in ("thesis.txt", "thesis.txt/run"):
        with pytest.raises(InputError, match="is a file; name a folder"):
            study(SPACE, 1).run(tmp_path / place)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_run_that_died_at_its_very_start_does_not_block(tmp_path):
    (tmp_path / "records").mkdir()
    (tmp_path / f"run.json.{'0' * 16}.partial").touch()
    (tmp_path / "lock").touch()
    RunFolder(tmp_path).check_usable()


def test_bad_input_writes_nothing(tmp_path):
    with pytest.raises(InputError):
        study(SPACE, 1, pool_sizes=9).run(tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_an_unfinished_run_is_read_from_its_record_files(finished, tmp_path):
    folder, returned = finished
    copy = copy_of(folder, tmp_path)
    (copy / "complete").unlink()
    for file in sorted((copy / "records").iterdir())[2:]:  # the second epoch, and the end
        file.unlink()
    partial = f"r00000002-0123456789abcdef.safetensors.{'0' * 16}.partial"
    (copy / "records" / partial).write_bytes(b"half")
    found = read_results(copy)
    np.testing.assert_array_equal(found.train_loss[:, :2], returned.train_loss[:, :2])
    assert np.isnan(found.train_loss[:, 2]).all()
    assert found.outcome.values.tolist() == ["unfinished"] * 4 + ["diverged"] * 2


@pytest.mark.parametrize("lost", ["checkpoints", "checkpoints and records"])
def test_an_unfinished_run_without_its_checkpoints_is_trained_again_to_the_same_bits(
    finished, tmp_path, lost
):
    folder, returned = finished
    copy = copy_of(folder, tmp_path)
    (copy / "complete").unlink()
    shutil.rmtree(copy / "checkpoints")
    for file in sorted((copy / "records").iterdir())[1 if "records" in lost else -1 :]:
        file.unlink()
    again = study(SPACE, 2).run(copy)
    for name in returned.data_vars:
        np.testing.assert_array_equal(again[name], returned[name], err_msg=name)


def test_a_damaged_record_file_is_named_and_left_out_in_reading_and_refused_in_resuming(finished, tmp_path):
    copy = copy_of(finished[0], tmp_path)
    (copy / "complete").unlink()
    file = sorted((copy / "records").iterdir())[1]
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=rf"record file = .*{file.name}.*is damaged"):
        found = read_results(copy)
    assert np.isnan(found.train_loss[:, 1]).all()
    np.testing.assert_array_equal(found.train_loss[:4, 2], finished[1].train_loss[:4, 2])
    refused = rf"record file = .*{file.name}.*is damaged .*remove it and .*checkpoints"
    with pytest.raises(InputError, match=refused):
        study(SPACE, 2).run(copy)
    file.unlink()
    with pytest.raises(InputError, match=r"trial 0 .* epoch 1 .*: remove .*checkpoints"):
        study(SPACE, 2).run(copy)
    shutil.rmtree(copy / "checkpoints")
    assert not np.isnan(study(SPACE, 2).run(copy).train_loss[:4]).any()


def marked(run):
    """A finished run whose results are marked as they are now."""
    content = read_tree(run / "results.zarr", 10**9)
    mark = {"digest": tree_digest(content), "bytes": sum(map(len, content.values()))}
    (run / "complete").write_text(json.dumps(mark))


def built_again(run, why):
    with pytest.warns(
        UserWarning, match=rf"results = .*is damaged \({why}.*\); built again from the record files"
    ):
        return read_results(run)


def test_a_flipped_bit_anywhere_in_the_results_is_noticed_and_they_are_built_again(finished, tmp_path):
    folder, returned = finished
    copy = copy_of(folder, tmp_path)
    draws = np.random.default_rng(0)
    for file in sorted(path for path in (copy / "results.zarr").rglob("*") if path.is_file())[::4]:
        content = bytearray(file.read_bytes())
        at = draws.integers(len(content))
        content[at] ^= 1 << draws.integers(8)
        before = file.read_bytes()
        file.write_bytes(content)
        xr.testing.assert_identical(
            built_again(copy, "its bytes have changed").drop_attrs(), returned.drop_attrs()
        )
        file.write_bytes(before)
    xr.testing.assert_identical(read_results(copy), read_results(folder))


def lose_one(run):
    next((run / "results.zarr" / "test_loss").glob("0*")).unlink()


def add_one(run):
    (run / "results.zarr" / "test_loss" / "1").write_bytes(b"")


def grow(run):
    with (run / "results.zarr" / ".zattrs").open("ab") as file:
        file.truncate(2**43)


def a_pipe(run):
    os.mkfifo(run / "results.zarr" / "pipe")


def of_another_run(run):
    (run / "complete").write_text('{"digest": "0", "bytes": 100000000}')


def unmarked(run):
    (run / "complete").write_text("")


def too_large(run):
    file = run / "results.zarr" / ".zmetadata"
    content = json.loads(file.read_text())
    content["metadata"]["outcome/.zarray"]["shape"] = [10**15]
    file.write_text(json.dumps(content))
    marked(run)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lose_one, "its bytes have changed"),
        (add_one, "its bytes have changed"),
        (grow, "it is larger than when it was written"),
        (a_pipe, "it is not a regular file"),
        (of_another_run, "its bytes have changed"),
        (unmarked, ""),
        (too_large, "it takes .* bytes, more than the memory"),
    ],
)
def test_other_results_than_were_written_are_built_again(finished, tmp_path, damage, why):
    copy = copy_of(finished[0], tmp_path)
    damage(copy)
    found = built_again(copy, why)
    xr.testing.assert_identical(found.drop_attrs(), finished[1].drop_attrs())


def test_running_a_finished_run_again_puts_damaged_results_right(finished, tmp_path):
    copy = copy_of(finished[0], tmp_path)
    lose_one(copy)
    with pytest.warns(UserWarning, match="its bytes have changed"):
        study(SPACE, 2).run(copy)
    xr.testing.assert_identical(xr.open_zarr(copy / "results.zarr").load(), read_results(copy))
    np.testing.assert_array_equal(read_results(copy).test_loss, finished[1].test_loss)


class Executed:
    def __reduce__(self):
        return pytest.fail, ("a pickle was executed",)


@pytest.mark.parametrize(
    "change",
    [
        {"filters": [{"id": "vlen-utf8"}, {"id": "pickle", "protocol": 5}], "compressor": None},
        {"filters": [{"id": "vlen-utf8"}], "compressor": {"id": "pickle", "protocol": 5}},
    ],
)
def test_results_that_would_execute_something_are_not_opened(finished, tmp_path, change, monkeypatch):
    monkeypatch.setattr("numcodecs.pickles.ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)  # as it was long
    copy = copy_of(finished[0], tmp_path)
    file = copy / "results.zarr" / ".zmetadata"
    content = json.loads(file.read_text())
    content["metadata"]["outcome/.zarray"] |= change
    file.write_text(json.dumps(content))
    (chunk,) = (copy / "results.zarr" / "outcome").glob("0*")
    chunk.write_bytes(pickle.dumps(Executed()))
    marked(copy)
    with pytest.warns(
        UserWarning, match=r"is damaged \(outcome/.zarray has the codec 'pickle'\); built again"
    ):
        found = read_results(copy)
    assert found.outcome.values.tolist() == finished[1].outcome.values.tolist()


def test_a_folder_without_a_description_is_named(tmp_path):
    with pytest.raises(InputError, match=r"run = .*: is not a jaxlab run folder: it has no run\.json"):
        read_results(tmp_path)
