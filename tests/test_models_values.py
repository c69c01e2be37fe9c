"""Networks equal a NumPy reimplementation in float64: outputs and every activation."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from test_models import batch, build, call

from jaxlab.models import CNN, MLP, use_fast_convolutions


def windows(x, kernel, strides, padding):
    """(B, *spatial, C) → (B, *positions, *kernel, C)."""
    axes = tuple(range(1, x.ndim - 1))
    if padding == "SAME":
        totals = [
            max((-(-n // s) - 1) * s + k - n, 0)
            for n, k, s in zip(x.shape[1:], kernel, strides, strict=False)
        ]
        padding = [(t // 2, t - t // 2) for t in totals]
    elif padding == "VALID":
        padding = [(0, 0)] * len(axes)
    x = np.pad(x, [(0, 0), *padding, (0, 0)])
    view = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=axes)
    view = np.moveaxis(view, len(axes) + 1, -1)
    return view[(slice(None), *(slice(None, None, s) for s in strides))]


def block_oracle(block, z, function):
    """Batch normalisation from the batch where the block has one, then the activation."""
    if block.norm is not None:
        axes = tuple(range(z.ndim - 1))
        z = (z - z.mean(axes)) / np.sqrt(z.var(axes) + 1e-5)
        z = z * np.asarray(block.norm.scale[...]) + np.asarray(block.norm.bias[...])
    return function(z)


def mlp_oracle(model, x, function):
    x, activations = x.reshape(len(x), -1), {}
    for i, block in enumerate(model.dense):
        z = x @ np.asarray(block.layer.kernel[...]) + np.asarray(block.layer.bias[...])
        x = activations[f"dense_{i}"] = block_oracle(block, z, function)
    return x @ np.asarray(model.output.kernel[...]) + np.asarray(model.output.bias[...]), activations


def cnn_oracle(model, x, function, geometry, reduce):
    activations, axes = {}, x.ndim - 2
    for i, (block, (strides, padding, pool)) in enumerate(zip(model.conv, geometry, strict=True)):
        kernel = np.asarray(block.layer.kernel[...])
        z = np.tensordot(windows(x, kernel.shape[:-2], strides, padding), kernel, axes + 1)
        z = z + np.asarray(block.layer.bias[...])
        x = activations[f"conv_{i}"] = block_oracle(block, z, function)
        x = reduce(windows(x, pool, pool, "VALID"), axis=tuple(range(axes + 1, 2 * axes + 1)))
    outputs, dense = mlp_oracle(model.head, x, function)
    return outputs, activations | dense


CASES = {
    "defaults, 2-D": ((8, 8, 1), {}, [((1, 1), "SAME", (2, 2))] * 2),
    "defaults, 2-D, average": ((8, 8, 1), {}, [((1, 1), "SAME", (2, 2))] * 2),
    "1-D, dense": (
        (11, 2),
        {"dense": (7, 5), "pool_sizes": [3, 1]},
        [((1,), "SAME", (3,)), ((1,), "SAME", (1,))],
    ),
    "per layer": (
        (13, 10, 2),
        {
            "kernel_sizes": [(5, 3), 2],
            "strides": [1, (2, 1)],
            "padding": ["VALID", 1],
            "pool_sizes": [(1, 2), 1],
        },
        [((1, 1), "VALID", (1, 2)), ((2, 1), [(1, 1), (1, 1)], (1, 1))],
    ),
    "strided, uneven padding": (
        (9, 9, 1),
        {"strides": 2, "padding": ["same", ((2, 0), 1)], "pool_sizes": 1, "batch_norm": True},
        [((2, 2), "SAME", (1, 1)), ((2, 2), [(2, 0), (1, 1)], (1, 1))],
    ),
}


@pytest.mark.parametrize(
    ("case", "pooling"), [(case, "average" if i % 2 else "max") for i, case in enumerate(CASES)]
)
def test_cnn_equals_a_numpy_reimplementation(case, pooling, x64):
    shape, options, geometry = CASES[case]
    options = {"features": (3, 4), "bias_init": "uniform_fan_in", "activation": "tanh"} | options
    model, x = build(CNN, shape, 3, **options, pooling=pooling), batch(shape)
    outputs, activations = call(model, x)
    reduce = {"max": np.max, "average": np.mean}[pooling]
    expected, expected_activations = cnn_oracle(model, x, np.tanh, geometry, reduce)
    np.testing.assert_allclose(outputs, expected, rtol=1e-11, atol=1e-12)
    assert list(activations) == list(expected_activations)
    for name, value in activations.items():
        np.testing.assert_allclose(value, expected_activations[name], rtol=1e-11, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("features", [(), (7,), (7, 5)])
def test_mlp_equals_a_numpy_reimplementation(features, batch_norm, x64):
    options = {"bias_init": "uniform_fan_in", "activation": "relu"}
    model, x = build(MLP, (5, 3), 2, features=features, batch_norm=batch_norm, **options), batch((5, 3))
    outputs, activations = call(model, x)
    expected, expected_activations = mlp_oracle(model, x, lambda z: z * (z > 0))
    np.testing.assert_allclose(outputs, expected, rtol=1e-11, atol=1e-12)
    assert list(activations) == list(expected_activations)
    for name, value in activations.items():
        np.testing.assert_allclose(value, expected_activations[name], rtol=1e-11, atol=1e-12)


def seen(kind, x, dtype, lowering="auto"):
    """Activations in training and in evaluation, and the gradient, of one batch-normalised network in some dtype."""

    def drawn(key, shape, dtype):
        return jax.nn.initializers.lecun_normal()(key, shape, jnp.float32).astype(dtype)

    options = {
        "features": (5, 4),
        "activation": "tanh",
        "batch_norm": True,
        "kernel_init": drawn,
        "dtype": dtype,
    }
    model = use_fast_convolutions(kind(x.shape[1:], 2, rngs=nnx.Rngs(0), **options), lowering)
    graph, parameters, rest = nnx.split(model, nnx.Param, ...)

    def loss(parameters, rest):
        model = nnx.merge(graph, parameters, rest, copy=True)
        outputs, activations = model(x)
        return jnp.sum(outputs**2), (activations, nnx.state(model, nnx.filterlib.Not(nnx.Param)))

    @jax.jit
    def trained(parameters, rest):
        rest = jax.lax.fori_loop(0, 500, lambda _, rest: loss(parameters, rest)[1][1], rest)
        gradient, (activations, rest) = jax.grad(loss, has_aux=True)(parameters, rest)
        model = nnx.merge(graph, parameters, rest, copy=True)
        model.eval()
        return activations, model(x)[1], nnx.to_pure_dict(gradient)

    return jax.tree.map(np.asarray, trained(parameters, rest))


@pytest.mark.parametrize(
    ("kind", "shape", "lowering"),
    [(MLP, (6,), "auto"), (CNN, (8, 8, 2), "auto"), (CNN, (8, 8, 2), "product")],
    ids=["MLP", "CNN, examples last", "CNN, channels last"],
)
def test_batch_normalised_networks_equal_float64_ones_far_from_zero(kind, shape, lowering):
    """What is left is the rounding of the first layer's products, which are as large as its inputs."""
    x = np.float32(1e3 + batch(shape, 32))
    found = seen(kind, x, "float32", lowering)
    with jax.enable_x64(True):
        exact = seen(kind, x.astype(np.float64), "float64", lowering)
    for a, b in zip(found, exact, strict=True):
        scale = max(
            np.abs(leaf).max() for leaf in jax.tree.leaves(b)
        )  # a bias before the mean has gradient 0
        jax.tree.map(partial(np.testing.assert_allclose, atol=5e-4 * scale), a, b)
