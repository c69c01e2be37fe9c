"""Records of a run, in memory and in files: what is added is read back, and what is discarded is gone."""

import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlab.engine import EndRecord, EpochRecord, Rows
from jaxlab.pruning import Stop
from jaxlab.store import Records, RecordWriter, Rung, read_records

# What each group records, per epoch and at the end: names, dtypes and the shape behind the leading axes.
VALUES = {
    0: {"loss": (np.float32, ()), "dead/layer": (np.float64, (2,)), "ünï 'x'.y": (np.int32, ())},
    1: {"loss": (np.float64, (0,)), "bad": (bool, (3, 1))},
    11: {},
}
SEGMENTS = [(0,), (1, 2), (3, 4), (5,)]


def values_of(group, lead, seed):
    draws = np.random.default_rng(seed)
    return {
        name: draws.integers(0, 1000, lead + shape).astype(dtype)
        for name, (dtype, shape) in VALUES[group].items()
    }


def epochs_of(group, trials, epochs, seed=0):
    values = values_of(group, (len(trials), len(epochs)), seed)
    return EpochRecord(np.array(trials, int), np.array(epochs, int), values)


def ends_of(group, trials, epochs, seed=0):
    return EndRecord(np.array(trials, int), np.array(epochs, int), values_of(group, (len(trials),), seed))


def table_of(added):
    """Each trial's values at each epoch, bit for bit; the later ones count."""
    found = {}
    for group, record in added:
        at_end = isinstance(record, EndRecord)
        for row, trial in enumerate(record.trials.tolist()):
            epochs = record.epochs[row : row + 1] if at_end else record.epochs
            for column, epoch in enumerate(epochs.tolist()):
                own = {
                    name: each[row] if at_end else each[row, column] for name, each in record.values.items()
                }
                found[group, at_end, trial, epoch] = {
                    name: (each.dtype, each.shape, each.tobytes()) for name, each in own.items()
                }
    return found


def table(found):
    return table_of([*found.epochs, *found.ends])


@st.composite
def any_record(draw):
    trials = draw(st.lists(st.integers(0, 5), unique=True, max_size=4))
    group, seed = draw(st.sampled_from(list(VALUES))), draw(st.integers(0, 99))
    if draw(st.booleans()):
        return group, ends_of(group, trials, [draw(st.integers(0, 3)) for _ in trials], seed)
    return group, epochs_of(group, trials, draw(st.sampled_from(SEGMENTS)), seed)


RUNGS = st.builds(
    Rung,
    st.text(max_size=5),
    st.integers(0, 99),
    st.dictionaries(
        st.integers(0, 9), st.builds(Stop, st.text(max_size=5), st.text(max_size=5), st.text(max_size=9))
    ),
)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.lists(any_record(), max_size=5), st.lists(RUNGS, max_size=2)), max_size=4))
def test_what_is_added_is_read_back_and_nothing_is_lost(flushes):
    with tempfile.TemporaryDirectory() as place:
        folder, writer = Path(place), None
        for number, (added, rungs) in enumerate(flushes):
            if number % 2 == 0:  # another process continues
                writer = RecordWriter(folder)
            for each in added:
                writer.add(*each)
            for rung in rungs:
                writer.stop(rung)
            writer.flush()
        found = read_records(folder)
    assert table(found) == table_of([each for added, _ in flushes for each in added])
    assert found.rungs == [rung for _, rungs in flushes for rung in rungs]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(any_record(), max_size=5),
    st.lists(RUNGS, max_size=3),
    st.dictionaries(st.integers(0, 5), st.integers(-1, 4), max_size=4),
    st.lists(any_record(), max_size=2),
)
def test_what_is_discarded_is_gone_and_the_rest_is_not(before, rungs, after, added):
    held = Records()
    with tempfile.TemporaryDirectory() as place:
        writer = RecordWriter(Path(place))
        for each in before:
            held.add(*each)
            writer.add(*each)
        for rung in rungs:
            held.rungs.append(rung)
            writer.stop(rung)
        for target in (held, writer):
            target.discard(after)
            for each in added:
                target.add(*each)
        writer.flush()
        found = read_records(Path(place))
    left = {key: value for key, value in table_of(before).items() if key[3] <= after.get(key[2], 99)}
    stops = {
        (number, trial): stop
        for number, rung in enumerate(rungs)
        for trial, stop in rung.stops.items()
        if rung.epoch <= after.get(trial, 99)
    }
    for each in (held, found):
        assert table(each) == left | table_of(added)
        assert [stop for rung in each.rungs for stop in rung.stops.values()] == list(stops.values())
        assert len(each.rungs) == sum(
            not rung.stops or any(number == its for its, _ in stops) for number, rung in enumerate(rungs)
        )


def test_a_later_record_wins_over_an_earlier_one_also_of_an_earlier_process(tmp_path):
    for seed in range(12):
        writer = RecordWriter(tmp_path)
        writer.add(0, epochs_of(0, [3], [1, 2], seed))
        writer.flush()
    assert table(read_records(tmp_path)) == table_of([(0, epochs_of(0, [3], [1, 2], 11))])
    assert len(read_records(tmp_path).epochs) == 12


def test_records_of_one_flush_are_joined_by_group_and_epochs(tmp_path):
    writer = RecordWriter(tmp_path)
    for trial in range(6):
        writer.add(trial % 2, epochs_of(trial % 2, [trial], [1, 2], trial))
    for trial in range(3):
        writer.add(0, ends_of(0, [trial], [trial], trial))
    writer.flush()
    found = read_records(tmp_path)
    assert [(group, each.trials.tolist(), each.epochs.tolist()) for group, each in found.epochs] == [
        (0, [0, 2, 4], [1, 2]),
        (1, [1, 3, 5], [1, 2]),
    ]
    assert [(group, each.trials.tolist(), each.epochs.tolist()) for group, each in found.ends] == [
        (0, [0, 1, 2], [0, 1, 2])
    ]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_dozen_epochs_of_one_flush_stay_apart(tmp_path):
    added = [(0, epochs_of(0, [3], [epoch], epoch)) for epoch in range(12)]
    writer = RecordWriter(tmp_path)
    for each in added:
        writer.add(*each)
    writer.flush()
    assert table(read_records(tmp_path)) == table_of(added)


def test_states_that_trials_ended_with_are_not_held():
    held, record = Records(), ends_of(0, [3], [1])
    held.add(0, record._replace(states=Rows(record.trials, record.epochs, {"w": np.ones(9)})))
    assert table(held) == table_of([(0, record)])
    assert held.ends[0][1].states is None


def test_nothing_added_writes_nothing_and_a_missing_folder_holds_nothing(tmp_path):
    writer = RecordWriter(tmp_path / "none")
    writer.flush()
    writer.flush_if_cheap()
    assert not (tmp_path / "none").exists()
    assert read_records(tmp_path / "none") == Records()


def test_flush_if_cheap_takes_at_most_a_hundredth_of_the_time_and_flush_always(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=5.0, cost=0.05)
    replace = Path.replace

    def slow(*arguments):
        clock.now += clock.cost
        return replace(*arguments)

    monkeypatch.setattr("time.perf_counter", lambda: clock.now)
    monkeypatch.setattr(Path, "replace", slow)  # the last step of writing a file
    writer, written = RecordWriter(tmp_path), []
    for trial, wait in enumerate([0, 0.05, 4.9, 0.1, 4.8, 0.05]):
        clock.now += wait
        writer.add(0, epochs_of(0, [trial], [1, 2]))
        writer.flush_if_cheap()
        written.append(len(list(tmp_path.iterdir())))
    assert written == [1, 1, 1, 2, 2, 2]
    clock.cost = (
        20.0  # a hundredth of the time would be every half hour, but nothing waits for more than 10 s
    )
    for wait, count in ((1000, 3), (9.9, 3), (0.2, 4)):
        clock.now += wait
        writer.add(0, epochs_of(0, [6], [1, 2]))
        writer.flush_if_cheap()
        assert len(list(tmp_path.iterdir())) == count
    found = [record.trials.tolist() for _, record in read_records(tmp_path).epochs]
    assert found == [[0], [1, 2, 3], [4, 5, 6], [6, 6]]
    writer.add(0, epochs_of(0, [6], [1, 2]))
    writer.flush()
    assert len(read_records(tmp_path).epochs) == 5
