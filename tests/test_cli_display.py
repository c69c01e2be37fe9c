"""What the command line shows: tables, progress, and names that control no terminal."""

import contextlib
import io
import os
from pathlib import Path

import numpy as np
import pytest
import synthetic
from command_line import jaxlab, started
from synthetic import results

from jaxlab import read_results
from jaxlab.cli.progress import Watcher, describe
from jaxlab.cli.tables import print_plan, print_run, print_verification, times
from jaxlab.runs import GroupPlan, Plan, Progress, Verdict, Verification


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


def test_out_may_have_any_name(cli_folder, tmp_path):
    out = tmp_path / os.fsdecode(b"-two\nlines a%20?#* \xc3\xbc not utf-8 \xff")
    command = ["run", "tiny.toml", "--width", "6", "--set", "epochs=1", "--out", str(out)]
    assert jaxlab(cli_folder, *command).returncode == 0
    assert read_results(out).sizes["trial"] == 6
    shown = started(cli_folder, "show", str(out), PYTHONIOENCODING="utf-8")
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


def test_a_run_folder_may_have_any_name(cli_folder, tmp_path):
    out = tmp_path / "a[" / "b]\x1b[31m"
    found = jaxlab(cli_folder, "run", "tiny.toml", "--out", str(out), "--set", "epochs=1")
    assert found.returncode == 0
    assert (out / "complete").exists()
    assert "a[/b]\\x1b[31m" in found.stdout
    assert "\x1b" not in found.stdout + found.stderr
