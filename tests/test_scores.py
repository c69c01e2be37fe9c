"""Losses and metrics of a study: by name or custom, with settings that they read by name, and metrics of whole sets."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sklearn.metrics
from small import digits, grid

from jaxlab import InputError, Study, load_model, load_study, metrics
from jaxlab.datasets import from_arrays
from jaxlab.losses import cross_entropy
from jaxlab.metrics import SetMetric, better

MLP = {"model": "mlp", "features": [8], "batch_size": 32}


def its(space, epochs=1, hyperparameters=None, **configuration):
    return Study(digits(), space, epochs, MLP | configuration, hyperparameters or {})


def refused(*arguments, **keywords):
    with pytest.raises(InputError) as caught:
        its(*arguments, **keywords).run()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def hinge(outputs, labels, margin):
    """Multi-class hinge loss (Crammer and Singer 2001), with a margin that is a setting."""
    its_own = jnp.take_along_axis(outputs, labels[:, None], axis=1)[:, 0]
    others = jnp.where(jax.nn.one_hot(labels, outputs.shape[1]) > 0, -jnp.inf, outputs).max(axis=1)
    return jnp.maximum(0, margin + others - its_own)


def test_a_loss_reads_a_hyperparameter_by_the_name_of_its_parameter():
    swept = its(grid(margin=[0.5, 2.0]), 2, {"margin": 1.0}, loss=hinge)
    assert len(swept.groups) == 1
    results = swept.run()
    assert results.margin.values.tolist() == [0.5, 2.0]
    for trial, margin in enumerate([0.5, 2.0]):
        alone = its(grid(), 2, loss=lambda outputs, labels, m=margin: hinge(outputs, labels, m)).run()
        np.testing.assert_allclose(alone.train_loss[0], results.train_loss[trial], rtol=1e-5)


def test_a_parameter_with_a_default_is_read_only_where_it_is_declared():
    def scaled(outputs, labels, factor=1.0):
        return cross_entropy(outputs, labels) * factor

    (plain,), (half,) = its(grid(), loss=scaled).groups, its(grid(), 1, {"factor": 0.5}, loss=scaled).groups
    assert "factor" not in plain.hyperparameters
    assert half.hyperparameters["factor"].tolist() == [0.5]
    one, other = its(grid(), loss=scaled).run(), its(grid(), 1, {"factor": 0.5}, loss=scaled).run()
    np.testing.assert_allclose(other.train_loss[0, 0], one.train_loss[0, 0] / 2, rtol=1e-6)


def test_a_loss_reads_custom_configuration_too():
    def powered(outputs, labels, *, power):
        assert isinstance(power, int)  # static
        return cross_entropy(outputs, labels) ** power

    results = its(grid(power=[1, 2]), power=1, loss=powered).run()
    np.testing.assert_allclose(results.minibatch_loss[0, 1] ** 2, results.minibatch_loss[1, 1], rtol=0.2)
    assert results.power.values.tolist() == [1, 2]


def test_label_smoothing_is_swept_in_one_program():
    swept = its(grid(label_smoothing=[0.0, 0.2]), 2)
    assert len(swept.groups) == 1
    results = swept.run()

    def smoothed(outputs, labels):
        targets = optax.losses.smooth_labels(jax.nn.one_hot(labels, 10), 0.2)
        return optax.losses.softmax_cross_entropy(outputs, targets)

    theirs = its(grid(), 2, loss=smoothed).run()
    np.testing.assert_allclose(results.train_loss[1], theirs.train_loss[0], rtol=1e-4)
    np.testing.assert_allclose(results.train_loss[0], its(grid(), 2).run().train_loss[0], rtol=1e-4)


def test_what_a_study_does_not_declare_is_no_part_of_it():
    (group,) = its(grid()).groups
    assert not {"label_smoothing", "gamma", "delta", "class_weight_exponent"} & group.hyperparameters.keys()


def test_class_weights_and_their_exponent():
    data = digits()
    counts = np.bincount(data.train.targets, minlength=10)
    weights = len(data.train.targets) / (10 * counts)

    def weighted(outputs, labels):
        return cross_entropy(outputs, labels) * jnp.asarray(weights, jnp.float32)[labels]

    balanced = its(grid(class_weight_exponent=[0.0, 1.0]), 2, class_weights="balanced").run()
    np.testing.assert_allclose(balanced.train_loss[0], its(grid(), 2).run().train_loss[0], rtol=1e-4)
    np.testing.assert_allclose(
        balanced.train_loss[1], its(grid(), 2, loss=weighted).run().train_loss[0], rtol=1e-4
    )
    listed = its(grid(), 2, class_weights=weights.tolist()).run()
    np.testing.assert_allclose(listed.train_loss[0], balanced.train_loss[1], rtol=1e-4)


def test_focal_and_huber_read_their_numbers():
    focal = its(grid(gamma=[0.0, 2.0]), loss="focal").run()
    np.testing.assert_allclose(focal.train_loss[0], its(grid()).run().train_loss[0], rtol=1e-4)
    assert (focal.train_loss[1] < focal.train_loss[0]).all()
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(96, 3)).astype(np.float32)
    splits = {
        name: (part, part[:, :1])
        for name, part in zip(("train", "validation", "test"), np.split(inputs, 3), strict=True)
    }
    data = from_arrays(**splits, scale=1)
    huber = Study(data, grid(delta=[0.1, 1e6]), 1, MLP | {"loss": "huber"}).run()
    squares = Study(data, grid(), 1, MLP | {"loss": "mse"}).run()
    np.testing.assert_allclose(huber.train_loss[1, 0], squares.train_loss[0, 0] / 2, rtol=1e-5)
    assert huber.train_loss[0, 0] < huber.train_loss[1, 0]


def test_metrics_of_sets_are_those_of_sklearn_on_the_predictions(tmp_path):
    names = ["macro_f1", "balanced_accuracy", "confusion", "top_3_accuracy"]
    data = digits()
    results = Study(data, grid(seed=[0, 1]), 2, MLP | {"metrics": names}, keep="last").run(tmp_path / "run")
    assert results.validation_confusion.dims == ("trial", "epoch", "target_class", "predicted_class")
    assert results.target_class.values.tolist() == list("0123456789")
    for trial in range(2):
        model = load_model(tmp_path / "run", trial, inputs="raw")
        for split in ("train", "validation", "test"):
            labels = getattr(data, split).targets
            outputs = np.asarray(model(getattr(data, split).inputs)[0])
            predicted = outputs.argmax(1)
            found = results.isel(trial=trial)
            found = found if split == "test" else found.isel(epoch=-1)
            np.testing.assert_array_equal(
                found[f"{split}_confusion"],
                sklearn.metrics.confusion_matrix(labels, predicted, labels=range(10)),
            )
            f1 = sklearn.metrics.f1_score(labels, predicted, average="macro")
            np.testing.assert_allclose(found[f"{split}_macro_f1"], f1, rtol=1e-5)
            top = sklearn.metrics.top_k_accuracy_score(labels, outputs, k=3, labels=range(10))
            np.testing.assert_allclose(found[f"{split}_top_3_accuracy"], top, rtol=1e-5)


def test_a_matrix_is_no_metric_to_compare_by():
    results = its(grid(), metrics=["confusion"]).run()
    assert "better" not in results.validation_confusion.attrs
    assert results.validation_confusion.attrs["units"] == "examples"
    assert {"target_class", "predicted_class"} <= set(results.validation_confusion.dims)
    assert "confusion_gap" not in results


def specificity(targets):
    """The share of the other classes' examples that are not taken for class 0."""

    def update(sums, outputs, labels, valid):
        others = valid & (labels != 0)
        right = others & (outputs.argmax(-1) != 0)
        return sums + jnp.stack([right.sum(dtype=jnp.int32), others.sum(dtype=jnp.int32)])

    return SetMetric(lambda: jnp.zeros(2, jnp.int32), update, lambda sums: sums[0] / sums[1], better="higher")


def test_a_custom_metric_of_sums():
    results = its(grid(), metrics=[specificity, "confusion"]).run()
    matrix = results.validation_confusion.values[0, -1]
    np.testing.assert_allclose(
        results.validation_specificity[0, -1], matrix[1:, 1:].sum() / matrix[1:].sum(), rtol=1e-6
    )
    assert results.validation_specificity.attrs["better"] == "higher"


def test_a_metric_of_sums_reads_settings_by_name():
    def sure(targets):
        def update(sums, outputs, labels, valid, threshold):
            return sums + jnp.sum(valid & (jax.nn.softmax(outputs).max(-1) > threshold), dtype=jnp.int32)

        return SetMetric(
            lambda: jnp.zeros((), jnp.int32), update, jnp.asarray, better="higher", units="examples"
        )

    results = its(grid(threshold=[0.0, 1.0]), 1, {"threshold": 0.5}, metrics=[sure]).run()
    assert results.train_sure.values[:, -1].tolist() == [len(digits().train.targets), 0]


@better("lower", units="nats")
def surprise(outputs, labels):
    return cross_entropy(outputs, labels)


def test_a_metric_declares_direction_and_units():
    results = its(grid(), metrics=[surprise]).run()
    assert (results.train_surprise.attrs["better"], results.train_surprise.attrs["units"]) == (
        "lower",
        "nats",
    )
    np.testing.assert_allclose(results.train_surprise, results.train_loss, rtol=1e-6)


def undeclared(outputs, labels):
    return outputs[:, 0]


def of(**changes):
    return lambda targets: specificity(targets)._replace(**changes)


def growing(sums, outputs, labels, valid):
    return jnp.concatenate([sums, sums])


def padded(sums, outputs, labels, valid):
    return sums + jnp.stack([(labels == 0).sum(dtype=jnp.int32), jnp.array(1, jnp.int32)])


def raising(targets):
    raise ValueError("two\nlines")


@pytest.mark.parametrize(
    ("configuration", "words"),
    [
        ({"loss": hinge}, "reads margin, which is not declared: declare it under hyperparameters"),
        (
            {"metrics": [undeclared]},
            "does not declare which direction is better: decorate it",
        ),
        ({"metrics": [of(better="up")]}, "returns a metric with better = 'up'"),
        (
            {"metrics": [of(update=growing)]},
            "its init returns int32 [2] and its update int32 [4]: keep structure",
        ),
        ({"metrics": [of(update=padded)]}, "counts the examples that pad a batch"),
        (
            {"metrics": [of(finish=lambda sums: sums)]},
            "its finish returns [2], but its coordinates have shape []",
        ),
        (
            {"metrics": [of(coordinates={"trial": "ab"}, finish=lambda sums: sums)]},
            "the axis trial has other labels",
        ),
        (
            {"metrics": [lambda targets: None]},
            "returns None: return a jaxlab.metrics.SetMetric, or take",
        ),
        ({"metrics": [raising]}, "raises ValueError: two lines"),
        ({"metrics": [specificity(metrics.Targets(10))]}, "configuration.metrics"),
        ({"metrics": ["r2"]}, "the targets of arrays are labels: take one of accuracy,"),
        ({"metrics": ["macro_f2"]}, "macro_f1"),
        ({"class_weights": [1.0, 2.0]}, "give one weight for each of the 10 classes of arrays"),
        ({"class_weights": "fair"}, "balanced"),
        ({"class_weights": [1.0] * 9 + [0.0]}, "class_weights"),
        ({"loss": "mse", "class_weights": "balanced"}, "the targets of arrays are labels"),
    ],
)
def test_a_wrong_loss_or_metric_is_one_line(configuration, words):
    assert words in refused(grid(), **configuration)


@pytest.mark.parametrize(
    ("hyperparameters", "words"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing = 1.0"),
        (
            {"gamma": 2.0},
            "has no effect under this configuration: set configuration.loss to focal",
        ),
        ({"class_weight_exponent": 1.0}, "set configuration.class_weights to balanced"),
        ({"margin": 1.0}, "margin"),
    ],
)
def test_a_number_that_nothing_reads_is_one_line(hyperparameters, words):
    assert words in refused(grid(), 1, hyperparameters)


def test_a_study_file_sweeps_label_smoothing_and_records_macro_f1(tmp_path):
    (tmp_path / "s.toml").write_text(
        'epochs = 1\n[data]\nname = "digits"\nsubset = 128\n'
        '[configuration]\nmodel = "mlp"\nfeatures = [4]\nbatch_size = 32\nmetrics = ["macro_f1", "accuracy"]\n'
        "[space.grid]\nlabel_smoothing = [0.0, 0.1]\n"
    )
    results = load_study(tmp_path / "s.toml").run()
    assert results.label_smoothing.values.tolist() == [0.0, 0.1]
    assert np.isfinite(results.validation_macro_f1).all()
