import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small

from jaxlab import Study
from jaxlab.space import grid
from jaxlab.trial import Trial, Variable

SCRIPTS = Path(__file__).parent.parent / "scripts"
NAMES = ["divergence", "overfitting", "dead_units"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny real study on disk."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    space = grid(learning_rate=[1e-3, 1e-2], l2=[0.0, 1e-3], seed=[0, 1])
    small.study(space, model="mlp", features=[6, 4]).run(folder, width=8)
    return folder


def call(monkeypatch, name, *arguments):
    """Run a script in this process; gives its exit status."""
    monkeypatch.setattr(sys, "argv", [f"measure_{name}.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / f"measure_{name}.py"), run_name="__main__")
    return ended.value.code


@pytest.mark.parametrize("name", NAMES)
def test_a_script_prints_its_table_and_writes_its_figure(monkeypatch, capsys, run, tmp_path, name):
    assert call(monkeypatch, name, run, "--out", tmp_path / "figures") == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "study: 8 trials, 2 seeds, 2 epochs"
    table = [line for line in printed if line.lstrip().startswith(("0  ", "0.001  "))]
    assert len(table) == 4
    assert {line.split()[2] for line in table} == {"2"}
    assert max(map(len, table)) <= 100
    written = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert written == [f"{name}.png", f"{name}.svg"]
    assert all(file in "\n".join(printed) for file in written)


def test_the_figure_goes_into_the_run_folder_which_stays_a_run(monkeypatch, capsys, run):
    assert call(monkeypatch, "divergence", run) == 0
    assert (run / "divergence.png").stat().st_size > 10_000
    assert call(monkeypatch, "divergence", run) == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["absent", "a file", "empty", "of something else"])
def test_what_is_no_run_is_one_line_and_status_2(monkeypatch, capsys, tmp_path, name, kind):
    folder = tmp_path / "folder"
    if kind == "a file":
        folder.write_text("text")
    elif kind != "absent":
        folder.mkdir()
    if kind == "of something else":
        (folder / "notes.txt").write_text("text")
    assert call(monkeypatch, name, folder) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith(f"measure_{name}.py: run = ")
    assert "not a jaxlab run folder" in said.err


@pytest.fixture(scope="module")
def custom_run(tmp_path_factory):
    """A run of a triple of the user's own, which records none of the usual."""

    def triple(configuration):
        return Trial(
            lambda hyperparameters, shared: hyperparameters.start,
            lambda hyperparameters, state, shared, epoch: (state + 1, {"height": state}),
            lambda hyperparameters, state, shared, final: (state, {}),
            {"height": Variable("height")},
        )

    folder = tmp_path_factory.mktemp("runs") / "custom"
    study = Study(
        space=grid(start=[0.0, 1.0]),
        epochs=2,
        hyperparameters={"start": 0.0},
        trial=triple,
        shared=np.zeros(1, np.float32),
    )
    study.run(folder, width=2)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_run_without_the_variables_is_one_line_and_status_2(monkeypatch, capsys, custom_run, name):
    assert call(monkeypatch, name, custom_run) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "is not recorded in this run" in said
    assert not list(custom_run.glob("*.png"))


def test_a_foreign_file_is_not_overwritten(monkeypatch, capsys, run, tmp_path):
    (tmp_path / "overfitting.png").write_text("mine")
    assert call(monkeypatch, "overfitting", run, "--out", tmp_path) == 2
    assert (tmp_path / "overfitting.png").read_text() == "mine"
    assert "was not drawn by jaxlab" in capsys.readouterr().err


def test_a_script_runs_by_itself_and_without_pyplot(run, tmp_path):
    script = SCRIPTS / "measure_dead_units.py"
    code = (
        f"import runpy, sys; sys.argv = ['measure_dead_units.py', {str(run)!r}, '--out', {str(tmp_path)!r}]\n"
        f"try: runpy.run_path({str(script)!r}, run_name='__main__')\n"
        "finally: assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "dead_units.svg").exists()


def test_help_says_what_the_script_is_for(monkeypatch, capsys):
    assert call(monkeypatch, "divergence", "--help") == 0
    assert "jaxlab run scripts/studies/learning_rate.toml" in capsys.readouterr().out


def test_the_reference_of_fields_is_up_to_date():
    page = runpy.run_path(str(SCRIPTS / "write_fields.py"))["page"]()
    assert (SCRIPTS.parent / "docs" / "fields.md").read_text(encoding="utf-8") == page
    for name in ("epochs", "batch_size", "learning_rate", "[space]"):
        assert f"| `{name}` |" in page
