"""RMSProp, momentum and learning rate: against optax, Keras and NumPy, and its laws on a parabola."""

import functools
import importlib.util
import json
import os
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jaxlab.errors import InputError
from jaxlab.transforms import (
    add_decoupled_l2,
    add_l1,
    add_l2,
    clip_by_global_norm,
    proximal_l1,
    rmsprop,
    scale_by_learning_rate,
    scale_by_rms,
    trace,
)


def tree(seed, dtype=None):
    draw = np.random.default_rng(seed)
    values = {
        "dense": {"kernel": draw.normal(size=(3, 2)), "bias": draw.normal(size=2)},
        "scale": draw.normal(),
    }
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), values)


def stack(trees):
    return jax.tree.map(lambda *x: jnp.stack(x), *trees)


def run(transform, gradients, params):
    """Parameters after each step, along a new leading axis; the gradients do not depend on them."""

    def step(carry, g):
        params, state = carry
        updates, state = transform.update(g, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    return jax.lax.scan(step, (params, transform.init(params)), gradients)[1]


@pytest.mark.parametrize("rate", [0.03, optax.exponential_decay(0.03, 7, 0.5)], ids=["number", "schedule"])
@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize(("momentum", "nesterov"), [(None, False), (0.8, False), (0.8, True)])
def test_agrees_with_optax(x64, rate, centered, momentum, nesterov):
    options = {"decay": 0.85, "eps": 1e-6, "momentum": momentum, "nesterov": nesterov, "centered": centered}
    gradients = stack([tree(seed) for seed in range(1, 41)])
    ours = run(rmsprop(rate, **options), gradients, tree(0))
    theirs = run(optax.rmsprop(rate, **options), gradients, tree(0))
    chex.assert_trees_all_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_default_numbers_are_those_of_optax(x64):
    gradients = stack([tree(seed) for seed in range(1, 6)])
    ours, theirs = run(rmsprop(0.1), gradients, tree(0)), run(optax.rmsprop(0.1), gradients, tree(0))
    chex.assert_trees_all_close(ours, theirs, rtol=1e-12, atol=1e-12)


def rmsprop_in_numpy(w, gradients, eta, decay, eps, momentum=0.0, centered=False, eps_position="inside"):
    v = m = t = np.zeros_like(w)
    for g in gradients:
        v = decay * v + (1 - decay) * g * g
        m = decay * m + (1 - decay) * g
        square = v - centered * m * m
        root = np.sqrt(square + eps) if eps_position == "inside" else np.sqrt(square) + eps
        t = momentum * t + eta * g / root
        w = w - t
    return w


@pytest.mark.parametrize("eps_position", ["inside", "outside"])
@pytest.mark.parametrize(
    "options", [{}, {"momentum": 0.5}, {"centered": True}, {"momentum": 0.5, "centered": True}]
)
def test_agrees_with_the_equations_in_numpy(x64, options, eps_position):
    options = options | {"eps_position": eps_position}
    draw = np.random.default_rng(0)
    w, gradients = draw.normal(size=(4, 3)), draw.normal(size=(25, 4, 3))
    path = run(rmsprop(0.02, 0.7, 1e-3, **options), jnp.asarray(gradients), jnp.asarray(w))
    np.testing.assert_allclose(
        path[-1], rmsprop_in_numpy(w, gradients, 0.02, 0.7, 1e-3, **options), rtol=1e-12
    )


@pytest.mark.parametrize("options", [{}, {"momentum": 0.5}, {"centered": True}], ids=str)
def test_eps_outside_the_root_agrees_with_optax(x64, options):
    gradients = stack([tree(seed) for seed in range(1, 20)])
    ours = run(rmsprop(0.03, 0.85, 1e-2, eps_position="outside", **options), gradients, tree(0))
    theirs = run(optax.rmsprop(0.03, 0.85, 1e-2, eps_in_sqrt=False, **options), gradients, tree(0))
    chex.assert_trees_all_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_one_step_with_eps_outside_the_root():
    """The first mean square of g = 2 is 0.4: 2 / (0.632… + 0.5) and 2 / √(0.4 + 0.5)."""
    outside, inside = (
        run(scale_by_rms(0.9, 0.5, eps_position=each), jnp.asarray([2.0]), jnp.asarray(0.0))
        for each in ("outside", "inside")
    )
    np.testing.assert_allclose(outside, 2 / (np.sqrt(0.4) + 0.5), rtol=1e-6)
    np.testing.assert_allclose(inside, 2 / np.sqrt(0.9), rtol=1e-6)


@pytest.mark.parametrize("make", [scale_by_rms, functools.partial(proximal_l1, 0.1, 0.1, 0.9)])
@pytest.mark.parametrize("bad", ["out", "Inside"])
def test_another_place_of_eps_is_refused(make, bad):
    with pytest.raises(InputError, match=r"^eps_position = .*give one of inside, outside$"):
        make(eps_position=bad)


@pytest.mark.parametrize("bound", [0.5, 1e3])
def test_clipping_agrees_with_optax(x64, bound):
    gradients = stack([tree(seed) for seed in range(1, 5)])
    ours, theirs = (
        run(make(bound), gradients, tree(0)) for make in (clip_by_global_norm, optax.clip_by_global_norm)
    )
    chex.assert_trees_all_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_clipping_keeps_the_direction_and_gives_the_norm(x64):
    clipped, _ = clip_by_global_norm(0.25).update(tree(1), optax.EmptyState())
    np.testing.assert_allclose(optax.tree.norm(clipped), 0.25, rtol=1e-12)
    ratios = jax.tree.map(lambda new, old: new / old, clipped, tree(1))
    np.testing.assert_allclose(
        np.ptp(jnp.concatenate([jnp.ravel(r) for r in jax.tree.leaves(ratios)])), 0, atol=1e-12
    )


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_a_norm_whose_square_float32_does_not_hold_is_clipped_too(size):
    clipped, _ = clip_by_global_norm(size / 2).update(jnp.asarray([size, 0.0]), optax.EmptyState())
    np.testing.assert_allclose(clipped, [size / 2, 0], rtol=1e-6)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_clipping_does_not_hide_a_bad_gradient(bad):
    clipped, _ = clip_by_global_norm(1.0).update(jnp.asarray([bad, 3.0]), optax.EmptyState())
    np.testing.assert_array_equal(clipped, [bad, 3.0])


def test_clipping_leaves_a_gradient_of_zeros():
    clipped, _ = clip_by_global_norm(1.0).update(jnp.zeros(3), optax.EmptyState())
    np.testing.assert_array_equal(clipped, jnp.zeros(3))


@pytest.mark.parametrize("bad", [0.0, -1.0, jnp.inf, jnp.ones(2)])
def test_a_bound_of_the_norm_that_is_no_positive_number_is_refused(bad):
    with pytest.raises(InputError, match=r"^max_norm = .*: give "):
        clip_by_global_norm(bad)


KERAS = """
import json, sys
import jax
jax.config.update("jax_enable_x64", True)
import keras, numpy as np
for options in json.loads(sys.argv[2]):
    optimizer = keras.optimizers.RMSprop(**options)
    weight = keras.Variable(np.float64(10.0), dtype="float64")
    path = []
    for g in json.loads(sys.argv[1]):
        optimizer.apply([np.float64(g)], [weight])
        path.append(float(weight))
    print(path)
"""


def test_agrees_with_keras(x64):
    """Another process, since Keras picks its backend from the environment."""
    if importlib.util.find_spec("keras") is None:
        pytest.skip("keras is not installed")
    gradients, options = [10.0, -3.0, 0.5, 7.0, 2.0], [{}, {"momentum": 0.5}, {"centered": True}]
    theirs_options = [{"learning_rate": 0.1, "rho": 0.9, "epsilon": 1e-7, **more} for more in options]
    command = [sys.executable, "-c", KERAS, json.dumps(gradients), json.dumps(theirs_options)]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    for more, theirs in zip(options, map(json.loads, done.stdout.splitlines()), strict=True):
        ours = run(rmsprop(0.1, 0.9, 1e-7, **more), jnp.asarray(gradients), jnp.asarray(10.0))
        # Keras holds the learning rate in float32: 0.1 is off by 1.5e-8 of itself.
        np.testing.assert_allclose(ours, theirs, rtol=3e-9)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.5}, {"centered": True}], ids=str)
def test_agrees_with_pytorch_without_eps(x64, options):
    """PyTorch adds eps outside the root; its weight decay λ is an L2 penalty of λ/2."""
    torch = pytest.importorskip("torch")
    gradients = np.random.default_rng(0).normal(size=(20, 3)) + 2
    theirs, weight = [], torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64))
    optimizer = torch.optim.RMSprop([weight], 0.1, alpha=0.9, eps=0.0, weight_decay=0.3, **options)
    for g in gradients:
        weight.grad = torch.tensor(g)
        optimizer.step()
        theirs.append(weight.detach().numpy().copy())
    ours = optax.chain(add_l2(0.15, mask=True), rmsprop(0.1, 0.9, 0.0, **options))
    path = run(ours, jnp.asarray(gradients), jnp.asarray([1.0, -2.0, 3.0]))
    np.testing.assert_allclose(path, theirs, rtol=1e-10)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.5}, {"centered": True}], ids=str)
def test_eps_outside_the_root_agrees_with_pytorch(x64, options):
    torch = pytest.importorskip("torch")
    gradients = np.random.default_rng(0).normal(size=(20, 3)) + 2
    theirs, weight = [], torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64))
    optimizer = torch.optim.RMSprop([weight], 0.1, alpha=0.9, eps=0.3, **options)
    for g in gradients:
        weight.grad = torch.tensor(g)
        optimizer.step()
        theirs.append(weight.detach().numpy().copy())
    ours = rmsprop(0.1, 0.9, 0.3, eps_position="outside", **options)
    path = run(ours, jnp.asarray(gradients), jnp.asarray([1.0, -2.0, 3.0]))
    np.testing.assert_allclose(path, theirs, rtol=1e-10)


def test_one_step_of_keras_example():
    path = run(rmsprop(0.1), jnp.asarray([10.0]), jnp.asarray(10.0))
    np.testing.assert_allclose(path[0], 9.683772, atol=5e-7)


def test_centred_divides_by_the_deviation_not_the_root_mean_square(x64):
    path = run(scale_by_rms(centered=True, eps=1e-12), jnp.full(300, 2.0), jnp.asarray(0.0))
    assert path[-1] - path[-2] > 1e4  # a constant gradient has no variance; uncentred, this is 1


def test_centred_is_finite_for_a_constant_gradient_in_float32():
    """There E[g²] − E[g]² turns negative by rounding, and optax's update becomes NaN."""
    gradients = jnp.broadcast_to(jnp.linspace(1.5, 4.5, 1000), (300, 1000))
    path = run(rmsprop(1e-3, centered=True), gradients, jnp.zeros(1000))
    assert jnp.isfinite(path[-1]).all()
    assert jnp.isnan(run(optax.rmsprop(1e-3, centered=True), gradients, jnp.zeros(1000))[-1]).any()


@pytest.mark.parametrize("eps_position", ["inside", "outside"])
@pytest.mark.parametrize("centered", [False, True])
def test_without_gradient_and_eps_nothing_moves(centered, eps_position):
    optimizer = rmsprop(0.1, eps=0.0, centered=centered, eps_position=eps_position)
    path = run(optimizer, jnp.asarray([[0.0, 1.0], [0.0, 1.0]]), jnp.ones(2))
    assert path[-1][0] == 1
    assert path[-1][1] < 1


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_a_bad_gradient_is_not_hidden(bad):
    path = run(rmsprop(0.1, eps=0.0), jnp.asarray([[bad, 1.0]]), jnp.ones(2))
    assert jnp.isnan(path[0][0])
    assert jnp.isfinite(path[0][1])


def test_a_bad_mean_square_is_not_hidden():
    transform = scale_by_rms(eps=0.0)
    _, state = transform.update(jnp.asarray([jnp.nan, 1.0]), transform.init(jnp.ones(2)))
    updates, _ = transform.update(jnp.ones(2), state)
    np.testing.assert_array_equal(jnp.isnan(updates), [True, False])


@functools.partial(jax.jit, static_argnames="centered")
def path_for_scaled_gradients(scale, decay, centered):
    gradients = stack([jax.tree.map(lambda x: scale * x, tree(seed)) for seed in range(1, 8)])
    return run(rmsprop(0.1, decay, 0.0, centered=centered), gradients, tree(0))


@settings(deadline=None, max_examples=25)
@given(st.floats(1e-6, 1e6), st.booleans(), st.floats(0.0, 0.99))
def test_without_eps_the_scale_of_the_gradient_does_not_matter(scale, centered, decay):
    assume(not centered or decay > 1e-3)  # the variance of almost one gradient is rounding
    with jax.enable_x64(True):
        one, other = (path_for_scaled_gradients(jnp.float64(x), decay, centered) for x in (1.0, scale))
        chex.assert_trees_all_close(one, other, rtol=1e-8)


@pytest.mark.parametrize("nesterov", [False, True])
def test_trace_agrees_with_optax(x64, nesterov):
    gradients = stack([tree(seed) for seed in range(1, 10)])
    ours, theirs = trace(0.7, nesterov), optax.trace(0.7, nesterov)
    chex.assert_trees_all_close(run(ours, gradients, tree(0)), run(theirs, gradients, tree(0)), rtol=1e-12)


def test_without_momentum_the_state_holds_no_trace():
    params = tree(0)
    leaves = {m: len(jax.tree.leaves(rmsprop(0.1, momentum=m).init(params))) for m in (None, 0.0)}
    assert leaves == {None: 3, 0.0: 6}
    assert len(jax.tree.leaves(rmsprop(0.1, centered=True).init(params))) == 6


TRANSFORMS = {
    "rmsprop": lambda x: rmsprop(x, x, x, x, nesterov=True),
    "centered": lambda x: rmsprop(x, x, x, x, centered=True),
    "outside": lambda x: rmsprop(x, x, x, eps_position="outside"),
    "clipped": lambda x: clip_by_global_norm(x),
    "schedule": lambda x: rmsprop(lambda step: x / (step + 1.0)),
    "coupled": lambda x: optax.chain(add_l1(x), add_l2(x)),
    "decoupled": lambda x: optax.chain(scale_by_rms(x, x), add_decoupled_l2(x), scale_by_learning_rate(x)),
    "proximal": lambda x: optax.chain(add_l2(x), proximal_l1(x, x)),
    "proximal rmsprop": lambda x: proximal_l1(x, x, x, x, centered=True),
}


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_traced_numbers_keep_the_dtypes(x64, name, dtype):
    """A float64 number does not widen float32 updates, nor a float32 one bfloat16 updates; states are stable."""
    params = tree(0, dtype)

    def step(number, g, params):
        transform = TRANSFORMS[name](number)
        before = transform.init(params)
        updates, after = transform.update(g, before, params)
        return updates, before, after

    updates, before, after = jax.eval_shape(step, jnp.float64(0.1), tree(1, dtype), params)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(before, after)
    wide = jnp.promote_types(dtype, jnp.float32)
    assert {x.dtype for x in jax.tree.leaves(after) if jnp.issubdtype(x.dtype, jnp.floating)} <= {wide}


def test_half_precision_follows_float32():
    """The mean square is float32 or wider: in bfloat16 0.1 % of it would be rounded away, in float16 ε be 0."""
    update = {}
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        transform, g = scale_by_rms(0.999), jnp.full((), 1e-3, dtype)
        state = transform.init(g)
        _, updates = jax.lax.scan(lambda s, _: transform.update(g, s)[::-1], state, length=500)  # noqa: B023
        update[dtype] = np.float32(updates[-1])
    np.testing.assert_allclose(update[jnp.float32], 1e-3 / np.sqrt((1 - 0.999**500) * 1e-6 + 1e-8), rtol=1e-4)
    np.testing.assert_allclose(update[jnp.bfloat16], update[jnp.float32], rtol=1e-2)
    np.testing.assert_allclose(update[jnp.float16], update[jnp.float32], rtol=2e-3)


@pytest.mark.parametrize("family", ["coupled", "decoupled", "proximal"])
def test_vmap_over_traced_numbers_equals_a_loop(x64, family):
    """Each trial's numbers are as if it were alone, with concrete numbers."""
    rows = jnp.asarray([[0.1, 1e-3, 0.9, 1e-8], [0.01, 0.1, 0.5, 1e-4], [0.3, 0.0, 0.99, 0.0]])
    gradients = stack([tree(seed) for seed in range(1, 9)])

    def train(eta, strength, decay, eps):
        transform = {
            "coupled": lambda: optax.chain(add_l2(strength), rmsprop(eta, decay, eps)),
            "decoupled": lambda: optax.chain(
                scale_by_rms(decay, eps), add_decoupled_l2(strength), scale_by_learning_rate(eta)
            ),
            "proximal": lambda: optax.chain(add_l2(strength), proximal_l1(eta, strength, decay, eps)),
        }[family]()
        return run(transform, gradients, tree(0))

    mapped = jax.jit(jax.vmap(train))(*rows.T)
    alone = [train(*(float(x) for x in row)) for row in rows]
    chex.assert_trees_all_close(mapped, stack(alone), rtol=1e-12)


BAD = [
    ("learning_rate", -0.1, lambda x: rmsprop(x)),
    ("learning_rate", float("nan"), lambda x: scale_by_learning_rate(x)),
    ("learning_rate", float("inf"), lambda x: proximal_l1(x, 0.1)),
    ("decay", 1, lambda x: rmsprop(0.1, x)),
    ("decay", -0.1, lambda x: scale_by_rms(x)),
    ("decay", np.float32("nan"), lambda x: scale_by_rms(x)),
    ("decay", 1.5, lambda x: proximal_l1(0.1, 0.1, x)),
    ("eps", -1e-8, lambda x: scale_by_rms(0.9, x)),
    ("eps", np.float64(-1), lambda x: proximal_l1(0.1, 0.1, 0.9, x)),
    ("momentum", 1.0, lambda x: rmsprop(0.1, momentum=x)),
    ("strength", -1.0, lambda x: add_l1(x)),
    ("strength", float("nan"), lambda x: add_l2(x)),
    ("strength", -1, lambda x: add_decoupled_l2(x)),
    ("strength", -1.0, lambda x: proximal_l1(0.1, x)),
    ("nesterov", True, lambda x: rmsprop(0.1, nesterov=x)),
    ("centered", True, lambda x: proximal_l1(0.1, 0.1, centered=x)),
]


@pytest.mark.parametrize(
    ("field", "value", "build"), BAD, ids=[f"{f}-{v}-{i}" for i, (f, v, _) in enumerate(BAD)]
)
def test_numbers_out_of_range_are_refused(field, value, build):
    with pytest.raises(InputError, match=rf"^{field} = .*: give a") as caught:
        build(value)
    assert caught.value.field == field
    assert repr(value) in str(caught.value)


def test_numbers_at_the_ends_of_their_ranges_are_accepted():
    still = optax.chain(add_l1(0), add_l2(0.0), rmsprop(0.0, 0.0, 0.0, 0.0))
    params = {"kernel": jnp.ones((2, 2))}
    updates, _ = still.update(params, still.init(params), params)
    np.testing.assert_array_equal(updates["kernel"], np.zeros((2, 2)))


def test_import_needs_jax_and_optax_alone():
    code = (
        "import jaxlab.transforms, sys; print(*{'flax', 'xarray', 'matplotlib', 'chex'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
