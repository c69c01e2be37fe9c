"""The statements about training CNNs that the toolkit exists to test, each on real data and small.

The laws of RMSProp (statement 5) and of descent on a quadratic are in test_rmsprop_laws.py and test_engine.py; that
networks without activations are affine is in test_models_values.py.
"""

import jax
import numpy as np
import pytest
from flax import nnx
from small import digits, grid, plain_model, study

from jaxlab import Study, datasets
from jaxlab.models import CNN


def mean_over_seeds(values, results, name):
    return {
        float(value): float(values[results[name].values == value].mean())
        for value in np.unique(results[name])
    }


def test_1_an_activation_follows_every_trainable_layer():
    model = CNN((8, 8, 1), 10, features=(4, 6), dense=(5,), rngs=nnx.Rngs(0))
    _, activations = model(digits().prepare(digits().train.inputs[:50]))
    kernels = [path for path, leaf in nnx.to_flat_state(nnx.state(model, nnx.Param)) if leaf.ndim >= 2]
    assert len(activations) == len(kernels) - 1
    assert all((np.asarray(h) >= 0).all() and (np.asarray(h) == 0).any() for h in activations.values())


@pytest.mark.slow
def test_1_a_relu_behind_a_signed_regression_output_is_clearly_worse():
    def clipped(configuration, hyperparameters, rngs):
        return Clipped(rngs)

    class Clipped(nnx.Module):
        def __init__(self, rngs):
            self.net = CNN((16, 16, 1), 1, features=(8,), rngs=rngs)

        def __call__(self, x):
            outputs, activations = self.net(x)
            return jax.nn.relu(outputs), activations

    data = datasets.load("rotated_digits", subset=400)
    space = grid(learning_rate=[3e-3], seed=[0, 1])
    free = Study(data, space, 8, {"loss": "mae", "features": [8]}).run()
    stuck = Study(data, space, 8, {"loss": "mae", "model": clipped}).run()
    assert stuck.validation_mae[:, -1].mean() > 1.2 * free.validation_mae[:, -1].mean()


def test_2_l2_shrinks_the_generalisation_gap_and_keeps_the_test_accuracy():
    data = datasets.load("mnist1d", subset=500)
    space = grid(l2=[0.0, 1e-3, 3e-3, 1e-2], seed=range(5)) * grid(learning_rate=[3e-3])
    results = Study(data, space, 60, {"model": "mlp", "features": [64]}).run(width=10)
    gaps = list(mean_over_seeds(results.accuracy_gap.values, results, "l2").values())
    test = list(mean_over_seeds(results.test_accuracy.values, results, "l2").values())
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 0.8 * gaps[0]
    assert max(test[1:]) > test[0] - 0.01


def test_3_a_large_learning_rate_oscillates_and_a_larger_one_diverges():
    rates = [0.03, 0.3, 1e3]
    results = study(grid(learning_rate=rates), 25, optimizer="sgd", batch_size=150).run()
    calm, _, wild = results.oscillation.values
    assert calm < 0.2
    assert results.unstable.values.tolist() == [False, False, True]
    assert not wild < calm


def test_3_the_measured_boundary_brackets_2_over_the_sharpness():
    """Full-batch descent on a convex loss, whose Hessian is the same everywhere."""
    random = np.random.default_rng(0)
    inputs = random.normal(size=(64, 5)).astype(np.float32)
    targets = (inputs @ random.normal(size=(5, 1)) + 1).astype(np.float32)
    data = datasets.from_arrays((inputs, targets), (inputs, targets), (inputs, targets))
    features = np.concatenate([inputs, np.ones((64, 1))], axis=1)
    sharpness = np.linalg.eigvalsh(2 * features.T @ features / 64).max()
    rates = 2 / sharpness * np.array([0.5, 0.98, 1.02, 1.5])

    def linear(configuration, hyperparameters, rngs):
        return nnx.Linear(5, 1, rngs=rngs)

    static = {"model": linear, "optimizer": "sgd", "batch_size": 64, "loss": "mse"}
    results = Study(data, grid(learning_rate=rates), 400, static).run()
    assert results.unstable.values.tolist() == [False, False, True, True]
    assert results.train_loss[0, -1] < 1e-6


def test_4_overfitting_is_worse_accuracy_on_new_data():
    data = datasets.load("mnist1d", subset=500)
    results = Study(
        data, grid(learning_rate=[3e-3], seed=[0, 1]), 150, {"model": "mlp", "features": [64]}
    ).run()
    assert (results.train_accuracy[:, -1] > 0.99).all()
    assert (results.accuracy_gap > 0.4).all()
    assert (results["rise"] > 1.5).all()


@pytest.mark.slow
def test_6_mae_resists_outliers_where_mse_does_not():
    data = datasets.load("rotated_digits", subset=800, outliers=0.1, outlier_size=200.0)
    space = grid(loss=["mae", "mse"], seed=[0, 1]) * grid(learning_rate=[3e-3])
    results = Study(data, space, 12, {"features": [8, 16]}).run()
    robust, mean = (results.test_mae.values[results.loss.values == loss] for loss in ("mae", "mse"))
    assert robust.max() < mean.min()


@pytest.mark.parametrize("optimizer", ["rmsprop", pytest.param("sgd", marks=pytest.mark.slow)])
def test_7_relus_die_at_large_learning_rates_and_leaky_ones_cannot(optimizer):
    rates = [1e-3, 1e-1, 1.0] if optimizer == "rmsprop" else [1e-1, 3.0, 10.0]
    space = grid(activation=["relu", "leaky_relu", "elu"], learning_rate=rates, seed=[0, 1])
    results = study(space, 6, model="mlp", features=[32, 32], optimizer=optimizer).run()
    dead = results.dead_fraction.mean("layer")
    relu = results.activation.values == "relu"
    end = mean_over_seeds(dead[relu][:, -1].values, results.isel(trial=relu), "learning_rate")
    low, _, high = end.values()
    start = float(dead[relu][:, 0].mean())
    assert low < start + 0.1
    assert high > max(0.4, low) or np.isnan(high)
    assert np.nanmax(dead[~relu]) == 0


def test_a_users_model_without_reported_activations_is_watched_for_the_rest():
    results = Study(digits(), grid(learning_rate=[1e-2]), 2, {"model": plain_model}).run()
    assert {"accuracy_gap", "unstable", "gradient_norm"} <= set(results)
