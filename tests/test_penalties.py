"""L1 and L2: coupled, decoupled, proximal; their masks; against scikit-learn, optax and known numbers."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxlab.errors import InputError
from jaxlab.transforms import (
    add_decoupled_l2,
    add_l1,
    add_l2,
    kernels,
    l1_penalty,
    l2_penalty,
    proximal_l1,
    rmsprop,
    scale_by_learning_rate,
    scale_by_rms,
    trace,
)

PARAMS = {
    "conv": {"kernel": np.arange(-4.0, 4.0).reshape(2, 2, 1, 2), "bias": np.array([1.0, -2.0])},
    "dense": {"kernel": np.array([[0.5, -0.25], [0.0, 2.0]]), "bias": np.array([3.0, 0.0])},
    "norm": {"scale": np.array(1.5)},
}


def params_of(dtype=None):
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), PARAMS)


def zeros_like(params):
    return jax.tree.map(jnp.zeros_like, params)


def one_update(transform, gradients, params):
    return transform.update(gradients, transform.init(params), params)[0]


def decay_alone(transform, steps=100):
    """A weight that starts at 1 and has no data gradient."""
    weight = jnp.ones((1, 1))

    def step(carry, _):
        w, state = carry
        updates, state = transform.update(jnp.zeros_like(w), state, w)
        return (optax.apply_updates(w, updates), state), None

    (weight, _), _ = jax.lax.scan(step, (weight, transform.init(weight)), length=steps)
    return float(weight[0, 0])


@pytest.mark.parametrize(("strength", "expected"), [(1e-6, 0.998), (1e-4, 0.907), (1e-2, 0.892)])
def test_coupled_l2_under_rmsprop_loses_its_strength(x64, strength, expected):
    """Strengths 10,000 times apart shrink a weight alike; without ε the strength cancels altogether."""
    with_eps = optax.chain(add_l2(strength), rmsprop(1e-3, 0.9, 1e-8))
    without = optax.chain(add_l2(strength), rmsprop(1e-3, 0.9, 0.0))
    assert decay_alone(with_eps) == pytest.approx(expected, abs=5e-4)
    assert decay_alone(without) == pytest.approx(0.8917, abs=5e-5)


@pytest.mark.parametrize(("strength", "digits"), [(1e-6, 9), (1e-4, 9), (1e-2, 9)])
def test_decoupled_l2_keeps_its_strength(x64, strength, digits):
    transform = optax.chain(scale_by_rms(), add_decoupled_l2(strength), scale_by_learning_rate(1e-3))
    assert decay_alone(transform) == pytest.approx((1 - 1e-3 * strength) ** 100, abs=10.0**-digits, rel=0)
    published = {1e-6: 0.9999999, 1e-4: 0.99999, 1e-2: 0.9990}[strength]
    assert decay_alone(transform) == pytest.approx(published, abs=2e-6 if strength == 1e-2 else 5e-9)


def test_decoupled_l2_behind_momentum_decays_by_the_learning_rate_alone(x64):
    """Behind the trace, a decay of exactly 1 − ηλ per step; before it, momentum multiplies it."""
    scaled, rate = [scale_by_rms()], [scale_by_learning_rate(0.1)]
    behind = optax.chain(*scaled, trace(0.9), add_decoupled_l2(0.5), *rate)
    before = optax.chain(*scaled, add_decoupled_l2(0.5), *rate, trace(0.9))
    assert decay_alone(behind, 20) == pytest.approx(0.95**20, rel=1e-12)
    assert decay_alone(before, 20) < 0.6 * 0.95**20


def test_coupled_terms_by_hand():
    params, g = params_of(), jax.tree.map(lambda x: jnp.full_like(x, 10.0), params_of())
    l1, l2 = one_update(add_l1(0.5), g, params), one_update(add_l2(0.5), g, params)
    np.testing.assert_array_equal(l1["dense"]["kernel"], [[10.5, 9.5], [10.0, 10.5]])  # sign(0) = 0
    np.testing.assert_array_equal(l2["dense"]["kernel"], [[10.5, 9.75], [10.0, 12.0]])  # 2 · 0.5 · w
    for updates in (l1, l2):
        np.testing.assert_array_equal(updates["dense"]["bias"], 10.0)
        np.testing.assert_array_equal(updates["norm"]["scale"], 10.0)
        assert not np.array_equal(updates["conv"]["kernel"], g["conv"]["kernel"])


def test_strengths_in_terms_of_optax_weight_decay(x64):
    params, g = params_of(), params_of()
    theirs = optax.add_decayed_weights
    chex.assert_trees_all_close(
        one_update(add_l2(0.15), g, params), one_update(theirs(0.3, mask=kernels), g, params), rtol=1e-14
    )
    chex.assert_trees_all_close(
        one_update(add_decoupled_l2(0.3), g, params),
        one_update(theirs(0.3, mask=kernels), g, params),
        rtol=1e-14,
    )


@pytest.mark.parametrize(("penalty", "term"), [(l1_penalty, add_l1), (l2_penalty, add_l2)])
@pytest.mark.parametrize("mask", [None, True, {"conv": False, "dense": True, "norm": True}], ids=str)
def test_terms_are_the_gradients_of_the_penalties(x64, penalty, term, mask):
    """At w = 0 too, and for a traced strength."""
    params = params_of()
    slope = jax.jit(jax.grad(lambda params, strength: penalty(params, strength, mask)))(params, 0.7)
    chex.assert_trees_all_close(one_update(term(0.7, mask), zeros_like(params), params), slope, rtol=1e-14)


def test_penalty_values():
    params = {"kernel": jnp.asarray([[1.0, -2.0], [0.0, 3.0]]), "bias": jnp.asarray([10.0])}
    assert l1_penalty(params, 0.5) == 3
    assert l2_penalty(params, 0.5) == 7
    assert l1_penalty(params, 0.5, mask=True) == 8
    assert l2_penalty(params, 0.5, mask=True) == 57


def test_penalties_of_half_precision_weights_are_summed_in_float32():
    params = jnp.full((300, 300), 1.0, jnp.bfloat16)
    assert l1_penalty(params, 1.0) == 90_000
    assert l2_penalty(params, 1.0).dtype == jnp.float32


def test_kernels_are_the_leaves_with_two_or_more_dimensions():
    expected = {
        "conv": {"kernel": True, "bias": False},
        "dense": {"kernel": True, "bias": False},
        "norm": {"scale": False},
    }
    assert kernels(params_of()) == expected


class Net(nnx.Module):
    def __init__(self):
        self.conv = nnx.Dict(kernel=nnx.Param(jnp.ones((3, 3, 1, 2))), bias=nnx.Param(jnp.ones(2)))
        self.out = nnx.Dict(kernel=nnx.Param(jnp.ones((2, 2))), bias=nnx.Param(jnp.ones(2)))


@pytest.mark.parametrize(
    "build", [lambda: add_l2(0.5), lambda: proximal_l1(0.1, 0.2, 0.9)], ids=["l2", "proximal"]
)
def test_a_state_of_flax_is_a_tree_like_any_other(build):
    state = nnx.state(Net(), nnx.Param)
    updates = one_update(build(), zeros_like(state), state)
    assert jax.tree.structure(updates) == jax.tree.structure(state)
    touched = {path: bool((leaf[...] != 0).any()) for path, leaf in nnx.to_flat_state(updates)}
    assert {path for path, yes in touched.items() if yes} == {("conv", "kernel"), ("out", "kernel")}


@pytest.mark.parametrize(
    ("mask", "touched"),
    [
        (None, {"conv/kernel", "dense/kernel"}),
        (True, {"conv/kernel", "conv/bias", "dense/kernel", "dense/bias", "norm/scale"}),
        (
            {"conv": True, "dense": {"kernel": False, "bias": True}, "norm": False},
            {"conv/kernel", "conv/bias", "dense/bias"},
        ),
        (lambda params: jax.tree.map(lambda p: p.ndim == 1, params), {"conv/bias", "dense/bias"}),
        ({"conv": np.bool_(False), "dense": False, "norm": np.bool_(True)}, {"norm/scale"}),
    ],
    ids=["kernels", "all", "mixed", "callable", "numpy"],
)
@pytest.mark.parametrize(
    "build", [add_l1, add_l2, add_decoupled_l2, lambda s, mask: proximal_l1(0.1, s, mask=mask)]
)
def test_masks(build, mask, touched):
    params = params_of()
    updates = one_update(build(0.5, mask), zeros_like(params), params)
    leaves = jax.tree_util.tree_leaves_with_path(updates)
    names = {"/".join(k.key for k in path) for path, leaf in leaves if jnp.any(leaf != 0)}
    assert names == touched


@pytest.mark.parametrize(
    ("mask", "remedy"),
    [
        (False, "selects no leaf"),
        (lambda params: jax.tree.map(lambda p: p.ndim > 9, params), "selects no leaf"),
        ({"convolution": True}, "give bools shaped like the params"),
        ({"conv": 1.0, "dense": True, "norm": True}, "True or False"),
        ("kernel", "True or False"),
    ],
)
@pytest.mark.parametrize(
    "build", [add_l1, add_l2, add_decoupled_l2, lambda s, mask: proximal_l1(0.1, s, mask=mask)]
)
def test_masks_that_fit_nothing_are_refused_at_the_start(build, mask, remedy):
    with pytest.raises(InputError, match=rf"^mask = .*{remedy}"):
        build(0.5, mask).init(params_of())


def test_params_without_kernels_are_refused_by_the_default_mask():
    with pytest.raises(InputError, match=r"^mask = 'kernels': selects no leaf"):
        add_l2(0.5).init({"bias": jnp.zeros(3)})
    with pytest.raises(InputError, match=r"^mask = 'kernels': selects no leaf"):
        l2_penalty({"bias": jnp.zeros(3)}, 0.5)


@pytest.mark.parametrize("penalty", [l1_penalty, l2_penalty])
def test_penalties_refuse_a_negative_strength(penalty):
    with pytest.raises(InputError, match=r"^strength = -0.5: give a number >= 0"):
        penalty(params_of(), -0.5)


@pytest.mark.parametrize("name", ["add_l1", "add_l2", "add_decoupled_l2", "proximal_l1"])
def test_updates_without_params_are_refused(name):
    build = {"add_l1": add_l1, "add_l2": add_l2, "add_decoupled_l2": add_decoupled_l2}
    transform = build[name](0.1) if name in build else proximal_l1(0.1, 0.1)
    params = params_of()
    with pytest.raises(InputError, match=rf"^params = None: {name} .* call update\(updates, state, params\)"):
        transform.update(params, transform.init(params))
