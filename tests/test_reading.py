"""Names that a study's functions read: where a name has an effect, and where it is refused."""

import jax
import numpy as np
import optax
import pytest
from flax import nnx
from small import digits, grid, study

from jaxlab import InputError, Study, read_results
from jaxlab.analysis import unstack, varied
from jaxlab.runs import coordinates, number_trials
from jaxlab.settings import Configuration, Hyperparameters
from jaxlab.study.fields import CONFIGURATION, HYPERPARAMETERS, with_effect
from jaxlab.study.reading import names_read
from jaxlab.trial import Trial, Weights

SMALL = digits(train=64, other=40)


def its(space=None, epochs=1, hyperparameters=None, **configuration):
    static = {"batch_size": 32} | configuration
    return Study(SMALL, grid() if space is None else space, epochs, static, hyperparameters or {})


def rated(configuration, hyperparameters):
    return optax.sgd(hyperparameters.learning_rate)


def wide(configuration, hyperparameters, rngs):
    width = configuration.get("width", 2)
    return nnx.Sequential(
        lambda x: x.reshape(x.shape[0], -1),
        nnx.Linear(64, width, rngs=rngs),
        nnx.Linear(width, 10, rngs=rngs),
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"space": grid(weight_decay=[0.1, 0.2]), "model": wide, "optimizer": "adam"},
            "unknown name 'weight_decay' in space",
        ),
        (
            {"hyperparameters": {"weight_decay": 0.1}, "model": wide, "optimizer": "adam"},
            "hyperparameters.weight_decay = 0.1: has no effect under this configuration: nothing reads it",
        ),
        (
            {"space": grid(learning_rate=[0.1], l2=[0.1, 0.2]), "optimizer": rated},
            "space.l2 = 0.1: has no effect under this configuration: nothing reads it",
        ),
        ({"space": grid(kernel_sizes=[3, 5]), "model": "mlp"}, "space.kernel_sizes = 3: has no effect"),
        ({"model": wide, "features": [3]}, "configuration.features = [3]: has no effect"),
        ({"model": wide, "widht": 3}, "configuration.widht = 3: has no effect"),
        ({"probe": 3}, "configuration.probe = 3: has no effect"),
        ({"optimizer": rated, "hyperparameters": {"learning_rte": 1}}, "did you mean 'learning_rate'?"),
        (
            {"optimizer": rated},
            "reads learning_rate, which is not declared: declare it under hyperparameters",
        ),
    ],
)
def test_a_name_that_nothing_reads_is_refused(fields, message):
    with pytest.raises(InputError) as error:
        its(**fields)
    assert message in str(error.value)
    assert "0x" not in str(error.value)


def test_whatever_way_a_name_is_read_it_has_an_effect():
    def optimizer(configuration, hyperparameters):
        numbers = dict(hyperparameters)
        return optax.sgd(numbers["learning_rate"] * hyperparameters.get("factor", 1.0))

    def model(configuration, hyperparameters, rngs):
        return wide(
            configuration.replace(other=1), jax.tree.map(lambda each: 2 * each, hyperparameters), rngs
        )

    (group,) = its(
        grid(learning_rate=[0.1]), hyperparameters={"factor": 2.0}, model=model, optimizer=optimizer, width=3
    ).groups
    assert group.configuration["width"] == 3
    assert {"factor", "learning_rate"} <= set(group.hyperparameters)
    assert "features" not in group.configuration


@pytest.mark.parametrize("optimizer", ["rmsprop", "sgd", "adam", "adagrad"])
@pytest.mark.parametrize("model", ["cnn", "mlp"])
def test_the_built_in_parts_read_what_is_said_of_them(model, optimizer):
    """As if they were a user's own, which are traced."""
    from jaxlab.optimizers import build_optimizer
    from jaxlab.study.build import model_of

    (group,) = study(grid(), model=model, optimizer=optimizer, dropout=True, schedule="step").groups
    fields = {name: field.default for name, field in CONFIGURATION.items()} | dict(group.configuration)
    named = Configuration(fields)

    def built(c, h, rngs):
        c = c.replace(model=model)
        return model_of(c, SMALL)(c, h, rngs)

    own = named.replace(
        model=built,
        optimizer=lambda c, h: build_optimizer(c.replace(optimizer=optimizer), h, 9, 9, "step"),
    )
    scalars = with_effect(HYPERPARAMETERS, named)
    read = names_read(own, Hyperparameters(dict.fromkeys(scalars, np.float32(0.5)), seed=1), SMALL)
    said = {*with_effect(CONFIGURATION, named), *scalars}.difference(with_effect(CONFIGURATION, own))
    assert read - {"model", "optimizer"} == said - {"seed", "schedule"}


def test_what_has_no_effect_in_a_configuration_is_not_swept_there(tmp_path):
    decays = grid(decay=[0.9, 0.99])
    swept = its(grid(optimizer=["sgd", "rmsprop"]) * decays, model="mlp", features=[3])
    assert [sorted(group.hyperparameters).count("decay") for group in swept.groups] == [0, 1]
    assert len(swept.job.trial_ids) == 3
    first = its(grid(optimizer=["sgd"]), model="mlp", features=[3])
    assert first.job.trial_ids[0] == swept.job.trial_ids[0]
    before = first.run(tmp_path / "run", width=1)
    results = swept.run(tmp_path / "run")
    assert results.cohort.values.tolist() == [0, 1, 1]
    np.testing.assert_array_equal(results.decay, [np.nan, 0.9, 0.99])
    np.testing.assert_array_equal(results.train_loss[0], before.train_loss[0])
    assert varied(results) == ("decay", "optimizer")
    axes = unstack(results)
    assert dict(axes.sizes)["decay"] == dict(axes.sizes)["optimizer"] == 2
    both = axes.train_loss.sel(optimizer="sgd", epoch=1)
    assert both.values.tolist() == [float(results.train_loss[0, 1])] * 2
    assert read_results(tmp_path / "run").decay.equals(results.decay)


def test_only_rmsprop_is_centred_and_the_others_train_once():
    swept = its(grid(optimizer=["sgd", "rmsprop"], centered=[False, True]), model="mlp", features=[3])
    assert [len(group.trials) for group in swept.groups] == [1, 1, 1]
    assert ["centered" in group.configuration for group in swept.groups] == [False, True, True]


def test_fields_of_one_model_are_not_swept_in_another():
    mixed = its(grid(model=["cnn", "mlp"], features=[[2]], pooling=["max", "average"]))
    assert len(mixed.job.trial_ids) == 3
    assert coordinates(number_trials(mixed.job, None))["pooling"] == ["max", "average", None]


def triple(**functions):
    parts = {
        "init": lambda h, shared: shared["start"],
        "train_segment": lambda h, state, shared, epoch: (state - 1, {}),
        "evaluate": lambda h, state, shared, final: (state, {"end" if final else "value": state}),
    }
    return lambda configuration: Trial(**parts | functions)


SHARED = {"start": np.float32(3), "end": np.float32(0)}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"hyperparameters": {"rate": 1.0}},
            "hyperparameters.rate = 1.0: has no effect under this configuration",
        ),
        ({"configuration": {"width": 3}}, "configuration.width = 3: has no effect under this configuration"),
        (
            {
                "hyperparameters": {"rate": 1.0, "learning_rte": 1.0},
                "trial": triple(init=lambda h, s: h.rate),
            },
            "hyperparameters.learning_rte = 1.0: has no effect",
        ),
        (
            {"hyperparameters": {"learning_rte": 1.0}, "trial": triple(init=lambda h, s: h.learning_rate)},
            "unknown name 'learning_rte' in hyperparameters; did you mean 'learning_rate'?",
        ),
        ({"space": grid(seed=[0, 1])}, "space.seed = 0: has no effect under this configuration"),
    ],
)
def test_a_name_that_a_triple_does_not_read_is_refused(fields, message):
    with pytest.raises(InputError) as error:
        Study(**{"trial": triple(), "shared": SHARED} | fields)
    assert str(error.value).startswith(message)


def test_what_a_triple_reads_in_some_configuration_is_swept_there_alone():
    def scaled(configuration):
        if configuration.kind == "plain":
            return triple()(configuration)
        kept = Weights(
            lambda state: state, lambda state, kept: kept, lambda record: record[configuration.metric]
        )
        init = triple(init=lambda h, shared: h.factor * shared["start"])(configuration).init
        return triple()(configuration)._replace(init=init, weights=kept)

    swept = Study(
        trial=scaled,
        shared=SHARED,
        space=grid(kind=["plain", "scaled"], factor=[1.0, 2.0]),
        configuration={"kind": "plain", "metric": "value"},
        hyperparameters={"factor": 1.0},
        epochs=1,
    )
    assert [sorted(group.hyperparameters) for group in swept.groups] == [["seed"], ["factor", "seed"]]
    assert ["metric" in group.configuration for group in swept.groups] == [False, True]
    assert swept.run()["value"].values.tolist() == [[3, 2], [3, 2], [6, 5]]
