"""Augmentations against a recount in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab.datasets import AUGMENTATIONS, flip, shift
from jaxlab.errors import InputError


def batch(shape, dtype):
    """Every value differs and none is 0, so each move can be told from the result."""
    values = 1 + np.arange(np.prod(shape)) % 250
    return jnp.asarray(values.reshape(shape), dtype)


def moved(image, distances):
    """``image`` [*spatial, C] moved by whole distances, zeros outside: one value at a time."""
    out = np.zeros_like(image)
    for place in np.ndindex(image.shape[:-1]):
        source = tuple(np.subtract(place, distances))
        if all(0 <= i < size for i, size in zip(source, image.shape[:-1], strict=True)):
            out[place] = image[source]
    return out


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
    ("shape", "pixels"), [((20, 5, 4, 2), 1), ((20, 5, 4, 2), 3), ((12, 7, 1), 2), ((3, 4, 4, 1), 0)]
)
def test_shift_is_a_move_with_zeros(shape, pixels, dtype):
    x = batch(shape, dtype)
    y = jax.jit(shift, static_argnames="pixels")(jax.random.key(0), x, pixels=pixels)
    assert y.dtype == x.dtype
    steps = range(-pixels, pixels + 1)
    moves = [(i,) for i in steps] if len(shape) == 3 else [(i, j) for i in steps for j in steps]
    for before, after in zip(np.asarray(x), np.asarray(y), strict=True):
        assert sum(np.array_equal(moved(before, move), after) for move in moves) == 1


def test_shift_draws_every_move_equally_often_and_apart_from_the_other_axis():
    x = jnp.zeros((9000, 5, 5, 1), jnp.uint8).at[:, 2, 2].set(1)
    y = np.asarray(jax.jit(shift)(jax.random.key(1), x)).sum(axis=0)[..., 0]
    assert y[[0, -1]].sum() + y[:, [0, -1]].sum() == 0
    counts = y[1:4, 1:4].ravel().astype(float)
    assert counts.sum() == 9000
    assert ((counts - 1000) ** 2 / 1000).sum() < 26.1  # chi-squared with 8 degrees of freedom, p = 0.001


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.float32])
@pytest.mark.parametrize("shape", [(200, 3, 4, 2), (200, 4, 2)])
def test_flip_mirrors_half_of_the_examples(shape, dtype):
    x = batch(shape, dtype)
    y = np.asarray(jax.jit(flip)(jax.random.key(0), x))
    assert y.dtype == dtype
    x = np.asarray(x)
    mirrored = np.array([np.array_equal(a[..., ::-1, :], b) for a, b in zip(x, y, strict=True)])
    same = np.array([np.array_equal(a, b) for a, b in zip(x, y, strict=True)])
    assert (mirrored ^ same).all()
    assert 70 < mirrored.sum() < 130


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_the_key_decides_and_vmap_agrees_with_a_loop(name):
    function = jax.jit(AUGMENTATIONS[name])
    x = batch((16, 6, 6, 1), jnp.uint8)
    keys = jax.random.split(jax.random.key(3), 4)
    looped = jnp.stack([function(key, x) for key in keys])
    np.testing.assert_array_equal(jax.jit(jax.vmap(function, (0, None)))(keys, x), looped)
    np.testing.assert_array_equal(function(keys[0], x), looped[0])
    assert len({np.asarray(each).tobytes() for each in looped}) == 4


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_nothing_gathers_with_a_key_per_trial(name):
    function = jax.jit(jax.vmap(AUGMENTATIONS[name], (0, None)))
    keys = jax.random.split(jax.random.key(0), 3)
    assert "gather" not in function.lower(keys, batch((8, 6, 6, 1), jnp.uint8)).as_text()


@pytest.mark.parametrize("pixels", [-1, 4, True])
def test_bad_pixels(pixels):
    with pytest.raises(InputError, match="whole number from 0 to 3") as error:
        shift(jax.random.key(0), batch((2, 5, 4, 1), jnp.uint8), pixels)
    assert error.value.field == "pixels"


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_inputs_without_a_spatial_axis(name):
    with pytest.raises(InputError, match="at least one spatial axis"):
        AUGMENTATIONS[name](jax.random.key(0), jnp.ones((3, 4)))
