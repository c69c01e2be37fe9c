"""Rules that compare the trials of a cohort, and rules together."""

import math
import statistics
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy import inf, nan
from test_pruning import RULES, VALUES, at_least_one, cost, distinct, full, histories, history, quick, who

from jaxlab import pruning
from jaxlab.errors import InputError


def trained(rule, scores):
    """Train all trials side by side under a rule: who trains each epoch, ``[epochs, T]``."""
    seen, running, rows = np.full(scores.shape, nan), np.ones(len(scores), bool), []
    for epoch in range(scores.shape[1] - 1):
        seen[running, epoch] = scores[running, epoch]
        running[list(rule(history(seen, epoch, running)))] = False
        rows.append(running.copy())
    return np.array(rows)


@pytest.mark.parametrize(
    "rule", [pruning.Median(0, 1, 1), pruning.SuccessiveHalving(1, 2)], ids=["median", "halving"]
)
@quick
@given(distinct, st.integers(1, 8), st.integers(0, 4))
def test_the_order_of_trials_does_not_matter(rule, rng, trials, epoch):
    h = history(rng.random((trials, 9)), epoch, rng.random(trials) < 0.7)
    order = rng.permutation(trials)
    curves = {name: values[order] for name, values in h.curves.items()}
    shuffled = h._replace(running=h.running[order], curves=curves)
    assert {order[row] for row in rule(shuffled)} == set(rule(h))


def median_stops(h):
    """Plain loops: a trial that stopped counts with its value where its records end, a diverged one as worst."""
    bests, nows = [], []
    for row, values in enumerate(h.curves["score"]):
        known = lambda v: not math.isnan(v) and v != -1  # noqa: E731
        costs = [cost(v, h.better["score"]) if known(v) else inf for v in values[: h.epoch + 1]]
        bests.append(min(costs))
        recorded = [e for e in range(h.epoch + 1) if any(known(curve[row][e]) for curve in h.curves.values())]
        now = costs[h.epoch if h.running[row] or not recorded else recorded[-1]]
        nows.append(inf if max(h.curves["first_bad_step"][row][: h.epoch + 1]) >= 0 else now)
    middle = statistics.median(nows)
    return [row for row, best in enumerate(bests) if h.running[row] and best > middle]


@settings(quick, max_examples=700)
@given(histories)
def test_median_stops_whose_best_is_worse_than_the_middle_of_all(h):
    assert list(pruning.Median(0, 1, 1)(h)) == median_stops(h)


def test_median_looks_every_few_epochs_after_the_warm_up_at_cohorts_that_are_large_enough():
    scores = np.repeat([[0.0], [1.0], [2.0]], 9, axis=1)
    assert [e for e in range(9) if pruning.Median(2, 3, 3)(history(scores, e))] == [2, 5, 8]
    assert pruning.Median(0, 1, 4)(history(scores)) == {}


@quick
@given(arrays(float, st.tuples(st.integers(1, 7), st.integers(2, 7)), elements=st.sampled_from(VALUES)))
def test_median_by_itself_never_stops_everybody(scores):
    assert trained(pruning.Median(0, 1, 1), scores).any(axis=1).all()


@quick
@given(distinct, st.integers(1, 9))
def test_median_halves_curves_that_do_not_move_once_and_not_again(rng, trials):
    rows = trained(pruning.Median(1, 1, 1), np.repeat(rng.random((trials, 1)), 8, axis=1))
    assert rows.sum(axis=1).tolist() == [trials] + 6 * [(trials + 1) // 2]


def test_median_tells_both_numbers_as_they_were_recorded():
    scores = [[0.25, 0.75], [0.5, 0.25], [0.5, 0.875]]
    rule = pruning.Median(warmup_epochs=1, min_trials=3)
    words = "best score so far, 0.5, is worse than the median at epoch 1, 0.75"
    assert rule(history(scores, better="higher")) == {1: words}
    assert rule(history(scores)) == {}  # the last has been at 0.5, whatever it is now


def test_median_counts_who_stopped_with_the_last_value_and_who_diverged_as_worst():
    rule = pruning.Median(0, 1, 1)
    h = history([[1.0, nan], [2.0, nan], [3.0, 3.0]], running=[False, False, True])
    assert list(rule(h)) == [2]
    h.curves["first_bad_step"][1] = [5, -1]
    assert rule(h) == {}


def test_median_takes_no_earlier_value_for_one_that_was_not_finite_at_the_stop():
    h = history([[1.0, nan, nan], [2.0, 2.0, 2.0], [3.0, 3.0, 3.0]], running=[False, True, True])
    h.curves["train_loss"] = np.array([[0.0, 0.0, nan]] * 3)
    assert list(pruning.Median(0, 1, 1)(h)) == []
    h.curves["train_loss"][0, 1] = nan
    assert list(pruning.Median(0, 1, 1)(h)) == [2]


def test_median_of_two_numbers_near_the_largest_is_between_them():
    scores = np.array([[1.0], [2.6e38], [3.0e38], [3.2e38]], np.float32)
    assert list(pruning.Median(0, 1, 1)(history(scores))) == [2, 3]


def halved(h, members, kept):
    """All but the best of some trials that run; diverged ones last."""
    now, bad = h.curves["score"][:, h.epoch], h.curves["first_bad_step"][:, : h.epoch + 1].max(axis=1) >= 0
    ranked = sorted((bad[row], cost(now[row], h.better["score"]), row) for row in members if h.running[row])
    return {row for *_, row in ranked[max(1, kept) :]}


@quick
@given(histories, st.integers(1, 3), st.integers(2, 3))
def test_successive_halving_keeps_the_best_at_its_rungs(h, least, eta):
    rungs = {least * eta**k: len(h.running) // eta ** (k + 1) for k in range(5)}
    expected = halved(h, range(len(h.running)), rungs[h.epoch]) if h.epoch in rungs else set()
    assert set(pruning.SuccessiveHalving(least, eta)(h)) == expected


@quick
@given(distinct, st.integers(1, 30), st.integers(1, 3), st.integers(2, 4), st.booleans())
def test_successive_halving_leaves_as_many_per_rung_as_counted(rng, trials, least, eta, broken):
    scores = rng.random((trials, 29))
    scores[rng.random(scores.shape) < 0.3 * broken] = nan
    left = trained(pruning.SuccessiveHalving(least, eta), scores).sum(axis=1).tolist()
    for epoch, count in enumerate(left):
        passed = sum(least * eta**k <= epoch for k in range(6))
        assert count == (max(1, math.floor(Fraction(trials, eta**passed))) if passed else trials)


def test_successive_halving_prefers_the_first_of_equals_anything_to_nan_and_nan_to_diverged():
    words = "score at epoch 2 is not among the best 2 of 5"
    rule = pruning.SuccessiveHalving(min_epochs=2, eta=2)
    h = history([[0, 0, nan], [0, 0, 0.5], [0, 0, inf], [0, 0, 0.5], [0, 0, 0.5]])
    assert rule(h) == {4: words, 2: words, 0: words}
    assert rule(h._replace(running=np.array([True, False, True, True, True]))) == {2: words, 0: words}
    assert list(rule(history(np.full((3, 3), nan)))) == [1, 2]
    assert list(rule(history([[0, 0, 1], [0, 0, nan], [0, 0, 2]], bad=[9, -1, -1]))) == [1, 0]


def plan(trials, epochs, eta, least, seed):
    """The brackets by the paper's formulas in fractions: trials, rungs, kept."""
    most = max((s for s in range(12) if eta**s <= Fraction(epochs, least)), default=0)
    sizes = [math.ceil(Fraction(most + 1, s + 1) * eta**s) for s in range(most, -1, -1)]
    shares = [Fraction(trials * size, sum(sizes)) for size in sizes]
    dealt = [math.floor(share) for share in shares]
    while sum(dealt) < trials:
        owed = [share - count for share, count in zip(shares, dealt, strict=True)]
        dealt[owed.index(max(owed))] += 1
    while 0 in dealt and max(dealt) > 1:
        dealt[len(dealt) - 1 - dealt[::-1].index(max(dealt))] -= 1
        dealt[dealt.index(0)] += 1
    order = np.random.default_rng(seed).permutation(trials).tolist()
    found = []
    for s, count in zip(range(most, -1, -1), dealt, strict=True):
        part, order = order[:count], order[count:]
        rungs = [math.floor(Fraction(epochs, eta**r) + Fraction(1, 2)) for r in range(s, 0, -1)]
        kept = [max(1, math.floor(Fraction(count, eta**i))) for i in range(1, s + 1)]
        found += [(sorted(part), rungs, kept)] if part else []
    return found


def test_hyperbands_brackets_are_the_papers_for_81_epochs():
    brackets = pruning.Hyperband().brackets(143, 81)
    table = [(len(bracket.trials), bracket.rungs, bracket.kept) for bracket in brackets]
    assert table == [
        (81, (1, 3, 9, 27), (27, 9, 3, 1)),
        (34, (3, 9, 27), (11, 3, 1)),
        (15, (9, 27), (5, 1)),
        (8, (27,), (2,)),
        (5, (), ()),
    ]
    assert brackets[0].epochs(81) == 81 + 27 * 2 + 9 * 6 + 3 * 18 + 1 * 54
    assert brackets[4].epochs(81) == 5 * 81
    assert [len(each.trials) for each in pruning.Hyperband().brackets(6, 81)] == [2, 1, 1, 1, 1]


@quick
@given(st.integers(0, 40), st.integers(1, 250), st.integers(2, 4), st.integers(1, 4), st.integers(0, 9))
def test_hyperbands_brackets_follow_the_formulas_and_hold_each_trial_once(trials, epochs, eta, least, seed):
    brackets = pruning.Hyperband(eta, least, seed).brackets(trials, epochs)
    found = [(bracket.trials.tolist(), list(bracket.rungs), list(bracket.kept)) for bracket in brackets]
    assert found == plan(trials, epochs, eta, least, seed)
    assert len(found) == min(trials, len(pruning.Hyperband(eta, least).brackets(10_000, epochs)))
    assert sorted(row for part, _, _ in found for row in part) == list(range(trials))
    for _, rungs, _ in found:
        assert rungs == sorted(set(rungs))
        assert all(least <= rung < epochs for rung in rungs)


@pytest.mark.parametrize(("epochs", "eta", "count"), [(243, 3, 6), (242, 3, 5), (1000, 10, 4), (3, 5, 1)])
def test_hyperband_counts_brackets_without_rounding_errors(epochs, eta, count):
    assert len(pruning.Hyperband(eta).brackets(10_000, epochs)) == count


@quick
@given(histories, st.integers(2, 3), st.integers(1, 2), st.integers(0, 9))
def test_hyperband_halves_each_bracket_by_itself(h, eta, least, seed):
    expected = set()
    for members, rungs, kept in plan(len(h.running), h.epochs, eta, least, seed):
        if h.epoch in rungs:
            expected |= halved(h, members, kept[rungs.index(h.epoch)])
    assert set(pruning.Hyperband(eta, least, seed)(h)) == expected


@quick
@given(distinct, st.integers(1, 30), st.integers(1, 30), st.integers(2, 3))
def test_a_brackets_cost_is_what_training_takes(rng, trials, epochs, eta):
    rule = pruning.Hyperband(eta)
    rows = trained(rule, rng.random((trials, epochs + 1)))
    for bracket in rule.brackets(trials, epochs):
        assert rows[:, bracket.trials].sum() == bracket.epochs(epochs)


def test_hyperband_deals_by_its_seed_alone():
    first, again, other = (pruning.Hyperband(seed=seed).brackets(20, 27)[0].trials for seed in (0, 0, 1))
    assert first.tolist() == again.tolist() != other.tolist()


def at_least_two(history):
    return {row: f"score {value}" for row, value in enumerate(history.curves["score"][:, -1]) if value >= 2}


def test_outcomes_say_whether_others_were_looked_at():
    assert [rule.outcome for rule in RULES] == ["diverged", *4 * ["stopped early"], *3 * ["pruned"]]


SCORES = np.array([[0.0], [1.0], [2.0], [3.0]])


def test_the_first_rule_that_stops_a_trial_gives_the_reason_and_divergence_comes_first():
    h = history(SCORES, bad=[-1, -1, -1, 4], running=[True, True, True, True])
    one = ("pruned", "at_least_one", "at_least_one")
    bad = ("diverged", "divergence", "not finite after step 4")
    for rules in ([at_least_one, at_least_two], [at_least_one, at_least_two, pruning.Divergence()]):
        assert pruning.decide(rules, h) == {1: one, 2: one, 3: bad}
    two = ("pruned", "at_least_two", "score 2.0")
    assert pruning.decide([at_least_two, at_least_one], h) == {1: one, 2: two, 3: bad}
    kept = [pruning.Divergence(stop=False), at_least_two]
    assert pruning.decide(kept, h) == {2: two, 3: ("pruned", "at_least_two", "score 3.0")}


def test_divergence_is_added_in_front_or_moved_there_once():
    median, own, off = pruning.Median(), at_least_one, pruning.Divergence(stop=False)
    assert pruning.with_divergence([]) == (pruning.Divergence(),)
    assert pruning.with_divergence([own, median]) == (pruning.Divergence(), own, median)
    assert pruning.with_divergence([own, off, median]) == (off, own, median)


def test_only_rules_other_than_divergence_stop_early():
    lists = [[], [pruning.Divergence()], [pruning.Divergence(), pruning.Up()], [at_least_one]]
    assert [pruning.stop_early(rules) for rules in lists] == [False, False, True, True]


@quick
@given(histories, st.data())
def test_a_function_of_ones_own_stops_the_running_trials_that_it_names(h, data):
    mask = data.draw(arrays(bool, len(h.running)))
    expected = who(h, lambda row: mask[row])
    quiet = [pruning.Divergence(stop=False)]
    for found in (mask, mask.tolist(), {int(row): "because" for row in np.flatnonzero(mask)}):
        own = lambda history, found=found: found  # noqa: E731
        stops = pruning.decide([*quiet, own], h)
        reason = "because" if isinstance(found, dict) else "<lambda>"
        assert stops == dict.fromkeys(expected, ("pruned", "<lambda>", reason))


NO_MASK = [
    np.zeros(5, bool), np.zeros((4, 1), bool), np.zeros(4, int), np.zeros(4), np.bool_(True), None, [0, 3],
    {4: "too far"}, {-1: "from the end"}, {"2": "text"}, {0.5: "between"}, {True: "no row"}, [[True], []],
]  # fmt: skip


@pytest.mark.parametrize("found", NO_MASK, ids=repr)
@pytest.mark.parametrize("rules", [lambda own: [own], lambda own: [pruning.AllOf([own])]], ids=["", "all of"])
def test_a_function_of_ones_own_that_returns_something_else_is_named(found, rules):
    def mine(history):
        return found

    with pytest.raises(InputError, match=r"^mine = .*: (return a bool array \[4\],|is no row: there are) "):
        pruning.decide(rules(mine), history(SCORES))


@quick
@given(full, st.lists(st.sampled_from(RULES), min_size=1, max_size=3))
def test_all_of_stops_whom_every_rule_stops(h, rules):
    found = [rule(h) for rule in rules]
    both = who(h, lambda row: all(row in each for each in found))
    rule = pruning.AllOf(rules)
    assert rule(h) == {row: " and ".join(each[row] for each in found) for row in both}
    assert rule.outcome == rules[0].outcome
    names = {each.name for each in rules}
    assert rule.compares == bool(names & {"median", "successive_halving", "hyperband"})
    assert rule.depends_on_epochs == ("hyperband" in names)


def test_all_of_takes_functions_of_ones_own_which_may_compare():
    rule = pruning.AllOf([at_least_one, at_least_two])
    assert pruning.decide([rule], history(SCORES)) == {
        2: ("pruned", "all_of", "at_least_one and score 2.0"),
        3: ("pruned", "all_of", "at_least_one and score 3.0"),
    }
    assert (rule.compares, rule.depends_on_epochs) == (True, False)
