"""Networks whose arrays have the examples along the last axis: the same numbers, in another order of memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from small import study

from jaxlab import space
from jaxlab.convolution import conv_examples_last, conv_general_dilated, materialize, transposed
from jaxlab.diagnostics import units
from jaxlab.engine import compile_programs, make_pack, train
from jaxlab.errors import InputError
from jaxlab.models import CNN, MLP, use_fast_convolutions
from jaxlab.models.layers import Block

NUMBERS = {3: ("NWC", "WIO", "NWC"), 4: ("NHWC", "HWIO", "NHWC")}
SHAPES = [
    # x, kernel, strides, padding
    ((3, 9, 2), (3, 2, 5), (1,), "SAME"),
    ((3, 10, 2), (4, 2, 5), (2,), "SAME"),
    ((2, 11, 1), (5, 1, 3), (2,), ((1, 0),)),
    ((3, 6, 7, 2), (3, 3, 2, 5), (1, 1), "SAME"),
    ((3, 7, 6, 3), (3, 2, 3, 4), (2, 1), "VALID"),
    ((2, 5, 5, 1), (5, 5, 1, 3), (1, 2), ((2, 1), (0, 3))),
    ((1, 1, 1, 1), (1, 1, 1, 1), (1, 1), "VALID"),
]


def arrays(shape, kernel, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=shape)), jnp.asarray(rng.normal(size=kernel))


@pytest.mark.parametrize(("shape", "kernel", "strides", "padding"), SHAPES)
def test_values_and_derivatives_are_those_of_lax(x64, shape, kernel, strides, padding):
    x, k = arrays(shape, kernel)

    def ours(x, k):
        return transposed(conv_examples_last(transposed(x), k, strides, padding))

    def lax(x, k):
        numbers = NUMBERS[x.ndim]
        return jax.lax.conv_general_dilated(x, k, strides, padding, dimension_numbers=numbers)

    moved = arrays(shape, kernel, seed=1)
    for function in (lambda f: f(x, k), lambda f: jax.jvp(f, (x, k), moved)[1]):
        np.testing.assert_allclose(function(ours), function(lax), rtol=1e-12, atol=1e-12)
    # Both gradients, and forward over reverse, which curvature needs.
    gradients = [jax.grad(lambda x, k, f=f: jnp.sum(jnp.sin(f(x, k))), (0, 1)) for f in (ours, lax)]
    for a, b in zip(*(jax.tree.leaves(jax.jvp(g, (x, k), moved)) for g in gradients), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("mapped", [(0, 0), (None, 0), (0, None)])
def test_trials_are_mapped(x64, mapped):
    (x, k), several = arrays((3, 6, 7, 2), (3, 3, 2, 5)), np.array([1.0, -2.0, 0.5])
    xs, ks = (
        array if axis is None else jnp.stack([array * each for each in several])
        for array, axis in zip((x, k), mapped, strict=True)
    )

    def conv(x, k):
        return conv_examples_last(transposed(x), k, (1, 1), "SAME")

    found = jax.vmap(conv, in_axes=mapped)(xs, ks)
    for i in range(3):
        one = conv(xs if mapped[0] is None else xs[i], ks if mapped[1] is None else ks[i])
        np.testing.assert_allclose(found[i], one, rtol=1e-12)


def pair(**options):
    """One network twice: as a study trains it on this CPU, and with channels last."""
    options = {"input_shape": (9, 7, 2), "outputs": 4, "features": (5, 6)} | options
    both = [CNN(**options, rngs=nnx.Rngs(params=0, dropout=1)) for _ in range(2)]
    use_fast_convolutions(both[1], "product")
    assert both[0].examples_last == tuple(f"conv_{i}" for i in range(len(options["features"])))
    assert both[1].examples_last == ()
    return both


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"input_shape": (23, 3), "strides": 2, "padding": 1, "pool_sizes": 1},
        {"dense": (8,), "pooling": "average", "pool_sizes": (2, 3)},
        {"features": (5,), "kernel_sizes": [(5, 3)], "padding": [((2, 1), (0, 1))], "dense": (8, 3)},
        {"batch_norm": True, "dropout_rate": 0.4, "dense": (8,)},
        {"activation": "elu", "bias_init": "uniform_fan_in", "kernel_init": "he_uniform"},
        {"activation": lambda x: jax.nn.softmax(x, axis=-1)},  # not elementwise: over the channels
        {"features": (4, 3, 5), "pool_sizes": [1, 2, 2], "strides": [1, 2, 1]},
    ],
    ids=lambda options: ",".join(options) or "plain",
)
@pytest.mark.parametrize("train", [True, False])
def test_a_network_computes_the_same_in_both_orders(options, train):
    x = jnp.asarray(np.random.default_rng(2).normal(size=(11, *options.get("input_shape", (9, 7, 2)))))
    found = []
    for model in pair(**options):
        (model.train if train else model.eval)()

        def loss(model):
            outputs, activations = model(x)
            return jnp.sum(outputs**2), (outputs, activations)

        gradient, seen = nnx.jit(nnx.grad(loss, has_aux=True))(model)
        found.append((seen, nnx.to_pure_dict(gradient), nnx.to_pure_dict(nnx.state(model))))
    ours, plain = found
    assert list(ours[0][1]) == list(plain[0][1])  # the layers, in the order of the network
    for one, other in zip(ours, plain, strict=True):
        paths = [
            (path, leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(other)
            if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        ]
        # Of all parts: the gradient of a bias before batch normalisation is 0, but for the rounding of its large terms.
        atol = 1e-5 * max(1, *(np.max(np.abs(leaf), initial=0) for _, leaf in paths))
        leaves = dict(jax.tree_util.tree_leaves_with_path(one))
        for path, leaf in paths:
            assert leaves[path].shape == leaf.shape
            name = jax.tree_util.keystr(path)
            np.testing.assert_allclose(leaves[path], leaf, rtol=2e-4, atol=atol, err_msg=name)


def test_bfloat16_stays_bfloat16():
    ours, plain = (model(jnp.ones((4, 9, 7, 2)))[1] for model in pair(dtype="bfloat16"))
    assert {h.dtype for h in (*ours.values(), *plain.values())} == {jnp.dtype("bfloat16")}
    for name in plain:
        np.testing.assert_allclose(ours[name].astype(float), plain[name].astype(float), atol=0.1)


def conv(features_in, features, **options):
    return nnx.Conv(features_in, features, (3, 3), rngs=nnx.Rngs(3), **options)


def masked(features_in, features):
    mask = jnp.asarray(np.random.default_rng(0).integers(0, 2, (3, 3, features_in, features)))
    return conv(features_in, features, mask=mask)


@pytest.mark.parametrize(
    "make",
    [
        lambda: conv(5, 6, kernel_dilation=2),
        lambda: conv(5, 6, input_dilation=2, padding=((1, 1), (1, 1))),
        lambda: conv(5, 6, use_bias=False),
        lambda: conv(5, 10, feature_group_count=5),
        lambda: conv(5, 6, padding="CIRCULAR"),
        lambda: conv(5, 6, padding="REFLECT"),
        lambda: conv(5, 6, padding=1),
        lambda: conv(5, 6),
        lambda: conv(5, 6, precision="highest"),
        lambda: conv(5, 6, preferred_element_type=jnp.float32),
        lambda: masked(5, 6),
    ],
)
def test_a_convolution_put_in_by_a_user_is_computed_by_flax(make):
    """Where the network's own path would not compute all that it says; either way with the same numbers."""
    model, own = CNN((9, 7, 2), 4, features=(5, 6), pool_sizes=1, rngs=nnx.Rngs(0)), make()
    model.conv[1].layer = own
    use_fast_convolutions(model, "auto")
    x = jnp.asarray(np.random.default_rng(2).normal(size=(4, 9, 7, 2)), jnp.float32)
    first = jax.nn.relu(model.conv[0].layer(x))
    second = jax.nn.relu(own(first))
    model.head = MLP(second.shape[1:], 4, features=(), rngs=nnx.Rngs(1))
    found = model(x)[1]["conv_1"]
    np.testing.assert_allclose(found, second, rtol=1e-4, atol=1e-5)


def test_a_block_or_head_put_in_by_a_user_is_called():
    class Halved(Block):
        def __call__(self, x):
            return super().__call__(x) / 2

    class Cooled(MLP):
        def __call__(self, x):
            outputs, activations = super().__call__(x)
            return outputs / 10, activations

    x = jnp.asarray(np.random.default_rng(2).normal(size=(4, 9, 7, 2)), jnp.float32)
    model = CNN((9, 7, 2), 4, features=(5,), dense=(8,), rngs=nnx.Rngs(0))
    outputs, activations = model(x)
    model.head.__class__ = Cooled
    np.testing.assert_allclose(model(x)[0], outputs / 10, rtol=1e-4, atol=1e-6)
    model.head.__class__ = MLP
    model.head.dense[0].__class__ = Halved
    np.testing.assert_allclose(model(x)[1]["dense_0"], activations["dense_0"] / 2, rtol=1e-4, atol=1e-6)
    model.head.dense[0].__class__ = Block
    model.conv[0].__class__ = Halved
    np.testing.assert_allclose(model(x)[1]["conv_0"], activations["conv_0"] / 2, rtol=1e-4, atol=1e-6)
    model.conv[0] = nnx.Conv(2, 5, (3, 3), rngs=nnx.Rngs(1))  # no block at all
    np.testing.assert_allclose(model(x)[1]["conv_0"], model.conv[0](x), rtol=1e-4, atol=1e-6)


def doubled(*arguments, **options):
    return 2 * jax.lax.dot_general(*arguments, **options)


@pytest.mark.parametrize("options", [{"use_bias": False}, {"dot_general": doubled}])
def test_a_linear_layer_put_in_by_a_user_is_computed_by_flax(options):
    model = CNN((9, 7, 2), 4, features=(5,), rngs=nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(2).normal(size=(4, 9, 7, 2)), jnp.float32)
    flat = model.head.output.kernel[...].shape[0]
    model.head.output = nnx.Linear(flat, 4, rngs=nnx.Rngs(1), **options)
    found = model(x)[0]
    hidden = model.pool(model(x)[1]["conv_0"], (2, 2), strides=(2, 2)).reshape(4, -1)
    np.testing.assert_allclose(found, model.head.output(hidden), rtol=1e-4, atol=1e-5)


def test_a_window_that_fits_nowhere_is_bad_input():
    with pytest.raises(InputError, match="a kernel that spans"):
        conv_examples_last(jnp.ones((2, 3, 3, 8)), jnp.ones((5, 5, 2, 4)), (1, 1), "VALID")


def test_a_layer_put_in_by_a_user_is_called_as_ever():
    model = CNN((9, 7, 2), 4, features=(5, 6), rngs=nnx.Rngs(0))

    class Doubled(nnx.Module):
        def __init__(self, layer):
            self.layer = layer

        def __call__(self, x):
            return 2 * self.layer(x)

    expected = model(jnp.ones((2, 9, 7, 2)))[0]
    model.head.output = Doubled(model.head.output)
    np.testing.assert_allclose(model(jnp.ones((2, 9, 7, 2)))[0], 2 * expected, rtol=1e-5)
    model.conv[0].layer = Doubled(model.conv[0].layer)
    assert model.examples_last == ()
    assert model(jnp.ones((2, 9, 7, 2)))[1]["conv_0"].shape == (2, 9, 7, 5)


@pytest.mark.parametrize("shape", [(6, 4, 5, 3), (6, 8, 3), (6, 3)])
def test_units_are_counted_the_same_in_both_orders(shape):
    rng = np.random.default_rng(3)
    h = np.maximum(rng.normal(size=shape), 0).astype(np.float32)
    h[..., 1] = 0
    h[2] = np.nan  # left out, whatever it holds
    h, valid = jnp.asarray(h), np.array([True, True, False, True, False, True])
    plain = units.update(units.init(h), h, valid)
    turned = transposed(transposed(h))
    ours = units.update(units.init(h), turned, valid, examples_last=True)
    assert ours.examples == plain.examples == 4
    np.testing.assert_allclose(ours.magnitude, plain.magnitude, rtol=1e-6)
    np.testing.assert_array_equal(units.dead(ours), units.dead(plain))
    assert units.dead(ours)[1]


def gradient_and_bytes(lowering, trials=4):
    """Of three convolutions mapped over trials: kernels after a few steps, and the program's temporaries."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(18, 8, 8, 2)).astype(np.float32)
    sizes = ((2, 6), (6, 6), (6, 6))
    kernels = [0.2 * rng.normal(size=(trials, 3, 3, *size)).astype(np.float32) for size in sizes]

    def loss(kernels):
        y = x
        for k in kernels:
            y = conv_general_dilated(
                jax.nn.relu(y), k, (1, 1), "SAME", dimension_numbers=NUMBERS[4], lowering=lowering
            )
        return jnp.mean(y**2)

    def train(kernels):
        def step(kernels, _):
            return jax.tree.map(lambda k, g: k - 0.1 * g, kernels, jax.grad(loss)(kernels)), None

        return jax.lax.scan(step, kernels, None, length=3)[0]

    program = jax.jit(jax.vmap(train)).lower(kernels).compile()
    return program(kernels), program.memory_analysis().temp_size_in_bytes


def test_recomputed_patches_give_the_same_in_less_memory():
    (product, whole), (remat, smaller) = gradient_and_bytes("product"), gradient_and_bytes("remat")
    for a, b in zip(remat, product, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert smaller < whole / 2


@pytest.mark.parametrize("examples", [0, 1, 7, 12])
def test_recomputed_patches_of_any_number_of_examples(x64, examples):
    x, k = arrays((examples, 6, 7, 2), (3, 3, 2, 5))

    def both(lowering):
        def total(x, k):
            y = conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=NUMBERS[4], lowering=lowering)
            return jnp.sum(jnp.sin(y)), y

        return jax.jit(lambda x, k: jax.jvp(jax.grad(total, (0, 1), has_aux=True), (x, k), (x, k)))(x, k)

    for a, b in zip(jax.tree.leaves(both("remat")), jax.tree.leaves(both("product")), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("width", "features"),
    [(1, [13]), (3, [5, 13]), (8, [13])],
)
def test_lanes_do_not_matter_with_awkward_channels(width, features):
    """The same trial in several lanes, next to itself, others and a diverging one: the same bits."""
    its = study(
        space.grid(learning_rate=[1e-2, 1e-3, 1e30]),
        epochs=1,
        features=features,
        kernel_sizes=[5, 3][: len(features)],
        batch_size=31,
    )
    (group,) = its.groups
    lanes = np.array([0, 1, 0, 2, 0, 1, 0, 0])
    hyper = jax.tree.map(lambda values: values[lanes], group.hyperparameters)
    one = jax.tree.map(lambda values: values[0], hyper)
    programs = compile_programs(its.trial_of(group), one, its.arrays, make_pack(width))
    found = {}
    for record in train(programs, hyper, its.arrays, epochs=1):
        for name, values in record.values.items():
            for trial, value in zip(record.trials, values, strict=True):
                found.setdefault((name, type(record), record.epochs[0]), {})[trial] = value.tobytes()
    assert len(found) > 20
    for name, values in found.items():
        assert len(values) == len(lanes)
        assert len({values[trial] for trial in np.flatnonzero(lanes == 0)}) == 1, name


def stored(x):
    return materialize(jnp.sin(x) + 1)


def test_a_materialized_array_and_its_derivatives_are_unchanged(x64):
    x, moved = arrays((3, 4), (3, 4))
    for found, expected in (
        (stored(x), jnp.sin(x) + 1),
        (jax.jit(stored)(x), jnp.sin(x) + 1),
        (jax.jit(jax.vmap(stored, in_axes=1, out_axes=1))(x), jnp.sin(x) + 1),
        (jax.jit(lambda x: jax.jvp(stored, (x,), (moved,))[1])(x), jnp.cos(x) * moved),
        (jax.jit(jax.grad(lambda x: jnp.sum(stored(x) ** 2)))(x), 2 * (jnp.sin(x) + 1) * jnp.cos(x)),
        (jax.jit(jax.hessian(lambda x: jnp.sum(materialize(x) ** 3)))(x[0]), jnp.diag(6 * x[0])),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-14)


@pytest.mark.parametrize(
    "value", [np.zeros((0, 3)), np.array([np.nan, np.inf, -0.0]), np.array([True]), 7, 1j]
)
def test_any_array_can_be_materialized(value):
    found = jax.jit(materialize)(jnp.asarray(value))
    assert found.dtype == jnp.asarray(value).dtype
    np.testing.assert_array_equal(found, value)
    np.testing.assert_array_equal(np.signbit(np.real(found)), np.signbit(np.real(value)))


@pytest.mark.usefixtures("optimised")
def test_xla_keeps_what_stores_an_array_and_its_cotangent():
    for function, count in (
        (stored, 1),
        (jax.vmap(stored), 1),
        (jax.grad(lambda x: jnp.sum(stored(x) ** 2)), 2),
    ):
        text = jax.jit(function).lower(jnp.ones((3, 4))).compile().as_text()
        assert text.count(" conditional(") == count


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 1),  # after the first of two layers
        ({"features": (3,)}, 0),
        ({"pool_sizes": 1}, 0),
        ({"kernel_sizes": (3, 2)}, 0),
        ({"kernel_sizes": (1, 3), "dropout_rate": 0.5}, 1),
        ({"input_shape": (20, 2), "kernel_sizes": (3, 9)}, 1),
        ({"input_shape": (20, 2), "kernel_sizes": 5}, 0),
    ],
)
def test_pooled_arrays_are_stored_for_convolutions_of_many_taps(options, count):
    model = CNN(**{"input_shape": (9, 7, 2), "outputs": 4, "features": (5, 6)} | options, rngs=nnx.Rngs(0))
    graph, state = nnx.split(model)
    x = jnp.ones((2, *model.input_shape))
    jaxpr = jax.make_jaxpr(lambda state, x: nnx.merge(graph, state)(x)[0])(state, x)
    assert str(jaxpr).count("materialize[") + str(jaxpr).count("materialize ") == count
