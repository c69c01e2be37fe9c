"""Automatic width: the search on synthetic curves, and what is remembered."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlab.engine.width import candidates, choose, pack_count, search
from jaxlab.engine.width_cache import load_width, save_width


def curve(overhead, linear, quadratic):
    """Seconds of one call: a cost per call, one per trial, and one of outgrowing the cache."""
    return lambda width: overhead + linear * width + quadratic * width**2


@pytest.mark.parametrize(
    ("seconds_of", "best"),
    [
        (curve(0, 1, 0.01), 1),  # cores that are busy with one trial
        (curve(1, 1, 0.01), 8),
        (curve(1, 0.001, 0), 256),  # an accelerator that one trial leaves idle
        (curve(4, 1, 1 / 16), 8),
        (lambda width: math.inf if width > 4 else 1 + width / 100, 4),
        (lambda width: math.inf if width > 16 else 1 + width / 100, 16),
    ],
)
@pytest.mark.parametrize("first", [1, 2, 32, 256])
def test_the_fastest_width_is_found_from_any_start(seconds_of, best, first):
    widths = candidates(2, first, 256)
    found = search(seconds_of, widths, first, 256)
    assert choose(found) == best
    assert found[best] == seconds_of(best) * 256 / best
    between = widths[min(widths.index(first), widths.index(best)) : max(map(widths.index, (first, best))) + 1]
    assert len(found) <= len(between) + 2


@settings(deadline=None, max_examples=200)
@given(
    st.integers(1, 3000),
    st.sampled_from([2, 4]),
    st.integers(1, 256),
    st.floats(0, 5),
    st.floats(0.01, 1),
    st.floats(0, 0.1),
)
def test_what_is_found_is_no_worse_than_its_neighbours(trials, base, thumb, overhead, linear, cliff):
    thumb = min(thumb, trials)
    widths, seconds_of = candidates(base, thumb, trials), curve(overhead, linear, cliff)
    score = {width: seconds_of(width) * pack_count(width, trials) for width in widths}
    width = choose(search(seconds_of, widths, thumb, trials))
    at = widths.index(width)
    assert score[width] <= min(score[each] for each in widths[max(at - 1, 0) : at + 2])
    assert score[width] <= score[thumb]


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 5000), st.sampled_from([2, 4]), st.integers(1, 256))
def test_candidates_waste_little(trials, base, thumb):
    thumb = min(thumb, trials)
    widths = candidates(base, thumb, trials)
    assert widths == sorted(set(widths))
    assert {1, thumb, trials} <= set(widths)
    assert widths[-1] == trials
    assert all(width * pack_count(width, trials) <= 1.25 * trials for width in set(widths) - {thumb})


def test_padding_counts():
    assert candidates(2, 2, 39) == [1, 2, 4, 8, 16, 39]  # 16 takes 48 lanes, 32 would take 64
    even = search(lambda width: 1.0, [4, 5], 4, 5)
    assert even == {4: 2.0, 5: 1.0}


def test_nothing_is_tried_that_does_not_pay():
    tried = []

    def seconds_of(width):
        tried.append(width)
        return 1.0

    assert search(seconds_of, [1, 2, 4, 8, 16], 2, 16, worth=lambda seconds: seconds > 3) == {
        2: 8.0,
        4: 4.0,
        8: 2.0,
    }
    assert tried == [2, 4, 8]
    assert search(seconds_of, [1, 2, 4], 2, 4, worth=lambda seconds: False) == {2: 2.0}


def test_the_smallest_width_within_a_tenth():
    seconds_of = {1: 1.0, 2: 1.05, 4: 1.98, 8: 3.96}.__getitem__  # all trials: 8, 4.2, 3.96, 3.96
    found = search(seconds_of, [1, 2, 4, 8], 8, 8, smallest_within=0.1)
    assert choose(found, 0.1) == 2
    assert choose(search(seconds_of, [1, 2, 4, 8], 8, 8)) == 4
    assert choose(search(seconds_of, [1, 2, 4, 8], 4, 8, smallest_within=0.1), 0.1) == 2


def test_smaller_widths_are_looked_at_although_larger_ones_help():
    seconds_of = {1: 0.51, 2: 1.0, 4: 1.98, 8: 3.97}.__getitem__  # all trials: 4.08, 4, 3.96, 3.97
    found = search(seconds_of, [1, 2, 4, 8], 2, 8, smallest_within=0.1)
    assert (choose(found), choose(found, 0.1)) == (4, 1)
    assert 1 not in search(seconds_of, [1, 2, 4, 8], 2, 8)


def test_what_does_not_fit_is_not_made_larger():
    found = search(lambda width: math.inf if width > 2 else 1.0, [1, 2, 4, 8], 4, 8)
    assert found == {4: math.inf, 2: 4.0, 1: 8.0}


def test_widths_are_remembered(tmp_path):
    path = tmp_path / "new" / "widths.json"
    assert load_width(path, "a") is None
    save_width(path, "a", 4)
    save_width(path, "b", 16)
    save_width(path, "a", 8)
    assert (load_width(path, "a"), load_width(path, "b"), load_width(path, "c")) == (8, 16, None)
    assert [each.name for each in path.parent.iterdir()] == ["widths.json"]
    assert load_width(None, "a") is None
    save_width(None, "a", 4)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"\xff\xfe", b'{"a": "4"}', b'{"a": 0}', b'{"a": true}']
)
def test_a_damaged_file_is_as_if_absent(tmp_path, content):
    path = tmp_path / "widths.json"
    path.write_bytes(content)
    assert load_width(path, "a") is None
    save_width(path, "b", 4)
    assert load_width(path, "b") == 4


def test_a_file_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "widths.json", tmp_path):
        save_width(path, "a", 4)
        assert load_width(path, "a") is None
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
