"""The driver of the accelerator questions: processes that answer, hang or crash, budgets and reports."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import accelerator
from accelerator_questions import (
    QUESTIONS,
    Question,
    alternatives,
)
from accelerator_questions.asking import Answer, Asking, Table, plain

SCRIPTS = Path(__file__).parent.parent / "scripts"
WHERE = {
    "platform": "gpu",
    "device_kind": "Fake GPU",
    "name": "fake-gpu",
    "devices": 1,
    "processor": "chip",
    "cores": 4,
    "versions": {"jax": "1.2"},
}
BEGINNING = f"""
import json, os, signal, subprocess, sys, time
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
def write(**line):
    with open(given["--rows"], "a") as file:
        file.write(json.dumps(line) + "\\n")
write(environment={WHERE!r})
"""
TALKS = """
for number in range(2):
    write(row={"number": number})
    write(answer={"says": [f"There are {number + 1} rows."], "tables": [
        {"columns": ["a", "b"], "rows": [["1", "x | y"]], "title": "Of b:"}]})
"""


@pytest.fixture
def question(tmp_path):
    """``(name, code, seconds) -> Question`` that runs some code in a process."""

    def make(name, code, seconds=1.0):
        script = tmp_path / f"{name}.py"
        script.write_text(BEGINNING + code)
        return Question(name, f"What about {name}?", seconds, {}, (sys.executable, str(script)))

    return make


def asked(tmp_path, *questions, known=None, **options):
    """The exit status, and what the report holds."""
    options = accelerator.Options(questions, **({"budget": 60.0, "out": tmp_path / "out"} | options))
    status = accelerator.ask_all(options, known or questions)
    path = tmp_path / "out" / "fake-gpu-accelerator.json"
    found = json.loads(path.read_text())["questions"] if path.exists() else None
    return status, found


def text_of(tmp_path):
    return (tmp_path / "out" / "fake-gpu-accelerator.md").read_text()


def alive(process):
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_answers_are_written(tmp_path, question, capsys):
    status, found = asked(tmp_path, question("first", TALKS), question("second", TALKS))
    assert status == 0
    assert [row["number"] for row in found["second"]["rows"]] == [0, 1]
    assert found["first"]["outcome"] == "answered"
    text = text_of(tmp_path)
    assert "# Measurements of Fake GPU" in text
    assert "1 × Fake GPU; chip, 4 cores; jax 1.2;" in text
    assert "| 1 | What about first? (`first`) | There are 2 rows. |" in text
    assert text.count("*What about second?*\n\nThere are 2 rows.\n\nOf b:\n\n| a | b |\n") == 1
    assert "| 1 | x \\| y |" in text
    assert "Took 0 s of at most 30 s." in text
    assert "first: answered, 0 s\n  There are 2 rows.\n" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "fake-gpu-accelerator.json",
        "fake-gpu-accelerator.md",
    ]


def test_a_question_that_hangs_is_killed_with_what_it_started_and_keeps_its_rows(tmp_path, question):
    marker = tmp_path / "process"
    hangs = f"""
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({str(marker)!r}, "w").write(str(child.pid))
signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(600)
"""
    questions = question("hangs", TALKS + hangs, 1.0), question("next", TALKS, 29.0)
    status, found = asked(tmp_path, *questions, budget=30.0)
    assert status == 1
    assert found["hangs"]["outcome"] == "timed out after 1 s"
    assert len(found["hangs"]["rows"]) == 2
    assert found["next"]["outcome"] == "answered"
    assert not alive(int(marker.read_text()))
    assert "**Timed out after 1 s.**" in text_of(tmp_path)
    assert "**timed out after 1 s** There are 2 rows. |" in text_of(tmp_path)


def test_rows_are_on_disk_while_the_question_is_asked(tmp_path, question):
    """The process looks at the report itself."""
    path = tmp_path / "out" / "fake-gpu-accelerator.json"
    looks = f"""
for _ in range(300):
    time.sleep(0.1)
    if os.path.exists({str(path)!r}):
        break
write(row={{"seen": json.load(open({str(path)!r}))["questions"]["looks"]["rows"]}})
"""
    _, found = asked(tmp_path, question("looks", TALKS + looks))
    assert found["looks"]["rows"][-1]["seen"] == [{"number": 0}, {"number": 1}]


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        ("print('on the way'); sys.exit('no memory')", "exit status 1: no memory"),
        ("raise KeyError('lost')", "exit status 1: KeyError: 'lost'"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
    ],
)
def test_a_question_that_crashes_says_how_and_keeps_its_rows(tmp_path, question, end, outcome):
    status, found = asked(tmp_path, question("crashes", TALKS + end), question("next", TALKS))
    assert status == 1
    assert found["crashes"]["outcome"] == outcome
    assert len(found["crashes"]["rows"]) == 2
    assert found["next"]["outcome"] == "answered"


def test_a_line_that_is_not_complete_is_no_row(tmp_path, question):
    code = TALKS + "open(given['--rows'], 'a').write('{\"row\": {')"
    _, found = asked(tmp_path, question("torn", code))
    assert len(found["torn"]["rows"]) == 2


def test_the_budget_is_shared_and_what_is_left_goes_to_the_next(tmp_path, question):
    code = "write(row={'left': float(given['--until']) - time.time()})"
    questions = question("short", code, 1.0), question("long", code, 3.0)
    _, found = asked(tmp_path, *questions, budget=40.0)
    assert 5 < found["short"]["rows"][0]["left"] <= 10
    assert found["short"]["limit"] == pytest.approx(10, abs=0.1)
    assert 30 < found["long"]["limit"] < 40


def test_what_the_budget_does_not_suffice_for_is_not_asked(tmp_path, question, capsys):
    questions = question("slow", TALKS + "time.sleep(1.5)", 10.0), question("late", TALKS, 0.001)
    status, found = asked(tmp_path, *questions, budget=accelerator.LEAST_SECONDS + 1)
    assert status == 1
    assert found["slow"]["outcome"] == "answered"
    assert found["late"]["outcome"] == "not asked: the budget of 6 s was used up"
    assert "Not asked: the budget of 6 s was used up." in text_of(tmp_path)


def test_other_questions_keep_the_answers_of_earlier_runs(tmp_path, question):
    first, second, third = (question(name, TALKS) for name in ("first", "second", "third"))
    known = first, second, third
    asked(tmp_path, first, second, known=known, command="earlier command")
    path = tmp_path / "out" / "fake-gpu-accelerator.json"
    content = json.loads(path.read_text())
    content["questions"]["first"] |= {
        "date": "2020-02-03",
        "environment": WHERE | {"versions": {"jax": "0.1"}},
    }
    path.write_text(json.dumps(content))
    code = "write(row={'earlier': json.load(open(given['--earlier'])), 'number': 5})"
    again = question("second", code)
    status, found = asked(tmp_path, again, known=(first, again, third), command="later command")
    assert status == 0
    assert [row["number"] for row in found["first"]["rows"]] == [0, 1]
    assert [row["number"] for row in found["second"]["rows"]] == [5]
    assert found["first"]["command"] == "earlier command"
    assert "third" not in found
    text = text_of(tmp_path)
    assert "From an earlier run, `earlier command`: 1 × Fake GPU; chip, 4 cores; jax 0.1; 2020-02-03." in text
    assert "| 3 | What about third? (`third`) | not asked |" in text


def test_later_questions_see_the_rows_of_earlier_ones(tmp_path, question):
    code = "write(row={'earlier': json.load(open(given['--earlier']))})"
    _, found = asked(tmp_path, question("first", TALKS), question("second", code))
    assert found["second"]["rows"][0]["earlier"]["first"] == [{"number": 0}, {"number": 1}]


def test_a_report_that_cannot_be_read_is_replaced(tmp_path, question, capsys):
    path = tmp_path / "out" / "fake-gpu-accelerator.json"
    path.parent.mkdir()
    path.write_text("{")
    status, found = asked(tmp_path, question("first", TALKS))
    assert status == 0
    assert len(found["first"]["rows"]) == 2
    assert "cannot be read and is replaced" in capsys.readouterr().err


def test_an_interrupted_run_keeps_what_it_found(tmp_path, question, capsys):
    code = "time.sleep(0.5); os.kill(os.getppid(), signal.SIGINT); time.sleep(600)"
    before = signal.getsignal(signal.SIGINT)
    status, found = asked(tmp_path, question("asked", TALKS + code), question("never", TALKS))
    assert status == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert found["asked"]["outcome"] == "interrupted"
    assert len(found["asked"]["rows"]) == 2
    assert "never" not in found
    assert "holds the answers so far" in capsys.readouterr().err


def test_without_an_accelerator_nothing_is_measured(tmp_path, question, monkeypatch, capsys):
    one = question("one", f"write(environment={WHERE | {'platform': 'cpu'}!r})\n{TALKS}\ntime.sleep(600)")
    monkeypatch.setattr(accelerator, "QUESTIONS", [one])
    assert accelerator.main(["--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert said.err.splitlines()[-1].startswith("accelerator.py: device = 'cpu': JAX sees no accelerator")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--only", "neighbors"],
            "--only = 'neighbors': did you mean 'neighbours'? give some of machine, study",
        ),
        (["--only", "1,10"], "--only = '10'"),
        (["--only", ","], "--only = ''"),
        (["--budget", "0"], "--budget = '0': give a number of seconds > 0"),
        (["--budget", "nan"], "--budget = 'nan'"),
        (["--budget", "ten"], "--budget = 'ten'"),
        (["--out", __file__], "give a folder"),
    ],
)
def test_bad_arguments_are_one_line_and_status_2(arguments, message, capsys):
    assert accelerator.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.count("\n") == 1


def test_questions_are_chosen_by_name_or_number_in_their_order():
    names = [each.name for each in accelerator.chosen(["5,machine", "3", "lowerings"])]
    assert names == ["machine", "neighbours", "lowerings"]
    assert accelerator.chosen(None) == list(QUESTIONS)


def test_every_question_has_a_module_of_its_name():
    files = {path.stem for path in (SCRIPTS / "accelerator_questions").glob("*.py")}
    assert {each.name for each in QUESTIONS} <= files


def make_asking(tmp_path, seconds=60.0, earlier=None, small=True):
    def answer(rows):
        return Answer([f"{len(rows)} rows"], [Table(("a",), [["1"]])])

    return Asking(tmp_path / "rows", time.time() + seconds, small, earlier or {}, answer)


def written(tmp_path):
    return [json.loads(line) for line in (tmp_path / "rows").read_text().splitlines()]


def test_a_row_is_written_before_its_answer(tmp_path):
    asking = make_asking(tmp_path)
    asking.row(value=np.float32(0.5), many=np.arange(2), missing=float("nan"))
    row, answer = written(tmp_path)
    assert row == {"row": {"value": 0.5, "many": [0, 1], "missing": None}}
    assert answer["answer"]["says"] == ["1 rows"]
    assert answer["answer"]["tables"] == [{"columns": ["a"], "rows": [["1"]], "title": ""}]


def test_what_there_is_no_time_for_is_named(tmp_path):
    asking = make_asking(tmp_path, seconds=0.3)
    done = []
    for item in asking.in_time(["a", "b", "c"], lambda item: f"part {item}"):
        done.append(item)
        time.sleep(0.2)
    assert done == ["a"]
    assert written(tmp_path) == [{"note": "No time was left for part b and part c."}]


def test_plain_values_are_json():
    found = plain({1: [np.int64(2), float("inf"), "text", None, True]})
    assert json.dumps(found) == '{"1": [2, null, "text", null, true]}'


def run_small(tmp_path, *arguments, path=""):
    """The script in a process of its own; the questions as JSON, and the Markdown."""
    command = [
        sys.executable,
        SCRIPTS / "accelerator.py",
        "--small",
        "--budget",
        "1800",
        "--out",
        tmp_path,
        *arguments,
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(path), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    (json_path,) = tmp_path.glob("*-accelerator-small.json")
    questions = json.loads(json_path.read_text())["questions"]
    logs = {name: found.get("log") for name, found in questions.items() if found["outcome"] != "answered"}
    assert (done.returncode, logs) == (0, {}), done.stderr
    return questions, json_path.with_suffix(".md").read_text()


@pytest.mark.slow
def test_every_question_has_an_answer_with_tiny_sizes(tmp_path):
    questions, text = run_small(tmp_path)
    assert list(questions) == [each.name for each in QUESTIONS]
    for name, found in questions.items():
        assert found["says"], name
        assert found["notes"] == [], name
        assert all(len(row) == len(table["columns"]) for table in found["tables"] for row in table["rows"]), (
            name
        )
        assert not [row for row in found["rows"] if "refused" in row], name
    kinds = {
        name: {
            row.get("kind", row.get("lowering", row.get("contender", row.get("options"))))
            for row in found["rows"]
        }
        for name, found in questions.items()
    }
    assert kinds["machine"] == {"device", "product", "copy"}
    assert kinds["study"] == {"run", "difference"}
    assert kinds["neighbours"] == {"a", "b", "c"}
    assert kinds["determinism"] == {"rate", "model", "tuning"}
    assert kinds["lowerings"] == {"product", "remat", "native", "sum", "taps"}
    assert kinds["widths"] == {"width", "automatic"}
    assert kinds["alternatives"] == {"matmul", *alternatives.NAMES}
    assert kinds["kernels"] == {"segment", "kernel"}
    assert kinds["stopping"] == {"stopping", "resident", "folder"}
    said = questions["neighbours"]["says"]
    assert (
        said[0]
        == "Bitwise equal " + ", ".join(f"in all 7 comparisons under ({each})" for each in "abc") + "."
    )
    assert len(said) == 4
    first, *others = (row for row in questions["determinism"]["rows"] if row["kind"] == "tuning")
    assert others
    assert {row["bits"] for row in others} == {first["bits"]}
    assert max(row["largest"] for row in questions["study"]["rows"] if row["kind"] == "difference") < 0.1
    shares = [row["share"] for row in questions["kernels"]["rows"] if row["kind"] == "kernel"]
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) <= 1 + 1e-9
    assert "**Tiny sizes" in text


@pytest.mark.slow
def test_an_accelerator_image_suffices(tmp_path):
    """Nothing of the command line and of run folders is installed, but what Flax itself requires."""
    absent = ("zarr", "typer", "filelock", "platformdirs", "psutil", "torch")
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({absent}))\n")
    questions, _ = run_small(tmp_path / "out", "--only", "study,alternatives,stopping", path=tmp_path)
    assert (
        "The cost of a run folder was not measured: zarr is not installed." in questions["stopping"]["says"]
    )
    torch = [row for row in questions["alternatives"]["rows"] if row["contender"] == "torch-loop"]
    assert {row["absent"] for row in torch} == {"PyTorch is not installed"}
