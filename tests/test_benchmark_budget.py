"""The budget of the benchmark: the order of the work, and what is dropped for want of time."""

import time

import pytest
from benchmarked import SIGNALS, Hands, Machine

from benchmark import report, run, work
from benchmark.budget import SAFETY, Budget, process_age
from benchmark.cells import AWKWARD, CELLS
from benchmark.contenders import CONTENDERS
from benchmark.machine import device_name, environment
from benchmark.options import options_from
from jaxlab.errors import InputError


def test_a_budget_sets_time_to_write_aside_and_counts_what_is_spent():
    clock = Hands()
    budget = Budget(200.0, 30.0, clock)
    assert budget.left() == pytest.approx(160)
    clock.now += 100
    assert budget.left() == pytest.approx(60)
    assert budget.allows(60 / SAFETY - 1e-6)
    assert not budget.allows(60)
    assert Budget(10.0, 0.0, clock).left() == pytest.approx(7)
    assert Budget(None, 1e9, clock).allows(1e9)


def test_what_a_piece_will_take_is_learned_from_its_kind_or_from_all():
    clock = Hands()
    budget = Budget(200.0, 0.0, clock)
    assert budget.expected("loop", 2.0) == pytest.approx(2)
    with budget.piece("loop", 2.0):
        clock.now += 6.0
    budget.took("loop", 4.0, 4.0)
    assert budget.expected("loop", 1.0) == pytest.approx(3)  # the worst of the kind
    assert budget.expected("vmap", 11.0) == pytest.approx(15)  # (5 + 6 + 4) s instead of (5 + 2 + 4) s


def test_the_age_of_the_process_is_the_systems():
    psutil = pytest.importorskip("psutil")
    assert process_age() == pytest.approx(time.time() - psutil.Process().create_time(), abs=5)
    assert process_age() > 0


ALL = work.in_order(tuple(CELLS), (1, 4, 16, 64), work.NAMES, work.PARTS)


def test_every_work_stands_once_in_the_order_of_importance():
    expected = {
        work.Work("contenders", cell, trials, name)
        for cell in CELLS
        for trials in (1, 4, 16, 64)
        for name in CONTENDERS
    }
    expected |= {work.Work("contenders", cell, 0, "processes") for cell in CELLS}
    own = [cell for cell in CELLS if cell not in AWKWARD]
    expected |= {work.Work(part, cell) for part in work.PARTS[1:] for cell in own}
    assert len(ALL) == len(expected)
    assert set(ALL) == expected


def test_the_goals_come_first():
    own = [cell for cell in CELLS if cell not in AWKWARD]
    pairs = [(cell, name) for cell in own for name in ("jaxlab", "loop")]
    assert [(each.cell, each.contender) for each in ALL[:8]] == pairs
    assert {each.trials for each in ALL[:20]} == {16}
    assert [each.contender for each in ALL[8:12]] == ["vmap"] * 4
    rank = {each: number for number, each in enumerate(ALL)}

    def last(part, contender=""):
        return max(rank[each] for each in ALL if (each.part, each.contender) == (part, contender))

    assert last("contenders", "jaxlab") > last("stopping") > last("diagnostics")
    assert rank[work.Work("contenders", "awkward-1", 16, "loop")] > last("diagnostics")
    assert (
        rank[work.Work("contenders", "8x8", 64, "jaxlab")] < rank[work.Work("contenders", "8x8", 1, "jaxlab")]
    )
    assert [each.part for each in ALL[-4:]] == ["saving"] * 4
    for each in ALL:
        if each.trials:
            assert rank[each._replace(contender="jaxlab")] <= rank[each]


def test_only_what_is_chosen_is_to_be_done():
    found = work.in_order(["8x8"], [2, 4], ("jaxlab", "vmap"), ("contenders",))
    assert found == [work.Work("contenders", "8x8", n, name) for n in (2, 4) for name in ("jaxlab", "vmap")]


def test_the_works_of_a_contest_are_next_together():
    agenda = work.Agenda(ALL)
    contest = agenda.next()
    assert [each.contender for each in contest] == [
        "jaxlab", "loop", "vmap", "torch-loop", "torch-ensemble", "scan", "map",
    ]  # fmt: skip
    assert {each.contest for each in contest} == {("8x8", 16)}
    for each in contest:
        agenda.remove(each)
    assert agenda.next()[0] == work.Work("contenders", "28x28", 16, "jaxlab")
    assert work.Agenda([work.Work("saving", "8x8")]).next() == [work.Work("saving", "8x8")]


def test_time_is_kept_for_what_is_more_important_and_fits():
    a, b, c = (
        work.Work("contenders", cell, 16, name)
        for cell, name in (("a", "jaxlab"), ("a", "loop"), ("b", "jaxlab"))
    )
    diagnosed, saved = work.Work("diagnostics", "a"), work.Work("saving", "a")
    agenda = work.Agenda([a, b, c, diagnosed, saved])
    seconds = {a: 10.0, b: 1.0, c: 100.0, diagnosed: 5.0, saved: 2.0}
    assert agenda.left_for(a, seconds.get, 30.0) == 30
    assert agenda.left_for(saved, seconds.get, 30.0) == 30 - 10 - 1 - 5
    assert agenda.left_for(saved, seconds.get, 8.0) == 3  # without its first the second is nothing
    agenda.remove(a)
    assert agenda.left_for(saved, seconds.get, 8.0) == 8 - 1 - 5
    assert agenda.has_time(saved, seconds.get, 6 + 2 * SAFETY + 0.01)
    assert not agenda.has_time(saved, seconds.get, 6 + 2 * SAFETY - 0.01)


@pytest.fixture
def tiny(monkeypatch):
    """Two cells and an awkward one, all tiny: only the names and the guesses matter."""
    for name in ("8x8", "mnist1d", "awkward-1"):
        monkeypatch.setitem(CELLS, name, SIGNALS._replace(name=name, from_nothing=False))


@pytest.mark.parametrize("seconds", [20, 60, 120, 250, 1000])
@pytest.mark.parametrize("slowness", [0.5, 1, 4])
def test_a_budget_is_kept_on_every_machine_and_what_is_dropped_is_named(monkeypatch, tiny, seconds, slowness):
    machine = Machine(monkeypatch, slowness)
    cells = "8x8,mnist1d,awkward-1"
    found, took = machine.measure(seconds, cells=cells, trials="4,16", rounds=1)
    # Nothing is known of the machine before its first piece of work, which takes up to 4 × 8 s.
    assert took <= max(seconds, 8.1 * slowness)
    rated = [(row["cell"], row["trials"], row["contender"]) for row in found["rows"] if "rate" in row]
    rated = [each for each in rated if each[2] != "matmul"]
    dropped = [(row["cell"], row["trials"], row["what"]) for row in found["dropped"]]
    assert len(set(dropped)) == len(dropped)
    assert not set(rated) & set(dropped)
    every = work.in_order(cells.split(","), [4, 16], work.NAMES, work.PARTS)
    contests = {(each.cell, each.trials, each.contender) for each in every if each.trials}
    assert {each for each in (*rated, *dropped) if each[1]} == contests
    alone = {(each.cell, None, each.contender or each.part) for each in every if not each.trials}
    done = {(each.cell, None, each.contender or each.part) for each in machine.did} & alone
    assert done | set(dropped) & alone == alone
    assert not done & set(dropped)
    if seconds == 1000 and slowness < 4:
        assert dropped == []
    if seconds == 60 and slowness == 1:
        assert ("8x8", 16, "loop") in rated
        assert ("mnist1d", 16, "loop") in rated
        assert ("8x8", None, "saving") in dropped


def test_a_dropped_contender_has_a_row_that_says_so(monkeypatch, tiny):
    machine = Machine(monkeypatch, 1)
    found, _ = machine.measure(24, cells="8x8", trials="16", rounds=1, parts="contenders")
    assert [row["what"] for row in found["dropped"]]
    for dropped in found["dropped"]:
        absent = [row["absent"] for row in found["rows"] if row["contender"] == dropped["what"]]
        assert absent == ([run.NO_TIME] if dropped["what"] != "processes" else [])


def test_a_contender_that_turns_out_slow_is_not_timed(monkeypatch, tiny):
    machine = Machine(monkeypatch, 1)
    slow = CONTENDERS["loop"]._replace(prepare=machine.contender("loop", 2.5, 30.0))
    monkeypatch.setitem(CONTENDERS, "loop", slow)
    chosen = {"cells": "8x8", "trials": "16", "rounds": 1, "parts": "contenders", "contenders": "loop"}
    found, took = machine.measure(70, **chosen)
    absent = {row["contender"]: row.get("absent") for row in found["rows"]}
    assert absent == {"matmul": None, "jaxlab": None, "loop": run.NO_TIME}
    assert found["dropped"] == [{"cell": "8x8", "trials": 16, "what": "loop"}]
    assert took <= 70
    found, _ = machine.measure(1000, **chosen)
    assert found["dropped"] == []


@pytest.fixture
def nothing_begins(monkeypatch):
    """The first thing that would be measured fails the test."""
    monkeypatch.setattr(run, "fastest_matmul", lambda: pytest.fail("something is measured"))


def test_without_time_for_anything_everything_is_named_and_no_file_replaced(
    monkeypatch, tmp_path, capsys, nothing_begins
):
    names = "loop,scan,processes"
    absent = CONTENDERS["scan"]._replace(missing=lambda: "it is not installed")
    monkeypatch.setitem(CONTENDERS, "scan", absent)
    options = options_from(cells="8x8", trials="16", out=tmp_path, budget="2", contenders=names)
    found = run.benchmark(options, "the command")
    assert found["rows"] == found["summary"] == []
    assert not list(tmp_path.iterdir())
    text = report.markdown(found)
    said = "8x8 with 16 trials: jaxlab, loop; 8x8: processes, diagnostics, stopping, saving"
    assert f"**Not measured for lack of time** (2 s): {said}." in text
    assert f"Not measured for lack of time: {said}" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"--budget = 2\.0: nothing can be measured in that time"):
        run.exit_status(options)


def test_an_interruption_leaves_earlier_files_alone_and_keeps_what_was_measured(monkeypatch, tmp_path, tiny):
    machine = Machine(monkeypatch, 1)
    options = options_from(cells="8x8", trials="16", rounds=1, out=tmp_path, contenders="loop")
    name = device_name(environment())
    (tmp_path / f"{name}.md").write_text("an earlier table")

    def interrupted(*_):
        raise KeyboardInterrupt

    diagnosed = run.measure_diagnostics
    monkeypatch.setattr(run, "measure_diagnostics", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.benchmark(options, "the command")
    assert (tmp_path / f"{name}.md").read_text() == "an earlier table"
    text = (tmp_path / f"{name}-unfinished.md").read_text()
    assert "**Unfinished**" in text
    assert "| loop |" in text
    monkeypatch.setattr(run, "measure_diagnostics", diagnosed)
    run.benchmark(options, "the command")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.json", f"{name}.md"]
    assert "**Unfinished**" not in (tmp_path / f"{name}.md").read_text()
    assert machine.did


def test_time_spent_before_counts(tmp_path, nothing_begins):
    options = options_from(cells="8x8", trials="16", out=tmp_path, budget="1000", parts="contenders")
    assert run.benchmark(options, "the command", spent=999.0)["rows"] == []
