"""Custom optimizers: what an Optax transform may do in a study."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from small import Plain, grid, plain_model
from test_reading import SMALL, its

from jaxlab import Study, load_model


def labelled(configuration, hyperparameters):
    """Steps of the last layer alone, by a label for each of the model's names."""
    labels = {"first": "fixed", "norm": "fixed", "last": "free"}
    parts = {"free": optax.sgd(hyperparameters.learning_rate), "fixed": optax.set_to_zero()}
    return optax.multi_transform(
        parts,
        lambda parameters: jax.tree_util.tree_map_with_path(
            lambda path, leaf: labels[path[0].key], parameters
        ),
    )


@pytest.mark.parametrize("steps", [1, 3])
def test_an_optimizer_may_begin_with_an_infinite_value(steps):
    """As the best loss so far does, for the first steps or several epochs; an overflow later is divergence."""

    def plateau(configuration, hyperparameters):
        reduce = optax.contrib.reduce_on_plateau(accumulation_size=steps)
        return optax.chain(optax.scale(hyperparameters.size), optax.scale_by_adam(), optax.sgd(0.1), reduce)

    results = its(
        grid(size=[1.0, 1e30]), 2, {"size": 1.0}, model="mlp", features=[4], optimizer=plateau
    ).run()
    assert results.outcome.values.tolist() == ["completed", "diverged"]
    assert results.first_bad_step.values.tolist() == [-1, 1]
    assert results.train_loss[0, 2] < results.train_loss[0, 0]


def masked(configuration, hyperparameters):
    """The same by a mask in the shape of the model's parameters."""
    parameters = nnx.state(nnx.eval_shape(lambda: Plain(nnx.Rngs(0))), nnx.Param)
    others = jax.tree_util.tree_map_with_path(lambda path, leaf: path[0].key != "last", parameters)
    return optax.chain(optax.sgd(hyperparameters.learning_rate), optax.masked(optax.set_to_zero(), others))


@pytest.mark.parametrize("optimizer", [labelled, masked])
def test_an_optimizer_may_look_at_the_parameters_names(optimizer, tmp_path):
    static = {"batch_size": 32, "model": plain_model, "optimizer": optimizer}
    Study(SMALL, grid(learning_rate=[0.1]), 1, static, keep="last").run(tmp_path / "run")
    model = load_model(tmp_path / "run", 0, functions={"model": plain_model})
    before = Plain(nnx.Rngs(jax.random.key(0)))
    np.testing.assert_allclose(model.first.kernel[...], before.first.kernel[...], atol=1e-6)
    assert np.abs(model.last.kernel[...] - before.last.kernel[...]).max() > 1e-2


@pytest.mark.parametrize("microbatch", [None, 16])
def test_an_optimizer_gets_the_loss_and_the_gradient(microbatch):
    def polyak(configuration, hyperparameters):
        return optax.chain(seen(), optax.polyak_sgd(max_learning_rate=hyperparameters.learning_rate))

    results = its(
        grid(learning_rate=[0.1]),
        2,
        model="mlp",
        features=[4],
        optimizer=polyak,
        microbatch=microbatch,
        step_losses=True,
    ).run()
    assert results.outcome.values.tolist() == ["completed"]
    assert results.train_loss[0, 2] < results.train_loss[0, 0]


def seen():
    """Updates that are NaN unless the loss is positive and the gradient that of the loss."""

    def update(updates, state, parameters=None, *, value, grad, **others):
        same = optax.tree.norm(optax.tree.sub(updates, grad)) == 0
        return jax.tree.map(lambda each: jnp.where((value > 0) & same, each, jnp.nan), updates), state

    return optax.GradientTransformationExtraArgs(lambda parameters: optax.EmptyState(), update)
