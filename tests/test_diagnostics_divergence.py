"""Divergence: plain NumPy recounts, and curves whose answer is known."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlab import diagnostics
from jaxlab.errors import InputError

nan, inf = np.nan, np.inf


def cut(curve):
    """A curve without its NaN tail."""
    reached = [i for i, value in enumerate(curve) if not np.isnan(value)]
    return curve[: reached[-1] + 1] if reached else curve[:0]


def numpy_measure(loss, initial):
    v = [x / initial for x in cut(loss)[-20:]]
    v = [min(x, 1e6) if np.isfinite(x) else 1e6 for x in v]
    return np.mean(v) if v else nan


def numpy_oscillation(loss):
    changes = np.sign(np.diff(cut(loss)))
    pairs = list(itertools.pairwise(changes))
    turns = [a * b < 0 for a, b in pairs if not np.isnan(a * b)]
    return np.mean(turns) if turns else nan


def random_curves(count=60, epochs=33):
    rng = np.random.default_rng(0)
    curves = np.exp(rng.normal(size=(count, epochs)).cumsum(axis=1) * 0.3)
    for i, curve in enumerate(curves):
        curve[rng.integers(1, epochs + 1) :] = nan
        if i % 5 == 0:
            curve[rng.integers(0, epochs)] = inf
        if i % 7 == 0:
            curve[3:6] = curve[3]
    return curves


@settings(deadline=None, max_examples=60)
@given(st.lists(st.booleans(), max_size=12))
def test_first_bad_counts_steps_from_one(finite):
    expected = finite.index(False) + 1 if False in finite else -1
    assert diagnostics.first_bad(np.array(finite, bool)) == expected


def test_first_bad_mapped_and_compiled():
    finite = np.array([[True, True, True], [False, True, True], [True, True, False], [False, False, False]])
    first = jax.jit(jax.vmap(diagnostics.first_bad))(finite)
    np.testing.assert_array_equal(first, [-1, 1, 3, 1])
    assert first.dtype == jnp.int32


@pytest.mark.parametrize("bad", [nan, inf, -inf])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16, jnp.complex64])
def test_all_finite_finds_one_entry_in_any_leaf(bad, dtype):
    tree = {"a": jnp.ones((3, 4), dtype), "b": (jnp.zeros(5), jnp.arange(3)), "key": jax.random.key(0)}
    assert diagnostics.all_finite(tree)
    assert not diagnostics.all_finite(tree | {"a": tree["a"].at[2, 1].set(bad)})
    assert not diagnostics.all_finite(tree | {"c": {"deep": bad}})


def test_all_finite_of_optimizer_state_and_largest_numbers():
    params = {"w": jnp.full((2, 2), jnp.finfo(jnp.float32).max), "b": jnp.zeros(2)}
    optimizer = optax.adam(1e-3)
    state = optimizer.init(params)
    assert diagnostics.all_finite((params, state))
    # A gradient of 2e20 is finite, its square is not: only the state shows it.
    gradients = jax.tree.map(lambda w: jnp.full_like(w, 2e20), params)
    updates, state = optimizer.update(gradients, state)
    assert diagnostics.all_finite(updates)
    assert not diagnostics.all_finite(state)


def test_all_finite_of_nothing_is_true():
    assert diagnostics.all_finite({})
    assert diagnostics.all_finite([jnp.arange(3), jax.random.key(1)])


def test_convergence_measure_recounts(x64):
    curves = random_curves()
    measure = jax.jit(jax.vmap(diagnostics.convergence_measure, in_axes=(0, None)))(curves, 1.3)
    np.testing.assert_allclose(measure, [numpy_measure(c, 1.3) for c in curves], rtol=1e-13)


def test_convergence_measure_takes_the_last_twenty():
    loss = np.r_[np.full(30, 5.0), np.full(20, 0.5)]
    assert diagnostics.convergence_measure(loss, 1.0) == 0.5
    assert diagnostics.convergence_measure(np.r_[loss, nan, nan], 1.0) == 0.5
    np.testing.assert_allclose(diagnostics.convergence_measure(loss[:-1], 1.0), (5 + 19 * 0.5) / 20)


@pytest.mark.parametrize(
    ("loss", "initial", "expected"),
    [
        ([0.5, 0.25], 1.0, 0.375),
        ([1.0, 1.0, 1.0], 1.0, 1.0),
        ([0.1] * 7, np.float32(0.1), 1.0),
        ([0.5, inf], 1.0, (0.5 + 1e6) / 2),
        ([1e30, 0.5], 1.0, (0.5 + 1e6) / 2),
        ([0.5, nan, 0.5], 1.0, (1 + 1e6) / 3),
        ([0.5, 0.5], 0.0, 1e6),
        ([0.0, 0.0], 0.0, 1e6),
        ([0.5, 0.5], inf, 1e6),
        ([0.5, 0.5], nan, 1e6),
        ([nan, nan], 1.0, nan),
    ],
)
def test_convergence_measure_of_known_curves(loss, initial, expected):
    np.testing.assert_allclose(
        diagnostics.convergence_measure(np.array(loss, np.float32), initial), expected, rtol=1e-6
    )


def test_convergence_measure_counts_a_diverged_tail():
    loss = np.array([0.5, 0.4, nan, nan])
    np.testing.assert_allclose(diagnostics.convergence_measure(loss, 1.0), 0.45, rtol=1e-6)
    np.testing.assert_allclose(diagnostics.convergence_measure(loss, 1.0, True), (0.9 + 2e6) / 4, rtol=1e-6)


def test_a_first_entry_of_the_initial_loss_does_not_move_the_verdict(x64):
    for curve in np.random.default_rng(1).uniform(0.5, 1.5, size=(50, 12)):
        without = diagnostics.convergence_measure(curve, 1.0) < 1
        assert (diagnostics.convergence_measure(np.r_[1.0, curve], 1.0) < 1) == without


def test_oscillation_recounts(x64):
    curves = random_curves()
    share = jax.jit(jax.vmap(diagnostics.oscillation))(curves)
    np.testing.assert_allclose(share, [numpy_oscillation(c) for c in curves], rtol=1e-13)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ([4, 3, 2, 1], 0),
        ([1, 2, 1, 2, 1], 1),
        ([1, 2, 1, 2, nan, nan], 1),
        ([3, 2, 1, 2], 0.5),
        ([2, 1, 1, 2], 0),
        ([1, inf, 1, inf], 1),
        ([1, 2, nan], nan),
        ([1.0], nan),
        ([nan, nan, nan], nan),
    ],
)
def test_oscillation_of_known_curves(loss, expected):
    np.testing.assert_array_equal(diagnostics.oscillation(np.array(loss, float)), expected)


def test_oscillation_of_noise_is_two_thirds():
    noise = np.random.default_rng(0).normal(size=30_000)
    # Neighbouring turns are correlated; their variance is (16n - 29)/90 for n values (Kendall's turning points).
    sigma = np.sqrt(16 / 90 / 30_000)
    assert abs(diagnostics.oscillation(noise) - 2 / 3) < 3 * sigma


@pytest.mark.parametrize(
    ("cosine", "expected"),
    [([1, -1, -0.2, 0], 0.5), ([-1, nan, nan], 1), ([0.3, nan, -0.3], 0.5), ([nan, nan], nan)],
)
def test_opposed_updates(cosine, expected):
    np.testing.assert_array_equal(diagnostics.opposed_updates(np.array(cosine, float)), expected)


@pytest.mark.parametrize(("rate", "opposed", "oscillates"), [(0.5, 0, 0), (1.5, 1, 0), (2.5, 1, 0)])
def test_gradient_descent_on_a_quadratic(rate, opposed, oscillates):
    """½w²: monotone for η < 1, opposed steps for 1 < η, divergent for η > 2; the loss itself never turns."""

    def step(w, _):
        update = -rate * w
        return w + update, (update, w**2 / 2)

    _, (updates, loss) = jax.lax.scan(step, jnp.array(1.0), length=12)
    cosine = jax.vmap(diagnostics.cosine)(updates[:-1], updates[1:])
    assert diagnostics.opposed_updates(cosine) == opposed
    assert diagnostics.oscillation(loss) == oscillates
    assert diagnostics.unstable(-1, loss[1:], loss[0]).unstable == (rate > 2)


@pytest.mark.parametrize(
    ("first_bad", "loss", "verdicts"),
    [
        (-1, [0.9, 0.5, 0.3], (False, False, False)),
        (-1, [0.9, 5.0, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1], (False, False, False)),
        (-1, [0.1, 0.1, 1.1], (False, True, False)),
        (-1, [0.9, 9.0, 0.8], (False, False, True)),
        (-1, [1.5, 1.5, nan], (False, True, True)),
        (-1, [0.5, nan, nan], (False, False, False)),
        (7, [0.5, nan, nan], (True, True, True)),
        (7, [0.5, 0.4, 0.4], (True, False, False)),
        (0, [nan, nan], (True, True, True)),
        (-1, [nan, nan], (False, False, False)),
        (3, [0.5, inf], (True, True, True)),
    ],
)
def test_unstable_keeps_its_verdicts_apart(first_bad, loss, verdicts):
    result = jax.jit(diagnostics.unstable)(first_bad, np.array(loss), 1.0)
    assert tuple(map(bool, result[:3])) == verdicts
    assert result.unstable == any(verdicts)


@pytest.mark.parametrize(
    ("loss", "unstable"),
    [
        ([1.0, 1.0, 1.0], False),
        ([1.0, 1.000001, 1.000002], False),
        ([1.0, 0.9, 1.0, 1.0], False),
        ([1.0, 1.001, 1.001], True),
        ([nan, nan, nan], True),
        ([1.0, 1.0, nan], True),
        ([0.5, 0.5, nan], True),
        ([0.5, 0.5, inf], True),
        ([0.5, 0.5, -inf], True),
    ],
)
def test_unstable_judges_the_last_epoch_reached_and_not_a_loss_at_rest(loss, unstable):
    result = jax.jit(diagnostics.unstable)(-1, np.array(loss), 1.0, len(loss) - 1)
    assert result.unstable == unstable


@pytest.mark.parametrize(
    ("loss", "figure", "chance", "better", "expected"),
    [
        ([2.0, 1.0], None, None, "higher", False),
        ([2.0, 2.0], None, None, "higher", True),
        ([2.0, 1.99999], None, None, "higher", True),
        ([2.0, 1.0], [0.1, 0.3], 0.3, "higher", True),
        ([2.0, 1.0], [0.1, np.float32(0.1) + np.float32(1e-8)], 0.1, "higher", True),
        ([2.0, 1.0], [0.1, 0.31], 0.3, "higher", False),
        ([2.0, 1.0], [9.0, 4.0], 4.0, "lower", True),
        ([2.0, 1.0], [9.0, 3.9], 4.0, "lower", False),
        ([2.0, 1.0, nan], [0.1, 0.9, nan], 0.3, "higher", True),
        ([2.0], None, None, "higher", False),
    ],
)
def test_a_trial_did_not_learn_if_it_ends_no_better_than_it_began_or_than_chance(
    loss, figure, chance, better, expected
):
    last, loss = len(loss) - 1, np.array(loss, np.float32)
    figure = None if figure is None else np.array(figure, np.float32)
    assert diagnostics.did_not_learn(loss, figure, chance, better, last) == expected


def test_unstable_mapped_over_trials():
    curves, first_bad = random_curves(), np.where(np.arange(60) % 3 == 0, 4, -1)
    mapped = jax.vmap(diagnostics.unstable)(first_bad, curves, curves[:, 0])
    for i, curve in enumerate(curves):
        alone = diagnostics.unstable(first_bad[i], curve, curve[0])
        assert [bool(x[i]) for x in mapped] == [bool(x) for x in alone]


def test_learning_rate_sensitivity_recounts(x64):
    rng = np.random.default_rng(3)
    for _ in range(20):
        final, initial = rng.exponential(size=9), rng.exponential(size=9) + 0.5
        final[rng.integers(9)], final[rng.integers(9)] = nan, inf
        capped = [min(f, i) if np.isfinite(f) else i for f, i in zip(final, initial, strict=True)]
        expected = np.mean(capped) - min(capped)
        np.testing.assert_allclose(
            diagnostics.learning_rate_sensitivity(final, initial), expected, rtol=1e-12, atol=1e-15
        )


def test_learning_rate_sensitivity_of_known_sweeps():
    assert diagnostics.learning_rate_sensitivity(np.full(4, 0.3), 2.0) == 0
    np.testing.assert_allclose(
        diagnostics.learning_rate_sensitivity(np.array([0.5, 1.0, 8.0, nan]), 2.0), 0.875
    )
    assert diagnostics.learning_rate_sensitivity(np.array([5.0, nan]), 2.0) == 0


@pytest.mark.parametrize(
    ("curve", "expected"),
    [([3.0, 2.0, nan], 2), ([3.0, nan, 1.0], 1), ([nan, nan], nan), ([1.0, inf, nan], inf)],
)
def test_final_is_the_last_value_reached(curve, expected):
    np.testing.assert_array_equal(jax.jit(diagnostics.final)(np.array(curve)), expected)


@pytest.mark.parametrize(("last", "expected"), [(2, nan), (1, inf), (0, 3), (-1, nan)])
def test_final_is_the_value_at_the_last_epoch_where_that_is_known(last, expected):
    curve = np.array([3.0, inf, nan, nan])
    np.testing.assert_array_equal(jax.jit(diagnostics.final)(curve, last), expected)


@pytest.mark.parametrize(
    ("better", "expected"), [("higher", [-inf, -inf, -inf, 0.5]), ("lower", [inf, inf, inf, 0.5])]
)
def test_what_is_not_finite_is_worst_in_either_sense(better, expected):
    values = np.array([nan, inf, -inf, 0.5])
    for dtype in (np.float32, np.float64):
        found = diagnostics.or_worst(values.astype(dtype), better)
        assert (type(found), found.dtype) == (np.ndarray, dtype)
        np.testing.assert_array_equal(found, expected)
    found = jax.jit(diagnostics.or_worst, static_argnums=1)(values, better)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: diagnostics.first_bad(np.ones(3)), "finite_S = .*float.*1-D array of bools"),
        (lambda: diagnostics.first_bad(np.ones((2, 3), bool)), r"finite_S = .*\(2, 3\).*1-D array of bools"),
        (lambda: diagnostics.oscillation(np.ones((2, 3))), r"loss_E = \(2, 3\): give .*jax.vmap"),
        (lambda: diagnostics.convergence_measure(np.ones(0), 1.0), r"loss_E = \(0,\)"),
        (lambda: diagnostics.unstable(-1, np.ones((2, 3)), 1.0), r"loss_E = \(2, 3\)"),
        (lambda: diagnostics.opposed_updates(np.ones((2, 3))), r"cosine_E = \(2, 3\)"),
        (lambda: diagnostics.learning_rate_sensitivity(np.ones((2, 3)), 1.0), r"final_loss_R = \(2, 3\)"),
        (lambda: diagnostics.final(np.ones(())), r"curve_E = \(\)"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()
