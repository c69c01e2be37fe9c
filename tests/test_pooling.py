import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxlab.errors import InputError
from jaxlab.pooling import avg_pool, max_pool

# Windows that tile, that tile with a remainder, that overlap, that skip; 1-D and 2-D.
CASES = [
    ((6, 6), (2, 2), (2, 2), "VALID"),
    ((7, 5), (3, 2), (3, 2), "VALID"),
    ((7, 7), (2, 2), (2, 2), "SAME"),
    ((7, 6), (3, 3), (2, 2), "SAME"),
    ((7, 6), (3, 2), (2, 2), "SAME_LOWER"),
    ((6, 7), (3, 2), None, ((1, 0), (2, 1))),
    ((9, 8), (2, 2), (3, 4), "VALID"),
    ((9,), (3,), (3,), "VALID"),
    ((9,), (3,), (2,), "SAME"),
]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@st.composite
def geometries(draw):
    n = draw(st.integers(1, 2))
    spatial = draw(st.tuples(*[st.integers(4, 7)] * n))
    window = draw(st.tuples(*[st.integers(1, 3)] * n))
    strides = draw(st.one_of(st.none(), st.just(window), st.tuples(*[st.integers(1, 3)] * n)))
    pairs = st.tuples(*[st.tuples(st.integers(0, 1), st.integers(0, 1))] * n)
    padding = draw(st.one_of(st.sampled_from(["VALID", "SAME", "SAME_LOWER"]), pairs))
    return spatial, window, strides, padding


def everything(max_pool, avg_pool, pooling, include, x, g):
    """Values of both pools, and their gradients against the cotangent g."""
    y, pull = jax.vjp(lambda x: max_pool(x, *pooling), x)
    z, push = jax.vjp(lambda x: avg_pool(x, *pooling, include), x)
    return y, z, pull(g), push(g)


@settings(deadline=None, max_examples=10)
@given(geometry=geometries(), batch=st.sampled_from([(), (2,)]), include=st.booleans())
@example(geometry=((6, 7), (3, 2), (2, 1), "SAME"), batch=(2,), include=False)
@example(geometry=((7, 7), (2, 3), (2, 3), ((1, 0), (0, 2))), batch=(), include=False)
def test_values_and_gradients_without_ties_are_those_of_flax(geometry, batch, include):
    spatial, *pooling = geometry
    with jax.enable_x64(True):
        x = normal(*batch, *spatial, 3)
        g = normal(*jax.eval_shape(lambda x: nnx.max_pool(x, *pooling), x).shape, seed=1)
        y, *ours = jax.jit(lambda x, g: everything(max_pool, avg_pool, pooling, include, x, g))(x, g)
        z, *theirs = jax.jit(lambda x, g: everything(nnx.max_pool, nnx.avg_pool, pooling, include, x, g))(
            x, g
        )
        np.testing.assert_array_equal(y, z)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), ours, theirs)


@pytest.mark.parametrize(("include", "ends"), [(True, 2 / 3), (False, 1)])
def test_padding_counts_or_not(include, ends):
    y = avg_pool(jnp.ones((1, 4, 1)), (3,), padding="SAME", count_include_pad=include)
    np.testing.assert_allclose(y[0, :, 0], [ends, 1, 1, ends], rtol=1e-6)


def test_windows_that_tile_are_not_copied_one_by_one():
    def program(strides):
        return str(jax.make_jaxpr(lambda x: max_pool(x, (2, 2), strides))(jnp.ones((1, 5, 5, 1))))

    assert "reshape" not in program((1, 2))
    assert "reshape" in program((2, 2))


@pytest.mark.parametrize("strides", [(2, 2), (1, 2)])
def test_any_number_of_batch_axes(strides):
    x = normal(2, 3, 5, 6, 2).astype(np.float32)
    for pool in (max_pool, lambda *a: avg_pool(*a, padding="SAME", count_include_pad=False)):
        flat = pool(x.reshape(6, 5, 6, 2), (2, 2), strides)
        np.testing.assert_array_equal(pool(x, (2, 2), strides), flat.reshape(2, 3, *flat.shape[1:]))


@pytest.mark.parametrize(("spatial", "window", "strides", "padding"), CASES)
def test_at_a_tie_the_gradient_goes_where_flax_sends_it(x64, spatial, window, strides, padding):
    # Few distinct values, hence ties; distinct cotangents, so that a wrong place shows.
    x = np.random.default_rng(2).integers(0, 3, size=(2, *spatial, 2)).astype(float)
    g = normal(*jax.eval_shape(lambda x: max_pool(x, window, strides, padding), x).shape)

    def gradient(pool):
        return jax.jit(jax.grad(lambda x: (g * pool(x, window, strides, padding)).sum()))(x)

    np.testing.assert_allclose(gradient(max_pool), gradient(nnx.max_pool), rtol=1e-12, atol=1e-14)


def test_the_first_of_four_equal_elements_gets_the_gradient():
    x = jnp.ones((1, 2, 2, 1))
    for strides in [(2, 2), (1, 1)]:
        g = jax.grad(lambda x, s=strides: max_pool(x, (2, 2), s).sum())(x)
        np.testing.assert_array_equal(g[0, :, :, 0], [[1, 0], [0, 0]])


@pytest.mark.parametrize("level", [0, 1])
def test_the_gradient_survives_a_compiler_that_computes_its_input_anew(level):
    def loss(x):
        scale = jnp.sqrt(jnp.mean(x * x, axis=(0, 1, 2), keepdims=True) + 1e-5)
        return jnp.sum(max_pool(jax.nn.relu(x / scale * 1.1 + 0.3), (2, 2), (2, 2)) ** 2)

    x = jnp.asarray(normal(4, 8, 8, 3), jnp.float32)
    options = {"xla_backend_optimization_level": level}
    found = jax.jit(jax.grad(loss)).lower(x).compile(compiler_options=options)(x)
    np.testing.assert_allclose(found, jax.jit(jax.grad(loss))(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("spatial", "window", "strides", "padding"), CASES)
@pytest.mark.parametrize("pool", [max_pool, avg_pool])
def test_neither_the_pool_nor_its_gradient_reduces_windows(pool, spatial, window, strides, padding):
    x = jnp.ones((2, *spatial, 3))

    def loss(x):
        return pool(x, window, strides, padding).sum()

    program = jax.jit(jax.vmap(jax.value_and_grad(loss))).lower(x[None])
    for text in (str(jax.make_jaxpr(jax.grad(loss))(x)), program.as_text()):
        assert "reduce_window" not in text
        assert "select_and" not in text
        assert "gather" not in text


def test_the_gradient_of_nan_goes_to_the_first_nan():
    x = jnp.array([1.0, jnp.nan, 2.0, jnp.nan]).reshape(1, 4, 1)
    gradient = jax.grad(lambda x: max_pool(x, (4,), (4,)).sum())(x)
    np.testing.assert_array_equal(gradient.ravel(), [0, 1, 0, 0])


def test_the_maximum_of_nan_is_nan_and_of_minus_infinity_is_itself():
    x = jnp.asarray([[[jnp.nan], [1.0], [-jnp.inf], [-jnp.inf]]])
    for strides in [(2,), (1,)]:
        y = max_pool(x, (2,), strides)
        np.testing.assert_array_equal(y, nnx.max_pool(x, (2,), strides))
        assert np.isnan(y[0, 0, 0])
        assert y[0, -1, 0] == -np.inf


@pytest.mark.parametrize("pool", [max_pool, avg_pool])
def test_the_dtype_stays(pool):
    x = jnp.asarray(normal(2, 5, 5, 3), jnp.bfloat16)
    assert pool(x, (2, 2), (2, 2)).dtype == jnp.bfloat16
    y = pool(x, (3, 3), padding="SAME")
    assert y.dtype == jnp.bfloat16
    theirs = getattr(nnx, pool.__name__)(x, (3, 3), padding="SAME")
    np.testing.assert_allclose(y.astype(float), theirs.astype(float), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("strides", [(2, 2), (1, 2)])
@pytest.mark.parametrize("pool", [max_pool, avg_pool])
def test_mapped_forward_over_reverse(x64, pool, strides):
    # f(x) = Σ p(x)³ / 6 has the curvature Pᵀ diag(p) P, P the Jacobian of the pool.
    x, v = normal(3, 4, 4, 2), normal(3, 4, 4, 2, seed=1)

    def curvature(x, v):
        return jax.jvp(jax.grad(lambda x: (pool(x, (2, 2), strides) ** 3).sum() / 6), (x,), (v,))[1]

    ours = jax.jit(jax.vmap(curvature))(x, v)
    values, jacobian = jax.jit(
        jax.vmap(lambda x: (pool(x, (2, 2), strides), jax.jacobian(lambda x: pool(x, (2, 2), strides))(x)))
    )(x)
    for i in range(3):
        p, P = np.ravel(values[i]), np.reshape(jacobian[i], (values[i].size, -1))
        np.testing.assert_allclose(np.ravel(ours[i]), P.T @ (p * (P @ v[i].ravel())), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("window_shape", ((7, 2),)),
        ("window_shape", ((2, 0),)),
        ("window_shape", ((2, 2, 2, 2),)),
        ("window_shape", ((2, 2), None, ((-3, 0), (-3, -1)))),
        ("strides", ((2, 2), (2,))),
        ("strides", ((2, 2), (0, 1))),
        ("padding", ((2, 2), None, "same-ish")),
        ("padding", ((2, 2), None, ((1, 1),))),
        ("padding", ((2, 2), None, ((1, 1), (1,)))),
    ],
)
@pytest.mark.parametrize("pool", [max_pool, avg_pool])
def test_bad_input_names_its_field(pool, field, arguments):
    with pytest.raises(InputError, match=f"^{field} = .*(give|smaller)") as caught:
        pool(jnp.ones((1, 5, 5, 1)), *arguments)
    assert caught.value.field == field


def test_integers_are_refused():
    with pytest.raises(InputError, match=r"x.dtype = 'uint8'.*astype"):
        max_pool(jnp.ones((1, 4, 4, 1), jnp.uint8), (2, 2))
