"""A run folder may come from elsewhere, with links in it: nothing outside is written, removed or read forever."""

import os
import shutil

import numpy as np
import pytest
from small import grid
from test_resume import After, assert_same, its

from jaxlab import InputError, RunInterrupted, read_results
from jaxlab.files import write_whole
from jaxlab.store import Checkpoints, RunFolder, write_weights
from jaxlab.store.disk import remove, write_tree

SPACE = grid(learning_rate=[1e-3, 1e-2], seed=[0, 1])


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A run that was stopped in the middle."""
    folder = tmp_path_factory.mktemp("interrupted") / "run"
    with pytest.raises(RunInterrupted):
        its(space=SPACE, rules=()).run(folder, width=2, stop=After(5), checkpoint_seconds=0.0)
    return folder


@pytest.fixture(scope="module")
def whole():
    return its(space=SPACE, rules=()).run(width=2)


@pytest.fixture
def mine(tmp_path):
    """Files that no run may touch, by their content."""
    folder = tmp_path / "mine"
    (folder / "inner").mkdir(parents=True)
    for name in ("thesis", f"00000000-{'0' * 16}.safetensors", f"inner/r00000000-{'0' * 16}.safetensors"):
        (folder / name).write_text(name)
    before = contents(folder)
    yield folder
    assert contents(folder) == before


def contents(folder):
    return {path: path.read_text() if path.is_file() else None for path in folder.rglob("*")}


def resumed(run):
    return its(space=SPACE, rules=(), keep="none").run(run, checkpoint_seconds=0.0)


@pytest.mark.parametrize("place", ["checkpoints", "checkpoints/STAGE", "records", "weights", "lock"])
def test_a_link_in_the_place_of_a_folder_is_refused(interrupted, tmp_path, mine, place):
    run = shutil.copytree(interrupted, tmp_path / "run")
    (stage,) = (path.name for path in (run / "checkpoints").iterdir())
    path = run / place.replace("STAGE", stage)
    remove(path)
    path.symlink_to(mine / "thesis" if place == "lock" else mine)
    with pytest.raises(InputError, match=rf"out = .*{path.name}': is a link, .*: remove it"):
        resumed(run)


def test_links_under_names_that_were_once_foreseen_are_nothing_to_a_run(interrupted, whole, tmp_path, mine):
    run = shutil.copytree(interrupted, tmp_path / "run")
    (stage,) = (run / "checkpoints").iterdir()
    planted = [run / f"{name}.partial" for name in ("run.json", "complete")]
    planted += [run / f"results.zarr.{ending}" for ending in ("new", "old")]
    planted += [run / f"results.zarr.{'0' * 16}.{ending}" for ending in ("new", "old", "partial")]
    planted += [stage / f"00000002-{'1' * 16}.safetensors.{'0' * 16}.partial"]
    for path in planted:
        path.symlink_to(mine)
    (run / "lock.holder").unlink(missing_ok=True)
    (run / "lock.holder").symlink_to(mine / "thesis")
    (run / "run.json").rename(tmp_path / "run.json")
    (run / "run.json").symlink_to(tmp_path / "run.json")
    assert_same(resumed(run), whole)
    assert_same(read_results(run), whole)
    assert not (run / "run.json").is_symlink()
    assert not any(
        "0" * 16 in path.name for path in run.rglob("*")
    )  # what a dead process may have left is removed


@pytest.mark.parametrize("target", ["thesis", "not there yet"])
def test_a_temporary_file_is_never_written_through_a_link(tmp_path, mine, monkeypatch, target):
    """Even if its name is guessed."""
    monkeypatch.setattr("secrets.token_hex", lambda size: "0" * 2 * size)
    (tmp_path / f"run.json.{'0' * 16}.partial").symlink_to(mine / target)
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "run.json", b"{}")
    assert not (tmp_path / "run.json").exists()


def test_links_among_the_checkpoints_and_the_results_lead_nowhere(tmp_path, mine):
    folder = tmp_path / "checkpoints"
    with Checkpoints(folder) as writer:
        for number in range(2):
            writer.save({"x": np.zeros(2)}, {"n": number})
    (oldest,) = folder.glob("00000000-*")
    oldest.unlink()
    oldest.symlink_to(mine)
    with Checkpoints(folder) as writer:
        writer.save({"x": np.zeros(2)}, {"n": 2})
    assert not oldest.is_symlink()
    assert len(list(folder.iterdir())) == 2
    with pytest.raises(InputError, match="is a link"):
        write_weights(link(tmp_path / "weights", mine), np.array([0]), np.array([1]), {"last": {}})
    results = tmp_path / "results.zarr"
    results.mkdir()
    (results / "inner").symlink_to(mine)
    write_tree(results, {"a/b": b"1"})
    assert contents(results) == {results / "a": None, results / "a" / "b": "1"}


def link(path, target):
    path.symlink_to(target)
    return path


@pytest.mark.parametrize("there", ["nothing", "an empty folder"])
def test_results_may_lie_on_another_disk_behind_a_link(interrupted, whole, tmp_path, there):
    run, disk = shutil.copytree(interrupted, tmp_path / "run"), tmp_path / "disk"
    disk.mkdir()
    if there == "an empty folder":
        (disk / "its").mkdir()
    remove(run / "results.zarr")
    (run / "results.zarr").symlink_to(disk / "its")
    assert_same(resumed(run), whole)
    assert (run / "results.zarr").is_symlink()
    assert [path.name for path in disk.iterdir()] == ["its"]
    assert_same(read_results(run), whole)
    longer = its(4, SPACE, ()).run(run)  # replaces those of this study
    assert (run / "results.zarr").is_symlink()
    assert [path.name for path in disk.iterdir()] == ["its"]
    assert_same(read_results(run), longer)


def test_a_run_may_begin_with_a_link_for_its_results(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "results.zarr").symlink_to(tmp_path / "elsewhere")
    its(1, grid(seed=[0]), ()).run(run, width=1)
    assert (tmp_path / "elsewhere" / ".zmetadata").exists()


@pytest.mark.parametrize("what", ["a folder", "a file", "results of another study"])
def test_a_link_to_something_else_is_refused_before_anything_is_trained(interrupted, tmp_path, mine, what):
    run = shutil.copytree(interrupted, tmp_path / "run")
    target = mine / "thesis" if what == "a file" else mine
    if what == "results of another study":
        target = tmp_path / "other"
        write_tree(target, {".zattrs": b'{"study_hash": "another"}'})
    remove(run / "results.zarr")
    (run / "results.zarr").symlink_to(target)
    seen = []
    with pytest.raises(
        InputError, match=r"out = .*results\.zarr': is a link to .*, which holds something other"
    ):
        its(space=SPACE, rules=()).run(run, progress=seen.append)
    assert seen == []


def test_a_link_to_where_nothing_can_be_put_is_refused_before_anything_is_trained(interrupted, tmp_path):
    copy = shutil.copytree(interrupted, tmp_path / "copy", symlinks=True)
    shutil.rmtree(copy / "results.zarr", ignore_errors=True)
    (copy / "results.zarr").symlink_to(tmp_path / "no such place" / "results")
    with pytest.raises(InputError, match=r"results\.zarr': is a link to .*, which cannot be written"):
        RunFolder(copy).check_usable()


def test_what_a_dead_process_left_half_written_is_removed_on_resuming(interrupted, tmp_path):
    run = shutil.copytree(interrupted, tmp_path / "run")
    left = [
        run / "records" / f"r00000009-{'a' * 16}.safetensors.{'0' * 16}.partial",
        run / f"run.json.{'1' * 16}.partial",
    ]
    left.append(run / f"results.zarr.{'2' * 16}.new")
    for path in left[:2]:
        path.write_bytes(b"half")
    (left[2] / "a").mkdir(parents=True)
    resumed(run)
    assert not any(path.exists() for path in left)


def test_a_folder_that_was_removed_meanwhile_is_said_to_be_missing(tmp_path):
    removed = []

    def watch(progress):
        if progress.phase == "training" and not removed:
            shutil.rmtree(tmp_path / "run" / "records")
            removed.append(True)

    with pytest.raises(
        InputError, match=r"out = .*records': cannot be written \(.*\); a folder of the run is missing"
    ):
        its(3, grid(seed=[0]), ()).run(tmp_path / "run", width=1, progress=watch)


def test_a_run_folder_may_itself_lie_behind_a_link(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "there")
    its(1, grid(seed=[0]), ()).run(tmp_path / "run", width=1)
    assert RunFolder(tmp_path / "there").complete
    assert os.readlink(tmp_path / "run") == str(tmp_path / "there")
