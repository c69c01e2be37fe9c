"""Commands of the command line: what they print, and bad input; in this process unless the process matters."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import typer
from command_line import jaxlab, started

from jaxlab import read_results
from jaxlab.cli.app import app
from jaxlab.store.arrays import read_arrays, write_arrays


def test_run_and_show_print_the_same_answers(cli_folder):
    """The run in a process of its own, on all cores."""
    again, shown = (
        started(cli_folder, "run", "tiny.toml", "--width", "6"),
        jaxlab(cli_folder, "show", "runs/tiny"),
    )
    assert again.returncode == shown.returncode == 0
    assert again.stdout == shown.stdout
    for words in ("tiny: 6 trials", "2 diverged", "best setting", "learning rate", "gap", "results.zarr"):
        assert words in shown.stdout, words
    assert (cli_folder / "runs/tiny/results.zarr").is_dir()


def test_progress_goes_to_standard_error(cli_folder, tmp_path):
    found = jaxlab(cli_folder, "run", "tiny.toml", "--out", str(tmp_path / "run"), "--set", "epochs=1")
    assert "trial-steps/s" in found.stderr
    assert "6 trials" in found.stderr
    data = "train 200 × 8×8×1 uint8 in [0, 16], seen as [0, 1], 10 classes, largest 10 %; validation 360; test 360"
    assert found.stderr.splitlines()[0] == f"tiny: {data}"
    assert "trial-steps/s" not in found.stdout


def test_programs_and_widths_are_kept_in_the_users_cache_folder(cli_folder, tmp_path):
    """And a program that was kept gives the same numbers, without a word on standard error."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), "COLUMNS": "200"}
    environment |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    runs = []
    for name in ("cold", "warm"):
        command = [sys.executable, "-m", "jaxlab", "run", "tiny.toml", "--out", str(tmp_path / name)]
        command += ["--set", 'configuration.model="mlp"']
        runs.append(
            subprocess.run(
                command, cwd=cli_folder, capture_output=True, text=True, env=environment, check=True
            )
        )
        assert all(line.startswith("tiny: ") for line in runs[-1].stderr.splitlines()), runs[-1].stderr
    cold, warm = (read_results(tmp_path / name) for name in ("cold", "warm"))
    for name in cold.data_vars:
        np.testing.assert_array_equal(cold[name], warm[name], err_msg=name)
    assert cold.attrs["programs"] == warm.attrs["programs"] == 4
    assert cold.attrs["programs_from_cache"] == 0 < warm.attrs["programs_from_cache"]
    assert warm.attrs["first_epoch_seconds"] > 0
    assert "programs from the cache" in runs[1].stdout
    assert "first epoch done after" in runs[0].stdout
    kept = {path.name.split("-")[0] for path in (tmp_path / "cache" / "jaxlab").iterdir()}
    assert "programs" in kept <= {"programs", "widths"}


def test_dry_run_says_what_it_takes_and_writes_nothing(cli_folder, tmp_path):
    found = jaxlab(
        cli_folder, "run", "tiny.toml", "--dry-run", "--out", str(tmp_path / "run"), "--width", "2"
    )
    assert found.returncode == 0
    for words in ("6 trials", "packs", "memory", "1 compiled program", "No results were written"):
        assert words in found.stdout, words
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [None, "run", "show", "verify"])
def test_help_says_every_text_as_it_is_written(cli_folder, command):
    found = jaxlab(cli_folder, *filter(None, [command]), "--help")
    assert found.returncode == 0
    everything = typer.main.get_command(app)
    about = everything if command is None else everything.commands[command]
    texts = [about.help, about.epilog, *(getattr(each, "help", None) for each in about.params)]
    assert len(list(filter(None, texts))) > 1 or command is None
    shown = "".join(found.stdout.split())
    for text in filter(None, texts):
        assert "".join(text.replace("\b", "").split()) in shown
    if command == "run":
        assert "  [pruning]\n    median = { warmup_epochs = 3 }\n" in found.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "none.toml"], "jaxlab: study file = 'none.toml': does not exist; name a .toml file"),
        (
            ["run", "tiny.toml", "--set", "epoch=1"],
            "jaxlab: unknown key 'epoch' in tiny.toml; did you mean 'epochs'?",
        ),
        (["run", "tiny.toml", "--set", "epochs=1"], "epochs = 1: the run has 2 epochs already: give as many"),
        (
            ["run", "tiny.toml", "--set", "space.grid.learning_rate=[-1]", "--out", "new"],
            "space.learning_rate = -1",
        ),
        (
            ["run", "tiny.toml", "--set", "configuration.batch_size=999", "--out", "new"],
            "configuration.batch_size = 999",
        ),
        (["run", "tiny.toml", "--width", "0", "--out", "new"], "width = 0: give a whole number >= 1"),
        (["run", "tiny.toml", "--width", "-1", "--out", "new"], "width = '-1': give"),
        (
            ["run", "tiny.toml", "--devices", "0", "--out", "new"],
            "--devices = 0: give a whole number in [1, 1024]",
        ),
        (
            ["run", "tiny.toml", "--devices", "100000", "--out", "new"],
            "--devices = 100000: give a whole number in",
        ),
        (["verify", "runs/tiny", "--devices", "100000"], "--devices = 100000: give a whole number in"),
        (["verify", "nowhere"], "jaxlab: run = 'nowhere': is not a jaxlab run folder"),
        (["verify", "runs/tiny", "--trials", "0"], "trials = 0: give a whole number >= 1"),
        (
            ["run", "tiny.toml", "--checkpoint-every", "nan", "--out", "new"],
            "--checkpoint-every = nan: give a finite",
        ),
        (
            ["run", "tiny.toml", "--checkpoint-every", "-1", "--out", "new"],
            "--checkpoint-every = -1.0: give a number",
        ),
        (
            ["run", "tiny.toml", "--set", "epochs=3\nname='x'", "--out", "new"],
            "--set = \"epochs=3\\nname='x'\": give one key and one value; repeat --set for more",
        ),
        (["run", "tiny.toml", "--set", "epochs=3\n[data]", "--out", "new"], "give one key and one value"),
        (
            ["run", "tiny.toml", "--set", "configuration.model=mlp\n", "--out", "new"],
            "configuration.model = 'mlp\\n'",
        ),
        (
            ["run", "tiny.toml", "--out", "x" * 300],
            "cannot be used (File name too long); name another folder",
        ),
        (["show", "x" * 300], "is not a jaxlab run folder"),
        (["show", "tiny.toml"], "is not a jaxlab run folder"),
        (["show", "nowhere"], "jaxlab: run = 'nowhere': is not a jaxlab run folder"),
    ],
)
def test_bad_input_is_one_line_and_status_2(cli_folder, arguments, message):
    found = jaxlab(cli_folder, *arguments)
    assert found.returncode == 2
    assert message in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1, found.stderr
    assert found.stdout == ""
    assert not (cli_folder / "new").exists()


def test_a_doubtful_guess_is_one_line(cli_folder, tmp_path):
    x, y = np.linspace(0, 255, 100).reshape(50, 2), np.arange(50) % 2
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y)
    doubtful = [
        "run",
        "tiny.toml",
        "--set",
        f"data={{name='npz', path='{tmp_path}/data.npz'}}",
        "--out",
        "new",
    ]
    first, second = jaxlab(cli_folder, *doubtful).stderr.splitlines()
    assert first.startswith(
        "jaxlab: the inputs are in [0, 255], which the network sees as they are: set scale"
    )
    assert second.startswith("jaxlab: configuration.batch_size = 64: ")
    (only,) = jaxlab(cli_folder, *doubtful, "--set", "data.classes='2'").stderr.splitlines()
    assert only == "jaxlab: classes = '2': give a whole number, at least 2, or None for regression"


def test_bad_input_ends_the_process_with_status_2(cli_folder):
    found = started(cli_folder, "show", "nowhere")
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("jaxlab: run = 'nowhere': is not a jaxlab run folder")
    assert len(found.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("arguments", [["rnu"], ["run"], ["run", "tiny.toml", "--width", "many"]])
def test_wrong_usage_is_status_2(cli_folder, arguments):
    found = jaxlab(cli_folder, *arguments)
    assert found.returncode == 2
    assert "Traceback" not in found.stderr


def test_verify_says_of_each_trial_whether_it_is_reproduced(cli_folder, tmp_path):
    command = ["verify", "runs/tiny", "--trials", "2", "--seed", "1"]
    before = {path: path.read_bytes() for path in (cli_folder / "runs").rglob("*") if path.is_file()}
    found = jaxlab(cli_folder, *command)
    assert found.returncode == 0
    assert "runs/tiny: 2 trials trained again" in found.stdout
    assert found.stdout.count(" yes ") == 2
    assert {path: path.read_bytes() for path in (cli_folder / "runs").rglob("*") if path.is_file()} == before
    shutil.copytree(cli_folder / "runs/tiny", tmp_path / "tampered")
    (file, *_) = sorted((tmp_path / "tampered/records").iterdir())
    arrays, note = read_arrays(file, "")
    losses = arrays["epochs/0/values/train_loss"]
    changed = {"epochs/0/values/train_loss": np.nextafter(losses, 9, dtype=losses.dtype)}
    file.unlink()
    write_arrays(file.parent, file.name.partition("-")[0], arrays | changed, note)
    found = jaxlab(cli_folder, "verify", str(tmp_path / "tampered"), *command[2:])
    assert found.returncode == 1
    assert "no: train_loss at epoch 0" in found.stdout
    assert "Versions, device and code are the same as in the run." in found.stdout


def test_a_run_in_which_nothing_was_recorded_is_shown(cli_folder, tmp_path):
    run = shutil.copytree(cli_folder / "runs/tiny", tmp_path / "run")
    shutil.rmtree(run / "records")
    shutil.rmtree(run / "results.zarr")
    (run / "complete").unlink()
    shown = jaxlab(cli_folder, "show", str(run))
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "tiny: 6 trials, 6 unfinished" in shown.stdout


def test_what_goes_on_says_from_where(cli_folder, tmp_path):
    out = ["run", "tiny.toml", "--width", "6", "--out", str(tmp_path / "run"), "--set"]
    assert jaxlab(cli_folder, *out, "epochs=1").returncode == 0
    extended = started(cli_folder, *out, "epochs=2")  # by another process
    assert extended.returncode == 0
    assert "tiny: compiling; resumes from epoch 1.0" in extended.stderr.splitlines()
    added = jaxlab(cli_folder, *out, "epochs=2", "--set", "space.grid.seed=[0,1]")
    assert "tiny: 12 trials" in added.stdout
    results = read_results(tmp_path / "run")
    assert results.cohort.values.tolist() == [0] * 6 + [1] * 6
    straight = read_results(cli_folder / "runs/tiny")
    np.testing.assert_array_equal(results.train_loss[:6], straight.train_loss)


ENDINGS = {
    "quits": "import sys\ndef quits(c, h, rngs):\n    sys.exit('\x1b[31mno\\nway')\n",
    "exits": "def exits(c, h, rngs):\n    exit(0)\n",
    "fails": "class Wild(Exception):\n    __repr__ = lambda self: '\x1b[31mno\\nway'\nraise Wild\n",
    "ends": "raise SystemExit(0)\n",
}


@pytest.mark.parametrize("name", ENDINGS)
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_function_that_ends_the_process_is_bad_input(cli_folder, tmp_path, name, more):
    shutil.copy(cli_folder / "tiny.toml", tmp_path)
    (tmp_path / f"{name}.py").write_text(ENDINGS[name])
    model = ["--set", f"configuration.model={name}.py:{name}"]
    found = jaxlab(tmp_path, "run", "tiny.toml", *more, *model)
    assert (found.returncode, found.stdout) == (2, "")
    assert f"{name}.py" in found.stderr.splitlines()[-1]
    assert ("calls sys.exit or exit" in found.stderr) == (name in ("quits", "exits"))
    assert sum(line.startswith("jaxlab: ") for line in found.stderr.splitlines()) == 1
    assert found.stderr.replace("\n", "").isprintable()
    assert not (tmp_path / "runs").exists()


def test_without_the_extra_it_says_what_to_install(cli_folder):
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
    assert found.stderr.strip() == "jaxlab: typer is missing: pip install -e '.[cli]' in a clone of jaxlab"
