"""Runs on disk: what is written opens anywhere, is never half read, and never overwrites another study."""

import json
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
import xarray as xr
from small import grid, study

from jaxlab import read_results
from jaxlab.errors import InputError
from jaxlab.store import RunFolder

SPACE = grid(learning_rate=[1e-3, 1e-2, 1e30], l2=[0.0, 1e-3])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run: its folder and what was returned."""
    folder = tmp_path_factory.mktemp("runs") / "run"
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
    assert len(specification["space"]) == 6


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


@pytest.mark.parametrize("other", [{"epochs": 3}, {"features": [4]}])
def test_another_study_is_never_overwritten(finished, other):
    folder, _ = finished
    content = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))
    with pytest.raises(InputError, match=r"out = .*holds another study; name another folder"):
        study(SPACE, other.pop("epochs", 2), **other).run(folder)
    assert sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*")) == content


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and no run of jaxlab"):
        study(SPACE, 1).run(tmp_path)
    for place in ("thesis.txt", "thesis.txt/run"):
        with pytest.raises(InputError, match="is a file; name a folder"):
            study(SPACE, 1).run(tmp_path / place)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_run_that_died_at_its_very_start_does_not_block(tmp_path):
    (tmp_path / "pieces").mkdir()
    (tmp_path / "run.json.partial").touch()
    RunFolder(tmp_path).check_free("any")


def test_bad_input_writes_nothing(tmp_path):
    with pytest.raises(InputError):
        study(SPACE, 1, pool_sizes=9).run(tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_an_unfinished_run_is_read_from_its_pieces(finished, tmp_path):
    folder, returned = finished
    copy = copy_of(folder, tmp_path)
    shutil.rmtree(copy / "results.zarr")
    (copy / "complete").unlink()
    for piece in (copy / "pieces").glob("g000-t000004-*"):
        if "e000000" not in piece.name:
            piece.unlink()
    (copy / "pieces" / "g000-t000004-e000001.partial").write_bytes(b"half")
    found = read_results(copy)
    np.testing.assert_array_equal(found.train_loss[:4], returned.train_loss[:4])
    assert np.isnan(found.train_loss[4:, 1:]).all()
    assert found.outcome.values.tolist()[:2] == ["completed"] * 2
    assert set(found.outcome.values[4:]) == {"unfinished"}


def test_an_unfinished_run_is_trained_again_to_the_same_bits(finished, tmp_path):
    folder, returned = finished
    copy = copy_of(folder, tmp_path)
    (copy / "complete").unlink()
    next((copy / "pieces").iterdir()).unlink()
    again = study(SPACE, 2).run(copy, width=2)
    for name in returned.data_vars:
        np.testing.assert_array_equal(again[name], returned[name], err_msg=name)


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: data[:200] + b"X" + data[201:]]
)
def test_a_damaged_piece_is_named(finished, tmp_path, damage):
    copy = copy_of(finished[0], tmp_path)
    shutil.rmtree(copy / "results.zarr")
    piece = sorted((copy / "pieces").iterdir())[0]
    piece.write_bytes(damage(piece.read_bytes()))
    with pytest.raises(InputError, match=rf"piece = .*{piece.name}.*is damaged"):
        read_results(copy)


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_what_is_no_run_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(InputError, match=r"run = .*(is no run folder|is damaged)"):
        RunFolder(tmp_path).describe()
