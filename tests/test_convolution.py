from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.sharding import AxisType, PartitionSpec

from jaxlab.convolution import conv_general_dilated
from jaxlab.errors import InputError
from jaxlab.pooling import max_pool

NUMBERS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC")}
same = partial(conv_general_dilated, window_strides=(1, 1), padding="SAME", dimension_numbers=NUMBERS[2])
lax_same = partial(
    lax.conv_general_dilated, window_strides=(1, 1), padding="SAME", dimension_numbers=NUMBERS[2]
)

BOTH = same, lax_same


def normal(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def assert_close(ours, theirs, rtol=1e-12, atol=1e-13):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), ours, theirs)


def value_and_pullback(conv, x, k, g):
    y, pull = jax.vjp(conv, x, k)
    return y, *pull(g.astype(y.dtype))


@st.composite
def problems(draw):
    n = draw(st.integers(1, 2))

    def each(low, high):
        return draw(st.tuples(*[st.integers(low, high)] * n))

    groups = draw(st.integers(1, 3))
    x = (2, *each(7, 9), groups * draw(st.integers(1, 2)))
    k = (*each(1, 3), x[-1] // groups, groups * draw(st.integers(1, 3)))
    pairs = st.tuples(*[st.tuples(st.integers(-1, 2), st.integers(-1, 2))] * n)
    padding = draw(st.one_of(st.sampled_from(["SAME", "SAME_LOWER", "VALID"]), pairs))
    options = {"rhs_dilation": draw(st.sampled_from([None, each(1, 2)])), "feature_group_count": groups}
    return (
        x,
        k,
        {"window_strides": each(1, 3), "padding": padding, "dimension_numbers": NUMBERS[n], **options},
    )


@settings(deadline=None, max_examples=20)
@given(problem=problems())
def test_values_and_gradients_are_those_of_lax(problem):
    x_shape, k_shape, options = problem
    with jax.enable_x64(True):
        x, k = normal(*x_shape), normal(*k_shape, seed=1)
        ours, theirs = (partial(c, **options) for c in (conv_general_dilated, lax.conv_general_dilated))
        g = normal(*jax.eval_shape(theirs, x, k).shape, seed=2)
        assert "conv_general" not in str(jax.make_jaxpr(ours)(x, k))
        both = jax.jit(lambda *a: (value_and_pullback(ours, *a), value_and_pullback(theirs, *a)))
        assert_close(*both(x, k, g))


@pytest.mark.parametrize("axes", [(None, 0), (0, None), (0, 0)])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_mapped_equals_a_loop(x64, axes, groups):
    conv = partial(same, feature_group_count=groups)
    x, k, g = normal(3, 2, 5, 5, 4), normal(3, 3, 3, 4 // groups, 4, seed=1), normal(3, 2, 5, 5, 4, seed=2)
    one = partial(value_and_pullback, conv)
    pick = [a if axis == 0 else a[0] for a, axis in zip((x, k), axes, strict=True)]
    ours = jax.jit(jax.vmap(one, in_axes=(*axes, 0)))(*pick, g)
    loop = jax.jit(one)
    for i in range(3):
        at = [a if axis is None else a[i] for a, axis in zip(pick, axes, strict=True)]
        assert_close(jax.tree.map(lambda a, i=i: a[i], ours), loop(*at, g[i]))


@pytest.mark.parametrize("groups", [1, 3])
def test_forward_over_reverse_is_that_of_lax(x64, groups):
    x, k, v = (
        normal(2, 6, 6, 3),
        normal(3, 3, 3 // groups, 3, seed=1),
        normal(2, 3, 3, 3 // groups, 3, seed=2),
    )

    def curvature(conv, v):
        def loss(k):
            h = jnp.tanh(conv(x, k, feature_group_count=groups))
            return jnp.sum(jnp.tanh(conv(h, k, feature_group_count=groups)))

        return jax.jvp(jax.grad(loss), (k,), (v,))[1]

    ours, theirs = jax.jit(lambda v: tuple(jax.vmap(partial(curvature, c))(v) for c in (same, lax_same)))(v)
    assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("groups", [1, 2])
def test_gradient_of_the_mapped_convolution_in_scan_remat_and_shard_map(x64, groups):
    x, k = normal(2, 5, 5, 2), normal(3, 3, 3, 2 // groups, 2, seed=1)
    same, lax_same = (partial(conv, feature_group_count=groups) for conv in BOTH)

    def descend(conv, k):
        def step(k, _):
            loss, g = jax.value_and_grad(jax.checkpoint(lambda k: jnp.sum(jnp.tanh(conv(x, k)) ** 2)))(k)
            return k - 0.1 * g, loss

        return lax.scan(step, k, None, length=3)

    mesh = jax.make_mesh((1,), ("trial",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("trial")
    ours = jax.jit(jax.shard_map(jax.vmap(partial(descend, same)), mesh=mesh, in_specs=spec, out_specs=spec))(
        k
    )
    assert_close(ours, jax.jit(lambda k: jax.lax.map(partial(descend, lax_same), k))(k), rtol=1e-11)
    batched = jax.jit(jax.grad(lambda k: jnp.sum(jax.vmap(same, (None, 0))(x, k) ** 3)))(k)
    each = jax.jit(jax.vmap(jax.grad(lambda k: jnp.sum(same(x, k) ** 3))))(k)
    assert_close(batched, each)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_the_compiled_pack_has_no_convolution(groups):
    def loss(conv, k, x):
        return jnp.sum(jax.nn.relu(conv(x, k, feature_group_count=groups)) ** 2)

    x, k = normal(2, 8, 8, 4, dtype=np.float32), normal(3, 3, 3, 4 // groups, 4, dtype=np.float32)

    def pack(conv):
        f = jax.vmap(jax.value_and_grad(partial(loss, conv), argnums=(0, 1)), in_axes=(0, None))
        return str(jax.make_jaxpr(f)(k, x)), jax.jit(f).lower(k, x).compile().as_text()

    assert " convolution(" in pack(lax_same)[1]
    traced, compiled = pack(same)
    for word in ("conv_general", "gather", "scatter"):
        assert word not in traced
    for word in (" convolution(", "conv_custom_call", " gather(", " scatter("):
        assert word not in compiled


def lanes(width, channels, features, shared, dtype):
    """Per lane: outputs, gradients of kernels and inputs through two convolutions and a pool; and its arguments."""

    def one(a, b, x):
        def loss(a, b, x):
            h = max_pool(jax.nn.relu(same(x, a)), (2, 2), (2, 2))
            return jnp.sum(jnp.tanh(same(h, b)) ** 2)

        return jax.value_and_grad(loss, argnums=(0, 1, 2))(a, b, x)

    a = normal(width, 3, 3, channels, features, seed=1, dtype=np.float32)
    b = normal(width, 3, 3, features, 5, seed=2, dtype=np.float32) * 0.3
    x = normal(*(() if shared else (width,)), 16, 8, 8, channels, dtype=np.float32)
    run = jax.jit(jax.vmap(one, in_axes=(0, 0, None if shared else 0)))
    return run, [jnp.asarray(v, dtype) for v in (a, b, x)]


@pytest.mark.parametrize(
    ("width", "channels", "features", "shared"),
    [
        (1, 1, 3, True),
        (2, 3, 5, True),
        (3, 5, 10, True),
        (4, 1, 6, True),
        (5, 2, 1, True),
        (8, 1, 3, True),
        (3, 1, 5, False),
        (4, 3, 6, False),
    ],
)
def test_a_lane_is_bitwise_the_same_wherever_it_sits_and_whatever_its_neighbours(
    width, channels, features, shared
):
    run, (a, b, x) = lanes(width, channels, features, shared, jnp.float32)
    expected = run(a, b, x)
    for shift in range(1, width + 1):
        order = np.roll(np.arange(width), shift)
        bad = a[order].at[shift % width].set(jnp.inf if shift % 2 else 1e3)
        alive = np.arange(width) != (shift % width)
        got = run(bad, b[order], x if shared else x[order])
        jax.tree.map(
            lambda e, g, o=order, m=alive: np.testing.assert_array_equal(e[o][m], g[m]), expected, got
        )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float64])
def test_a_lane_is_bitwise_the_same_in_other_dtypes(x64, dtype):
    run, (a, b, x) = lanes(3, 1, 5, True, dtype)
    order = np.array([2, 0, 1])
    expected, got = run(a, b, x), run(a[order], b[order], x)
    jax.tree.map(lambda e, g: np.testing.assert_array_equal(e[order], g), expected, got)


@pytest.mark.parametrize(("groups", "dilation"), [(1, 2), (3, 1)])
def test_a_flax_layer_gives_the_same_with_it(groups, dilation):
    def layer(conv):
        options = {
            "strides": 2,
            "kernel_dilation": dilation,
            "feature_group_count": groups,
            "rngs": nnx.Rngs(0),
        }
        return nnx.Conv(3, 6, (3, 3), conv_general_dilated=conv, **options)

    x = normal(2, 3, 9, 9, 3, dtype=np.float32)
    ours, theirs = layer(conv_general_dilated), layer(lax.conv_general_dilated)
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 3])
def test_bfloat16_and_preferred_element_type(groups):
    x, k = (jnp.asarray(normal(*shape), jnp.bfloat16) for shape in ((2, 6, 6, 3), (3, 3, 3 // groups, 3)))
    same, lax_same = (partial(conv, feature_group_count=groups) for conv in BOTH)
    exact = lax_same(x.astype(jnp.float32), k.astype(jnp.float32))
    y = same(x, k)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), exact, rtol=2**-7, atol=2**-7)
    wide = same(x, k, preferred_element_type=jnp.float32)
    assert wide.dtype == jnp.float32
    np.testing.assert_allclose(wide, exact, rtol=1e-5, atol=1e-5)
    dx, dk = jax.grad(lambda x, k: same(x, k, preferred_element_type=jnp.float32).sum(), (0, 1))(x, k)
    assert dx.dtype == dk.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("x", "k", "options"),
    [
        ((2, 3, 6, 6), (4, 3, 3, 3), {"dimension_numbers": None}),
        ((2, 6, 6, 3), (4, 3, 3, 3), {"dimension_numbers": ("NHWC", "OHWI", "NHWC")}),
        ((2, 6, 6, 3), (3, 3, 3, 4), {"dimension_numbers": ("NHWC", "WHIO", "NHWC")}),
        ((2, 6, 6, 3), (3, 3, 3, 4), {"lhs_dilation": (2, 1), "padding": ((1, 1), (1, 1))}),
        ((4, 6, 6, 3), (3, 3, 3, 4), {"batch_group_count": 2}),
        (
            (2, 5, 5, 5, 3),
            (3, 3, 3, 3, 4),
            {"dimension_numbers": ("NDHWC", "DHWIO", "NDHWC"), "window_strides": (1, 2, 1)},
        ),
    ],
)
def test_what_is_not_lowered_goes_to_lax(x, k, options):
    options = {"window_strides": (1, 2), "padding": "SAME", "dimension_numbers": NUMBERS[2], **options}
    x, k = normal(*x, dtype=np.float32), normal(*k, seed=1, dtype=np.float32)
    assert "conv_general" in str(jax.make_jaxpr(partial(conv_general_dilated, **options))(x, k))
    np.testing.assert_array_equal(
        conv_general_dilated(x, k, **options), lax.conv_general_dilated(x, k, **options)
    )


def test_dimension_numbers_as_an_object():
    x, k = normal(2, 6, 6, 3, dtype=np.float32), normal(3, 3, 3, 4, dtype=np.float32)
    numbers = lax.conv_dimension_numbers(x.shape, k.shape, NUMBERS[2])
    by_object = partial(same, dimension_numbers=numbers)
    assert "conv_general" not in str(jax.make_jaxpr(by_object)(x, k))
    np.testing.assert_array_equal(by_object(x, k), same(x, k))


DTYPES = ("float16", "bfloat16", "float32", "complex64", "int8", "int32", "uint8", "bool")


@st.composite
def calls(draw):
    """Any sizes, none included; any dtypes; any precision: mostly what JAX's convolution takes."""
    n, mostly = draw(st.integers(1, 2)), st.integers(0, 9)
    groups = draw(st.integers(1, 3))

    def sizes(low, high):
        return draw(st.tuples(*[st.integers(low, high)] * n))

    channels = draw(st.integers(0, 2))
    x = (draw(st.integers(0, 2)), *sizes(3, 5), groups * channels)
    k = (*sizes(1, 3), channels, groups * draw(st.sampled_from([0, 1, 1, 2])))
    dtype = draw(st.sampled_from(DTYPES))
    other = draw(st.sampled_from(DTYPES)) if draw(mostly) == 0 else dtype
    precisions = [None, "highest", ("high", "default"), lax.Precision.HIGHEST]
    odd = ["nonsense", 3, ("high",), lax.DotAlgorithmPreset.F32_F32_F32]
    options = {
        "window_strides": sizes(1, 2),
        "padding": draw(st.sampled_from(["SAME", "same", ((1, 1),) * n])),
        "dimension_numbers": NUMBERS[n],
        "feature_group_count": groups,
        "precision": draw(st.sampled_from(odd if draw(mostly) == 0 else precisions)),
        "preferred_element_type": draw(st.sampled_from([None, None, *DTYPES, float])),
        "lhs_dilation": draw(st.sampled_from([None, [1] * n, (1,) * n])),
    }
    return (x, dtype), (k, other), options


def drawn(shape, dtype, seed):
    """Small whole numbers, of which every sum is exact in every dtype."""
    numbers = np.random.default_rng(seed).integers(0 if dtype in ("uint8", "bool") else -2, 3, shape)
    return jnp.asarray(numbers * (1 + 1j) if dtype == "complex64" else numbers).astype(dtype)


def outcome(conv, *arguments, **options):
    """The result, or the type of the error."""
    try:
        return conv(*arguments, **options)
    except Exception as error:
        return type(error)


@settings(deadline=None, max_examples=40)
@given(call=calls())
def test_what_lax_accepts_is_accepted_with_its_result_and_what_it_refuses_is_refused(call):
    (x, dtype), (k, other), options = call
    x, k = drawn(x, dtype, 0), drawn(k, other, 1)
    theirs = outcome(lax.conv_general_dilated, x, k, **options)
    ours = outcome(conv_general_dilated, x, k, **options)
    if isinstance(theirs, type):
        assert isinstance(ours, type)
    else:
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize(
    ("x", "k"),
    [
        ((2, 5, 5, 0), (3, 3, 0, 4)),
        ((2, 5, 5, 3), (3, 3, 3, 0)),
        ((0, 5, 5, 3), (3, 3, 3, 4)),
    ],
)
def test_without_channels_features_or_examples_values_and_gradients_are_those_of_lax(x, k, mapped):
    x, k = (jnp.ones((2, *shape) if mapped else shape) for shape in (x, k))

    def value_and_gradients(conv):
        conv = jax.vmap(conv) if mapped else conv
        return conv(x, k), jax.grad(lambda x, k: jnp.sum(conv(x, k)), (0, 1))(x, k)

    jax.tree.map(np.testing.assert_array_equal, *map(value_and_gradients, BOTH))


@pytest.mark.parametrize(
    ("k", "options"),
    [
        ((3, 3, 2, 4), {}),
        ((3, 3, 4, 5), {"feature_group_count": 2}),
        ((3, 3, 3, 4), {"feature_group_count": 0}),
        ((3, 3, 3, 4), {"padding": ((1, 1),)}),
        ((3, 3, 3, 4), {"padding": "SOME"}),
        ((3, 3, 3, 4), {"window_strides": (1,)}),
        ((3, 3, 3, 4), {"window_strides": (0, 1)}),
        ((3, 3, 3, 4), {"rhs_dilation": (0, 1)}),
        ((3, 3, 3, 4), {"precision": "nonsense"}),
        ((3, 3, 1, 3), {"feature_group_count": 3, "precision": "nonsense"}),
        ((3, 3, 3, 4), {"preferred_element_type": jnp.float16}),
    ],
)
def test_arguments_that_do_not_fit_get_the_error_of_lax(k, options):
    x, k = normal(2, 6, 6, 3, dtype=np.float32), normal(*k, dtype=np.float32)
    with pytest.raises(Exception) as theirs:  # noqa: PT011
        lax_same(x, k, **options)
    with pytest.raises(type(theirs.value)) as ours:
        same(x, k, **options)
    assert str(ours.value) == str(theirs.value)


def test_two_dtypes_get_the_error_of_lax():
    x, k = jnp.ones((2, 6, 6, 3)), jnp.ones((3, 3, 3, 4), jnp.bfloat16)
    with pytest.raises(TypeError, match="conv_general_dilated requires arguments to have the same dtypes"):
        same(x, k)


@pytest.mark.parametrize(
    ("options", "span"),
    [
        ({"padding": "VALID"}, r"\(3, 3\)"),
        ({"padding": "VALID", "rhs_dilation": (1, 3)}, r"\(3, 7\)"),
        ({"padding": ((-1, 0), (1, 1))}, r"\(3, 3\)"),
        ({"padding": ((-3, 0), (1, 1))}, r"\(3, 3\)"),
    ],
)
def test_an_output_without_places_is_bad_input(options, span):
    x, k = jnp.ones((2, 2, 6, 3)), jnp.ones((3, 3, 3, 4))
    with pytest.raises(
        InputError, match=rf"lhs.shape = \(2, 2, 6, 3\): a kernel that spans {span}.*pad or enlarge"
    ):
        same(x, k, **options)


@pytest.mark.parametrize("lowering", ["auto", "product", "sum", "native"])
def test_every_forced_lowering_gives_the_same_depthwise_convolution(x64, lowering):
    x, k, g = normal(2, 6, 5, 3), normal(3, 2, 1, 3, seed=1), normal(2, 6, 5, 3, seed=2)
    depthwise = partial(same, feature_group_count=3)
    traced = str(jax.make_jaxpr(partial(depthwise, lowering=lowering))(x, k))
    words = {"auto": (0, 0), "product": (1, 0), "sum": (0, 0), "native": (0, 1)}[lowering]
    assert (traced.count("dot_general"), traced.count("conv_general_dilated[")) == words
    ours, theirs = (
        value_and_pullback(conv, x, k, g)
        for conv in (partial(depthwise, lowering=lowering), partial(lax_same, feature_group_count=3))
    )
    assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("lowering", "words"),
    [("prodct", "did you mean 'product'"), ("sum", "3 channels to 4 in 1 groups are not depthwise")],
)
def test_a_lowering_that_cannot_be_is_bad_input(lowering, words):
    with pytest.raises(InputError, match=f"lowering = '{lowering}': .*{words}"):
        same(jnp.ones((2, 6, 6, 3)), jnp.ones((3, 3, 3, 4)), lowering=lowering)


def test_an_unknown_lowering_is_bad_input_for_every_layout():
    with pytest.raises(InputError, match="did you mean 'native'"):
        conv_general_dilated(jnp.ones((2, 3, 6, 6)), jnp.ones((4, 3, 3, 3)), (1, 1), "SAME", lowering="nativ")
