"""Dropout with a traced rate, activations, and initial values."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from test_models import build, jit

from jaxlab.models import ACTIVATIONS, CNN, INITIALIZERS, MLP, BatchNorm, Dropout, has_flat_zero
from jaxlab.models.initializers import bias_initializer, kernel_initializer

X = jnp.asarray(np.random.default_rng(0).normal(size=(40, 50)), jnp.float32)


def dropped(rate, x=X, seed=0, calls=1):
    layer = Dropout(rate, rngs=nnx.Rngs(dropout=jax.random.key(seed)))
    return [layer(x) for _ in range(calls)][-1]


traced_dropped = jax.jit(dropped)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_dropout_draws_what_flax_draws_whether_its_rate_is_traced_or_not(rate):
    flax_layer = nnx.Dropout(rate, rngs=nnx.Rngs(dropout=jax.random.key(0)))
    expected = flax_layer(X)
    np.testing.assert_allclose(dropped(rate), expected, rtol=1e-6)
    np.testing.assert_allclose(traced_dropped(rate), expected, rtol=1e-6)
    np.testing.assert_allclose(dropped(rate, calls=2), flax_layer(X), rtol=1e-6)


def test_dropout_at_rate_0_is_the_identity_and_at_rate_1_zero():
    def value_and_slopes(rate):
        value, slope = jax.jvp(lambda x: dropped(rate, x), (X,), (jnp.ones_like(X),))
        return value, slope, jax.grad(lambda x: jnp.sum(dropped(rate, x) ** 2))(X)

    value, slope, gradient = jax.jit(jax.vmap(value_and_slopes))(jnp.array([0.0, 1.0]))
    np.testing.assert_array_equal(value[0], X)
    np.testing.assert_array_equal(slope[0], 1)
    np.testing.assert_array_equal(gradient[0], 2 * X)
    for zero in (value[1], slope[1], gradient[1]):
        np.testing.assert_array_equal(zero, 0)


def test_dropout_keeps_the_mean_and_a_higher_rate_drops_a_superset():
    rates = jnp.array([0.2, 0.5, 0.8])
    y = jax.vmap(lambda rate: dropped(rate, jnp.ones((200, 200))))(rates)
    np.testing.assert_allclose((y == 0).mean((1, 2)), rates, atol=0.01)
    np.testing.assert_allclose(y.mean((1, 2)), 1, atol=0.03)
    np.testing.assert_allclose(y.max((1, 2)), 1 / (1 - rates), rtol=1e-6)
    assert ((y[0] == 0) <= (y[1] == 0)).all()
    assert ((y[1] == 0) <= (y[2] == 0)).all()


def test_dropout_follows_train_and_eval_and_counts_its_draws():
    layer = Dropout(0.5, rngs=nnx.Rngs(jax.random.key(0)))
    first, second = layer(X), layer(X)
    assert (first != second).any()
    assert layer.rngs.count[...] == 2
    layer.eval()
    np.testing.assert_array_equal(layer(X), X)
    viewed = nnx.view(layer, deterministic=False)
    assert layer.rngs.count[...] == 2
    assert (viewed(X) != X).any()
    layer.train()
    assert (layer(X) != X).any()
    assert nnx.view(layer, deterministic=True).deterministic
    assert not layer.deterministic


def test_a_rate_is_state_and_no_parameter():
    layer = Dropout(0.5, rngs=nnx.Rngs(jax.random.key(0)))
    assert not jax.tree.leaves(nnx.state(layer, nnx.Param))
    assert nnx.graphdef(layer) == nnx.graphdef(Dropout(0.1, rngs=nnx.Rngs(jax.random.key(3))))


@pytest.mark.parametrize("kind", [CNN, MLP])
def test_dropout_follows_every_hidden_layer_and_leaves_the_activations_whole(kind):
    options = {"activation": lambda z: jnp.ones_like(z), "features": (2, 2)}
    model = build(kind, (4, 4, 1), 1, dropout_rate=0.0, **options)
    model.dropout.rate[...] = jnp.float32(1)
    seen = []
    for i in range(2):
        block = (model.conv if kind is CNN else model.dense)[i]
        block.layer = Spy(block.layer, seen)
    outputs, activations = model(jnp.ones((2, 4, 4, 1)))
    assert [float(jnp.abs(z).max()) for z in seen] == [1, 0]
    assert all((value == 1).all() for value in activations.values())
    output = model.head.output if kind is CNN else model.output
    np.testing.assert_array_equal(outputs, jnp.broadcast_to(output.bias[...], outputs.shape))


class Spy(nnx.Module):
    """Notes what a layer is given."""

    def __init__(self, layer, seen):
        self.layer, self.note = layer, seen.append

    def __call__(self, x):
        self.note(x)
        return self.layer(x)


def exact(name, x):
    return {
        "relu": np.maximum(x, 0),
        "relu6": np.clip(x, 0, 6),
        "leaky_relu": np.where(x > 0, x, 0.01 * x),
        "elu": np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
        "gelu": x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        "silu": x / (1 + np.exp(-x)),
        "softplus": np.log1p(np.exp(x)),
        "tanh": np.tanh(x),
        "sigmoid": 1 / (1 + np.exp(-x)),
        "identity": x,
    }[name]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_equal_their_formulas(name, x64):
    x = np.linspace(-8, 8, 41)
    np.testing.assert_allclose(ACTIVATIONS[name](jnp.asarray(x)), exact(name, x), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_flat_zero_is_where_value_and_gradient_are_zero(name, x64):
    x = jnp.linspace(-8.0, -0.1, 20)
    function = ACTIVATIONS[name]
    flat = not function(x).any() and not jax.vmap(jax.grad(function))(x).any()
    assert has_flat_zero(name) == has_flat_zero(function) == flat


def test_unknown_functions_have_no_flat_zero_and_relu_has_no_slope_at_zero():
    assert not has_flat_zero(lambda z: z)
    assert jax.grad(ACTIVATIONS["relu"])(0.0) == 0


DEVIATION = {  # of a 3×3 convolution from 8 to 16 channels: fan_in 72, fan_out 144
    "lecun_normal": (1 / 72) ** 0.5,
    "lecun_uniform": (1 / 72) ** 0.5,
    "he_normal": (2 / 72) ** 0.5,
    "he_uniform": (2 / 72) ** 0.5,
    "glorot_normal": (2 / 216) ** 0.5,
    "glorot_uniform": (2 / 216) ** 0.5,
    "orthogonal": 1 / 72**0.5,
    "uniform_fan_in": (1 / 72 / 3) ** 0.5,
    "zeros": 0,
    None: (1 / 72) ** 0.5,
}


@pytest.mark.parametrize("name", DEVIATION)
def test_kernels_have_the_deviation_of_their_name(name):
    assert set(DEVIATION) - {None} == set(INITIALIZERS)
    kernel = jit(lambda key: kernel_initializer(name, 2.0)(key, (3, 3, 8, 16), jnp.float32))(
        jax.random.key(0)
    )
    np.testing.assert_allclose(kernel.std(), 2 * DEVIATION[name], rtol=0.05)
    np.testing.assert_allclose(kernel.mean(), 0, atol=0.01)


FAN_IN = {
    CNN: {("conv", 0): 3 * 3 * 4, ("head", "output"): 8 * 8 * 64},
    MLP: {("dense", 0): 8 * 8 * 4, ("output",): 64},
}


@pytest.mark.parametrize("kind", FAN_IN)
def test_uniform_fan_in_bounds_kernels_and_biases_of_each_layer(kind):
    names = {"kernel_init": "uniform_fan_in", "bias_init": "uniform_fan_in", "features": (64,)}
    options = {"pool_sizes": 1} if kind is CNN else {}
    model = build(kind, (8, 8, 4), 64, **names, **options)
    flat = {path: leaf[...] for path, leaf in nnx.to_flat_state(nnx.state(model, nnx.Param))}
    for layer, n in FAN_IN[kind].items():
        for path in (path for path in flat if path[: len(layer)] == layer):
            bound = 1 / n**0.5
            assert 0.9 * bound < jnp.abs(flat[path]).max() <= bound
            np.testing.assert_allclose(flat[path].std(), bound / 3**0.5, rtol=0.2)


def test_biases_are_zero_a_number_or_what_an_initializer_draws():
    def bias(given):
        model = MLP((4,), 2, features=(3,), bias_init=given, rngs=nnx.Rngs(0))
        return jnp.concatenate([model.dense[0].layer.bias[...], model.output.bias[...]])

    np.testing.assert_array_equal(jit(lambda: bias(None))(), 0)
    np.testing.assert_array_equal(jit(bias)(0.25), 0.25)
    np.testing.assert_array_equal(jit(lambda: bias(0.5))(), 0.5)
    np.testing.assert_array_equal(jit(lambda: bias(jax.nn.initializers.ones))(), 1)
    assert bias_initializer("zeros")(5) is jax.nn.initializers.zeros


MEANS_AND_SPREADS = [(mean, spread) for mean in (0, 1e3, 1e5) for spread in (1e-3, 1, 1e3)]


def far_from_zero(mean, spread, shape, seed=0):
    """float32 numbers: what they round to is given, and no error of the layer."""
    return np.float32(mean + spread * np.random.default_rng(seed).normal(size=shape))


def normalising(x, state=None):
    """y and the state after ``BatchNorm`` was given x, as a pure function."""
    layer = BatchNorm(x.shape[-1], dtype=jnp.float32, param_dtype=jnp.float32, rngs=nnx.Rngs(0))
    graph, start = nnx.split(layer)
    layer = nnx.merge(graph, start if state is None else state, copy=True)
    return layer(x), nnx.state(layer)


@pytest.mark.parametrize(("mean", "spread"), MEANS_AND_SPREADS)
@pytest.mark.parametrize("shape", [(64, 3), (32, 14, 14, 3)])
def test_batch_normalisation_and_its_gradient_are_exact_however_far_from_zero(shape, mean, spread):
    x, g = far_from_zero(mean, spread, shape), np.float32(far_from_zero(0, 1, shape, seed=1))
    y, pull, _ = jax.vjp(normalising, x, has_aux=True)
    axes = tuple(range(x.ndim - 1))
    centred = np.float64(x) - np.float64(x).mean(axes)
    scale = 1 / np.sqrt(np.square(centred).mean(axes) + 1e-5)
    exact = centred * scale
    np.testing.assert_allclose(y, exact, rtol=1e-5, atol=1e-6)
    slope = scale * (g - g.mean(axes, dtype=np.float64) - exact * (g * exact).mean(axes))
    np.testing.assert_allclose(pull(g)[0], slope, rtol=1e-4, atol=1e-5 * scale.max())


@pytest.mark.parametrize(("mean", "spread"), MEANS_AND_SPREADS)
@pytest.mark.parametrize("batches", [1, 7])
def test_running_statistics_are_exact_however_far_from_zero(batches, mean, spread):
    """Also where each step is less than a digit of the mean, as with one batch again and again."""
    x = jnp.asarray(far_from_zero(mean, spread, (batches, 16, 2)))
    steps = np.arange(1500) % batches
    state = jax.jit(
        lambda: jax.lax.scan(lambda s, i: (normalising(x[i], s)[1], None), state_of(x), steps)[0]
    )()
    running_mean, running_var = np.zeros(2), np.ones(2)
    for i in steps:
        exact = np.float64(x[i])
        running_mean += 0.01 * (exact.mean(0) - running_mean)
        running_var += 0.01 * (exact.var(0) - running_var)
    found = np.float64(state["mean"][...]) + np.float64(state["mean_rest"][...])
    np.testing.assert_allclose(found, running_mean, rtol=1e-9, atol=1e-5 * spread)
    np.testing.assert_allclose(state["var"][...], running_var, rtol=1e-4)
    layer = BatchNorm(2, dtype=jnp.float32, param_dtype=jnp.float32, rngs=nnx.Rngs(0))
    nnx.update(layer, state)
    layer.eval()
    expected = (np.float64(x[0]) - running_mean) / np.sqrt(running_var + 1e-5)
    np.testing.assert_allclose(layer(x[0]), expected, rtol=1e-4, atol=1e-4)


def state_of(x):
    return nnx.state(BatchNorm(x.shape[-1], dtype=jnp.float32, param_dtype=jnp.float32, rngs=nnx.Rngs(0)))


def test_batch_normalisation_of_a_constant_is_zero_with_finite_gradients():
    x = jnp.full((8, 3), 1e5)
    y, pull, state = jax.vjp(normalising, x, has_aux=True)
    np.testing.assert_array_equal(y, 0)
    np.testing.assert_allclose(state["var"][...], 0.99, rtol=1e-6)
    assert jnp.isfinite(pull(jnp.ones_like(x))[0]).all()
