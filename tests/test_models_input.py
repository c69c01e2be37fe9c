"""Which networks can be built: bad input is an error that names the field, the value and the remedy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlab.errors import InputError
from jaxlab.models import CNN, MLP, Dropout, activations, initializers
from jaxlab.models.sizes import integers


def cnn(input_shape=(8, 8, 1), outputs=3, **options):
    return jax.eval_shape(lambda: nnx.state(CNN(input_shape, outputs, **options, rngs=nnx.Rngs(0))))


def mlp(input_shape=(8, 8, 1), outputs=3, **options):
    return jax.eval_shape(lambda: nnx.state(MLP(input_shape, outputs, **options, rngs=nnx.Rngs(0))))


@pytest.mark.parametrize("build", [cnn, mlp])
@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        ({"activation": "rleu"}, "activation", ["'rleu'", "did you mean 'relu'?", "tanh"]),
        ({"kernel_init": "He_Normal"}, "kernel_init", ["did you mean 'he_normal'?", "uniform_fan_in"]),
        ({"bias_init": "he_normal"}, "bias_init", ["one of zeros, uniform_fan_in"]),
        ({"bias_init": np.zeros(3)}, "bias_init", ["number"]),
        ({"init_scale": -1.0}, "init_scale", ["-1.0", ">= 0"]),
        ({"init_scale": np.nan}, "init_scale", ["nan", ">= 0"]),
        ({"init_scale": np.inf}, "init_scale", ["inf", ">= 0"]),
        ({"init_scale": np.ones(2)}, "init_scale", ["one number", "vmap"]),
        ({"dropout_rate": 1.0}, "dropout_rate", ["1.0", "[0, 1)"]),
        ({"dropout_rate": -0.1}, "dropout_rate", ["-0.1", "[0, 1)"]),
        ({"dtype": "int8"}, "dtype", ["'int8'", "floating"]),
        ({"dtype": "float23"}, "dtype", ["'float23'", "floating"]),
        ({"outputs": 0}, "outputs", ["0", ">= 1"]),
        ({"outputs": True}, "outputs", ["True", ">= 1"]),
        ({"features": (4, -1)}, "features[1]", ["-1", ">= 1"]),
        ({"input_shape": (8, 0, 1)}, "input_shape[1]", ["0", ">= 1"]),
    ],
)
def test_bad_values_name_field_value_and_remedy(build, options, field, words):
    with pytest.raises(InputError) as caught:
        build(**options)
    assert caught.value.field == field
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        ({"features": ()}, "features", ["at least one", "MLP"]),
        ({"input_shape": (8,)}, "input_shape", ["(height, width, channels)"]),
        ({"input_shape": (8, 8, 8, 1)}, "input_shape", ["(height, width, channels)"]),
        ({"kernel_sizes": (3, 3, 3)}, "kernel_sizes", ["one per layer (2"]),
        ({"strides": [1]}, "strides", ["one per layer (2"]),
        ({"pool_sizes": (2,)}, "pool_sizes", ["one per layer (2"]),
        ({"padding": ["SAME"]}, "padding", ["one per layer (2"]),
        ({"kernel_sizes": [3, (3, 3, 3)]}, "kernel_sizes[1]", ["one per spatial axis (2)"]),
        ({"kernel_sizes": [3, (3, 0)]}, "kernel_sizes[1][1]", ["0", ">= 1"]),
        ({"kernel_sizes": "3"}, "kernel_sizes[0]", ["'3'", "whole number"]),
        ({"pool_sizes": 0}, "pool_sizes[0]", ["0", ">= 1"]),
        ({"strides": 0}, "strides[0]", ["0", ">= 1"]),
        ({"padding": "SAVE"}, "padding[0]", ["'SAVE'", "'SAME', 'VALID'"]),
        ({"padding": -1}, "padding[0]", ["-1", ">= 0"]),
        ({"padding": [0, (1, 2, 3)]}, "padding[1]", ["per spatial axis"]),
        ({"padding": [0, ((1, 2, 3), 0)]}, "padding[1]", ["(before, after)"]),
        ({"pooling": "mean"}, "pooling", ["'mean'", "max, average"]),
        ({"dense": (0,)}, "dense[0]", ["0", ">= 1"]),
        ({"features": (2,) * 5}, "conv_3's pooling", ["(2, 2)", "its 1×1 input", "fewer layers or pools"]),
        (
            {"padding": "VALID", "kernel_sizes": 5},
            "conv_1's convolution",
            ["(5, 5)", "its 2×2 input", "SAME"],
        ),
    ],
)
def test_bad_geometry_names_field_value_and_remedy(options, field, words):
    with pytest.raises(InputError) as caught:
        cnn(**options)
    assert caught.value.field == field
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("kind", [CNN, MLP])
@pytest.mark.parametrize("shape", [(8, 8, 1), (2, 8, 8), (2, 8, 7, 1), (2, 1, 8, 8, 1), ()])
def test_inputs_of_another_shape_are_refused(kind, shape):
    def forward(x):
        return kind((8, 8, 1), 3, rngs=nnx.Rngs(0))(x)

    with pytest.raises(InputError, match=r"give \(B, 8, 8, 1\)"):
        jax.eval_shape(forward, jnp.ones(shape))


def test_an_empty_batch_is_a_batch():
    shape = jax.eval_shape(lambda x: CNN((8, 8, 1), 3, rngs=nnx.Rngs(0))(x)[0], jnp.ones((0, 8, 8, 1))).shape
    assert shape == (0, 3)


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: activations.resolve(3), "activation = 3: give a function, or one of relu, relu6"),
        (
            lambda: initializers.kernel_initializer(0.5, 1.0),
            "kernel_init = 0.5: give a function, or one of lecun",
        ),
        (lambda: integers("dense", 5), "dense = 5: give a list of whole numbers >= 1"),
        (lambda: integers("dense", "55"), "dense = '55': give a list of whole numbers >= 1"),
        (lambda: integers("dense", [4, 1.5]), r"dense\[1\] = 1.5: give a whole number >= 1"),
        (lambda: Dropout(1.0, rngs=nnx.Rngs(0)), r"dropout_rate = 1.0: give a number in \[0, 1\)"),
    ],
)
def test_values_of_the_wrong_type_or_range_are_refused(check, message):
    with pytest.raises(InputError, match=message):
        check()


sizes = st.integers(1, 4)


@settings(deadline=None, max_examples=30)
@given(
    spatial=st.lists(st.integers(1, 9), min_size=1, max_size=2),
    kernel=sizes,
    stride=sizes,
    pool=sizes,
    padding=st.sampled_from(["SAME", "VALID", 0, 1]),
)
def test_a_network_is_built_exactly_if_every_layer_has_somewhere_to_go(
    spatial, kernel, stride, pool, padding
):
    axes, expected, fits = len(spatial), [], True
    n = np.array(spatial)
    for _ in range(2):
        extra = {"SAME": None, "VALID": 0}.get(padding, padding)
        n = -(-n // stride) if extra is None else (n + 2 * extra - kernel) // stride + 1
        expected.append((1, *n.tolist(), 2))
        fits = fits and n.min() > 0 and (n // pool).min() > 0
        n = n // pool
    options = {
        "features": (2, 2),
        "kernel_sizes": kernel,
        "strides": stride,
        "pool_sizes": pool,
        "padding": padding,
    }
    if not fits:
        with pytest.raises(InputError, match=r"conv_\d's (convolution|pooling) .* nothing is left"):
            CNN((*spatial, 1), 1, **options, rngs=nnx.Rngs(0))
        return
    activations = jax.eval_shape(
        lambda x: CNN((*spatial, 1), 1, **options, rngs=nnx.Rngs(0))(x)[1], jnp.ones((1, *spatial, 1))
    )
    assert [value.shape for value in activations.values()] == expected
    assert axes == len(expected[0]) - 2
