"""The command line, as a person runs it."""

import os
import signal
import subprocess
import sys
import time

import pytest

FILE = """
name = "tiny"
epochs = 2
[data]
name = "digits"
subset = 200
[configuration]
features = [2]
[space.grid]
learning_rate = [1e-3, 1e-2, 1e30]
l2 = [0, 1e-3]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a study file and its finished run."""
    path = tmp_path_factory.mktemp("cli")
    (path / "tiny.toml").write_text(FILE)
    assert jaxlab(path, "run", "tiny.toml").returncode == 0
    return path


def jaxlab(folder, *arguments, environment=None):
    command = [sys.executable, "-m", "jaxlab", *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "120"} | (environment or {}),
    )


def test_run_and_show_print_the_same_answers(folder):
    again, shown = jaxlab(folder, "run", "tiny.toml"), jaxlab(folder, "show", "runs/tiny")
    assert again.returncode == shown.returncode == 0
    assert again.stdout == shown.stdout
    for words in ("tiny: 6 trials", "2 diverged", "best setting", "learning rate", "gap", "results.zarr"):
        assert words in shown.stdout, words
    assert (folder / "runs/tiny/results.zarr").is_dir()


def test_progress_goes_to_standard_error(folder, tmp_path):
    found = jaxlab(folder, "run", "tiny.toml", "--out", str(tmp_path / "run"), "--set", "epochs=1")
    assert "trial-steps/s" in found.stderr
    assert "6 trials" in found.stderr
    assert "trial-steps/s" not in found.stdout


def test_dry_run_says_what_it_takes_and_writes_nothing(folder, tmp_path):
    found = jaxlab(folder, "run", "tiny.toml", "--dry-run", "--out", str(tmp_path / "run"), "--width", "2")
    assert found.returncode == 0
    for words in ("6 trials", "packs", "memory", "1 compiled program", "Nothing was written"):
        assert words in found.stdout, words
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [[], ["run"], ["show"]])
def test_help_is_there(folder, command):
    found = jaxlab(folder, *command, "--help")
    assert found.returncode == 0
    assert "jaxlab" in found.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "none.toml"], "jaxlab: study file = 'none.toml': does not exist; name a .toml file"),
        (["run", "tiny.toml", "--set", "epoch=1"], "jaxlab: study file = 'epoch': did you mean 'epochs'?"),
        (["run", "tiny.toml", "--set", "epochs=1"], "holds another study; name another folder"),
        (
            ["run", "tiny.toml", "--set", "space.grid.learning_rate=[-1]", "--out", "new"],
            "space.learning_rate = -1",
        ),
        (
            ["run", "tiny.toml", "--set", "configuration.batch_size=999", "--out", "new"],
            "configuration.batch_size = 999",
        ),
        (["run", "tiny.toml", "--width", "0", "--out", "new"], "width = 0: give a whole number >= 1"),
        (["run", "tiny.toml", "--devices", "0", "--out", "new"], "--devices = 0: give a whole number >= 1"),
        (["show", "tiny.toml"], "is no run folder of jaxlab"),
        (["show", "nowhere"], "jaxlab: run = 'nowhere': is no run folder of jaxlab"),
    ],
)
def test_bad_input_is_one_line_and_status_2(folder, arguments, message):
    found = jaxlab(folder, *arguments)
    assert found.returncode == 2
    assert message in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1, found.stderr
    assert found.stdout == ""
    assert not (folder / "new").exists()


@pytest.mark.parametrize("arguments", [["rnu"], ["run"], ["run", "tiny.toml", "--width", "many"]])
def test_wrong_usage_is_status_2(folder, arguments):
    found = jaxlab(folder, *arguments)
    assert found.returncode == 2
    assert "Traceback" not in found.stderr


def test_ctrl_c_keeps_what_was_finished(folder, tmp_path):
    command = [
        sys.executable,
        "-m",
        "jaxlab",
        "run",
        "tiny.toml",
        "--out",
        str(tmp_path / "run"),
        "--set",
        "epochs=5000",
    ]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "run").glob("pieces/*e000002.npz")) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    shown = jaxlab(folder, "show", str(tmp_path / "run"))
    assert shown.returncode == 0
    assert "unfinished" in shown.stdout


def test_without_the_extra_it_says_what_to_install(folder):
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer': raise ModuleNotFoundError('no', name='typer')\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "from jaxlab.cli import main; main()"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 2
    assert found.stderr.strip() == "jaxlab: typer is missing: pip install 'jaxlab[cli]'"
