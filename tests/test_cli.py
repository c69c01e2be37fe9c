"""The command line: in this process, and as a person starts it where the process itself matters."""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import synthetic
import typer
from synthetic import results

from jaxlab import cli, read_results
from jaxlab.cli.app import app
from jaxlab.cli.progress import Watcher, describe
from jaxlab.cli.signals import Signals
from jaxlab.cli.tables import print_plan, print_run, print_verification, times
from jaxlab.runs import GroupPlan, Plan, Progress, Verdict, Verification
from jaxlab.store.arrays import read_arrays, write_arrays

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
    assert jaxlab(path, "run", "tiny.toml", "--width", "6").returncode == 0
    return path


@contextlib.contextmanager
def handlers_kept():
    """What listens to signals is as before, though a run's end leaves a process that is about to exit."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def jaxlab(folder, *arguments):
    """``jaxlab ARGUMENTS`` with its exit status and what it prints, in this process and on its one device."""
    out, errors = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        handlers_kept(),
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(errors),
    ):
        patch.setattr(sys, "argv", ["jaxlab", *arguments])
        patch.setenv("COLUMNS", "120")
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        count = f"--xla_force_host_platform_device_count={len(jax.devices())}"
        patch.setenv("XLA_FLAGS", f"{os.environ.get('XLA_FLAGS', '')} {count}")
        with pytest.raises(SystemExit) as ended:
            cli.main()
    status = ended.value.code or 0
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), errors.getvalue())


def started(folder, *arguments, **environment):
    """``python -m jaxlab ARGUMENTS`` in a process of its own."""
    command = [sys.executable, "-m", "jaxlab", *arguments]
    environment = os.environ | {"COLUMNS": "120", "XDG_CACHE_HOME": str(folder / "cache")} | environment
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)


def test_run_and_show_print_the_same_answers(folder):
    """The run in a process of its own, on all cores."""
    again, shown = started(folder, "run", "tiny.toml", "--width", "6"), jaxlab(folder, "show", "runs/tiny")
    assert again.returncode == shown.returncode == 0
    assert again.stdout == shown.stdout
    for words in ("tiny: 6 trials", "2 diverged", "best setting", "learning rate", "gap", "results.zarr"):
        assert words in shown.stdout, words
    assert (folder / "runs/tiny/results.zarr").is_dir()


def test_progress_goes_to_standard_error(folder, tmp_path):
    found = jaxlab(folder, "run", "tiny.toml", "--out", str(tmp_path / "run"), "--set", "epochs=1")
    assert "trial-steps/s" in found.stderr
    assert "6 trials" in found.stderr
    data = "train 200 × 8×8×1 uint8 in [0, 16], seen as [0, 1], 10 classes, largest 10 %; validation 360; test 360"
    assert found.stderr.splitlines()[0] == f"tiny: {data}"
    assert "trial-steps/s" not in found.stdout


def test_programs_and_widths_are_kept_in_the_users_cache_folder(folder, tmp_path):
    """And a program that was kept gives the same numbers, without a word on standard error."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), "COLUMNS": "200"}
    environment |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    runs = []
    for name in ("cold", "warm"):
        command = [sys.executable, "-m", "jaxlab", "run", "tiny.toml", "--out", str(tmp_path / name)]
        command += ["--set", 'configuration.model="mlp"']
        runs.append(
            subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=True)
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


def test_what_is_said_while_and_after_a_width_is_chosen():
    progress = Progress("probing", 1, 2, 0, 10, 5, 0, 0, 0, 0.0, 0.0, 1.0, 4)
    assert describe(progress) == "group 2/2 choosing the width, measuring 4"
    attributes = {"compile_seconds": 5.0, "train_seconds": 600.0, "devices": 2, "device_kind": "cpu"}
    assert times(attributes | {"width": 2}) == "Compiled in 5.0 s, trained in 10 min on 2 × cpu, width 2."
    more = {"programs": 8, "programs_from_cache": 3, "probe_seconds": 12.0, "first_epoch_seconds": 20.0}
    assert times(attributes | more | {"width": [2, 16]}) == (
        "Compiled in 5.0 s (3 of 8 programs from the cache), width chosen in 12.0 s, first epoch done after 20.0 s, "
        "trained in 10 min on 2 × cpu, width 2 and 16."
    )


def test_dry_run_says_what_it_takes_and_writes_nothing(folder, tmp_path):
    found = jaxlab(folder, "run", "tiny.toml", "--dry-run", "--out", str(tmp_path / "run"), "--width", "2")
    assert found.returncode == 0
    for words in ("6 trials", "packs", "memory", "1 compiled program", "No results were written"):
        assert words in found.stdout, words
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [None, "run", "show", "verify"])
def test_help_says_every_text_as_it_is_written(folder, command):
    found = jaxlab(folder, *filter(None, [command]), "--help")
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
def test_bad_input_is_one_line_and_status_2(folder, arguments, message):
    found = jaxlab(folder, *arguments)
    assert found.returncode == 2
    assert message in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1, found.stderr
    assert found.stdout == ""
    assert not (folder / "new").exists()


def test_a_doubtful_guess_is_one_line(folder, tmp_path):
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
    first, second = jaxlab(folder, *doubtful).stderr.splitlines()
    assert first.startswith(
        "jaxlab: the inputs are in [0, 255], which the network sees as they are: set scale"
    )
    assert second.startswith("jaxlab: configuration.batch_size = 64: ")
    (only,) = jaxlab(folder, *doubtful, "--set", "data.classes='2'").stderr.splitlines()
    assert only == "jaxlab: classes = '2': give a whole number, at least 2, or None for regression"


def test_bad_input_ends_the_process_with_status_2(folder):
    found = started(folder, "show", "nowhere")
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("jaxlab: run = 'nowhere': is not a jaxlab run folder")
    assert len(found.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("arguments", [["rnu"], ["run"], ["run", "tiny.toml", "--width", "many"]])
def test_wrong_usage_is_status_2(folder, arguments):
    found = jaxlab(folder, *arguments)
    assert found.returncode == 2
    assert "Traceback" not in found.stderr


def test_ctrl_c_keeps_what_was_finished(folder, tmp_path):
    # A shell's background job, as a test run may be, has its children ignore Ctrl-C: not this one.
    listening = "import signal, jaxlab.cli; signal.signal(signal.SIGINT, signal.default_int_handler); jaxlab.cli.main()"
    options = ["run", "tiny.toml", "--out", str(tmp_path / "run"), "--set", "epochs=5000"]
    command = [sys.executable, "-c", listening, *options]
    process = subprocess.Popen(
        command,
        cwd=folder,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"XDG_CACHE_HOME": str(folder / "cache")},
    )
    deadline = time.monotonic() + 120
    while (
        not list((tmp_path / "run").glob("records/r00000001-*.safetensors")) and time.monotonic() < deadline
    ):
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "SIGINT: finishing the call in progress, then saving; Ctrl-C again stops at once" in errors
    assert "stopped and saved; the same command resumes" in errors
    assert "Traceback" not in errors
    shown = jaxlab(folder, "show", str(tmp_path / "run"))
    assert shown.returncode == 0
    assert "unfinished" in shown.stdout


def test_verify_says_of_each_trial_whether_it_is_reproduced(folder, tmp_path):
    command = ["verify", "runs/tiny", "--trials", "2", "--seed", "1"]
    before = {path: path.read_bytes() for path in (folder / "runs").rglob("*") if path.is_file()}
    found = jaxlab(folder, *command)
    assert found.returncode == 0
    assert "runs/tiny: 2 trials trained again" in found.stdout
    assert found.stdout.count(" yes ") == 2
    assert {path: path.read_bytes() for path in (folder / "runs").rglob("*") if path.is_file()} == before
    shutil.copytree(folder / "runs/tiny", tmp_path / "tampered")
    (file, *_) = sorted((tmp_path / "tampered/records").iterdir())
    arrays, note = read_arrays(file, "")
    losses = arrays["epochs/0/values/train_loss"]
    changed = {"epochs/0/values/train_loss": np.nextafter(losses, 9, dtype=losses.dtype)}
    file.unlink()
    write_arrays(file.parent, file.name.partition("-")[0], arrays | changed, note)
    found = jaxlab(folder, "verify", str(tmp_path / "tampered"), *command[2:])
    assert found.returncode == 1
    assert "no: train_loss at epoch 0" in found.stdout
    assert "Versions, device and code are the same as in the run." in found.stdout


def test_a_run_in_which_nothing_was_recorded_is_shown(folder, tmp_path):
    run = shutil.copytree(folder / "runs/tiny", tmp_path / "run")
    shutil.rmtree(run / "records")
    shutil.rmtree(run / "results.zarr")
    (run / "complete").unlink()
    shown = jaxlab(folder, "show", str(run))
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "tiny: 6 trials, 6 unfinished" in shown.stdout


def test_what_goes_on_says_from_where(folder, tmp_path):
    out = ["run", "tiny.toml", "--width", "6", "--out", str(tmp_path / "run"), "--set"]
    assert jaxlab(folder, *out, "epochs=1").returncode == 0
    extended = started(folder, *out, "epochs=2")  # by another process
    assert extended.returncode == 0
    assert "tiny: compiling; resumes from epoch 1.0" in extended.stderr.splitlines()
    added = jaxlab(folder, *out, "epochs=2", "--set", "space.grid.seed=[0,1]")
    assert "tiny: 12 trials" in added.stdout
    results = read_results(tmp_path / "run")
    assert results.cohort.values.tolist() == [0] * 6 + [1] * 6
    straight = read_results(folder / "runs/tiny")
    np.testing.assert_array_equal(results.train_loss[:6], straight.train_loss)


def test_only_ctrl_c_is_heard_once_everything_is_saved():
    with handlers_kept(), Signals() as signals:
        signals.over = True
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGUSR1)
        assert not signals.asked()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


ENDING = """
import atexit, os, signal
def late():  # after everything else that was asked for at the end
    for name in ("SIGTERM", "SIGUSR1"):
        os.kill(os.getpid(), getattr(signal, name))
atexit.register(late)
from jaxlab.cli.signals import Signals
with Signals() as signals:
    {begin}
raise SystemExit({status})
"""


@pytest.mark.parametrize(
    ("begin", "status"),
    [
        ("signals.training = True; late(); late()", 75),
        ("signals.over = True; late()", 0),
    ],
)
def test_signals_that_come_while_the_process_ends_leave_its_status(begin, status):
    code = ENDING.format(begin=begin, status=status)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (status, "")
    assert found.stderr.count("finishing the call in progress, then saving") == (status == 75)


def test_a_second_signal_does_not_disturb_what_the_first_began():
    with handlers_kept(), Signals() as signals:
        with pytest.raises(KeyboardInterrupt):  # nothing to save yet
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGUSR1)
        assert signals.status == 75


def test_out_may_have_any_name(folder, tmp_path):
    out = tmp_path / os.fsdecode(b"-two\nlines a%20?#* \xc3\xbc not utf-8 \xff")
    command = ["run", "tiny.toml", "--width", "6", "--set", "epochs=1", "--out", str(out)]
    assert jaxlab(folder, *command).returncode == 0
    assert read_results(out).sizes["trial"] == 6
    shown = started(folder, "show", str(out), PYTHONIOENCODING="utf-8")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "not utf-8 \\udcff" in shown.stdout


def test_a_table_of_limits_is_printed_line_by_line(capsys):
    settings = synthetic.grid(learning_rate=[0.1, 1.0], decay=[0.5, 0.9, 0.99, 0.999], l2=[0.0, 1.0])
    found = results(settings, loss=np.linspace(0.5, 3, 16)).assign_attrs(title="many")
    print_run(found, Path("run"))
    lines = capsys.readouterr().out.splitlines()
    assert "limits of learning rate" in lines
    assert any(line.split()[:2] == ["decay", "L2"] for line in lines)


def test_a_plan_tells_values_of_different_types_apart(capsys):
    values = [1, "1", None, "None", "relu"]
    groups = [GroupPlan({"field": value}, 1, 1, 1, 0.0, 0, 0.0) for value in values]
    groups.append(GroupPlan({"other": "1"}, 1, 1, 1, 0.0, 0, 0.0))
    print_plan(Plan(tuple(groups), 6, 1, 1, "cpu"), "alike")
    shown = [line.split()[1] for line in capsys.readouterr().out.splitlines() if "=" in line]
    assert shown == ["field=1", "field='1'", "field=None", "field='None'", "field='relu'", "other=1"]


WILD = "a[/b] [link=http:x]y[/link] :smile:\x1b[31m\x1b]0;title\x07\r\n\u202e\udcff"
TAMED = r"a[/b] [link=http:x]y[/link] :smile:\x1b[31m\x1b]0;title\x07\r\n\u202e\udcff"


def test_names_from_elsewhere_are_shown_as_they_are_and_control_no_terminal(capsys):
    found = results({"learning_rate": [0.1]}, loss=[1.0], train=[0.5], validation=[0.5])
    found = found.assign_attrs(
        title=WILD, train_seconds=1, compile_seconds=1, devices=1, device_kind=WILD, width=1
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "300")
        print_run(found.assign_attrs(changes=WILD), Path(WILD))
        group = GroupPlan({"model": WILD}, 1, 1, 1, 0.0, 0, 0.0)
        print_plan(Plan((group,), 1, 1, 1, WILD), WILD)
        print_verification(Verification((Verdict(0, WILD, (WILD,)),), (WILD,)), Path(WILD))
    shown = capsys.readouterr().out
    assert "".join(shown.split()).count("".join(TAMED.split())) == 11  # titles wrap
    assert shown.replace("\n", "").isprintable()


def test_the_name_of_a_run_in_progress_controls_no_terminal(monkeypatch):
    for terminal in ("", "1"):
        monkeypatch.setenv("FORCE_COLOR", terminal)
        monkeypatch.setenv("COLUMNS", "300")
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), Watcher(WILD) as watcher:
            watcher(Progress("compiling", 0, 1, 0, 10, 5, 0, 0, 0, 0.0, 0.0, 1.0, 4))
        shown = errors.getvalue()
        assert TAMED in shown
        assert ("\x1b[" in shown) == bool(terminal)  # what Rich writes itself
        for control in ("\x1b]0;", "\x1b[31m", "\x07", "\u202e"):
            assert control not in shown


def test_a_run_folder_may_have_any_name(folder, tmp_path):
    out = tmp_path / "a[" / "b]\x1b[31m"
    found = jaxlab(folder, "run", "tiny.toml", "--out", str(out), "--set", "epochs=1")
    assert found.returncode == 0
    assert (out / "complete").exists()
    assert "a[/b]\\x1b[31m" in found.stdout
    assert "\x1b" not in found.stdout + found.stderr


ENDINGS = {
    "quits": "import sys\ndef quits(c, h, rngs):\n    sys.exit('\x1b[31mno\\nway')\n",
    "exits": "def exits(c, h, rngs):\n    exit(0)\n",
    "fails": "class Wild(Exception):\n    __repr__ = lambda self: '\x1b[31mno\\nway'\nraise Wild\n",
    "ends": "raise SystemExit(0)\n",
}


@pytest.mark.parametrize("name", ENDINGS)
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_function_that_ends_the_process_is_bad_input(folder, tmp_path, name, more):
    shutil.copy(folder / "tiny.toml", tmp_path)
    (tmp_path / f"{name}.py").write_text(ENDINGS[name])
    model = ["--set", f"configuration.model={name}.py:{name}"]
    found = jaxlab(tmp_path, "run", "tiny.toml", *more, *model)
    assert (found.returncode, found.stdout) == (2, "")
    assert f"{name}.py" in found.stderr.splitlines()[-1]
    assert ("calls sys.exit or exit" in found.stderr) == (name in ("quits", "exits"))
    assert sum(line.startswith("jaxlab: ") for line in found.stderr.splitlines()) == 1
    assert found.stderr.replace("\n", "").isprintable()
    assert not (tmp_path / "runs").exists()


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
    assert found.stderr.strip() == "jaxlab: typer is missing: pip install -e '.[cli]' in a clone of jaxlab"
