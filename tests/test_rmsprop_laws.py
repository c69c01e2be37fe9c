"""What RMSProp does on the parabola ½λw² and on a line, in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlab.transforms import rmsprop, scale_by_rms


def descend(transform, slope, start, steps):
    """The weight after every step on the loss whose derivative is ``slope``."""

    def step(carry, _):
        w, state = carry
        updates, state = transform.update(slope(w), state, w)
        w = optax.apply_updates(w, updates)
        return (w, state), w

    return jax.lax.scan(step, (start, transform.init(start)), length=steps)[1]


@pytest.mark.parametrize("decay", [0.1, 0.5, 0.9, 0.99])
def test_without_eps_it_cycles_at_half_the_learning_rate(x64, decay):
    """Whatever the curvature, one per column; with period 2."""
    curvature = jnp.asarray([1e-2, 1.0, 50.0])
    path = descend(rmsprop(0.1, decay, 0.0), lambda w: curvature * w, jnp.full(3, 0.7), 6000)
    np.testing.assert_allclose(jnp.abs(path[-2:]), 0.05, rtol=1e-9)
    assert (path[-1] * path[-2] < 0).all()


@pytest.mark.parametrize("ratio", [0.5, 1.9, 2.1, 5.0])
def test_eps_inside_the_root_moves_the_cycle_and_bounds_it(x64, ratio):
    """ηλ/√ε above 2: w² = η²/4 − ε/λ²; below: w → 0."""
    eta, curvature = 0.1, 3.0
    eps = (eta * curvature / ratio) ** 2
    path = descend(rmsprop(eta, 0.9, eps), lambda w: curvature * w, jnp.asarray(0.4), 6000)
    expected = np.sqrt(eta**2 / 4 - eps / curvature**2) if ratio > 2 else 0.0
    np.testing.assert_allclose(jnp.abs(path[-2:]), expected, rtol=1e-9, atol=1e-12)


def test_eps_outside_the_root_is_another_rule(x64):
    g, eps = jnp.asarray(1e-4), 1e-8
    update, _ = scale_by_rms(eps=eps).update(g, scale_by_rms().init(g))
    np.testing.assert_allclose(update, 1e-4 / np.sqrt(1e-9 + eps), rtol=1e-12)
    assert abs(update - 1e-4 / (np.sqrt(1e-9) + eps)) > 1


def test_its_steps_stay_where_those_of_adagrad_fall(x64):
    start, constant = jnp.asarray(0.0), lambda w: jnp.full_like(w, 0.3)
    adagrad = optax.chain(optax.scale_by_rss(0.0, 0.0), optax.scale_by_learning_rate(0.1))
    rms = -np.diff(descend(rmsprop(0.1, eps=0.0), constant, start, 400))
    ada = -np.diff(descend(adagrad, constant, start, 400))
    n = np.arange(2, 401)
    np.testing.assert_allclose(rms, 0.1 / np.sqrt(1 - 0.9**n), rtol=1e-9)
    np.testing.assert_allclose(ada, 0.1 / np.sqrt(n), rtol=1e-9)


def test_scan_over_steps_and_gradients_of_the_learning_rate(x64):
    """d w/d η along RMSProp on a parabola, forward and reverse, against finite differences."""

    def final(eta):
        return descend(rmsprop(eta, 0.9, 1e-3), lambda w: 2.0 * w, jnp.asarray(1.0), 5)[-1]

    slope = (final(0.01 + 1e-6) - final(0.01 - 1e-6)) / 2e-6
    np.testing.assert_allclose(jax.grad(final)(0.01), slope, rtol=1e-6)
    np.testing.assert_allclose(jax.jacfwd(final)(0.01), slope, rtol=1e-6)
