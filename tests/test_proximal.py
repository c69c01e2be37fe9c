"""Proximal L1 against scikit-learn and NumPy, and its exact zeros."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import ElasticNet, Lasso

from jaxlab.transforms import add_l1, add_l2, proximal_l1, rmsprop, scale_by_learning_rate


def regression(seed=0, n=60, features=8):
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(n, features))
    w = np.where(np.arange(features) < 3, draw.normal(size=features) * 2, 0.0)
    return x, x @ w + 1.5 + 0.3 * draw.normal(size=n)


def fit(transform, x, y, steps=3000):
    """Linear regression with a bias, loss 1/(2n)·Σ(y − ŷ)², full batch."""
    params = {"kernel": jnp.zeros((x.shape[1], 1)), "bias": jnp.zeros(1)}

    def loss(params):
        predicted = (x @ params["kernel"])[:, 0] + params["bias"][0]
        return jnp.mean((y - predicted) ** 2) / 2

    def step(carry, _):
        params, state = carry
        updates, state = transform.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.jit(lambda p: jax.lax.scan(step, (p, transform.init(p)), length=steps))(params)
    return np.asarray(params["kernel"])[:, 0], float(params["bias"][0])


@pytest.mark.parametrize("alpha", [0.05, 0.3, 1.0])
def test_proximal_descent_finds_the_lasso(x64, alpha):
    """The same weights, the very same zeros, and a bias that is not penalised."""
    x, y = regression()
    kernel, bias = fit(proximal_l1(0.2, alpha), x, y)
    lasso = Lasso(alpha=alpha, tol=1e-14, max_iter=100_000).fit(x, y)
    np.testing.assert_allclose(kernel, lasso.coef_, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(bias, lasso.intercept_, rtol=1e-7)
    np.testing.assert_array_equal(kernel == 0, lasso.coef_ == 0)
    assert (kernel == 0).any()
    assert (kernel != 0).any()


def test_proximal_descent_with_coupled_l2_finds_the_elastic_net(x64):
    """scikit-learn: α·r·Σ|w| + α(1 − r)/2·Σw²."""
    x, y = regression(1)
    kernel, bias = fit(optax.chain(add_l2(0.4 * 0.5 / 2), proximal_l1(0.2, 0.4 * 0.5)), x, y)
    net = ElasticNet(alpha=0.4, l1_ratio=0.5, tol=1e-14, max_iter=100_000).fit(x, y)
    np.testing.assert_allclose(kernel, net.coef_, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(bias, net.intercept_, rtol=1e-7)
    np.testing.assert_array_equal(kernel == 0, net.coef_ == 0)


def test_subgradient_descent_leaves_no_exact_zero(x64):
    x, y = regression()
    kernel, _ = fit(optax.chain(add_l1(0.3), scale_by_learning_rate(0.2)), x, y)
    proximal, _ = fit(proximal_l1(0.2, 0.3), x, y)
    assert (kernel != 0).all()
    assert (proximal == 0).sum() >= 4


@pytest.mark.parametrize("centered", [False, True])
def test_proximal_rmsprop_in_numpy(x64, centered):
    draw = np.random.default_rng(2)
    weights, gradients = draw.normal(size=(3, 4)), draw.normal(size=(20, 3, 4)) * 0.3
    eta, strength, decay, eps = 0.05, 0.4, 0.8, 1e-4
    w, v, m = weights, 0.0, 0.0
    transform = proximal_l1(eta, strength, decay, eps, centered=centered)
    ours, state = jnp.asarray(weights), transform.init(jnp.asarray(weights))
    for g in gradients:
        v, m = decay * v + (1 - decay) * g * g, decay * m + (1 - decay) * g
        d = np.sqrt(v - centered * m * m + eps)
        u = w - eta * g / d
        w = np.sign(u) * np.maximum(np.abs(u) - eta * strength / d, 0)
        updates, state = transform.update(jnp.asarray(g), state, ours)
        ours = optax.apply_updates(ours, updates)
        np.testing.assert_allclose(ours, w, rtol=1e-11, atol=1e-14)
        np.testing.assert_array_equal(ours == 0, w == 0)
    assert (w == 0).any()
    assert (w != 0).any()


@pytest.mark.parametrize("decay", [None, 0.9])
def test_proximal_with_no_strength_is_the_optimizer_itself(x64, decay):
    rate = optax.exponential_decay(0.1, 1, 0.5)
    plain = scale_by_learning_rate(rate) if decay is None else rmsprop(rate, decay)

    @jax.jit
    def descend(params):
        ends = []
        for transform in (proximal_l1(rate, 0.0, decay), plain):
            w, state = params, transform.init(params)
            for _ in range(4):
                updates, state = transform.update(jax.tree.map(jnp.sin, w), state, w)
                w = optax.apply_updates(w, updates)
            ends.append(w)
        return ends

    chex.assert_trees_all_close(
        *descend({"kernel": jnp.arange(-2.0, 2.0).reshape(2, 2), "bias": jnp.ones(2)}), rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("gradient_dtype", [jnp.bfloat16, jnp.float32])
def test_proximal_zeros_are_exact_in_low_precision(dtype, gradient_dtype):
    """Gradients narrower than the weights must not round the step that removes a weight."""
    w = jax.random.normal(jax.random.key(0), (40, 40)).astype(dtype)
    g = jnp.zeros((40, 40), gradient_dtype)

    @jax.jit
    def step(w, strength):
        transform = proximal_l1(0.1, strength)
        return optax.apply_updates(w, transform.update(g, transform.init(w), w)[0])

    after = step(w, 5.0)
    assert after.dtype == dtype
    # Weights next to the threshold of 0.5 may round either way.
    inside = jnp.abs(w) < 0.49
    assert (after[inside] == 0).all()
    assert (after[jnp.abs(w) > 0.51] != 0).all()


@settings(deadline=None, max_examples=30)
@given(
    st.floats(-3, 3),
    st.floats(-3, 3),
    st.floats(0.01, 1),
    st.floats(0, 2),
    st.one_of(st.none(), st.floats(0, 0.99)),
)
def test_proximal_step_minimises_its_problem(w, g, eta, strength, decay):
    """The new weight minimises ½·(x − u)² + t·|x|: 0 lies in its subdifferential."""
    with jax.enable_x64(True):
        weight, gradient = jnp.full((1, 1), w), jnp.full((1, 1), g)
        transform = proximal_l1(eta, strength, decay, 1e-3)
        x = float((weight + transform.update(gradient, transform.init(weight), weight)[0])[0, 0])
        d = 1.0 if decay is None else np.sqrt((1 - decay) * g * g + 1e-3)
        u, t = w - eta * g / d, eta * strength / d
        if x == 0:
            assert abs(u) <= t + 1e-12
        else:
            assert x - u + t * np.sign(x) == pytest.approx(0, abs=1e-12)
