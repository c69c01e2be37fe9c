"""One supervised trial: against a plain loop, against recounts, and its contracts inside a pack."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from small import Plain, digits, grid, plain_model, rows, study

from jaxlab import Study, datasets
from jaxlab.errors import InputError
from jaxlab.metrics import better
from jaxlab.models import CNN
from jaxlab.settings import Configuration, Hyperparameters


def plain_loop(data, rate, l2, seed, epochs, batch_size=32):
    """What a careful user writes by hand: a Python loop over nnx, Optax and NumPy means."""
    model = CNN(data.input_shape, 10, features=(3, 5), rngs=nnx.Rngs(jax.random.key(seed)))
    graph, parameters = nnx.split(model)
    optimizer = optax.rmsprop(rate)
    memory = optimizer.init(parameters)

    def outputs(parameters, x):
        return nnx.merge(graph, parameters)(data.prepare(x))

    @jax.jit
    def step(parameters, memory, x, y):
        def loss(parameters):
            logits = outputs(parameters, x)[0]
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        value, gradient = jax.value_and_grad(loss)(parameters)
        penalised = jax.tree.map(lambda g, w: g + 2 * l2 * w if w.ndim >= 2 else g, gradient, parameters)
        updates, memory = optimizer.update(penalised, memory)
        return optax.apply_updates(parameters, updates), memory, value

    curve, mean_losses = [], []
    for epoch in range(epochs + 1):
        if epoch:
            order = np.asarray(
                jax.random.permutation(jax.random.fold_in(jax.random.key(0), epoch), len(data.train[1]))
            )
            losses = []
            for first in range(0, len(order) - batch_size + 1, batch_size):
                index = order[first : first + batch_size]
                parameters, memory, value = step(parameters, memory, *(array[index] for array in data.train))
                losses.append(float(value))
            mean_losses.append(np.mean(losses))
        logits, activations = outputs(parameters, data.train.inputs)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, data.train.targets).mean()
        right = np.mean(
            np.argmax(outputs(parameters, data.validation.inputs)[0], 1) == data.validation.targets
        )
        dead = [
            float(np.mean(~np.any(np.asarray(h) != 0, axis=tuple(range(h.ndim - 1)))))
            for h in activations.values()
        ]
        curve.append((float(loss), right, *dead))
    return np.array(curve), np.array(mean_losses)


def test_a_trial_in_a_pack_is_the_plain_loop():
    data, epochs = digits(), 3
    space = grid(learning_rate=[1e-3, 3e-2], l2=[0.0, 1e-2], seed=[0, 1])
    results = study(space, epochs, data, features=[3, 5]).run()
    for rate, l2, seed in ((1e-3, 1e-2, 0), (3e-2, 0.0, 1)):
        trial = results.isel(trial=rows(results, learning_rate=rate, l2=l2, seed=seed))
        curve, mean_losses = plain_loop(data, rate, l2, seed, epochs)
        np.testing.assert_allclose(trial.train_loss, curve[:, 0], rtol=2e-3)
        np.testing.assert_allclose(trial.validation_accuracy, curve[:, 1], atol=1.5 / 70)
        np.testing.assert_allclose(trial.dead_fraction, curve[:, 2:], atol=1e-6)
        np.testing.assert_allclose(trial.minibatch_loss[1:], mean_losses, rtol=2e-3)


def test_evaluation_covers_every_example_once_whatever_the_batch():
    found = [
        study(grid(learning_rate=[1e-3]), 1, evaluation_batch_size=size).run().isel(epoch=0)
        for size in (64, 150, 999)
    ]
    for other in found[1:]:
        for name in ("train_loss", "validation_loss", "train_accuracy", "dead_fraction", "dormant_fraction"):
            np.testing.assert_allclose(found[0][name], other[name], rtol=1e-5)


def test_an_overflow_that_only_the_last_evaluation_sees_is_divergence(tmp_path):
    """One step an epoch: the loss before the step is finite, that after it is not."""
    space, static = grid(learning_rate=[1e-3, 1e30]), {"model": "mlp", "batch_size": 150}
    results = study(space, 1, **static).run(tmp_path / "run")
    assert results.outcome.values.tolist() == ["completed", "diverged"]
    assert results.first_bad_step.values.tolist() == [-1, 1]
    assert results.epochs_run.values.tolist() == [1, 1]
    assert not np.isfinite(results.train_loss[1, 1])
    extended, straight = study(space, 2, **static).run(tmp_path / "run"), study(space, 2, **static).run()
    for name in straight.data_vars:
        np.testing.assert_array_equal(extended[name], straight[name], err_msg=name)
    assert straight.first_bad_step.values.tolist() == [-1, 1]


@pytest.mark.parametrize(
    ("split", "outcome"), [("train", "diverged"), ("validation", "diverged"), ("test", "completed")]
)
def test_training_and_validation_losses_that_are_not_finite_are_divergence(split, outcome):
    """The test set decides nothing."""
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    arrays = {name: (x * (1e30 if name == split else 1), x[:, 0]) for name in ("train", "validation", "test")}
    static = {"model": "mlp", "features": [3], "batch_size": 8}
    results = Study(datasets.from_arrays(**arrays, scale=1), grid(learning_rate=[0.0]), 1, static).run()
    assert results.outcome.values.tolist() == [outcome]
    assert results.first_bad_step.values.tolist() == [0 if outcome == "diverged" else -1]
    assert not np.isfinite(results.test_loss if split == "test" else results[f"{split}_loss"][0, 0])


@pytest.mark.usefixtures("optimised")
def test_a_diverging_neighbour_does_not_matter():
    wild, tame = (grid(learning_rate=[2e-2, 1e-2, neighbour, 3e-2]) for neighbour in (1e30, 5e-2))
    found, expected = (study(each, 2).run(width=4) for each in (wild, tame))
    for name in expected.data_vars:
        kept = [0, 1, 3]
        np.testing.assert_array_equal(found[name].values[kept], expected[name].values[kept], err_msg=name)
    assert found.outcome.values.tolist() == ["completed", "completed", "diverged", "completed"]


@pytest.mark.parametrize(
    "configuration", [{}, {"batch_norm": True, "dropout": True, "dense": [7]}, {"own_order": True}]
)
def test_lane_and_pack_do_not_matter(configuration):
    rates = [1e-3, 3e-3, 1e-2, 3e-2, 1e-1]
    forward = study(grid(learning_rate=rates), 2, **configuration).run(width=2)
    backward = study(grid(learning_rate=rates[::-1]), 2, **configuration).run(width=2)
    for name in forward.data_vars:
        np.testing.assert_array_equal(forward[name].values, backward[name].values[::-1], err_msg=name)


def test_paired_trials_start_at_the_same_weights_and_see_the_same_minibatches():
    results = study(grid(learning_rate=[1e-3, 1e-2], seed=[0, 1]), 1, step_losses=True).run()
    first = results.isel(epoch=0)
    assert first.train_loss[0] == first.train_loss[2] != first.train_loss[1]
    assert results.step_loss[0, 1, 0] == results.step_loss[2, 1, 0]
    assert results.step_loss[0, 1, 1] != results.step_loss[2, 1, 1]


def test_own_order_gives_each_seed_its_own_minibatches():
    def step_losses(own_order):
        space = grid(learning_rate=[0.0], seed=[0, 1]) * grid(init_scale=[0.0])
        return (
            study(space, 1, step_losses=True, own_order=own_order, bias_init="uniform_fan_in").run().step_loss
        )

    shared, own = step_losses(False), step_losses(True)
    assert shared.shape == own.shape
    assert not np.array_equal(shared[0, 1], own[0, 1])
    assert sorted(np.argsort(shared[0, 1].values)) == sorted(np.argsort(own[0, 1].values))


def test_no_step_changes_anything_at_learning_rate_0():
    results = study(grid(learning_rate=[0.0]), 2).run()
    for name in ("train_loss", "validation_accuracy", "dead_fraction"):
        np.testing.assert_array_equal(results[name].isel(epoch=0), results[name].isel(epoch=2))


def test_a_users_model_with_state_of_its_own():
    results = Study(
        digits(), grid(learning_rate=[1e-2], seed=[0, 1]), 4, {"model": plain_model, "batch_size": 32}
    ).run()
    assert (results.minibatch_loss[:, 4] < 0.7 * results.minibatch_loss[:, 1]).all()
    assert "layer" not in results.dims
    assert isinstance(plain_model(None, None, nnx.Rngs(0)), Plain)


def test_a_users_optimizer_loss_metric_and_diagnostic_with_names_of_their_own():
    def optimizer(configuration, hyperparameters):
        return optax.chain(optax.clip_by_global_norm(hyperparameters.clip), optax.sgd(configuration.rate))

    def hinge(outputs, targets):
        return jnp.mean(jnp.maximum(0, 1 - (2 * jax.nn.one_hot(targets, 10) - 1) * outputs), axis=1)

    @better("higher")
    def confident(outputs, targets):
        return (jnp.max(outputs, axis=1) > 0.5).astype(jnp.float32)

    def spread(outputs, activations, targets):
        return jnp.std(outputs, axis=0)

    configuration = {
        "optimizer": optimizer,
        "rate": 0.1,
        "loss": hinge,
        "metrics": ["accuracy", confident],
        "diagnostics": [spread, "effective_rank", "update_cosine"],
        "batch_size": 32,
    }
    own = Study(digits(), grid(clip=[0.0, 1.0]), 2, configuration, {"clip": 1.0}).run()
    assert own.train_loss[0, 0] == own.train_loss[0, 2]
    assert own.train_loss[1, 2] < own.train_loss[1, 0]
    assert own.spread.shape == (2, 3, 10)
    assert own.effective_rank.dims == ("trial", "epoch", "layer")
    assert ((own.effective_rank >= 1) & (own.effective_rank <= 256)).all()
    assert {"validation_confident", "update_cosine", "opposed_updates"} <= set(own)


def test_regression_with_mae():
    data = datasets.load("rotated_digits", subset=200)
    results = Study(data, grid(learning_rate=[3e-3]), 5, {"features": [8], "loss": "mae"}).run()
    assert results.validation_mae.attrs["units"] == "degree"
    np.testing.assert_allclose(results.train_mae, results.train_loss, rtol=1e-6)
    assert results.train_mae[0, 5] < results.train_mae[0, 0]
    assert (results.validation_rmse >= results.validation_mae).all()


def test_augmentation_changes_minibatches_and_not_the_evaluation():
    space = grid(learning_rate=[1e-3])
    plain, shifted = (study(space, 1, step_losses=True, augment=each).run() for each in ([], ["shift"]))
    assert plain.train_loss[0, 0] == shifted.train_loss[0, 0]
    assert not np.array_equal(plain.step_loss[0, 1], shifted.step_loss[0, 1])


def test_bfloat16_learns():
    results = study(grid(learning_rate=[1e-2]), 3, dtype="bfloat16").run()
    assert results.train_loss.dtype == np.float32
    assert results.train_loss[0, 3] < results.train_loss[0, 0]


def test_a_python_if_on_a_traced_value_names_it():
    def model(configuration, hyperparameters, rngs):
        return CNN((8, 8, 1), 10, features=(4,) if hyperparameters.wide > 0 else (2,), rngs=rngs)

    with pytest.raises(InputError, match=r"configuration.model.*looks at the value of wide.*configuration"):
        Study(digits(), grid(wide=[0, 1]), 1, {"model": model}, {"wide": 0}).run()


def test_a_python_if_in_an_optimizer_names_it():
    def optimizer(configuration, hyperparameters):
        return optax.sgd(0.1, momentum=hyperparameters.push if hyperparameters.push else None)

    with pytest.raises(InputError, match=r"configuration.optimizer.*looks at the value of push"):
        Study(digits(), grid(push=[0, 1]), 1, {"optimizer": optimizer}, {"push": 0}).run()


def test_settings_are_two_types():
    static, traced = Configuration(width=3, act="relu"), Hyperparameters(l2=0.5)
    assert static.width == 3
    assert hash(static) == hash(Configuration(act="relu", width=3))
    assert traced.replace(l2=1.0)["l2"] == 1.0
    with pytest.raises(AttributeError, match="no Hyperparameters field 'l1'; the declared fields are l2"):
        _ = traced.l1
    with pytest.raises(AttributeError, match="read-only"):
        static.width = 4
    with pytest.raises(TypeError, match="unhashable"):
        hash(traced)
    assert jax.tree.leaves(traced) == [0.5]
