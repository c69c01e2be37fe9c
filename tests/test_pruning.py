"""Rules that stop trials: what one trial's own curves say, and rules as a study file writes them."""

import itertools
import json
import math
from functools import partial
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlab import pruning
from jaxlab.errors import InputError

nan, inf = np.nan, np.inf
quick = settings(deadline=None, max_examples=100)
VALUES = [nan, inf, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 2.0, 4.0, 8.0]  # differences and means are exact


def cohort(seed, trials=None, planned=None):
    """One of which some trials have stopped and where planned epochs lie ahead; nothing may be written to."""
    rng = np.random.default_rng(seed)
    count, planned = trials or int(rng.integers(1, 11)), planned or int(rng.integers(0, 13))
    epoch = int(rng.integers(0, planned + 1))
    running = rng.random((count, 1)) < 0.7
    entries = np.arange(planned + 1)
    reached = entries <= np.where(running, epoch, rng.integers(0, epoch + 1, (count, 1)))
    bad_from = rng.integers(0, 3 * planned + 2, (count, 1))

    def curve(dtype, values):
        drawn = rng.choice(rng.choice(values, rng.integers(1, 9)), reached.shape)  # few differ
        return np.where(reached, drawn, -1 if dtype == np.int32 else nan).astype(dtype)

    dtype = rng.choice([np.float32, np.float64, np.int32])
    curves = {
        "score": curve(dtype, [0, 1, 2, 3, 5, 8] if dtype == np.int32 else VALUES),
        "validation_loss": curve(np.float32, VALUES),
        "train_loss": curve(np.float32, VALUES),
        "first_bad_step": np.where(entries < bad_from, -1, curve(np.int32, [0, 7])),
    }
    for values in (running, *curves.values()):
        values.setflags(write=False)
    better = {"score": str(rng.choice(["higher", "lower"])), "validation_loss": "lower"}
    return pruning.History(epoch, planned, running[:, 0], curves, better, "score")


distinct, histories = (st.integers(0, 2**32 - 1).map(each) for each in (np.random.default_rng, cohort))
full = st.integers(0, 2**32 - 1).map(partial(cohort, trials=4, planned=12))  # of one shape: compiles once


def history(scores, epoch=None, running=None, better="lower", bad=None):
    """All trials at one epoch, by default the last that there is."""
    scores = np.asarray(scores)
    count, entries = scores.shape
    steps = np.full(scores.shape, -1) if bad is None else np.repeat(np.array(bad)[:, None], entries, axis=1)
    curves = {"score": scores, "validation_loss": scores, "first_bad_step": steps}
    running = np.ones(count, bool) if running is None else np.array(running)
    epoch = entries - 1 if epoch is None else epoch
    return pruning.History(epoch, entries - 1, running, curves, {"score": better}, "score")


def cost(value, better):
    """Smaller is better; what is not finite is worst."""
    value = float(value)
    return inf if not math.isfinite(value) else -value if better == "higher" else value


def who(h, stops):
    return [row for row in range(len(h.running)) if h.running[row] and stops(row)]


@quick
@given(histories)
def test_divergence_stops_who_has_a_bad_step_and_nobody_when_told_so(h):
    expected = who(h, lambda row: h.curves["first_bad_step"][row][h.epoch] >= 0)
    assert list(pruning.Divergence()(h)) == expected
    assert pruning.Divergence(stop=False)(h) == {}


def test_a_loss_that_rises_tenfold_and_returns_is_no_divergence():
    loss = np.array([[2.3, 8.0, 23.0, 9.0, 1.0, 0.4]], np.float32)
    assert all(pruning.decide([], history(loss, epoch)) == {} for epoch in range(6))
    stop = pruning.decide([], history(loss, 2, bad=[31]))[0]
    assert stop == ("diverged", "divergence", "not finite after step 31")


@settings(quick, max_examples=700)
@given(histories, st.integers(1, 5), st.sampled_from([0.0, 0.25, 1.0]), st.integers(0, 6))
def test_patience_counts_epochs_since_the_best_was_bettered(h, epochs, min_delta, warmup):
    def waits(row):
        best, *later = (cost(value, h.better["score"]) for value in h.curves["score"][row][: h.epoch + 1])
        waited = 0
        for value in later:
            better = best - value > min_delta
            best, waited = (value, 0) if better else (best, waited + 1)
        return waited if h.epoch >= warmup and waited >= epochs else 0

    expected = {row: f"score has not improved for {waits(row)} epochs" for row in who(h, waits)}
    assert pruning.Patience(epochs, min_delta, None, warmup)(h) == expected


def excess(value, least):
    return 0 if value == least else value / least - 1 if least > 0 else value * inf


def lost(loss, t):
    return 100 * excess(loss[t], min(loss[: t + 1]))


def quotient(loss, train, t, k):
    strip = train[t - k + 1 : t + 1]
    moved = 1000 * sum(excess(v, min(strip)) for v in strip) / k
    endless = moved == 0 or moved == lost(loss, t) == inf
    return 0 if lost(loss, t) == 0 else inf if endless else lost(loss, t) / moved


def reached(h, name):
    """The losses up to now: what is not finite is infinite."""
    return [[cost(v, "lower") for v in row] for row in h.curves[name][:, : h.epoch + 1].tolist()]


def rose(loss, t, s, k):
    ends = [loss[t - i * k] for i in range(s + 1)]
    return all(late > early for late, early in itertools.pairwise(ends))


@quick
@given(full, st.sampled_from([0.0, 5.1, 37.3, 900.1]), st.integers(0, 12))
def test_generalization_loss_is_the_rise_above_the_minimum_so_far(h, alpha, warmup):
    loss = reached(h, "validation_loss")
    expected = who(h, lambda row: h.epoch >= warmup and lost(loss[row], h.epoch) > alpha)
    assert list(pruning.GeneralizationLoss(alpha, warmup)(h)) == expected


@quick
@given(full, st.sampled_from([0.0, 0.031, 0.47]), st.sampled_from([1, 3, 4]), st.integers(0, 8))
def test_productivity_quotient_is_looked_at_where_strips_end(h, alpha, k, warmup):
    loss, train = reached(h, "validation_loss"), reached(h, "train_loss")
    due = h.epoch >= max(k, warmup) and h.epoch % k == 0
    expected = who(h, lambda r: due and quotient(loss[r], train[r], h.epoch, k) > alpha)
    assert list(pruning.ProductivityQuotient(alpha, k, warmup)(h)) == expected


@settings(quick, max_examples=300)
@given(full, st.sampled_from([(1, 1), (2, 1), (3, 1), (1, 4), (2, 3), (3, 5)]), st.integers(0, 8))
def test_up_wants_so_many_strips_to_rise_in_a_row(h, s_and_k, warmup):
    loss, (s, k) = reached(h, "validation_loss"), s_and_k
    due = h.epoch >= max(s * k, warmup) and h.epoch % k == 0
    expected = who(h, lambda row: due and rose(loss[row], h.epoch, s, k))
    assert list(pruning.Up(s, k, warmup)(h)) == expected


@pytest.mark.parametrize("worst", [nan, inf, -inf])
def test_a_loss_that_is_not_finite_is_the_worst_there_is(worst):
    h = history([[1.0, 0.5, worst], [1.0, 0.5, 0.6]])
    assert list(pruning.GeneralizationLoss(50)(h)) == [0]
    assert list(pruning.Patience(1)(history([[1.0, 0.5, worst], [1.0, 0.5, 0.4]]))) == [0]
    for better in ("higher", "lower"):
        h = history([[0.5, 0.5, worst], [0.5, 0.5, 0.1], [0.5, 0.5, 0.2]], better=better)
        assert 0 in pruning.SuccessiveHalving(1, 2)(h)


def test_measures_run_where_jax_is_told_to_do_without_the_cpu(monkeypatch):
    monkeypatch.setattr("jax.local_devices", Mock(side_effect=RuntimeError("Unknown backend cpu")))
    assert list(pruning.Up(1, 1)(history([[1.0, 2.0], [2.0, 1.0]]))) == [0]


def test_measures_take_numbers_of_numpys():
    rule = pruning.Up(1)
    object.__setattr__(rule, "k", np.int64(2))  # which hints refuse sooner in tests
    assert list(rule(history([[1.0, 1.0, 2.0]]))) == [0]


def at_least_one(history):
    return history.curves["score"][:, history.epoch] >= 1


ALONE = [
    pruning.Divergence(), pruning.Patience(2, 0.25), pruning.GeneralizationLoss(37.3),
    pruning.ProductivityQuotient(0.031, 3), pruning.Up(2, 1),
]  # fmt: skip
RULES = [*ALONE, pruning.Median(0, 1, 1), pruning.SuccessiveHalving(1, 2), pruning.Hyperband(2)]


@pytest.mark.parametrize("rule", ALONE, ids=lambda rule: rule.name)
@quick
@given(full)
def test_a_trial_alone_fares_as_among_others(rule, h):
    for row in range(4):
        curves = {name: values[[row]] for name, values in h.curves.items()}
        one = h._replace(running=h.running[[row]], curves=curves)
        assert list(rule(one).values()) == [reason for r, reason in rule(h).items() if r == row]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@quick
@given(full, st.sampled_from([0, 5, 1000]))
def test_entries_beyond_the_present_epoch_are_not_looked_at(rule, h, junk):
    curves = {name: np.where(np.arange(13) > h.epoch, junk, values) for name, values in h.curves.items()}
    assert rule(h._replace(curves=curves)) == rule(h)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@quick
@given(full)
def test_nobody_stops_where_nobody_runs(rule, h):
    assert rule(h._replace(running=np.zeros(4, bool))) == {}


TABLE = [
    ("median", True, [pruning.Median()]),
    ("divergence", False, [pruning.Divergence(stop=False)]),
    ("own", [cost, who], [cost, who]),
    ("up", False, []),
    ("patience", {"epochs": 5, "min_delta": 1e-3}, [pruning.Patience(5, 1e-3)]),
    ("generalization_loss", {"alpha": 2}, [pruning.GeneralizationLoss(2)]),
    ("productivity_quotient", {}, [pruning.ProductivityQuotient()]),
    ("successive_halving", {"eta": 2, "metric": "score"}, [pruning.SuccessiveHalving(1, 2, "score")]),
    ("hyperband", {"seed": 3}, [pruning.Hyperband(seed=3)]),
]
OTHER_FORMS = [("own", cost, [cost]), ("divergence", True, [pruning.Divergence()])]


@pytest.mark.parametrize("rows", [TABLE, TABLE[::-1], OTHER_FORMS, []], ids=["", "back", "forms", "empty"])
def test_a_table_gives_its_rules_in_its_order(rows):
    table = {name: value for name, value, _ in rows}
    assert pruning.from_table(table) == tuple(itertools.chain(*(rules for *_, rules in rows)))


REFUSED = {
    "unknown rule 'medain' in pruning; did you mean 'median'?": {"medain": True},
    "pruning.divergence = 1: give true or false": {"divergence": 1},
    "pruning.median = 5: give true, false or a table": {"median": 5},
    "unknown parameter 'evry' in pruning.median; did you mean 'every'?": {"median": {"evry": 2}},
    "pruning.up.k = 0: give a whole number >= 1": {"up": {"k": 0}},
    "pruning.own = 'x': give ": {"own": ["x"]},
    "pruning.all_of.rules = (): give one rule or more": lambda: pruning.AllOf(()),
    "rules = <class 'jaxlab.pruning.comparing.Median'>: give": lambda: pruning.AllOf([pruning.Median]),
    "rules = 'median': give a list of rules": lambda: pruning.check_rules("median"),
    "rules = 3: give rules such as": lambda: pruning.check_rules([at_least_one, 3]),
}
WHOLE, REAL = [-1, True], [-0.1, nan, inf]
BAD = {
    pruning.Patience: {"epochs": [0, *WHOLE], "min_delta": REAL, "warmup_epochs": WHOLE},
    pruning.GeneralizationLoss: {"alpha": REAL, "warmup_epochs": WHOLE},
    pruning.ProductivityQuotient: {"alpha": REAL, "k": [0, *WHOLE], "warmup_epochs": WHOLE},
    pruning.Up: {"s": [0, *WHOLE], "k": [0, *WHOLE], "warmup_epochs": WHOLE},
    pruning.Median: {"warmup_epochs": WHOLE, "every": [0, *WHOLE], "min_trials": [0, *WHOLE]},
    pruning.SuccessiveHalving: {"min_epochs": [0, *WHOLE], "eta": [1, *WHOLE]},
    pruning.Hyperband: {"eta": [1, *WHOLE], "min_epochs": [0, *WHOLE], "seed": WHOLE},
}


@pytest.mark.parametrize("kind", BAD, ids=lambda kind: kind.name)
def test_bad_parameters_are_named_with_what_to_give(kind):
    for name, value in [(name, value) for name, values in BAD[kind].items() for value in values]:
        line = rf"^pruning.{kind.name}.{name} = {value}: give a .*number >= \d$"
        with pytest.raises(InputError, match=line):
            kind(**{name: value})


@pytest.mark.parametrize("line", REFUSED)
def test_what_is_no_rule_is_refused_in_one_clear_line(line):
    with pytest.raises(InputError) as error:
        pruning.from_table(REFUSED[line]) if isinstance(REFUSED[line], dict) else REFUSED[line]()
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        (pruning.Patience(metric="scor"), "pruning.patience.metric = 'scor': did you mean 'score'? recorded per"),
        (pruning.Median(0, 1, 1, "wide"), "pruning.median.metric = 'wide': is not one number per epoch"),
        (pruning.SuccessiveHalving(metric="norm"), "pruning.successive_halving.metric = 'norm': is better neither"),
        (pruning.Hyperband(metric=""), "pruning.hyperband.metric = '': recorded per epoch are first_bad_step, norm"),
        (pruning.ProductivityQuotient(k=1), "pruning.productivity_quotient = 'train_loss': did you mean "),
    ],
    ids=lambda each: getattr(each, "name", ""),
)  # fmt: skip
def test_a_metric_that_cannot_be_compared_is_named(rule, line):
    h = history(np.arange(4.0).reshape(2, 2))
    h = h._replace(curves=h.curves | {"wide": np.zeros((2, 2, 3)), "norm": np.zeros((2, 2))})
    with pytest.raises(InputError) as error:
        rule(h)
    assert str(error.value).startswith(line)


def test_curves_are_floating_with_nan_where_not_reached_and_losses_turned():
    h = history([[3, 1, -1], [2, 5, -1]], epoch=1, better="higher")
    np.testing.assert_array_equal(h.curve("score", "x"), [[3, 1, nan], [2, 5, nan]])
    name, losses = h.losses(None, "x")
    assert (name, losses.tolist()) == ("score", [[-3, -1], [-2, -5]])
    assert h._replace(epoch=2).losses("score", "x")[1].tolist() == [[-3, -1, inf], [-2, -5, inf]]
    assert history(np.zeros((1, 1), np.float32)).losses(None, "x")[1].dtype == np.float32


def test_a_plain_rule_is_json_and_tells_rules_apart():
    patience = pruning.Patience(epochs=3)
    object.__setattr__(patience, "epochs", np.int64(3))  # as one from a range of NumPy's
    rules = [*RULES, patience, pruning.AllOf((pruning.Up(), pruning.AllOf((at_least_one,))))]
    plain = [json.dumps(pruning.plain_rule(rule, lambda own: own.__name__)) for rule in rules]
    assert len(set(plain)) == len(rules)
    assert isinstance(pruning.plain_rule(pruning.GeneralizationLoss(5))["alpha"], float)  # the same as 5.0
    patience = {"rule": "patience", "epochs": 3, "min_delta": 0.0, "metric": None, "warmup_epochs": 0}
    assert json.loads(plain[-2]) == patience
    up = {"rule": "up", "s": 3, "k": 5, "warmup_epochs": 0}
    assert json.loads(plain[-1])["rules"] == [up, {"rule": "all_of", "rules": ["at_least_one"]}]
