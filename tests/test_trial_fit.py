"""Whether a model, a loss and metrics fit the data: one line before anything is compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from small import digits, grid

from jaxlab import Study, datasets
from jaxlab.errors import InputError
from jaxlab.losses import mse
from jaxlab.metrics import better
from jaxlab.models import CNN, MLP

CLASSES = digits(64, 8)
INPUTS = np.linspace(0, 1, 64, dtype=np.float32).reshape(32, 2)
NUMBERS = datasets.from_arrays((INPUTS, INPUTS[:, :1]), (INPUTS, INPUTS[:, :1]), (INPUTS, INPUTS[:, :1]))


def trial(data=CLASSES, **configuration):
    """The triple of functions of a study's only group; nothing is compiled."""
    study = Study(data, grid(), 1, {"batch_size": 8} | configuration)
    return study.trial_of(study.groups[0])


class Calls(nnx.Module):
    """A network with one layer, and any function of its outputs as the result of a call."""

    def __init__(self, inputs, outputs, result, rngs):
        self.layer, self.result = nnx.Linear(inputs, outputs, rngs=rngs), result

    def __call__(self, x):
        return self.result(self.layer(x.reshape(x.shape[0], -1)))


def model(outputs=10, result=lambda outputs: outputs, inputs=64):
    def build(configuration, hyperparameters, rngs):
        return Calls(inputs, outputs, result, rngs)

    return build


def own_cross_entropy(outputs, labels):
    return optax.softmax_cross_entropy_with_integer_labels(outputs, labels)


def own_mse(outputs, targets):
    return jnp.mean((outputs - targets) ** 2, axis=1)


def built_in_in_a_function(outputs, targets):
    return mse(outputs, targets)


@better("lower")
def error(outputs, targets):
    return jnp.abs(outputs[:, 0] - targets if targets.ndim == 1 else outputs[:, 0] - targets[:, 0])


@better("higher")
def own_accuracy(outputs, labels):
    return jnp.argmax(outputs, axis=1) == labels


def seven(kind):
    return lambda configuration, hyperparameters, rngs: kind((8, 8, 1), 7, features=(2,), rngs=rngs)


OWN = {"loss": own_cross_entropy, "metrics": [own_accuracy]}
BAD = [
    (
        {"model": model(7)},
        "outputs = 'float32 [B, 7]': the loss cross_entropy needs one output for each class",
    ),
    ({"model": seven(CNN)}, "outputs = 'float32 [B, 7]': the loss cross_entropy needs"),
    ({"model": seven(MLP)}, "of arrays, [B, 10]"),
    ({"model": model(11)}, "outputs = 'float32 [B, 11]'"),
    ({"model": model(1)}, "outputs = 'float32 [B, 1]'"),
    (
        {"model": model(7), "loss": own_cross_entropy},
        "accuracy needs one output for each class of arrays, [B, 10]",
    ),
    ({"model": model(7)} | OWN, "configuration.loss = 'own_cross_entropy': is NaN for label 7 of 10 classes"),
    (
        {"model": model(), "loss": own_mse, "metrics": [error]},
        "configuration.loss = 'own_mse': fails on outputs float32",
    ),
    ({"model": model(10, lambda y: y[:, :, None])}, "outputs = 'float32 [B, 10, 1]'"),
    ({"model": model(10, lambda y: y.T)}, "outputs = 'float32 [10, 8]': return one row for each"),
    ({"model": model(10, jnp.mean)}, "outputs = 'float32 []': return one row for each"),
    ({"model": model(10, lambda y: jnp.argmax(y, 1))}, "outputs = 'int32 [8]': return floating point"),
    ({"model": model(10, lambda y: y > 0)}, "outputs = 'bool [8, 10]': return floating point"),
    (
        {"model": model(10, lambda y: None)},
        "outputs = 'NoneType': return outputs [B, K], or (outputs, activations)",
    ),
    ({"model": model(10, lambda y: (y, y, {}))}, "outputs = 'a tuple of 3': return outputs"),
    ({"model": model(10, lambda y: (y, y))}, "outputs = 'a tuple of 2': return outputs"),
    ({"model": model(10, lambda y: [y])}, "outputs = 'a list of 1': return outputs"),
    ({"model": model(10, lambda y: {"logits": y})}, "outputs = 'dict': return outputs"),
    (
        {"model": model(10, lambda y: (y, {"h": y[0]}))},
        "activations of h = (10,): return post-activations [8, ...,",
    ),
    (
        {"model": model(10, inputs=63)},
        "build: raises TypeError: dot_general requires contracting dimensions to have the same shape",
    ),
    (
        {"model": lambda c, h, r: None},
        "returns None; return a flax.nnx.Module",
    ),
    (
        {"loss": lambda y, t: jnp.mean(y)},
        "configuration.loss = '<lambda>': must return one value per example [B], not",
    ),
    ({"loss": lambda y, t: y}, "not float32 [B, 10]"),
    ({"loss": lambda y, t: None}, "returns None: return one value per example [B]"),
    ({"loss": lambda y, t: jnp.argmax(y, 1)}, "must return floating point, not int32"),
    (
        {"metrics": [better("higher")(lambda y, t: y)]},
        "configuration.metrics = '<lambda>': must return one value per example [B]",
    ),
]


def refused(data, configuration):
    with pytest.raises(InputError) as error:
        trial(data, **configuration)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("configuration", "says"), BAD, ids=range(len(BAD)))
def test_what_does_not_fit_labels_is_one_line(configuration, says):
    assert says in refused(CLASSES, configuration)


@pytest.mark.parametrize(
    ("configuration", "says"),
    [
        (
            {"model": model(2, inputs=2)},
            "the loss mse needs one output for each regression target of arrays, [B, 1]",
        ),
        (
            {"model": model(1, lambda y: y[:, 0], 2)},
            "outputs = 'float32 [8]': return one row for each of the 8 inputs",
        ),
        (
            {"model": model(1, lambda y: y[:, 0], 2), "loss": own_mse, "metrics": [error]},
            "[8, K], also where K is 1",
        ),
        ({"model": model(2, inputs=2), "loss": "mae"}, "the loss mae needs one output"),
        ({"model": model(2, inputs=2), "loss": own_mse}, "mae needs one output for each regression target"),
        (
            {"model": model(2, inputs=2), "loss": built_in_in_a_function, "metrics": [error]},
            "fails on outputs float32 [B, 2] and targets float32 [B, 1]: give targets of the outputs' shape",
        ),
    ],
    ids=range(6),
)
def test_what_does_not_fit_numbers_is_one_line(configuration, says):
    assert says in refused(NUMBERS, configuration)


def ordinal(outputs, labels):
    """Nine thresholds between ten classes."""
    above = labels[:, None] > jnp.arange(9)[None, :]
    return jnp.sum(optax.sigmoid_binary_cross_entropy(outputs, above.astype(outputs.dtype)), axis=1)


def spread(outputs, targets):
    """Mean and logarithm of the deviation of one target."""
    return outputs[:, 1] + jnp.square((outputs[:, 0] - targets[:, 0]) / jnp.exp(outputs[:, 1]))


@pytest.mark.parametrize(
    ("data", "configuration"),
    [
        (CLASSES, {"model": model(9), "loss": ordinal, "metrics": [own_accuracy]}),
        (CLASSES, {"model": model(10, lambda y: jax.nn.softmax(y)), "loss": lambda y, t: -jnp.log(y[:, 0])}),
        (CLASSES, {"model": model(10, lambda y: (y.astype(jnp.bfloat16), {"h": y}))}),
        (NUMBERS, {"model": model(2, inputs=2), "loss": spread, "metrics": [error]}),
    ],
    ids=range(4),
)
def test_other_outputs_are_taken_where_nothing_built_in_reads_them(data, configuration):
    assert "minibatch_loss" in trial(data, **configuration).variables
