"""Metrics of whole sets against scikit-learn, in padded batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlab import metrics
from jaxlab.errors import InputError
from jaxlab.metrics import Targets

N, K = 203, 5
NAMES = tuple("abcde")


def measured(metric, outputs, targets, batch=32):
    """The metric of a set in batches of one size, the last one padded with rows that must not count."""
    init, update, finish = metric.init, jax.jit(metric.update), metric.finish
    sums = init()
    for first in range(0, len(targets), batch):
        index = np.arange(first, first + batch)
        valid = index < len(targets)
        index = np.where(valid, index, 0)  # padding repeats the first example
        new = update(sums, jnp.asarray(outputs)[index], jnp.asarray(targets)[index], jnp.asarray(valid))
        assert shapes(new) == shapes(sums)
        sums = new
    return np.asarray(finish(sums))


def shapes(tree):
    return jax.tree.structure(tree), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]


def mean(metric, outputs, targets):
    return np.asarray(metric.finish(jnp.mean(metric.example(jnp.asarray(outputs), jnp.asarray(targets)))))


@pytest.fixture
def classified():
    rng = np.random.default_rng(0)
    labels = rng.choice(K, size=N, p=[0.5, 0.25, 0.15, 0.07, 0.03])
    outputs = rng.normal(scale=2, size=(N, K)) + 2 * np.eye(K)[labels]
    return outputs.astype(np.float32), labels.astype(np.int32)


def test_the_confusion_matrix_is_that_of_sklearn(classified):
    outputs, labels = classified
    metric = metrics.confusion(Targets(K, NAMES))
    found = measured(metric, outputs, labels)
    np.testing.assert_array_equal(found, sklearn.metrics.confusion_matrix(labels, outputs.argmax(1)))
    assert metric.coordinates == {"target_class": NAMES, "predicted_class": NAMES}
    assert metric.better == ""


def test_macro_f1_and_balanced_accuracy_are_those_of_sklearn(classified):
    outputs, labels = classified
    predicted = outputs.argmax(1)
    f1 = sklearn.metrics.f1_score(labels, predicted, average="macro")
    np.testing.assert_allclose(measured(metrics.macro_f1(Targets(K)), outputs, labels), f1, rtol=1e-6)
    balanced = sklearn.metrics.balanced_accuracy_score(labels, predicted)
    np.testing.assert_allclose(
        measured(metrics.balanced_accuracy(Targets(K)), outputs, labels), balanced, rtol=1e-6
    )


def test_classes_that_do_not_occur_do_not_count(classified):
    outputs, labels = classified
    labels = np.minimum(labels, 2)
    outputs[:, 4] = -100  # class 3 is predicted and never right, class 4 does not occur
    f1 = sklearn.metrics.f1_score(labels, outputs.argmax(1), average="macro")
    np.testing.assert_allclose(measured(metrics.macro_f1(Targets(K)), outputs, labels), f1, rtol=1e-6)
    recall = sklearn.metrics.recall_score(labels, outputs.argmax(1), average=None, labels=[0, 1, 2])
    found = measured(metrics.balanced_accuracy(Targets(K)), outputs, labels)
    np.testing.assert_allclose(found, recall.mean(), rtol=1e-6)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_top_k_accuracy_is_that_of_sklearn(classified, k):
    outputs, labels = classified
    theirs = sklearn.metrics.top_k_accuracy_score(labels, outputs, k=k, labels=range(K))
    np.testing.assert_allclose(mean(metrics.top_k_accuracy(k), outputs, labels), theirs, rtol=1e-6)


def test_top_1_breaks_ties_as_accuracy_does():
    outputs, labels = np.zeros((4, 3), np.float32), np.array([0, 1, 2, 0])
    ones = metrics.top_k_accuracy(1).example(outputs, labels)
    np.testing.assert_array_equal(ones, metrics.accuracy.example(outputs, labels))
    np.testing.assert_array_equal(ones, [1, 0, 0, 1])
    np.testing.assert_array_equal(metrics.top_k_accuracy(2).example(outputs, labels), [1, 1, 0, 1])


def test_auc_is_that_of_sklearn_up_to_its_steps(classified):
    outputs, labels = classified
    p = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True)
    theirs = sklearn.metrics.roc_auc_score(labels, p, multi_class="ovr", average="macro")
    found = measured(metrics.auc(Targets(K)), outputs, labels)
    np.testing.assert_allclose(found, theirs, atol=1e-3)
    # On log-odds that are multiples of a step it is exact.
    binary = np.round(outputs[:, :2] * 4) / 4
    binary[:, 1] = 0
    two = np.minimum(labels, 1)
    theirs = sklearn.metrics.roc_auc_score(two, -binary[:, 0])
    np.testing.assert_allclose(measured(metrics.auc(Targets(2)), binary, two), theirs, rtol=1e-6)


def test_auc_ranks_confident_networks():
    """Where the softmax rounds to 1, the log-odds still differ."""
    outputs = np.zeros((40, 2), np.float32)
    outputs[:, 0] = np.linspace(8, 15.9, 40)
    labels = np.repeat([1, 0], 20)  # the less confident half is of the other class
    assert measured(metrics.auc(Targets(2)), outputs, labels) == 1
    assert measured(metrics.auc(Targets(2)), outputs, 1 - labels) == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(1, 70))
def test_metrics_do_not_depend_on_the_batches(seed, classes, examples):
    rng = np.random.default_rng(seed)
    outputs = rng.normal(size=(examples, classes)).astype(np.float32)
    labels, numbers = (
        rng.integers(classes, size=examples),
        rng.normal(3, size=(examples, classes)).astype(np.float32),
    )
    for make in (metrics.confusion, metrics.auc, metrics.calibration_error, metrics.r2):
        targets = numbers if make is metrics.r2 else labels
        one, other = (measured(make(Targets(classes)), outputs, targets, batch) for batch in (8, 128))
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_calibration_error_is_its_definition(classified):
    outputs, labels = classified
    p = np.exp(outputs.astype(float))
    p /= p.sum(1, keepdims=True)
    confidence, right = p.max(1), p.argmax(1) == labels
    bins = np.ceil(confidence * 15)
    total = sum(
        np.mean(bins == each) * abs(right[bins == each].mean() - confidence[bins == each].mean())
        for each in np.unique(bins)
    )
    np.testing.assert_allclose(
        measured(metrics.calibration_error(Targets(K)), outputs, labels), total, rtol=1e-5
    )


def test_a_network_that_knows_how_sure_it_is_has_no_calibration_error():
    outputs = np.log(np.tile([[0.75, 0.25]], (4, 1)))
    assert measured(metrics.calibration_error(Targets(2)), outputs, np.array([0, 0, 0, 1])) < 1e-6


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_r2_is_that_of_sklearn(offset):
    rng = np.random.default_rng(0)
    targets = (rng.normal(size=(N, 3)) + offset).astype(np.float32)
    outputs = (targets + rng.normal(scale=0.5, size=(N, 3))).astype(np.float32)
    theirs = sklearn.metrics.r2_score(targets.astype(float), outputs.astype(float))
    np.testing.assert_allclose(measured(metrics.r2(Targets(3)), outputs, targets), theirs, rtol=1e-4)


def test_r2_of_constant_targets_is_that_of_sklearn():
    targets = np.array([[1.0, 2, 3], [1, 2, 4]], np.float32)
    outputs = np.array([[1.0, 2.5, 3], [1, 2.5, 4]], np.float32)
    theirs = sklearn.metrics.r2_score(targets, outputs)
    np.testing.assert_allclose(measured(metrics.r2(Targets(3)), outputs, targets), theirs, rtol=1e-6)


def test_an_output_that_is_not_finite_is_wrong(classified):
    outputs, labels = classified
    outputs = np.where(np.arange(N)[:, None] % 2, outputs, np.nan)
    predicted = np.where(np.arange(N) % 2, outputs.argmax(1), K)
    half = measured(metrics.balanced_accuracy(Targets(K)), outputs, labels)
    recall = sklearn.metrics.recall_score(labels, predicted, average=None, labels=range(K))
    np.testing.assert_allclose(half, recall.mean(), rtol=1e-6)
    assert measured(metrics.auc(Targets(K)), np.full_like(outputs, np.nan), labels) == 0
    assert measured(metrics.calibration_error(Targets(K)), np.full_like(outputs, np.nan), labels) == 1
    assert measured(metrics.confusion(Targets(K)), np.full_like(outputs, np.nan), labels).sum() == 0


def test_better_is_declared_on_a_function():
    @metrics.better("lower", units="nats")
    def surprise(outputs, labels):
        return outputs[:, 0]

    assert (surprise.better, surprise.units) == ("lower", "nats")
    with pytest.raises(InputError, match="better"):
        metrics.better("up")
