"""Learning-rate schedules against optax's, traced and past their end."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlab.errors import InputError
from jaxlab.schedules import SCHEDULES
from jaxlab.transforms import rmsprop

PER_EPOCH, TOTAL = 7, 140
SETTINGS = {
    "constant": {},
    "warmup_cosine": {"warmup_fraction": 0.25, "final_fraction": 0.1},
    "exponential": {"decay_rate": 0.8},
    "step": {"drop_factor": 0.3, "drop_every": 4.0},
}
# Optax's own, of the same numbers, with W = 0.25 · 140 = 35 and a drop after 28 steps.
ORACLES = {
    "constant": optax.constant_schedule(0.2),
    "warmup_cosine": optax.warmup_cosine_decay_schedule(0.0, 0.2, 35, TOTAL, 0.02),
    "exponential": optax.exponential_decay(0.2, PER_EPOCH, 0.8),
    "step": optax.exponential_decay(0.2, 4 * PER_EPOCH, 0.3, staircase=True),
}


def values(name, peak, hyperparameters, steps=None):
    schedule = SCHEDULES[name].build(peak, hyperparameters, PER_EPOCH, TOTAL)
    return jax.vmap(schedule)(jnp.arange(TOTAL + 60) if steps is None else steps)


@pytest.mark.parametrize("name", SCHEDULES)
def test_agrees_with_optax_to_the_end_and_beyond(x64, name):
    steps = np.arange(TOTAL + 60)
    expected = [float(ORACLES[name](step)) for step in steps]
    np.testing.assert_allclose(values(name, 0.2, SETTINGS[name]), expected, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("name", SCHEDULES)
def test_traced_and_mapped_numbers_equal_a_loop(x64, name):
    names = list(SETTINGS[name])
    peaks, factors = jnp.asarray([0.2, 0.05, 1.0]), jnp.asarray([1.0, 0.5, 0.9])
    traced = {key: SETTINGS[name][key] * factors for key in names}
    mapped = jax.jit(jax.vmap(lambda peak, h: values(name, peak, h)))(peaks, traced)
    alone = [values(name, float(peaks[i]), {key: float(traced[key][i]) for key in names}) for i in range(3)]
    np.testing.assert_allclose(mapped, jnp.stack(alone), rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("name", SCHEDULES)
def test_takes_an_array_of_steps_or_one(name):
    schedule = SCHEDULES[name].build(0.2, SETTINGS[name], PER_EPOCH, TOTAL)
    together = schedule(jnp.arange(20))
    assert together.shape == (20,)
    assert schedule(3).shape == ()
    np.testing.assert_allclose(together, [schedule(step) for step in range(20)], rtol=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_missing_numbers_take_the_declared_defaults_and_foreign_names_are_ignored(name):
    defaults = SCHEDULES[name].hyperparameters
    assert set(defaults) == set(SETTINGS[name])
    given_all = values(name, 0.2, defaults)
    np.testing.assert_array_equal(values(name, 0.2, {"l2": 1.0, "seed": -3}), given_all)
    for key in defaults:
        assert not np.array_equal(values(name, 0.2, {key: SETTINGS[name][key]}), given_all)


@pytest.mark.parametrize("name", SCHEDULES)
def test_needs_total_steps_says_whether_the_planned_end_matters(name):
    steps = jnp.arange(50)
    one, other = (SCHEDULES[name].build(0.2, {}, PER_EPOCH, total)(steps) for total in (100, 300))
    assert SCHEDULES[name].needs_total_steps == (not np.array_equal(one, other))


@pytest.mark.parametrize("name", SCHEDULES)
def test_drives_an_optimizer_under_jit(name):
    """Gradients of a scaled constant, so each step is −ηₙ·g/√(v + ε); the count is the optimizer's."""

    @jax.jit
    def train(peak):
        transform = rmsprop(SCHEDULES[name].build(peak, SETTINGS[name], PER_EPOCH, TOTAL), decay=0.0, eps=0.0)
        state = transform.init(jnp.asarray(0.0))
        return jax.lax.scan(lambda s, _: transform.update(jnp.asarray(3.0), s)[::-1], state, length=TOTAL)[1]

    np.testing.assert_allclose(-train(0.2), values(name, 0.2, SETTINGS[name])[:TOTAL], rtol=1e-6, atol=1e-9)


def test_hyperparameter_names_are_unique():
    names = [key for schedule in SCHEDULES.values() for key in schedule.hyperparameters]
    assert len(set(names)) == len(names)


def test_warmup_cosine_landmarks(x64):
    rate = values("warmup_cosine", 2.0, {"warmup_fraction": 0.5, "final_fraction": 0.25})
    np.testing.assert_allclose(
        rate[jnp.asarray([0, 35, 70, 105, 140, 199])], [0, 1, 2, 1.25, 0.5, 0.5], rtol=1e-12
    )


@pytest.mark.parametrize("fraction", [0.0, 1.0])
@pytest.mark.parametrize("traced", [False, True])
def test_warmup_of_nothing_or_everything_is_finite(fraction, traced):
    build = lambda fraction: values("warmup_cosine", 1.0, {"warmup_fraction": fraction})  # noqa: E731
    rate = jax.jit(build)(fraction) if traced else build(fraction)
    assert jnp.isfinite(rate).all()
    assert rate[0] == (1 if fraction == 0 else 0)
    np.testing.assert_allclose(rate[TOTAL - 1], 0.0 if fraction == 0 else (TOTAL - 1) / TOTAL, atol=2e-4)
    assert rate[-1] == 0


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 400), st.integers(1, 30))
def test_drops_fall_on_whole_epochs_exactly_in_float32(per_epoch, every):
    """The last step before a drop keeps its rate and the first one after has the new: no rounding decides."""
    schedule = SCHEDULES["step"].build(
        1.0, {"drop_factor": 0.5, "drop_every": jnp.float32(every)}, per_epoch, 10
    )
    edges = jnp.arange(1, 9) * every * per_epoch
    halvings = 0.5 ** np.arange(1, 9)
    np.testing.assert_array_equal(schedule(edges), halvings)
    np.testing.assert_array_equal(schedule(edges - 1), 2 * halvings)


@settings(deadline=None, max_examples=30)
@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 500))
def test_warmup_cosine_rises_to_one_peak_then_falls(warmup, final, total):
    schedule = SCHEDULES["warmup_cosine"].build(
        1.0, {"warmup_fraction": warmup, "final_fraction": final}, 10, total
    )
    rate = np.asarray(schedule(jnp.arange(520)))
    top = rate.argmax()
    assert rate.min() >= 0
    assert rate.max() <= 1 + 1e-6
    assert (np.diff(rate[: top + 1]) >= 0).all()
    assert (np.diff(rate[top:]) <= 1e-6).all()
    np.testing.assert_allclose(rate[-1], final, atol=1e-6)


BAD = [
    ("peak", "constant", -1.0, {}),
    ("peak", "step", float("nan"), {}),
    ("warmup_fraction", "warmup_cosine", 0.1, {"warmup_fraction": 1.1}),
    ("final_fraction", "warmup_cosine", 0.1, {"final_fraction": -0.1}),
    ("decay_rate", "exponential", 0.1, {"decay_rate": -1}),
    ("drop_factor", "step", 0.1, {"drop_factor": float("inf")}),
    ("drop_every", "step", 0.1, {"drop_every": 0}),
]


@pytest.mark.parametrize(("field", "name", "peak", "hyperparameters"), BAD)
def test_numbers_out_of_range_are_refused(field, name, peak, hyperparameters):
    with pytest.raises(InputError, match=rf"^{field} = .*: give a"):
        SCHEDULES[name].build(peak, hyperparameters, PER_EPOCH, TOTAL)


def test_step_counts_below_one_are_refused():
    with pytest.raises(InputError, match=r"^steps_per_epoch = 0: give the number of steps per epoch"):
        SCHEDULES["exponential"].build(0.1, {}, 0, TOTAL)
    with pytest.raises(InputError, match=r"^total_steps = 0: give the number of training steps"):
        SCHEDULES["warmup_cosine"].build(0.1, {}, PER_EPOCH, 0)
