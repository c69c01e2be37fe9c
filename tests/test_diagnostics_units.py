"""Dead and dormant units: NumPy recounts of whole sets in masked batches, and the laws that they obey."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import diagnostics
from jaxlab.diagnostics import units
from jaxlab.errors import InputError

LAYERS = [(9,), (4, 3, 6), (5, 8)]


def random_activations(examples, shape, seed=0):
    """ReLU-like: many zeros, unit 0 dead, unit 1 alive in one example at one position, unit 2 faint."""
    rng = np.random.default_rng(seed)
    h = np.maximum(rng.normal(size=(examples, *shape)) - 0.3, 0)
    h[..., :2] = 0
    h[(examples - 1, *(0,) * (len(shape) - 1), 1)] = 0.7
    h[..., 2] *= 0.005
    return h


def counted(h, batch, start=None):
    """Counts over every example, the last batch padded with NaN and masked."""
    padded = np.concatenate([h, np.full((-len(h) % batch, *h.shape[1:]), np.nan, h.dtype)])
    valid = np.arange(len(padded)) < len(h)
    batches = padded.reshape(-1, batch, *h.shape[1:]), valid.reshape(-1, batch)
    start = units.init(jnp.asarray(h[:batch])) if start is None else start
    return jax.lax.scan(lambda counts, b: (units.update(counts, *b), None), start, batches)[0]


def numpy_score(h):
    magnitude = np.abs(h).mean(axis=tuple(range(h.ndim - 1)))
    return magnitude / (magnitude.mean() + 1e-9)


@pytest.mark.parametrize("shape", LAYERS)
@pytest.mark.parametrize("batch", [1, 20, 53, 64])
def test_a_set_in_masked_batches_is_recounted(x64, shape, batch):
    h = random_activations(53, shape)
    counts = counted(h, batch)
    np.testing.assert_array_equal(counts.active, (h != 0).any(axis=0))
    np.testing.assert_allclose(counts.magnitude, np.abs(h).sum(axis=0), rtol=1e-13)
    assert counts.examples == 53
    dead = (h == 0).all(axis=tuple(range(h.ndim - 1)))
    np.testing.assert_array_equal(units.dead(counts), dead)
    assert dead[:3].tolist() == [True, False, False]
    np.testing.assert_allclose(units.dead_positions(counts), (h == 0).all(axis=0).mean(), rtol=1e-14)
    score = numpy_score(h)
    for tau in (0.0, 0.025, 0.5, 1.0):
        np.testing.assert_array_equal(units.dormant(counts, tau), score <= tau)


def test_dormant_threshold_is_the_score_itself(x64):
    h = random_activations(20, (4, 3, 6))
    score = numpy_score(h)
    counts = counted(h, 6)
    np.testing.assert_array_equal(units.dormant(counts, score * (1 + 1e-12)), np.ones(6, bool))
    np.testing.assert_array_equal(units.dormant(counts, score * (1 - 1e-12)), score == 0)
    assert units.dormant(counts).tolist() == [True, True, True, False, False, False]


def test_the_constant_in_the_dormant_score(x64):
    """1e-9 sits in the denominator, after the mean over units: faint layers go dormant."""
    h = np.full((4, 3), 1e-9)
    counts = counted(h, 4)
    assert not units.dormant(counts, 0.499).any()
    assert units.dormant(counts, 0.501).all()


def test_a_silent_layer_is_dead_and_dormant():
    counts = counted(np.zeros((10, 4, 3, 6), np.float32), 4)
    assert units.dead(counts).all()
    assert units.dormant(counts, 0.0).all()
    assert units.dead_positions(counts) == 1


def test_a_channel_dies_only_at_every_position():
    h = np.zeros((8, 2, 2, 3), np.float32)
    h[5, 1, 0, 1] = -1e-20
    h[:, :, :, 2] = 1
    counts = counted(h, 3)
    assert units.dead(counts).tolist() == [True, False, False]
    assert units.dead_positions(counts) == np.float32((4 + 3) / 12)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e30])
def test_masked_examples_leave_no_trace(garbage):
    h = random_activations(12, (3, 5)).astype(np.float32)
    spoiled, valid = h.copy(), np.arange(12) % 3 != 0
    spoiled[~valid] = garbage
    start = units.init(jnp.asarray(h))
    counts = units.update(start, spoiled, valid)
    alone = units.update(start, h[valid], np.ones(valid.sum(), bool))
    np.testing.assert_array_equal(counts.active, alone.active)
    np.testing.assert_allclose(counts.magnitude, alone.magnitude, rtol=1e-6)
    assert counts.examples == alone.examples == 8


def test_sums_over_many_examples_stay_sound():
    """float32 against float64 over 2,000 batches: far within what a threshold of 0.025 can feel."""
    h = np.random.default_rng(0).exponential(size=(64_000, 8)).astype(np.float32)
    counts = counted(h, 32)
    np.testing.assert_allclose(counts.magnitude, h.astype(np.float64).sum(axis=0), rtol=2e-5)
    half = counted(h.astype(jnp.bfloat16), 32)
    assert half.magnitude.dtype == jnp.float32
    np.testing.assert_allclose(half.magnitude, h.astype(np.float64).sum(axis=0), rtol=1e-3)


def test_more_terms_than_an_int32_holds():
    """65,536 examples of 256×256 positions: 2³², which wraps to 0."""
    counts = units.UnitCounts(
        magnitude=jnp.broadcast_to(jnp.array([1.0, 0.01]) * 65_536, (256, 256, 2)),
        examples=jnp.array(65_536, jnp.int32),
    )
    assert units.dormant(counts).tolist() == [False, True]
    score = 0.01 / 0.505
    assert units.dormant(counts, score * 1.001).tolist() == [False, True]
    assert units.dormant(counts, score * 0.999).tolist() == [False, False]


def test_mapped_over_trials_and_from_shapes():
    trials = np.stack([random_activations(20, (4, 6), seed) for seed in range(3)]).astype(np.float32)
    start = units.init(jax.eval_shape(lambda h: h, jax.ShapeDtypeStruct((7, 4, 6), jnp.bfloat16)))
    outline = jax.eval_shape(units.init, jnp.zeros((7, 4, 6)))
    assert jax.tree.map(jnp.shape, start) == jax.tree.map(jnp.shape, outline)
    valid = np.ones(20, bool)
    counts = jax.jit(jax.vmap(lambda h: units.update(start, h, valid)))(trials)
    for read in (units.dead, units.dead_positions, units.dormant):
        mapped = jax.vmap(read)(counts)
        for i, h in enumerate(trials):
            np.testing.assert_allclose(mapped[i], read(units.update(start, h, valid)), rtol=1e-6)


def test_births_and_deaths(x64):
    rng = np.random.default_rng(0)
    before, after = rng.random((2, 40)) < 0.5
    assert units.died(before, after) == sum(not b and a for b, a in zip(before, after, strict=True))
    assert units.revived(before, after) == sum(b and not a for b, a in zip(before, after, strict=True))
    assert units.died(before, after).dtype == units.revived(before, after).dtype == jnp.int32
    assert units.died(before, after) - units.revived(before, after) == after.sum() - before.sum()


def test_died_at():
    dead = np.array([[1, 0, 0, 1, 0], [1, 0, 1, 0, 0], [1, 1, 0, 1, 0], [1, 1, 0, 1, 1]], bool)
    since = jax.jit(units.died_at)(dead)
    assert since.tolist() == [0, 2, -1, 2, 3]
    assert since.dtype == jnp.int32
    # Repeating the last epoch, as for a trial that stopped, changes nothing.
    assert units.died_at(np.concatenate([dead, dead[-1:]])).tolist() == since.tolist()


def relu_layers(key, x, width, depth):
    layers = []
    for key_l in jax.random.split(key, depth):
        kernel = jax.random.normal(key_l, (x.shape[-1], width)) * np.sqrt(2 / width)
        x = jax.nn.relu(x @ kernel)
        layers.append(x)
    return layers


@pytest.mark.parametrize(("width", "depth", "expected"), [(2, 10, 0.9437), (4, 10, 0.4755)])
def test_law_of_a_whole_layer_dead_at_initialisation(width, depth, expected):
    """One example, zero biases, symmetric weights: P(some layer all dead) = 1 - (1 - 2^-n)^L."""
    law = 1 - (1 - 0.5**width) ** depth
    np.testing.assert_allclose(law, expected, atol=5e-5)
    trials = 4000

    def some_layer_is_dead(key):
        layers = relu_layers(key, jnp.ones((1, 3)), width, depth)
        counts = [units.update(units.init(h), h, jnp.ones(1, bool)) for h in layers]
        return jnp.any(jnp.stack([jnp.all(units.dead(c)) for c in counts]))

    share = jnp.mean(jax.jit(jax.vmap(some_layer_is_dead))(jax.random.split(jax.random.key(0), trials)))
    assert abs(share - law) < 3 * np.sqrt(law * (1 - law) / trials)


def test_a_dead_unit_gets_no_gradient():
    rng = np.random.default_rng(0)
    x, y = jnp.asarray(rng.normal(size=(50, 4))), jnp.asarray(rng.integers(3, size=50))
    bias = jnp.asarray(np.where(np.arange(8) % 3 == 0, -30.0, 0.0))
    params = {
        "first": (jnp.asarray(rng.normal(size=(4, 8))), bias),
        "second": (jnp.asarray(rng.normal(size=(8, 3))), jnp.zeros(3)),
    }

    def loss(params):
        hidden = jax.nn.relu(x @ params["first"][0] + params["first"][1][None, :])
        logits = hidden @ params["second"][0] + params["second"][1][None, :]
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(50), y]), hidden

    gradient, hidden = jax.grad(loss, has_aux=True)(params)
    dead = np.asarray(units.dead(counted(np.asarray(hidden), 16)))
    assert dead.tolist() == (np.arange(8) % 3 == 0).tolist()
    kernel, bias = gradient["first"]
    np.testing.assert_array_equal(np.asarray(kernel)[:, dead], 0)
    np.testing.assert_array_equal(np.asarray(bias)[dead], 0)
    assert (np.abs(np.asarray(kernel)[:, ~dead]).max(axis=0) > 1e-4).all()


def numpy_effective_rank(h):
    sigma = np.linalg.svd(h.reshape(len(h), -1).astype(np.float64), compute_uv=False)
    p = sigma[sigma > 0] / sigma.sum()
    return np.exp(-(p * np.log(p)).sum())


@pytest.mark.parametrize("shape", [(20, 7), (6, 30), (20, 3, 4, 2)])
def test_effective_rank_recounts(x64, shape):
    h = random_activations(shape[0], shape[1:]) if shape[-1] > 2 else np.random.default_rng(0).random(shape)
    np.testing.assert_allclose(diagnostics.effective_rank(h), numpy_effective_rank(h), rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1.0, 1e20, 1e38])
def test_effective_rank_at_any_scale(scale):
    h = np.random.default_rng(0).uniform(size=(12, 5))
    value = diagnostics.effective_rank((scale * h).astype(np.float32))
    np.testing.assert_allclose(value, numpy_effective_rank(h), rtol=1e-4)


@pytest.mark.parametrize(
    ("h", "expected"),
    [
        (np.eye(6), 6),
        (np.ones((9, 4)), 1),
        (np.zeros((9, 4)), 0),
        (np.diag([3.0, 1.0]), 4 / 27**0.25),
        (np.full((3, 2), np.nan), np.nan),
        (np.array([[1.0, np.inf], [0, 1]]), np.nan),
        # A map that is constant over positions: four channels, whatever the size of the image.
        (np.broadcast_to(np.eye(4)[:, None, None, :], (4, 5, 5, 4)), 4),
    ],
)
def test_effective_rank_of_known_matrices(h, expected):
    np.testing.assert_allclose(jax.jit(diagnostics.effective_rank)(h), expected, rtol=1e-5)


def test_effective_rank_ignores_masked_rows_and_its_neighbours():
    h = np.random.default_rng(1).random((10, 4)).astype(np.float32)
    masked = np.concatenate([h, np.zeros((5, 4), np.float32)])
    expected = numpy_effective_rank(h)
    np.testing.assert_allclose(diagnostics.effective_rank(masked), expected, rtol=1e-5)
    trials = np.stack([h, np.full_like(h, np.nan), np.zeros_like(h), h])
    ranks = jax.jit(jax.vmap(diagnostics.effective_rank))(trials)
    np.testing.assert_allclose(ranks, [expected, np.nan, 0, expected], rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: units.init(jnp.zeros(3)), r"h = \(3,\): give activations \[B, units\]"),
        (
            lambda: units.update(units.init(jnp.zeros((2, 5, 3))), np.zeros((2, 3)), np.ones(2, bool)),
            r"\[B, 5, 3\]",
        ),
        (lambda: units.update(units.init(jnp.zeros((2, 3))), np.zeros((2, 3)), np.ones(3, bool)), "a mask"),
        (lambda: units.effective_rank(np.zeros(3)), r"h = \(3,\): give activations \[N, units\]"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()
