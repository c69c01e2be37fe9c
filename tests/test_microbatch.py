"""Gradients taken a few examples at a time: the same gradient, and where it is done."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import grid, study

from jaxlab.engine import fingerprint
from jaxlab.errors import InputError
from jaxlab.losses import LOSSES
from jaxlab.models import MLP
from jaxlab.trial.microbatch import evaluation_size, loss_and_gradient, microbatch_size

LAYERS = {"conv_0": (2, 28, 28, 16), "conv_1": (2, 14, 14, 32)}


@pytest.mark.parametrize("size", [1, 3, 4, 12])
def test_the_gradient_is_that_of_the_whole_batch(x64, size):
    rng = np.random.default_rng(0)
    batch = rng.normal(size=(12, 5)), rng.normal(size=(12,))
    weights = {"w": jnp.asarray(rng.normal(size=5))}

    def loss_of(weights, seen, batch):
        inputs, targets = batch
        return jnp.mean(jnp.tanh(inputs @ weights["w"] - targets) ** 2), seen + len(targets)

    loss, seen, gradient = jax.jit(lambda w: loss_and_gradient(loss_of, w, jnp.array(0), batch, size))(
        weights
    )
    whole, expected = jax.value_and_grad(lambda w: loss_of(w, 0, batch)[0])(weights)
    assert seen == 12
    np.testing.assert_allclose(loss, whole, rtol=1e-13)
    np.testing.assert_allclose(gradient["w"], expected["w"], rtol=1e-12)


@pytest.mark.parametrize(
    ("asked", "separable", "backend", "layers", "size"),
    [
        (None, True, "cpu", LAYERS, 16),  # 75,264 bytes of post-activations an example
        (None, True, "cpu", {"dense_0": (2, 64)}, 128),
        (None, True, "cpu", {"conv_0": (2, 1024, 1024, 64)}, 1),
        (None, True, "cpu", {"conv_0": (2, 32, 32, 56)}, 16),  # 5 fit, and 16 fill vectors
        (None, True, "cpu", {}, 128),
        (None, False, "cpu", LAYERS, 128),
        (None, True, "gpu", LAYERS, 128),
        (32, False, "gpu", LAYERS, 32),
    ],
)
def test_size(asked, separable, backend, layers, size):
    assert microbatch_size(asked, 128, layers, separable, backend) == size


@pytest.mark.parametrize(("batch", "size"), [(127, 127), (106, 53), (100, 20), (96, 16), (17, 17), (5, 5)])
def test_batch_sizes_with_few_divisors(batch, size):
    """17 fit: never one by one, never less than a vector of 16, never much more than fits if a divisor allows it."""
    assert microbatch_size(None, batch, LAYERS, True, "cpu") == size


@pytest.mark.parametrize(
    ("asked", "backend", "layers", "size"),
    [
        (None, "cpu", LAYERS, 16),  # 17 fit, and 16 fill vectors
        (
            None,
            "cpu",
            {"conv_0": (2, 32, 32, 56)},
            16,
        ),  # 5 fit; more than 8 times the cache would be too much
        (None, "cpu", {"conv_0": (2, 96, 96, 32)}, 1),
        (None, "cpu", {"dense_0": (2, 64)}, 512),
        (None, "cpu", {"conv_0": (2, 1024, 1024, 64)}, 1),
        (None, "tpu", LAYERS, 512),
        (100, "cpu", LAYERS, 100),
    ],
)
def test_size_of_the_evaluation(asked, backend, layers, size):
    assert evaluation_size(asked, layers, backend) == size


def test_a_size_that_does_not_divide_the_batch_is_bad_input():
    with pytest.raises(InputError, match=r"configuration.microbatch = 5: .* divides the batch size, 32"):
        study(grid(learning_rate=[1e-3]), microbatch=5).run()


def test_a_study_learns_the_same():
    results = [study(grid(learning_rate=[1e-3]), microbatch=size, step_losses=True).run() for size in (8, 32)]
    np.testing.assert_allclose(results[0].step_loss, results[1].step_loss, rtol=1e-5)
    assert not np.array_equal(results[0].step_loss, results[1].step_loss, equal_nan=True)


def own_loss(outputs, targets):
    return LOSSES["cross_entropy"](outputs, targets) / jnp.mean(targets == targets[0])


def own_model(configuration, hyperparameters, rngs):
    return MLP((8, 8, 1), 10, features=[3000], rngs=rngs)


def program(**configuration):
    """The digest of a study whose minibatch of 128 examples has more post-activations than the cache holds."""
    wide = study(grid(learning_rate=[1e-3]), 1, batch_size=128, **configuration)
    (group,) = wide.groups
    return fingerprint(wide.trial_of(group), group.hyperparameters, wide.arrays)


def test_a_built_in_model_sees_a_large_batch_in_parts():
    wide = {"model": "mlp", "features": [3000]}
    assert program(**wide) == program(**wide, microbatch=64) != program(**wide, microbatch=128)


@pytest.mark.parametrize(
    "configuration",
    [
        {"model": own_model},
        {"model": "mlp", "features": [3000], "batch_norm": True},
        {"features": [48], "dropout": True},
        {"model": "mlp", "features": [3000], "loss": own_loss},
    ],
)
def test_models_that_may_couple_examples_see_the_whole_batch(configuration):
    assert program(**configuration) == program(**configuration, microbatch=128)
