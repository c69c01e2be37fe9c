"""What a network is: its activations, its initial weights, its state, and one trial under every transformation."""

import gzip
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxlab.models import CNN, MLP, Rate

IMAGE = (6, 4, 2)
FULL = {"features": (3,), "dense": (5,), "batch_norm": True, "bias_init": "uniform_fan_in"}
FASHION = Path("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")


def rngs(seed=0):
    return nnx.Rngs(jax.random.key(seed))


def jit(function):
    """Compiled in a hurry: these programs run once. Not for gradients of max pooling: at this level XLA may compute
    its input anew for them, to other last bits, so that no element equals the maximum."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def build(kind, *args, seed=0, **options):
    """A model, its weights drawn in one compiled call."""

    def make():
        return kind(*args, **options, rngs=rngs(seed))

    graphdef = nnx.graphdef(nnx.eval_shape(make))
    return nnx.merge(graphdef, jit(lambda: nnx.state(make()))())


def call(model, x):
    """``model(x)`` in one compiled call, with what it does to the model's state."""
    graphdef, state = nnx.split(model)

    def forward(state, x):
        model = nnx.merge(graphdef, state)
        return model(x), nnx.state(model)

    result, state = jit(forward)(state, x)
    nnx.update(model, state)
    return result


def batch(shape, size=6, seed=1):
    return np.random.default_rng(seed).normal(size=(size, *shape))


def test_an_activation_follows_every_layer_but_the_output():
    model = build(CNN, IMAGE, 3, **FULL, activation=lambda z: jnp.full_like(z, 7))
    outputs, activations = call(model, batch(IMAGE))
    assert list(activations) == ["conv_0", "dense_0"]
    assert all((value == 7).all() for value in activations.values())
    kernel, bias = model.head.output.kernel[...], model.head.output.bias[...]
    np.testing.assert_allclose(outputs[0], 7 * kernel.sum(0) + bias, rtol=1e-5)


@pytest.mark.parametrize(
    ("activation", "pooling", "affine"),
    [("identity", "average", True), ("identity", "max", False), ("relu", "average", False)],
)
def test_without_activations_and_max_pooling_the_network_is_affine(activation, pooling, affine):
    options = {"features": (8, 8), "dense": (16,), "bias_init": "uniform_fan_in"}
    model = build(CNN, IMAGE, 3, **options, activation=activation, pooling=pooling)
    x, y = batch(IMAGE), batch(IMAGE, seed=2)
    f = np.split(call(model, np.float32(np.concatenate([x, y, x + y, 0 * x])))[0], 4)
    gap = np.abs(f[0] + f[1] - f[2] - f[3]).max()
    assert (gap < 1e-5) == affine
    assert affine or gap > 1e-2


def test_init_scale_multiplies_kernels_and_nothing_else():
    def state(scale):
        return nnx.state(CNN(IMAGE, 3, **FULL, init_scale=scale, rngs=rngs()))

    one = dict(nnx.to_flat_state(jit(lambda: state(1.0))()))
    for scaled in (jit(state)(3.0), jit(lambda: state(3.0))()):
        for path, leaf in nnx.to_flat_state(scaled):
            factor = 3 if path[-1] == "kernel" else 1
            np.testing.assert_allclose(leaf[...], factor * one[path][...], rtol=1e-6)


def kernels(model):
    flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
    return {path: np.asarray(leaf[...]) for path, leaf in flat if path[-1] == "kernel"}


def test_initial_kernels_do_not_hang_on_other_options():
    options = {"features": (3, 4), "dense": (5,)}
    plain = kernels(build(CNN, IMAGE, 3, **options))
    for other in ({"batch_norm": True}, {"dropout_rate": 0.5}, {"bias_init": "uniform_fan_in"}):
        changed = kernels(build(CNN, IMAGE, 3, **options, **other))
        assert plain.keys() == changed.keys()
        for path, kernel in plain.items():
            np.testing.assert_array_equal(changed[path], kernel)


def test_layers_and_seeds_draw_different_kernels():
    options = {"features": (4, 4), "pool_sizes": 1, "dense": (16, 16)}
    one, two = (kernels(build(CNN, (2, 2, 4), 16, **options, seed=seed)) for seed in (0, 1))
    assert len({kernel.shape for kernel in one.values()}) == 2
    for a, b in itertools.combinations([*one.values(), *two.values()], 2):
        assert a.shape != b.shape or not np.allclose(a, b)


def traced_graphdef(seed=0, scale=1.0, rate=0.1, **options):
    """The graphdef as it is seen by a function that traces its numbers."""
    seen = []

    def build(seed, scale, rate):
        model = CNN(IMAGE, 3, **(FULL | options), init_scale=scale, dropout_rate=rate, rngs=rngs(seed))
        seen.append(nnx.graphdef(model))
        return nnx.state(model)

    with jax.checking_leaks():
        state = jax.eval_shape(build, seed, scale, rate)
    return seen[0], state


def test_graphdef_is_the_configuration_and_holds_no_number():
    model = nnx.eval_shape(lambda: CNN(IMAGE, 3, **FULL, init_scale=2.0, dropout_rate=0.3, rngs=rngs(5)))
    graphdef, state = traced_graphdef()
    assert graphdef == nnx.graphdef(model)
    assert hash(graphdef) == hash(nnx.graphdef(model))
    assert jax.tree.structure(state) == jax.tree.structure(nnx.state(model))
    assert not jax.tree.leaves(graphdef)
    assert graphdef != traced_graphdef(activation="elu")[0]
    assert graphdef != traced_graphdef(pooling="average")[0]


def test_flax_eval_shape_builds_an_abstract_model():
    model = nnx.eval_shape(lambda rate: CNN(IMAGE, 3, dropout_rate=rate, rngs=rngs()), 0.1)
    shapes = {path: leaf.shape for path, leaf in nnx.to_flat_state(nnx.state(model))}
    assert shapes["conv", 0, "layer", "kernel"] == (3, 3, 2, 16)
    assert shapes["dropout", "rate"] == ()


def make(seed, scale, rate):
    return CNN(IMAGE, 3, **FULL, pooling="average", init_scale=scale, dropout_rate=rate, rngs=rngs(seed))


def train(seed, scale, rate, steps=3):
    """A few steps of gradient descent on one trial, its whole state carried by scan."""
    graphdef, params, rest = nnx.split(make(seed, scale, rate), nnx.Param, ...)
    x, y = jnp.asarray(batch(IMAGE), jnp.float32), jnp.arange(6.0)[:, None]

    def loss(params, rest):
        model = nnx.merge(graphdef, params, rest, copy=True)  # grad leaves rest at the outer trace's level
        model.train()
        outputs, _ = model(x)
        return jnp.mean((outputs - y) ** 2), nnx.state(model, nnx.Not(nnx.Param))

    def step(carry, _):
        params, rest = carry
        (value, rest), grads = jax.value_and_grad(loss, has_aux=True)(params, rest)
        return (jax.tree.map(lambda w, g: w - 0.1 * g, params, grads), rest), value

    (params, rest), losses = jax.lax.scan(step, (params, rest), length=steps)
    model = nnx.merge(graphdef, params, rest)
    model.eval()
    return params, rest, losses, model(x)[0]


trained = jit(train)


def test_trials_side_by_side_equal_trials_one_by_one():
    trials = [(0, 1.0, 0.0), (1, 0.5, 0.3), (2, 2.0, 0.6)]
    together = jit(jax.vmap(train))(*(jnp.asarray(column) for column in zip(*trials, strict=True)))
    for i, trial in enumerate(trials):
        alone = trained(*trial)
        for one, all_ in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
            if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
                assert one == all_[i]
            else:
                np.testing.assert_allclose(all_[i], one, rtol=2e-4, atol=1e-5)
    assert (together[2][:, -1] < together[2][:, 0]).all()


def test_a_step_carries_counters_and_statistics_and_keeps_the_rate():
    before = dict(
        nnx.to_flat_state(jax.eval_shape(lambda: nnx.state(make(0, 1.0, 0.25), nnx.Not(nnx.Param))))
    )
    after = dict(nnx.to_flat_state(trained(0, 1.0, 0.25)[1]))
    assert before.keys() == after.keys()
    assert after["dropout", "rngs", "count"][...] == 3 * len(FULL["features"])
    assert after["head", "dropout", "rngs", "count"][...] == 3 * len(FULL["dense"])
    for path, leaf in after.items():
        assert (leaf.shape, leaf.dtype) == (before[path].shape, before[path].dtype)
        if path[-1] in ("mean", "var"):
            assert (leaf[...] != (path[-1] == "var")).all()
        if path[-1] == "rate":
            assert isinstance(leaf, Rate)
            assert leaf[...] == 0.25


def test_batch_statistics_move_in_training_and_serve_in_evaluation(x64):
    model = build(MLP, (4,), 2, features=(3,), batch_norm=True, activation="identity")
    x = batch((4,), 50)
    z = x @ np.asarray(model.dense[0].layer.kernel[...])
    call(model, x)
    norm = model.dense[0].norm
    mean, var = 0.01 * z.mean(0), 0.99 + 0.01 * z.var(0)
    np.testing.assert_allclose(norm.mean[...], mean, rtol=1e-11)
    np.testing.assert_allclose(norm.var[...], var, rtol=1e-11)
    assert norm.mean[...].dtype == jnp.float64
    model.eval()
    np.testing.assert_allclose(call(model, x)[1]["dense_0"], (z - mean) / np.sqrt(var + 1e-5), rtol=1e-11)
    np.testing.assert_allclose(norm.mean[...], mean, rtol=1e-11)


def test_narrow_dtype_computes_narrow_and_stores_wide():
    model = build(CNN, IMAGE, 3, **FULL, dtype="bfloat16", dropout_rate=0.1)
    stored = [leaf.dtype for leaf in jax.tree.leaves(nnx.state(model, (nnx.Param, nnx.BatchStat)))]
    outputs, activations = call(model, np.float32(batch(IMAGE)))
    assert {value.dtype for value in (outputs, *activations.values())} == {jnp.dtype("bfloat16")}
    after = [leaf.dtype for leaf in jax.tree.leaves(nnx.state(model, (nnx.Param, nnx.BatchStat)))]
    assert stored == after == [jnp.dtype("float32")] * len(stored)


def test_uint8_images_go_in_as_they_are():
    model, x = build(CNN, IMAGE, 3), np.random.default_rng(0).integers(0, 256, (4, *IMAGE), np.uint8)
    np.testing.assert_allclose(call(model, x)[0], call(model, np.float32(x))[0], rtol=1e-6)


@pytest.mark.skipif(not FASHION.exists(), reason="Fashion-MNIST is not on this machine")
def test_dead_share_at_initialisation_is_the_published_one():
    """UvA deep learning tutorial 3: ReLU, PyTorch's initialisation, whole training set scaled to [−1, 1]."""
    published = np.array([0, 0.39, 0.39, 7.4, 29.3, 41.4, 55.5, 44.5, 50.0, 53.9])
    with gzip.open(FASHION) as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28, 1)
    x, names = (
        images.astype(np.float32) / 127.5 - 1,
        {"kernel_init": "uniform_fan_in", "bias_init": "uniform_fan_in"},
    )

    @jit
    def dead(seed, x):
        model = MLP((28, 28, 1), 10, features=(256,) * 5 + (128,) * 5, **names, rngs=rngs(seed))
        return jnp.stack([jnp.mean((value == 0).all(0)) for value in model(x)[1].values()])

    percent = 100 * np.mean([dead(seed, x) for seed in range(3)], axis=0)
    np.testing.assert_allclose(percent[:4], published[:4], atol=3)
    np.testing.assert_allclose(percent[4:], published[4:], atol=10)
