"""Regression on standardised targets: the loss is in their units, the metrics in those of the targets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from sklearn.datasets import load_diabetes
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.preprocessing import StandardScaler
from small import digits

from jaxlab import Study, datasets, load_model, load_study, metrics, space
from jaxlab.errors import InputError
from jaxlab.store import RunFolder

MLP = {"model": "mlp", "features": [8], "batch_size": 32, "metrics": ["mae", "rmse", "r2"]}


@pytest.fixture(scope="module")
def plain():
    """The real study of diabetes: its progression, 25 to 346, and the age."""
    found = load_diabetes(scaled=False)
    inputs = (found.data - found.data.mean(axis=0)) / found.data.std(axis=0)
    targets = np.stack([found.target, found.data[:, 0]], axis=1)
    return datasets.from_arrays((inputs, targets), target_units="1", name="diabetes")


@pytest.fixture(scope="module")
def data(plain):
    return datasets.modify(plain, standardize_targets=True)


def test_mean_and_deviation_are_those_of_the_training_targets(plain, data):
    scaler = StandardScaler().fit(plain.train.targets)
    np.testing.assert_allclose(data.target_mean, scaler.mean_, rtol=1e-6)
    np.testing.assert_allclose(data.target_std, scaler.scale_, rtol=1e-6)
    np.testing.assert_array_equal(data.train.targets, plain.train.targets)
    for split in (data.train, data.test):
        seen = data.prepare_targets(split.targets)
        np.testing.assert_allclose(seen, scaler.transform(split.targets), atol=1e-5)
        np.testing.assert_allclose(data.restore_targets(seen), split.targets, rtol=1e-5)
    assert data.fingerprint() != plain.fingerprint()
    assert plain.prepare_targets(3) == plain.restore_targets(3) == 3
    assert "2 targets in [19, 346] 1, standardised to [-" in data.summary()


def test_a_subset_sees_the_same_targets(plain, data):
    assert datasets.modify(plain, standardize_targets=True, subset=50).target_mean == data.target_mean
    outliers = datasets.modify(plain, standardize_targets=True, outliers=0.5, outlier_size=1e3)
    assert outliers.target_std == data.target_std


def test_metrics_are_in_the_units_of_the_targets_and_the_loss_is_not(data, tmp_path):
    results = Study(data, space.grid(learning_rate=[1e-2]), 5, MLP, keep="last").run(tmp_path / "run")
    model = load_model(tmp_path / "run", 0, inputs="prepared")
    for name, split in {"train": data.train, "validation": data.validation, "test": data.test}.items():
        outputs = np.asarray(model(data.prepare(split.inputs))[0])
        predicted = outputs * np.array(data.target_std) + np.array(data.target_mean)
        its = {key: results[f"{name}_{key}"].values.reshape(-1)[-1] for key in ("loss", "mae", "rmse", "r2")}
        wanted = (split.targets - np.array(data.target_mean)) / np.array(data.target_std)
        np.testing.assert_allclose(its["loss"], np.mean((outputs - wanted) ** 2), rtol=1e-4)
        np.testing.assert_allclose(its["mae"], mean_absolute_error(split.targets, predicted), rtol=1e-4)
        squared = root_mean_squared_error(split.targets, predicted, multioutput="raw_values") ** 2
        np.testing.assert_allclose(its["rmse"], np.sqrt(np.mean(squared)), rtol=1e-4)
        np.testing.assert_allclose(its["r2"], r2_score(split.targets, predicted), rtol=1e-3, atol=1e-4)
    assert results.test_mae.attrs["units"] == results.test_loss.attrs["units"] == "1"


def test_units_and_chance_levels(plain, data):
    metres = datasets.modify(datasets.load("rotated_digits", copies=1), subset=100, standardize_targets=True)
    results = Study(metres, space.grid(), 1, MLP).run()
    assert (results.train_loss.attrs["units"], results.train_mae.attrs["units"]) == ("1", "degree")
    best = np.median(metres.train.targets)
    assert results.validation_mae.attrs["chance"] == pytest.approx(
        np.abs(metres.validation.targets - best).mean()
    )
    assert results.train_rmse.attrs["chance"] == pytest.approx(metres.train.targets.std(), rel=1e-5)
    seen = np.asarray(metres.prepare_targets(metres.train.targets))
    assert results.train_loss.attrs["chance"] == pytest.approx(seen.var(), rel=1e-5)


def test_training_is_that_on_targets_standardised_by_hand(plain, data):
    by_hand = {
        name: (getattr(data, name).inputs, np.asarray(data.prepare_targets(getattr(data, name).targets)))
        for name in ("train", "validation", "test")
    }
    configuration = MLP | {"metrics": ["mae"]}
    results, same = (
        Study(each, space.grid(seed=[0, 1]), 2, configuration).run()
        for each in (data, datasets.from_arrays(**by_hand))
    )
    np.testing.assert_allclose(results.train_loss, same.train_loss, rtol=1e-5)
    np.testing.assert_allclose(results.minibatch_loss, same.minibatch_loss, rtol=1e-5)


def test_custom_metrics_and_diagnostics(data):
    """A metric sees original units, a diagnostic what the network learns."""

    @metrics.better("lower")
    def largest_target(outputs, targets):
        return jnp.max(targets, axis=1)

    def seen_by_the_network(outputs, activations, targets):
        return jnp.max(jnp.abs(targets))

    configuration = MLP | {"metrics": [largest_target], "diagnostics": [seen_by_the_network]}
    results = Study(data, space.grid(), 1, configuration).run()
    assert results.train_largest_target[0, 0] == pytest.approx(
        data.train.targets.max(axis=1).mean(), rel=1e-5
    )
    assert results.seen_by_the_network[0, 0] < 10


def test_low_precision_outputs_are_restored_in_float32(data):
    configuration = MLP | {"dtype": "bfloat16", "metrics": ["mae"]}
    assert float(Study(data, space.grid(), 1, configuration).run().train_mae[0, 0]) < 100
    half = jnp.ones((1, 2), jnp.bfloat16)
    assert data.restore_targets(half).dtype == jnp.float32


def test_the_inverse_is_in_the_run_folder(data, plain, tmp_path):
    for name, each in {"scaled": data, "plain": plain}.items():
        study = Study(each, space.grid(), 1, MLP)
        study.run(tmp_path / name)
        kept = RunFolder(tmp_path / name).describe().specification.data
        wanted = (each.target_mean, each.target_std)
        assert (kept.target_mean, kept.target_std) == tuple(each and list(each) for each in wanted)
        assert kept.class_names == []
    with pytest.raises(InputError, match="another study"):
        Study(plain, space.grid(), 1, MLP).run(tmp_path / "scaled")


def test_a_study_file_standardises_targets(tmp_path):
    found = load_diabetes()
    np.savez(tmp_path / "data.npz", x_train=found.data, y_train=found.target)
    (tmp_path / "study.toml").write_text(
        '[data]\nname = "npz"\npath = "data.npz"\nstandardize_targets = true\n[configuration]\nmodel = "mlp"\n'
    )
    study = load_study(tmp_path / "study.toml")
    assert study.data.target_std == pytest.approx((study.data.train.targets.std(),), rel=1e-5)


class TwoHeads(nnx.Module):
    """A mean and a spread for each target."""

    def __init__(self, rngs):
        self.layer = nnx.Linear(10, 4, rngs=rngs)

    def __call__(self, inputs):
        return self.layer(inputs)


def likelihood(outputs, targets):
    return jnp.sum(jnp.square(outputs[:, :2] - targets) * jnp.exp(-outputs[:, 2:]) + outputs[:, 2:], axis=1)


@metrics.better("lower")
def distance(outputs, targets):
    return jnp.linalg.norm(outputs[:, :2] - targets, axis=1)


def test_more_outputs_than_targets_cannot_be_scaled_back(data, plain):
    own = {"model": lambda c, h, rngs: TwoHeads(rngs), "loss": likelihood, "metrics": [distance]}
    assert np.isfinite(Study(plain, space.grid(), 1, own).run().train_loss[0, 0])
    with pytest.raises(
        InputError, match=r"standardize_targets needs one output for each regression target"
    ) as error:
        Study(data, space.grid(), 1, own).run()
    assert "[B, 2]" in str(error.value)


def constant():
    targets = np.stack([np.arange(20.0), np.ones(20)], axis=1)
    return datasets.from_arrays(*[(np.ones((20, 1)), targets)] * 3)


@pytest.mark.parametrize(
    ("make", "given", "says"),
    [
        (digits, True, "standardize_targets = True: omit it for classification"),
        (constant, True, "a constant target cannot be standardised"),
        (constant, "yes", "standardize_targets = 'yes': give true or false"),
    ],
)
def test_bad_option(make, given, says):
    with pytest.raises(InputError) as error:
        datasets.modify(make(), standardize_targets=given)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("target_mean", None, "target_mean = None: give one number for each target, 2"),
        ("target_std", (1.0,), "target_std = (1.0,): give one number for each target, 2"),
        ("target_std", 1.0, "target_std = 1.0: give one number"),
        ("target_std", (1.0, 0.0), "target_std = 0.0: give a number > 0"),
        ("target_mean", (1.0, jax.numpy.nan), "target_mean = nan: give a finite number"),
        ("target_mean", ("1", 2), "target_mean = '1'"),
    ],
)
def test_bad_numbers_of_a_data_set(plain, field, value, says):
    fields = {"target_mean": (1.0, 2.0), "target_std": (1.0, 2.0)} | {field: value}
    parts = {name: getattr(plain, name) for name in ("name", "train", "validation", "test", "classes")}
    assert datasets.Dataset(**parts, target_mean=np.ones(2), target_std=[1, 2]).target_std == (1.0, 2.0)
    with pytest.raises(InputError) as error:
        datasets.Dataset(**parts, **fields)
    assert says in str(error.value)


def test_labels_have_no_mean():
    parts = {name: getattr(digits(), name) for name in ("name", "train", "validation", "test", "classes")}
    with pytest.raises(InputError, match="omit it: the targets are labels"):
        datasets.Dataset(**parts, target_mean=[0.0] * 10, target_std=[1.0] * 10)
