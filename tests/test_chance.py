"""What the best constant answer scores, against losses and metrics of constant outputs."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlab import datasets
from jaxlab.losses import LOSSES
from jaxlab.metrics import METRICS
from jaxlab.trial import Supervised
from jaxlab.trial.chance import chance_levels


def task(loss, *metrics):
    unused = lambda *arguments: None  # noqa: E731
    return Supervised(unused, unused, LOSSES.get(loss, loss), {name: METRICS[name] for name in metrics})


def labels(train, validation):
    parts = {"train": train, "validation": validation, "test": train}
    return datasets.from_arrays(
        **{name: (np.zeros((len(part), 3), np.float32), np.array(part)) for name, part in parts.items()},
        classes=3,
    )


def numbers():
    rng = np.random.default_rng(0)
    parts = {
        name: rng.exponential(3, (size, 2)) for name, size in [("train", 41), ("validation", 9), ("test", 7)]
    }
    return datasets.from_arrays(
        **{
            name: (np.zeros((len(part), 3), np.float32), part.astype(np.float32))
            for name, part in parts.items()
        }
    )


def test_labels_are_answered_by_their_frequencies_in_training():
    data = labels([0, 1, 1, 2, 1, 0], [0, 0, 1, 2])
    levels = chance_levels(task("cross_entropy", "accuracy"), data)
    assert levels["train_accuracy"] == 0.5
    assert levels["validation_accuracy"] == 0.25
    logits = jnp.broadcast_to(jnp.log(jnp.array([2, 3, 1]) / 6), (4, 3))
    expected = LOSSES["cross_entropy"](logits, data.validation.targets).mean()
    np.testing.assert_allclose(levels["validation_loss"], expected, rtol=1e-6)


def test_a_label_without_training_examples_has_no_finite_level():
    levels = chance_levels(task("cross_entropy", "accuracy"), labels([0, 1, 1], [2, 1]))
    assert "validation_loss" not in levels
    assert levels["validation_accuracy"] == 0.5


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_no_constant_answer_scores_better_in_training(loss):
    data = numbers()
    levels = chance_levels(task(loss, "mae", "rmse"), data)
    train = data.train.targets
    scores = {"loss": (LOSSES[loss], lambda mean: mean)}
    scores |= {name: (METRICS[name].example, METRICS[name].finish) for name in ("mae", "rmse")}
    rng = np.random.default_rng(1)
    for name, (example, finish) in scores.items():
        answers = [np.mean(train, 0), np.median(train, 0), *rng.uniform(0, 6, (50, 2))]
        found = [
            float(finish(example(jnp.tile(jnp.asarray(a, jnp.float32), (41, 1)), train).mean()))
            for a in answers
        ]
        near = min(found[:2])
        np.testing.assert_allclose(levels[f"train_{name}"], near, rtol=1e-5)
        if name != "loss" or loss != "huber":  # the best answer of huber is between mean and median
            assert levels[f"train_{name}"] <= min(found) * (1 + 1e-5)


def test_the_answer_is_chosen_in_training_and_scored_on_each_set():
    data = numbers()
    levels = chance_levels(task("mae", "rmse"), data)
    error = data.test.targets - np.mean(data.train.targets, 0)
    np.testing.assert_allclose(levels["test_rmse"], np.sqrt(np.mean(error**2)), rtol=1e-5)
    error = data.validation.targets - np.median(data.train.targets, 0)
    np.testing.assert_allclose(levels["validation_loss"], np.mean(np.abs(error)), rtol=1e-5)


def test_functions_of_the_user_have_no_level():
    assert chance_levels(task(lambda outputs, targets: outputs[:, 0]), numbers()) == {}
