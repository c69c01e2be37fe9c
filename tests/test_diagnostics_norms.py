"""Norms and angles of trees: float64 recounts, and entries whose squares leave float32's range."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from jaxlab import diagnostics
from jaxlab.errors import InputError

nan, inf = np.nan, np.inf


def random_tree(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return {
        "kernel": jnp.asarray(scale * rng.normal(size=(7, 5))),
        "deep": [jnp.asarray(scale * rng.normal(size=11)), jnp.asarray(scale * rng.normal(size=(2, 3, 4)))],
        "scalar": jnp.asarray(scale * rng.normal()),
    }


def flat(tree):
    return np.asarray(ravel_pytree(tree)[0], np.float64)


def test_global_norm_is_numpys_and_optaxs(x64):
    tree = random_tree(0)
    np.testing.assert_allclose(diagnostics.global_norm(tree), np.linalg.norm(flat(tree)), rtol=1e-14)
    np.testing.assert_allclose(diagnostics.global_norm(tree), optax.tree.norm(tree), rtol=1e-14)


@pytest.mark.parametrize("scale", [1e-34, 1e-30, 1e-20, 1.0, 1e20, 1e30, 2e37])
def test_squares_neither_overflow_nor_vanish(scale):
    a, b = random_tree(0, scale), random_tree(1)
    np.testing.assert_allclose(diagnostics.global_norm(a), np.linalg.norm(flat(a)), rtol=1e-6)
    expected = flat(a) @ flat(b) / np.linalg.norm(flat(a)) / np.linalg.norm(flat(b))
    np.testing.assert_allclose(diagnostics.cosine(a, b), expected, rtol=1e-5)
    np.testing.assert_allclose(
        diagnostics.update_ratio(a, b), np.linalg.norm(flat(a)) / np.linalg.norm(flat(b)), rtol=1e-6
    )


def test_norms_of_the_largest_and_smallest_numbers():
    for size in (jnp.finfo(jnp.float32).max, jnp.finfo(jnp.float32).tiny):
        tree = {"w": jnp.array([size, 0.0]), "b": jnp.zeros((2, 2))}
        assert diagnostics.global_norm(tree) == size
        np.testing.assert_allclose(diagnostics.cosine(tree, tree), 1, rtol=1e-6)


def test_global_norm_widens_half_precision():
    tree = {"w": jnp.full(160_000, 100, jnp.float16)}
    norm = diagnostics.global_norm(tree)
    assert norm.dtype == jnp.float32
    assert norm == 40_000


def test_integers_and_random_keys_are_passed_over():
    tree = random_tree(0)
    more = tree | {"count": jnp.arange(5), "key": jax.random.key(0), "nothing": None}
    assert diagnostics.global_norm(more) == diagnostics.global_norm(tree)
    assert diagnostics.cosine(more, more) == diagnostics.cosine(tree, tree)
    assert diagnostics.global_norm({"key": jax.random.key(0)}) == 0


@pytest.mark.parametrize(("entry", "norm"), [(inf, inf), (-inf, inf), (nan, nan)])
def test_entries_that_are_not_finite_show(entry, norm):
    tree = random_tree(0)
    bad = tree | {"kernel": tree["kernel"].at[3, 2].set(entry)}
    np.testing.assert_array_equal(diagnostics.global_norm(bad), norm)
    zeros = jax.tree.map(jnp.zeros_like, tree)
    for other in (tree, zeros):
        assert np.isnan(diagnostics.cosine(bad, other))
        assert np.isnan(diagnostics.cosine(other, bad))


def test_zero_trees():
    tree = random_tree(0)
    zeros = jax.tree.map(jnp.zeros_like, tree)
    assert diagnostics.global_norm(zeros) == 0
    assert diagnostics.cosine(tree, zeros) == 0
    assert diagnostics.cosine(zeros, zeros) == 0
    assert diagnostics.update_ratio(zeros, tree) == 0
    assert diagnostics.update_ratio(zeros, zeros) == 0
    assert diagnostics.update_ratio(tree, zeros) == inf


def test_gradient_of_the_norm_is_the_direction(x64):
    tree = random_tree(2)
    gradient = jax.grad(diagnostics.global_norm)(tree)
    np.testing.assert_allclose(flat(gradient), flat(tree) / np.linalg.norm(flat(tree)), rtol=1e-13)
    zeros = jax.tree.map(jnp.zeros_like, tree)
    np.testing.assert_array_equal(flat(jax.grad(diagnostics.global_norm)(zeros)), 0)


@pytest.mark.parametrize("factor", [1.0, 3.0, 1e-25, -1.0, -0.7])
def test_cosine_of_parallel_trees_stays_within_one(factor):
    tree = random_tree(3)
    value = diagnostics.cosine(tree, jax.tree.map(lambda x: factor * x, tree))
    assert abs(value) <= 1
    np.testing.assert_allclose(value, np.sign(factor), rtol=1e-6)


def test_zero_fraction_counts_kernels_alone():
    params = {
        "kernel": jnp.array([[0.0, 1.0, -0.0], [2.0, 1e-30, 0.0]]),
        "conv": jnp.zeros((1, 1, 1, 2)),
        "bias": jnp.zeros(100),
        "indices": jnp.zeros((5, 5), int),
    }
    assert diagnostics.zero_fraction(params) == 5 / 8
    assert np.isnan(diagnostics.zero_fraction({"bias": jnp.zeros(3)}))


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: diagnostics.global_norm(a),
        diagnostics.update_ratio,
        diagnostics.cosine,
        lambda a, b: diagnostics.zero_fraction(a),
    ],
)
def test_mapped_over_trials_and_compiled(function):
    pairs = [(random_tree(i, 10.0**i), random_tree(i + 9)) for i in range(4)]
    pairs.append(jax.tree.map(lambda x: jnp.full_like(x, nan), pairs[0]))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *pairs)
    mapped = jax.jit(jax.vmap(function))(*stacked)
    np.testing.assert_allclose(mapped, [function(*pair) for pair in pairs], rtol=1e-5)


@pytest.mark.parametrize("other", [{"w": jnp.ones(3)}, {"v": jnp.ones(2)}, [jnp.ones(2)]])
def test_bad_input(other):
    with pytest.raises(InputError, match=r"tree_b = .*same structure and shapes"):
        diagnostics.cosine({"w": jnp.ones(2)}, other)
