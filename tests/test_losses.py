"""Losses and metrics against scikit-learn, Optax and NumPy in float64, and at the edges of float32."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sklearn.metrics

from jaxlab import losses, metrics
from jaxlab.errors import InputError

B, K = 37, 5


@pytest.fixture
def classes():
    rng = np.random.default_rng(0)
    return rng.normal(scale=4, size=(B, K)), rng.integers(K, size=B)


@pytest.fixture
def regression():
    rng = np.random.default_rng(1)
    return rng.normal(scale=2, size=(B, K)), rng.normal(size=(B, K))


def numpy_cross_entropy(outputs, labels):
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    return np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]


def test_cross_entropy_is_optax_numpy_and_sklearn(x64, classes):
    outputs, labels = classes
    values = losses.cross_entropy(outputs, labels)
    np.testing.assert_allclose(values, numpy_cross_entropy(outputs, labels), rtol=1e-13)
    np.testing.assert_allclose(
        values, optax.losses.softmax_cross_entropy_with_integer_labels(outputs, labels), rtol=1e-13
    )
    probabilities = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    log_loss = sklearn.metrics.log_loss(labels, probabilities, labels=range(K))
    np.testing.assert_allclose(values.mean(), log_loss, rtol=1e-12)


def test_cross_entropy_gradient_is_softmax_minus_one_hot(x64, classes):
    outputs, labels = classes
    gradient = jax.grad(lambda z: losses.cross_entropy(z, labels).sum())(outputs)
    probabilities = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(gradient, probabilities - np.eye(K)[labels], atol=1e-14)


def test_cross_entropy_is_stable_for_huge_logits():
    outputs = jnp.array([[1e4, 0.0, -1e4], [3e38, -3e38, 0.0], [-1e30, -1e30, -1e30]], jnp.float32)
    labels = jnp.array([1, 0, 2])
    values, gradient = jax.value_and_grad(lambda z: losses.cross_entropy(z, labels).sum())(outputs)
    np.testing.assert_allclose(losses.cross_entropy(outputs, labels), [1e4, 0, np.log(3)], rtol=1e-6)
    assert np.isfinite(values)
    np.testing.assert_allclose(gradient, [[1, -1, 0], [0, 0, 0], [1 / 3, 1 / 3, -2 / 3]], atol=1e-6)


def test_cross_entropy_beside_a_masked_class():
    outputs = jnp.array([[1.0, -jnp.inf, 2.0]])
    value, gradient = jax.value_and_grad(lambda z: losses.cross_entropy(z, jnp.array([0])).sum())(outputs)
    p = 1 / (1 + np.exp(1))
    np.testing.assert_allclose(value, -np.log(p), rtol=1e-6)
    np.testing.assert_allclose(gradient, [[p - 1, 0, 1 - p]], rtol=1e-6)


@pytest.mark.parametrize("label", [-1, K, 200])
def test_cross_entropy_of_a_label_that_does_not_exist_is_nan(classes, label):
    outputs, labels = classes
    labels[3] = label
    values = losses.cross_entropy(outputs, labels)
    assert np.flatnonzero(np.isnan(values)).tolist() == [3]


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.uint8, jnp.int32, jnp.uint32])
def test_cross_entropy_takes_any_integer_labels(classes, dtype):
    outputs, labels = classes
    np.testing.assert_array_equal(
        losses.cross_entropy(outputs, labels.astype(dtype)), losses.cross_entropy(outputs, labels)
    )


def numpy_huber(outputs, targets, delta):
    error = np.abs(outputs - targets)
    return np.where(error <= delta, error**2 / 2, delta * (error - delta / 2)).mean(axis=1)


@pytest.mark.parametrize(
    ("loss", "numpy_loss", "optax_loss"),
    [
        (losses.mse, lambda o, t: ((o - t) ** 2).mean(axis=1), optax.losses.squared_error),
        (losses.mae, lambda o, t: np.abs(o - t).mean(axis=1), lambda o, t: jnp.abs(o - t)),
        (losses.huber, functools.partial(numpy_huber, delta=1.0), optax.losses.huber_loss),
        (
            functools.partial(losses.huber, delta=0.3),
            functools.partial(numpy_huber, delta=0.3),
            functools.partial(optax.losses.huber_loss, delta=0.3),
        ),
    ],
)
def test_regression_losses_and_gradients(x64, regression, loss, numpy_loss, optax_loss):
    outputs, targets = regression
    np.testing.assert_allclose(loss(outputs, targets), numpy_loss(outputs, targets), rtol=1e-13)
    np.testing.assert_allclose(loss(outputs, targets), optax_loss(outputs, targets).mean(axis=1), rtol=1e-13)
    ours = jax.grad(lambda o: loss(o, targets).sum())(outputs)
    theirs = jax.grad(lambda o: optax_loss(o, targets).mean(axis=1).sum())(outputs)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize(
    ("metric", "sklearn_metric"),
    [("mae", sklearn.metrics.mean_absolute_error), ("rmse", sklearn.metrics.root_mean_squared_error)],
)
def test_regression_metrics_are_sklearns(x64, regression, metric, sklearn_metric):
    outputs, targets = regression
    outputs, targets = outputs[:, :1], targets[:, :1]
    metric = metrics.METRICS[metric]
    value = metric.finish(metric.example(outputs, targets).mean())
    np.testing.assert_allclose(value, sklearn_metric(targets, outputs), rtol=1e-13)
    assert metric.better == "lower"


def test_accuracy_is_sklearns(classes):
    outputs, labels = classes
    metric = metrics.METRICS["accuracy"]
    value = metric.finish(metric.example(outputs, labels).mean())
    np.testing.assert_allclose(value, sklearn.metrics.accuracy_score(labels, outputs.argmax(1)), rtol=1e-6)
    assert (metric.better, metric.units) == ("higher", "1")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", range(K))
def test_an_example_whose_outputs_are_not_finite_is_wrong(bad, column):
    outputs = np.eye(K, dtype=np.float32)
    outputs[2, column] = bad
    np.testing.assert_array_equal(metrics.accuracy.example(outputs, np.arange(K)), [1, 1, 0, 1, 1])


def test_of_equal_logits_the_first_counts():
    np.testing.assert_array_equal(metrics.accuracy.example(np.zeros((3, 3)), np.arange(3)), [1, 0, 0])


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_no_gradient_at_an_error_of_zero(loss):
    gradient = jax.grad(lambda o: losses.LOSSES[loss](o, jnp.ones((2, 3))).sum())(jnp.ones((2, 3)))
    np.testing.assert_array_equal(gradient, np.zeros((2, 3)))


@pytest.mark.parametrize("loss", ["mae", "huber"])
def test_one_outlier_has_a_bounded_gradient(loss):
    targets = jnp.zeros((1, 1))
    gradient = jax.grad(lambda o: losses.LOSSES[loss](o, targets).sum())(jnp.array([[-1e30]]))
    np.testing.assert_array_equal(gradient, [[-1]])


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_nan_is_seen(loss):
    value = losses.LOSSES[loss](jnp.array([[jnp.nan, 0.0], [0.0, 0.0]]), jnp.zeros((2, 2)))
    np.testing.assert_array_equal(np.isnan(value), [True, False])


def test_huber_takes_a_traced_delta(x64, regression):
    outputs, targets = regression
    deltas = jnp.array([0.1, 1.0, 7.0])
    values = jax.jit(jax.vmap(lambda d: losses.huber(outputs, targets, d)))(deltas)
    for delta, value in zip(deltas, values, strict=True):
        np.testing.assert_allclose(value, numpy_huber(outputs, targets, float(delta)), rtol=1e-13)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_half_precision_is_widened(name):
    rng = np.random.default_rng(2)
    outputs = jnp.asarray(rng.normal(size=(4, 300)), jnp.bfloat16)
    of_labels = name in losses.OF_LABELS
    targets = np.arange(4) if of_labels else jnp.asarray(rng.normal(size=(4, 300)), jnp.bfloat16)
    loss = losses.LOSSES[name]
    wide = loss(outputs.astype(jnp.float32), targets if of_labels else targets.astype(jnp.float32))
    assert loss(outputs, targets).dtype == jnp.float32
    np.testing.assert_allclose(loss(outputs, targets), wide, rtol=1e-6)


PER_EXAMPLE = losses.LOSSES | {
    name: metric.example for name, metric in metrics.METRICS.items() if isinstance(metric, metrics.Metric)
}


@pytest.mark.parametrize("name", PER_EXAMPLE)
def test_mapped_over_trials_and_compiled(classes, regression, name):
    outputs, targets = classes if {name} & (losses.OF_LABELS | metrics.OF_LABELS).keys() else regression
    function = PER_EXAMPLE[name]
    trials = np.stack([outputs, outputs[::-1], 2 * outputs])
    mapped = jax.jit(jax.vmap(function, in_axes=(0, None)))(trials, targets)
    assert mapped.shape == (3, B)
    for trial, value in zip(trials, mapped, strict=True):
        np.testing.assert_allclose(value, function(trial, targets), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: losses.cross_entropy(np.zeros((3, 2)), np.zeros(3)),
            "targets = 'float.*integer class labels",
        ),
        (
            lambda: losses.cross_entropy(np.zeros((3, 2)), np.zeros(2, int)),
            r"targets.*\(3, 2\).*outputs \[B, K\]",
        ),
        (lambda: losses.cross_entropy(np.zeros(3), np.zeros(3, int)), r"targets.*\(3,\).*outputs \[B, K\]"),
        (
            lambda: metrics.accuracy.example(np.zeros((3, 2)), np.zeros((3, 2), int)),
            "targets.*integer labels",
        ),
        (lambda: losses.mse(np.zeros((3, 1)), np.zeros(3)), r"targets.*\(3, 1\).*nothing is broadcast"),
        (lambda: losses.mae(np.zeros((3, 1)), np.zeros((3, 2))), r"targets.*\(3, 2\).*nothing is broadcast"),
        (lambda: losses.huber(np.zeros((3, 1)), np.zeros((3, 1)), -1.0), "delta = -1.0: give a number > 0"),
        (lambda: losses.huber(np.zeros((3, 1)), np.zeros((3, 1)), float("nan")), "delta = nan"),
        (lambda: losses.huber(np.zeros((3, 1)), np.zeros((3, 1)), 0), "delta = 0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_label_smoothing_is_that_of_optax(x64, classes):
    outputs, labels = classes
    smooth = optax.losses.smooth_labels(np.eye(K)[labels], 0.1)
    theirs = optax.losses.softmax_cross_entropy(outputs, smooth)
    np.testing.assert_allclose(losses.cross_entropy(outputs, labels, 0.1), theirs, rtol=1e-12)


def test_no_label_smoothing_is_cross_entropy(classes):
    outputs, labels = classes
    swept = jax.jit(jax.vmap(lambda s: losses.cross_entropy(outputs, labels, label_smoothing=s)))(
        jnp.array([0.0, 0.5])
    )
    np.testing.assert_allclose(swept[0], losses.cross_entropy(outputs, labels), rtol=1e-6)
    assert (swept[1] != swept[0]).all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_is_its_definition(x64, classes, gamma):
    outputs, labels = classes
    p = np.exp(-numpy_cross_entropy(outputs, labels))
    np.testing.assert_allclose(
        losses.focal(outputs, labels, gamma), -((1 - p) ** gamma) * np.log(p), rtol=1e-10
    )


def test_focal_with_two_classes_is_that_of_optax(x64, classes):
    outputs, labels = classes[0][:, :2], classes[1] % 2
    theirs = optax.losses.sigmoid_focal_loss(outputs[:, 1] - outputs[:, 0], labels, gamma=2.0)
    np.testing.assert_allclose(losses.focal(outputs, labels, 2.0), theirs, rtol=1e-10)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_has_a_finite_gradient_where_the_answer_is_certain(gamma):
    outputs, labels = jnp.array([[300.0, 0.0], [0.0, 300.0]]), jnp.array([0, 0])
    gradient = jax.grad(lambda z: losses.focal(z, labels, gamma).sum())(outputs)
    assert jnp.isfinite(gradient).all()
    np.testing.assert_allclose(gradient[0], 0, atol=1e-6)
