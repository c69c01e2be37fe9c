"""Overfitting: Prechelt's criteria against plain loops over epochs, and curves whose answer is known."""

import jax
import numpy as np
import pytest

from jaxlab import diagnostics
from jaxlab.errors import InputError

nan, inf = np.nan, np.inf


def loop_generalization_loss(loss):
    return [
        100 * (loss[t] / min(loss[: t + 1]) - 1) if not np.isnan(loss[t]) else nan for t in range(len(loss))
    ]


def loop_progress(loss, k):
    result = []
    for t in range(len(loss)):
        strip = [loss[i] for i in range(t - k + 1, t + 1) if i >= 1]
        known = len(strip) == k and not np.isnan(strip).any()
        result.append(1000 * (sum(strip) / (k * min(strip)) - 1) if known else nan)
    return result


def loop_up(loss, s, k):
    """Prechelt's recursion: UP_s holds after t iff UP_(s-1) holds after t - k and the loss rose since."""

    def holds(t, s):
        if s == 0:
            return True
        return t >= k and t % k == 0 and bool(loss[t] > loss[t - k]) and holds(t - k, s - 1)

    return [holds(t, s) for t in range(len(loss))]


def random_curves(count=40, epochs=31):
    rng = np.random.default_rng(0)
    curves = np.exp(rng.normal(size=(count, epochs)).cumsum(axis=1) * 0.2)
    for curve in curves:
        curve[rng.integers(2, epochs + 1) :] = nan
    return curves


def test_generalization_loss_recounts(x64):
    curves = random_curves()
    lost = jax.jit(jax.vmap(diagnostics.generalization_loss))(curves)
    np.testing.assert_allclose(lost, [loop_generalization_loss(c) for c in curves], rtol=1e-10, atol=1e-11)
    assert (lost[:, 0] == 0).all()


@pytest.mark.parametrize("k", [1, 2, 5, 31, 40])
def test_progress_recounts(x64, k):
    curves = random_curves()
    curves[0] = random_curves(1, 31)[0].max(initial=1, where=False) + np.arange(31)
    moved = jax.jit(jax.vmap(lambda c: diagnostics.progress(c, k)))(curves)
    np.testing.assert_allclose(moved, [loop_progress(c, k) for c in curves], rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("k", [2, 5])
def test_productivity_quotient_recounts(x64, k):
    validation, train = random_curves(), random_curves()[::-1]
    quotient = jax.vmap(lambda v, t: diagnostics.productivity_quotient(v, t, k))(validation, train)
    for v, t, q in zip(validation, train, quotient, strict=True):
        lost, moved = np.array(loop_generalization_loss(v)), np.array(loop_progress(t, k))
        np.testing.assert_allclose(q, lost / moved, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 5, 7])
@pytest.mark.parametrize("s", [1, 2, 3, 8])
def test_up_recounts(x64, s, k):
    curves = np.concatenate([random_curves(), np.abs(random_curves()) + 0.2 * np.arange(31)])
    held = jax.jit(jax.vmap(lambda c: diagnostics.up(c, s, k)))(curves)
    np.testing.assert_array_equal(held, [loop_up(c, s, k) for c in curves])
    if s * k <= 24:
        assert held.any()


def test_prechelt_by_hand():
    validation = np.array([4.0, 2.0, 1.0, 1.5, 1.25, 3.0, 4.0])
    train = np.array([9.0, 4.0, 2.0, 2.0, 2.0, 1.0, 1.0])
    np.testing.assert_allclose(diagnostics.generalization_loss(validation), [0, 0, 0, 50, 25, 200, 300])
    np.testing.assert_allclose(diagnostics.progress(train, 2), [nan, nan, 500, 0, 0, 500, 0])
    np.testing.assert_allclose(
        diagnostics.productivity_quotient(validation, train, 2), [nan, nan, 0, inf, inf, 0.4, inf]
    )
    assert np.flatnonzero(diagnostics.up(validation, 1, 2)).tolist() == [4, 6]
    assert np.flatnonzero(diagnostics.up(validation, 2, 2)).tolist() == [6]
    assert np.flatnonzero(diagnostics.up(validation, 3, 2)).tolist() == []


def test_curves_at_rest_and_with_gaps():
    flat, falling = np.ones(4), np.array([4.0, 3.0, 2.0, 1.0])
    assert not diagnostics.up(flat, 1, 1).any()
    np.testing.assert_array_equal(diagnostics.productivity_quotient(falling, flat, 1), [nan, 0, 0, 0])
    np.testing.assert_allclose(diagnostics.generalization_loss(np.array([2.0, nan, 4.0])), [0, nan, 100])


def test_epoch_zero():
    """It is a minimum for GL and rise, the end of a strip for UP, and in no strip of P."""
    rising = np.array([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(diagnostics.generalization_loss(rising), [0, 100, 200, 300])
    assert diagnostics.rise(rising) == 4
    assert diagnostics.best_epoch(rising) == 0
    np.testing.assert_array_equal(diagnostics.up(rising, 1, 3), [False, False, False, True])
    np.testing.assert_allclose(diagnostics.progress(np.array([1e-6, 2.0, 2.0]), 2), [nan, nan, 0])


@pytest.mark.parametrize("level", [0.1, 0.3, 1e-20, 0.0, 7e7])
def test_a_training_loss_at_rest_has_no_progress(level):
    """Exactly, in float32: a mean that rounds would make PQ of either sign."""
    moved = diagnostics.progress(np.full(12, level, np.float32), 3)
    np.testing.assert_array_equal(moved, [nan] * 3 + [0] * 9)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ([4, 2, 3], 1.5),
        ([4, 2, 3, nan], 1.5),
        ([4, 2, 1], 1),
        ([1, 0, 0], 1),
        ([1, 0, 2], inf),
        ([1, 2, inf], inf),
        ([nan, nan], nan),
    ],
)
def test_rise(loss, expected):
    np.testing.assert_array_equal(jax.jit(diagnostics.rise)(np.array(loss, float)), expected)


@pytest.mark.parametrize(("loss", "expected"), [([4, 2, nan], inf), ([nan, inf, nan], nan), ([4, nan, 8], 2)])
def test_rise_to_a_last_loss_that_is_not_finite_is_infinite(loss, expected):
    np.testing.assert_array_equal(diagnostics.rise(np.array(loss, float), 2), expected)


def test_rise_is_generalization_loss_at_the_end(x64):
    for curve in random_curves():
        lost = diagnostics.generalization_loss(curve)
        np.testing.assert_allclose(diagnostics.rise(curve), 1 + diagnostics.final(lost) / 100, rtol=1e-12)


def test_gap_is_positive_when_validation_is_worse():
    gaps = diagnostics.gap(np.array([1.0, 0.5]), np.array([0.75, 0.625]), "higher")
    np.testing.assert_array_equal(gaps, [0.25, -0.125])
    np.testing.assert_allclose(diagnostics.gap(0.1, 0.4, "lower"), 0.3)


@pytest.mark.parametrize(
    ("curve", "better", "expected"),
    [
        ([3, 1, 2, 1], "lower", 1),
        ([3, 1, 2, 3], "higher", 0),
        ([nan, 1, 2, nan], "higher", 2),
        ([nan, 2, 1, nan], "lower", 2),
        ([nan, inf, nan], "lower", 1),
        ([nan, -inf, nan], "higher", 1),
        ([0.5, inf, 0.9, inf], "higher", 2),
        ([0.5, -inf, 0.25], "lower", 2),
        ([nan, nan], "lower", -1),
    ],
)
def test_best_epoch(curve, better, expected):
    best = jax.jit(lambda c: diagnostics.best_epoch(c, better))(np.array(curve, float))
    assert best == expected
    assert best.dtype == np.int32


def test_best_epoch_is_nanargmin():
    curves = random_curves()
    np.testing.assert_array_equal(jax.vmap(diagnostics.best_epoch)(curves), np.nanargmin(curves, axis=1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: diagnostics.gap(1.0, 2.0, "more"), 'better = \'more\': give "higher" or "lower"'),
        (lambda: diagnostics.best_epoch(np.ones(3), "min"), "better = 'min'"),
        (lambda: diagnostics.progress(np.ones(9), 0), "k = 0: give a whole number >= 1"),
        (lambda: diagnostics.up(np.ones(9), 0, 5), "s = 0: give a whole number >= 1"),
        (lambda: diagnostics.up(np.ones(9), 1, -5), "k = -5: give a whole number >= 1"),
        (
            lambda: diagnostics.productivity_quotient(np.ones(9), np.ones(8)),
            r"train_loss_E = \(8,\): give 9 epochs",
        ),
        (lambda: diagnostics.generalization_loss(np.ones((2, 9))), r"validation_loss_E = \(2, 9\)"),
        (lambda: diagnostics.rise(np.ones(0)), r"validation_loss_E = \(0,\)"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()
