"""The driver of the accelerator questions with processes that hang, crash or talk; what the questions say of rows."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))

import accelerator  # noqa: E402
from accelerator_questions import (  # noqa: E402
    QUESTIONS,
    Question,
    alternatives,
    determinism,
    kernels,
    lowerings,
    machine,
    neighbours,
    stopping,
    study,
    widths,
)
from accelerator_questions.asking import Answer, Asking, Table, plain  # noqa: E402

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


def rounded(values, bits):
    """float32 values with so many stored bits of their fraction, to the nearest."""
    as_bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    unit = np.uint64(1 << (23 - bits))
    return ((as_bits + unit // np.uint64(2)) // unit * unit).astype(np.uint32).view(np.float32)


@pytest.mark.parametrize(
    ("bits", "words"), [(23, "float32"), (10, "TF32 (10 bits)"), (7, "bfloat16 (7 bits)")]
)
def test_the_precision_is_recognised_by_the_error_of_a_product(bits, words):
    a, b = np.random.default_rng(0).normal(size=(2, 200, 200)).astype(np.float32)
    exact = a.astype(np.float64) @ b
    found = rounded(a, bits).astype(np.float64) @ rounded(b, bits)
    error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    assert machine.rounding(error).startswith(words)


def test_other_precisions_are_not_called_by_a_name():
    assert machine.rounding(2e-5).startswith("about 14 bits, neither")
    assert machine.rounding(0.0) == "float32 (23 bits)"


MACHINE = [
    {"kind": "device", "device_kind": "Fake GPU", "memory_bytes": 2**30, "runtime": "CUDA 13"},
    {"kind": "product", "name": "float32, default", "n": 8, "flops_per_second": 4e14, "error": 2.7e-4},
    {"kind": "product", "name": "float32, highest", "n": 8, "refused": "out of memory"},
    {"kind": "copy", "bytes": 8, "bytes_per_second": 2e12},
]


def test_what_the_machine_says():
    says, (products, device) = machine.answer(MACHINE)
    assert says[0] == "float32 at JAX's default precision has a relative error of 2.7e-04: TF32 (10 bits)."
    assert "400 TFLOP/s (float32, default)" in says[1]
    assert says[2] == "Copying reads and writes at 2,000 GB/s."
    assert products.rows[1][-1] == "absent: out of memory"
    assert ["memory that JAX may use", "1,024.0 MiB"] in [list(row) for row in device.rows]
    assert machine.ceilings({"machine": MACHINE}) == (4e14, 2e12)
    assert machine.ceilings({}) == (None, None)


def test_losses_are_compared_where_both_are_finite():
    found = np.array([[2.0, 1.0, 0.5], [2.0, np.nan, np.nan], [4.0, 2.2, 1.0]])
    rows = study.differences(found, [[2.0, 1.0], [1.0, 5.0], [4.0, 2.0]])
    assert [row["epoch"] for row in rows] == [0, 1]
    assert (rows[0]["median"], rows[0]["largest"], rows[0]["trials"]) == (0, 1, 3)
    assert (rows[1]["median"], rows[1]["trials"]) == (pytest.approx(0.05), 2)
    assert rows[1]["largest"] == pytest.approx(0.1)


def bits(**changes):
    return {"loss at epoch 1": "a", "state.w": "b"} | changes


def test_bits_that_differ_are_named():
    here = {name: bits() for name in neighbours.RUNS}
    there = {name: bits() for name in neighbours.OTHER_PROCESS}
    equal = neighbours.comparisons(here, there)
    assert not any(equal["differs"].values())
    assert not any(equal["other process"].values())
    here["diverging neighbours"] = {**bits(), "state.w": "c"}
    there["reference"] = {"loss at epoch 1": "z"}
    found = neighbours.comparisons(here, there)
    assert found["differs"]["diverging neighbours"] == ["state.w"]
    assert found["differs"]["again"] == []
    assert found["other process"]["reference"] == ["loss at epoch 1", "state.w"]


def test_every_job_is_compared_with_the_same_job_of_the_second_process(monkeypatch, tmp_path):
    """Bits that depend on options and width, as on a device where kernels are chosen by timing."""

    def found(job, runs):
        own = bits(**{"state.w": f"{job['letter']} at {job['width']}"})
        return {"bits": dict.fromkeys(runs, own), "diverged": 3}

    monkeypatch.setattr(neighbours, "found", found)
    script = tmp_path / "second.py"
    script.write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    job = json.loads(line)\n"
        "    own = {'loss at epoch 1': 'a', 'state.w': f\"{job['letter']} at {job['width']}\"}\n"
        f"    print(json.dumps([job, {{name: own for name in {list(neighbours.OTHER_PROCESS)}}}]), flush=True)\n"
    )
    monkeypatch.setattr(neighbours.SecondProcess, "command", [sys.executable, str(script)])
    asked = Asking(tmp_path / "rows", time.time() + 600, False, {}, neighbours.answer)
    neighbours.ask(asked)
    assert len(asked.rows) == 9
    for row in asked.rows:
        assert not any(row["other process"].values()), row


def neighbour_row(options="a", width=8, diverged=7, **changed):
    here = {name: bits() for name in neighbours.RUNS} | {
        name: bits(**value) for name, value in changed.items()
    }
    there = {name: bits() for name in neighbours.OTHER_PROCESS}
    row = {"options": options, "words": "so", "width": width, "diverged": diverged}
    return row | neighbours.comparisons(here, there)


def test_what_is_said_of_neighbours():
    rows = [neighbour_row(width=8), neighbour_row(width=64), neighbour_row("c", again={"state.w": "x"})]
    says, (table,) = neighbours.answer(rows)
    assert says == [
        "Bitwise equal in all 14 comparisons under (a), in **6 of 7** comparisons under (c).",
        "(a) so: equal.",
        "(c) so: **NOT equal**. The first failed comparison is again at width 8: 1 array differs, first state.w.",
    ]
    assert table.rows[2][2:4] == ["differs: state.w", "equal"]
    assert {len(row) for row in table.rows} == {len(table.columns)}


def test_a_comparison_that_says_nothing_is_told():
    says, _ = neighbours.answer([neighbour_row(diverged=0)])
    assert says[2] == "At width 8, no neighbour diverged, so the comparison with diverging ones is void."
    here = {name: bits() for name in neighbours.RUNS}
    row = {"options": "a", "words": "so", "width": 8, "diverged": 7} | neighbours.comparisons(
        here, "it crashed"
    )
    says, (table,) = neighbours.answer([row, {"options": "b", "words": "x", "width": 8, "refused": "no"}])
    assert says == [
        "Bitwise equal in all 5 comparisons under (a).",
        "(a) so: equal.",
        "Not compared with a second process: it crashed.",
    ]
    assert {len(row) for row in table.rows} == {len(table.columns)}


def rate_row(options, rate, cell="a", trials=4, **more):
    row = {"kind": "rate", "cell": cell, "trials": trials, "options": options, "words": f"words {options}"}
    spread = {"rate_lower": rate, "rate_upper": rate, "compile_seconds": 2.0, "memory_bytes": 2**20}
    return row | {"rate": rate} | spread | more


def test_what_is_said_of_determinism():
    rows = [rate_row("a", 50.0), rate_row("b", 90.0), rate_row("c", 100.0)]
    rows += [rate_row("a", 80.0, "b"), rate_row("c", 100.0, "b")]
    rows += [{"kind": "rate", "cell": "b", "trials": 4, "options": "b", "refused": "out of memory"}]
    rows += [{"kind": "model", "name": "(a)", "result": "refused (no form)"}]
    says, (table,) = determinism.answer(rows)
    assert says[0] == (
        "Rates against (c), any operation and tuned kernels: (a) words a: 0.50 to 0.80 ×; (b) words b: 0.90 ×. "
        "Median time to compile: (a) 2.0 s, (b) 2.0 s, (c) 2.0 s."
    )
    assert says[1] == "A model with `nnx.max_pool`: (a): refused (no form)."
    assert table.rows[0][4] == "0.50 ×"
    assert table.rows[-1][-1] == "absent: out of memory"


def tuning_row(name, **more):
    return {"kind": "tuning", "name": name, "options": {"x": 1}, "compile_seconds": 4.0} | more


def test_what_is_said_of_tuning_results():
    rows = [tuning_row(determinism._KEPT, file_bytes=1234, files=3, equal=True)]
    rows += [tuning_row(determinism._LOADED, compile_seconds=1.0, equal=True)]
    rows += [tuning_row(determinism._ANEW, equal=False)]
    says, (table,) = determinism.answer(rows)
    assert says == [
        "Tuning results are stored: a file of 1,234 bytes, and 3 files in the folder.",
        "Second process, results loaded from the file: the same bits, compiled in 1.0 s instead of 4.0 s.",
        "Second process, tuned anew: **different bits**, compiled in 4.0 s instead of 4.0 s.",
    ]
    assert [row[2] for row in table.rows] == ["yes", "yes", "no"]
    says, _ = determinism.answer([tuning_row(determinism._KEPT, options={})])
    assert says[0].startswith("Tuning results cannot be stored here")


LAYERS = [
    lowerings.Layer(2, (6, 5), 3, 4, 3, 1, 1, 1),
    lowerings.Layer(2, (7, 6), 5, 2, 3, 2, 1, 1),
    lowerings.Layer(1, (8, 8), 5, 4, 3, 1, 2, 1),
    lowerings.Layer(2, (9,), 5, 4, 5, 2, 1, 1),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.words)
def test_one_product_a_tap_is_the_convolution(layer):
    x = np.random.default_rng(0).normal(size=(layer.batch, *layer.spatial, layer.channels)).astype(np.float32)
    shape = (*(layer.kernel,) * len(layer.spatial), layer.channels, layer.features)
    k = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    expected = lowerings.LOWERINGS["native"](x, k, layer)
    np.testing.assert_allclose(lowerings.taps(x, k, layer), expected, rtol=1e-4, atol=1e-5)


def test_flops_and_bytes_of_a_layer_by_hand():
    # 2 × 6·5 places, a window of 9·8, 4 features; patches of 9 times the input.
    deep = lowerings.Case(lowerings.Layer(2, (6, 5), 8, 4, 3, 1, 1, 1), 3, True)
    assert lowerings.flops(deep) == 3 * 3 * 2 * (2 * 30) * (9 * 8) * 4
    x, y = 3 * 2 * 30 * 8, 3 * 2 * 30 * 4
    assert lowerings.traffic(deep, "native") == 4 * (2 * x + 2 * y + y + x)
    assert lowerings.traffic(deep, "product") == 4 * (x + 3 * 9 * x + 2 * y + y + 2 * 9 * x + x)
    assert lowerings.traffic(deep, "taps") == 4 * 9 * (2 * x + 3 * y + y + 2 * x)
    # A first layer: inputs and patches are shared by the trials, and no gradient goes further.
    first = lowerings.Case(lowerings.Layer(2, (6, 5), 1, 4, 3, 1, 1, 1), 3, False)
    x, y = 2 * 30, 3 * 2 * 30 * 4
    assert lowerings.flops(first) == 3 * 2 * 2 * (2 * 30) * 9 * 4
    assert lowerings.traffic(first, "product") == 4 * (x + 3 * 9 * x + 2 * y)


def test_the_important_shapes_come_first_and_none_twice():
    found = lowerings.cases(small=False)
    assert len(found) == len(set(found))
    assert [(case.layer.spatial, case.trials, case.own) for case in found[:4]] == [
        ((8, 8), 256, False),
        ((14, 14), 256, True),
        ((8, 8), 16, False),
        ((14, 14), 16, True),
    ]
    assert {case.trials for case in found} == {1, 16, 256, 1024}
    from measure_lowerings import SHAPES

    assert {case.layer for case in found} == {lowerings.Layer(*shape[:-1]) for shape in SHAPES}


def lowering_row(lowering, seconds, layer="one", trials=16, **more):
    row = {
        "layer": layer,
        "trials": trials,
        "own": True,
        "options": "a",
        "lowering": lowering,
        "seconds": seconds,
    }
    return row | {"flops": 1e9, "bytes": 2e9, "share_of_product": 0.125, "share_of_copy": 0.5} | more


def test_what_is_said_of_lowerings():
    rows = [lowering_row("product", 1e-3), lowering_row("native", 2e-3), lowering_row("product", 3e-3, "two")]
    rows += [{**lowering_row("native", 0, "two"), "refused": "out of memory"}]
    del rows[-1]["seconds"]
    rows += [lowering_row("native", 5e-4, trials=256), lowering_row("product", 2e-3, trials=256)]
    says, tables = lowerings.answer(rows)
    assert says[0] == (
        "Fastest: T = 16: product for 2 of 2 layers (by 1.00 to 2.00 ×); T = 256: native for 1 of 1 layers "
        "(by 4.00 ×)."
    )
    assert says[1] == (
        "At T = 256, the product moves bytes at 50 % of the rate of copying and computes at 12 % of the rate of a "
        "large product (medians over layers): memory is the nearer limit."
    )
    assert tables[0].rows[1] == ["one", "native", "2,000", "0.50 ×", "500", "12 %", "1,000", "50 %"]
    assert tables[0].rows[3][-1] == "absent: out of memory"
    says, _ = lowerings.answer([lowering_row("product", 1e-3, share_of_product=None, share_of_copy=None)])
    assert says[1] == "The device's limits are unknown: ask `machine`, too."


def width_row(width, rate):
    row = {"kind": "width", "cell": "a", "width": width, "memory_bytes": 2**20, "peak_bytes": None}
    return row | {"rate": rate, "rate_lower": rate, "rate_upper": rate, "compile_seconds": 1.0}


def test_what_is_said_of_widths():
    automatic = {
        "kind": "automatic",
        "cell": "a",
        "trials": 64,
        "rule_of_thumb": 256,
        "chosen": 16,
        "seconds": 9.0,
    }
    rows = [width_row(1, 10.0), width_row(16, 90.0), width_row(64, 100.0)]
    rows += [{"kind": "width", "cell": "a", "width": 256, "refused": "out of memory"}]
    rows += [automatic | {"compile_seconds": 2.0, "tried": [16, 64]}]
    says, (table,) = widths.answer(rows)
    assert says == [
        "a: width 64 is the fastest, 100 trial-steps/s, 10.0 × the rate of width 1; automatic width chooses 16 (90 % "
        "of that rate) in 9 s."
    ]
    assert table.rows[1][2] == "90 %"
    assert table.rows[3][-1] == "absent: out of memory"
    assert widths.best_width({"widths": rows}, "a") == 64
    assert widths.best_width({"widths": rows}, "b") is None


def contender(name, trials, seconds, **more):
    row = {"cell": "8x8", "trials": trials, "contender": name, "precision": "p", "trials_run": trials}
    row |= {"rate": 60 / seconds, "rate_lower": 1.0, "rate_upper": 2.0, "trial_steps_per_call": 60}
    return row | {"seconds": [seconds]} | more


def test_what_is_said_of_alternatives():
    product = {"size": 8, "flops_per_second": 1e12, "seconds": [1.0], "others_share": None}
    rows = []
    for trials in (16, 64):
        rows.append({"cell": "8x8", "trials": trials, "contender": "matmul", "precision": "p"} | product)
        rows += [
            contender("jaxlab", trials, 1.0),
            contender("loop", trials, 4.0),
            contender("vmap", trials, 3.0),
        ]
    rows.append(
        {"cell": "8x8", "trials": 64, "contender": "scan", "precision": "p", "absent": "other", "wrong": True}
    )
    says, (table,) = alternatives.answer(rows)
    assert says == [
        "8x8 at p: jaxlab's speedup over the fastest other contender is 3.00 × (vmap, N = 16), 3.00 × (vmap, N = 64).",
        "Refused because of wrong losses: scan.",
    ]
    assert len(table.rows) == len(rows)


def test_losses_may_differ_more_where_the_device_rounds(monkeypatch):
    from benchmark.problem import disagreement

    reference = np.full((1, 4), 2.0)
    found = reference * 1.05
    assert disagreement(found, reference)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not disagreement(found, reference)
    assert disagreement(reference * 1.2, reference)
    with jax.default_matmul_precision("float32"):
        assert disagreement(found, reference)


def event(name, start, duration, process=1, line=1, **arguments):
    return {
        "ph": "X",
        "name": name,
        "ts": start,
        "dur": duration,
        "pid": process,
        "tid": line,
        "args": arguments,
    }


def named(kind, name, process, line=0):
    return {"ph": "M", "name": kind, "pid": process, "tid": line, "args": {"name": name}}


def test_kernels_of_a_gpus_trace():
    events = [
        named("process_name", "/device:GPU:0", 1),
        named("process_name", "/host:CPU", 2),
        named("thread_name", "Stream #13(Compute)", 1, 1),
        named("thread_name", "XLA Modules", 1, 2),
        named("thread_name", "python", 2, 1),
        event("gemm_128x64", 0, 30, hlo_op="dot.1"),
        event("gemm_128x64", 40, 20, hlo_op="dot.1"),
        event("loop_add_fusion", 60, 10, hlo_op="fusion.7"),
        event("jit_segment", 0, 100, line=2),
        event("PjitFunction", 0, 500, 2, hlo_op="no"),
        {"ph": "X", "pid": 1, "tid": 1, "name": "memset", "ts": 80},
    ]
    found = kernels.kernels(events)
    assert [(each.name, each.operation, each.calls) for each in found] == [
        ("gemm_128x64", "dot.1", 2),
        ("loop_add_fusion", "fusion.7", 1),
        ("memset", "", 1),
    ]
    assert [each.seconds for each in found] == pytest.approx([50e-6, 10e-6, 0])
    assert kernels.products(found) == pytest.approx(50 / 60)


def test_kernels_of_a_cpus_trace_are_without_what_runs_inside_them():
    events = [
        named("process_name", "/host:CPU", 1),
        event("while.1", 0, 100, hlo_op="while.1"),
        event("fusion.2", 10, 30, hlo_op="fusion.2"),
        event("fusion.2", 50, 30, hlo_op="fusion.2"),
        event("dot.3", 55, 5, hlo_op="dot.3"),
        event("fusion.2", 0, 7, line=2, hlo_op="fusion.2"),
        event("Execute", 0, 1000),
    ]
    found = {each.name: (each.calls, each.seconds) for each in kernels.kernels(events)}
    assert found["while.1"] == (1, pytest.approx(40e-6))
    assert found["fusion.2"] == (3, pytest.approx((30 + 25 + 7) * 1e-6))
    assert found["dot.3"] == (1, pytest.approx(5e-6))
    assert set(found) == {"while.1", "fusion.2", "dot.3"}


def test_a_trace_is_read_from_where_the_profiler_leaves_it(tmp_path):
    folder = tmp_path / "plugins" / "profile" / "now"
    folder.mkdir(parents=True)
    with gzip.open(folder / "host.trace.json.gz", "wt") as file:
        json.dump({"traceEvents": [event("a", 0, 1)]}, file)
    assert kernels.read_trace(tmp_path) == [event("a", 0, 1)]
    with pytest.raises(FileNotFoundError, match=r"trace\.json\.gz"):
        kernels.read_trace(tmp_path / "nothing")


def test_what_is_said_of_kernels():
    segment = {
        "kind": "segment",
        "cell": "a",
        "width": 4,
        "steps": 2,
        "wall_seconds": 0.02,
        "busy_seconds": 0.01,
    }
    rows = [segment | {"kernels": 7, "products": 0.25}]
    rows += [
        {
            "kind": "kernel",
            "width": 4,
            "name": name,
            "operation": "o",
            "calls": 1,
            "seconds": 0.004,
            "share": 0.4,
        }
        for name in ("x", "y")
    ]
    says, (table,) = kernels.answer(rows)
    assert says == [
        "4 trials of a: kernels run for 10 ms of a segment's 20 ms. Products and convolutions take 25 % of the time of "
        "kernels, the most expensive kernel 40 %, and the 2 of 7 kernels shown 80 %."
    ]
    assert table.rows[0] == ["x", "o", "1", "4 ms", "40.0 %"]


def test_what_is_said_of_stopping():
    rows = [
        {
            "kind": "stopping", "cell": "a", "trials": 64, "epochs": 40, "stopped_epoch": 4, "ideal": 0.325,
            "share": 0.5, "widths": {"full": 4, "stopping": 2}, "seconds": {"full": [8.0], "stopping": [4.0]},
        },
        {"kind": "resident", "resident": 2, "packs": 2, "seconds_per_epoch": 1.0, "pack_bytes": 2**30},
        {"kind": "resident", "resident": 0, "packs": 2, "seconds_per_epoch": 3.0, "pack_bytes": 2**30},
        {"kind": "folder", "trials": 64, "epochs": 40, "seconds": {"with": [4.2], "without": [4.0]}},
        {"kind": "folder", "absent": "zarr is not installed"},
    ]  # fmt: skip
    says, _ = stopping.answer(rows)
    assert (
        "stop after 4 of 40 epochs take 50.0 % of the time of the full study (4.00 s at width 2, 8.00 s"
        in says[0]
    )
    assert says[1] == (
        "With the states of 2 of 2 packs in host memory, an epoch takes 3.00 × as long (1,024.0 MiB per pack, 2.1 GB/s "
        "in both directions)."
    )
    assert says[2].startswith("A run folder costs 5.0 % (64 trials, 40 epochs: 4.20 s with, 4.00 s without)")
    assert says[3] == "The cost of a run folder was not measured: zarr is not installed."


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
