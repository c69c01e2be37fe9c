"""The benchmark as a command: its options, its files, and everything of a tiny cell; nothing here is timed."""

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarked import STUDIES

from benchmark import run, studies
from benchmark.__main__ import app
from benchmark.cells import CELLS
from benchmark.options import options_from

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cells", "8x9"], "--cells = '8x9': did you mean '8x8'?"),
        (["--cells", ","], "--cells = ()"),
        (["--contenders", "loop,vmpa"], "did you mean 'vmap'?"),
        (["--parts", "stoping"], "did you mean 'stopping'?"),
        (["--trials", "4,many"], "--trials = '4,many'"),
        (["--trials", "0"], "--trials = '0'"),
        (["--trials", ","], "--trials = ','"),
        (["--rounds", "0"], "--rounds = 0"),
        (["--width", "-1"], "--width = -1"),
        (["--budget", "soon"], "--budget = 'soon': give seconds"),
        (["--budget", "0"], "--budget = '0': give seconds"),
        (["--budget", "nan"], "--budget = 'nan': give seconds"),
        (["--budget", "inf"], "--budget = 'inf': give seconds"),
        (
            ["--cells", "awkward-2", "--parts", "stopping,saving"],
            "--parts = 'stopping,saving': the awkward cells",
        ),
        (["--out", __file__], "give a folder"),
    ],
)
def test_bad_options_are_one_line_and_status_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        app(arguments)
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.count("\n") == 1


def test_the_folder_runs_from_anywhere(tmp_path):
    command = [sys.executable, str(SCRIPTS / "benchmark"), "--cells", "8x9"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("benchmark: --cells = '8x9': did you mean '8x8'?")
    assert found.stderr.count("\n") == 1


def test_ours_is_always_among_the_contenders():
    options = options_from(contenders="vmap", trials="16,4,4", cells="28x28").filled()
    assert options.contenders == ("jaxlab", "vmap")
    assert options.trials == (4, 16)
    assert options.cells == ("28x28",)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Everything of a tiny cell, really measured: what the function returns, the folder, standard error."""
    folder = tmp_path_factory.mktemp("benchmark")
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(said):
        patch.setitem(CELLS, "study", STUDIES)
        patch.setattr(studies, "EPOCHS", 10)
        patch.setattr(studies, "STOPPED_EPOCH", 1)
        patch.setattr(studies, "SAVED_SECONDS", 0.1)
        patch.setattr(studies, "many", lambda: 4)
        options = options_from(
            cells="study",
            trials="2",
            contenders="loop",
            parts="contenders,diagnostics,stopping,saving",
            rounds=1,
            out=folder,
            width=1,
            quick=True,
            budget="1e6",
        )
        found = run.benchmark(options, "the command")
    return found, folder, said.getvalue()


def test_the_whole_benchmark_of_a_tiny_cell(measured):
    found, folder, said = measured
    names = [(row["trials"], row["contender"]) for row in found["rows"]]
    assert names == [(2, name) for name in ("matmul", "jaxlab", "loop")]
    assert all(row["rate"] > 0 and len(row["seconds"]) == 1 for row in found["rows"][1:])
    assert not run.wrong(found)
    assert found["dropped"] == []
    written = sorted(path.name for path in folder.iterdir())
    assert [name.partition("-quick")[1:] for name in written] == [("-quick", ".json"), ("-quick", ".md")]
    assert "the command" in (folder / written[1]).read_text()
    assert json.loads((folder / written[0]).read_text()) == json.loads(json.dumps(found))
    assert f"wrote {folder / written[1]}" in said
    assert "study, 2 trials, jaxlab: " in said
    assert "Not measured" not in said


def test_studies_of_a_tiny_cell(measured):
    found, _, said = measured
    (stopping,), (saving,), (costs,) = found["stopping"], found["saving"], found["diagnostics"]
    assert stopping["trials"] == saving["trials"] == 4
    assert stopping["widths"] == {"full": 1, "stopping": 1}
    assert set(saving["widths"]) == {"with", "without"}
    assert [len(each) for each in (*stopping["seconds"].values(), *saving["seconds"].values())] == [1] * 4
    assert min(min(each) for each in stopping["seconds"].values()) > 0
    assert stopping["ideal"] == pytest.approx(0.325)
    assert costs["epoch_ratio"] > 0
    assert "cost of a run folder, study: " in said


def test_quick_has_a_budget_unless_another_is_given():
    assert options_from(quick=True).filled().budget == 180
    assert options_from(quick=True, budget="90").filled().budget == 90
    assert options_from().filled().budget is None
