"""Studies: what is declared where, groups, bad input."""

import functools
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from small import digits, grid, plain_model, study

from jaxlab import Study, datasets, read_results
from jaxlab.errors import InputError
from jaxlab.metrics import better
from jaxlab.models import CNN
from jaxlab.pruning import Median
from jaxlab.runs import fingerprint_of
from jaxlab.space import zipped
from jaxlab.study import CONFIGURATION, HYPERPARAMETERS
from jaxlab.trial import Trial


def test_a_study_in_a_few_lines():
    its = study(
        grid(learning_rate=np.logspace(-4, 0, 13), l2=[0, 1e-4], seed=[0, 1]), epochs=3, activation="tanh"
    )
    assert repr(its).splitlines() == [
        "<Study study: 52 trials, 1 program, 3 epochs>",
        "data            arrays: train 150 × 8×8×1 uint8 in [0, 16], seen as [0, 0.06275], 10 classes, largest 14 %; "
        "validation 70; test 70",
        "space           learning_rate = [13 values, 0.0001 to 1.0], l2 = [0, 0.0001], seed = [0, 1]",
        "configuration   features = [4], batch_size = 32, evaluation_batch_size = 64, activation = 'tanh'",
    ]
    one = Study(digits(), grid(), 1, hyperparameters={"l2": 0.1}, rules=[Median()], name="one")
    assert repr(one).startswith("<Study one: 1 trial, 1 program, 1 epoch>\ndata            arrays: train 150")
    assert "\nhyperparameters l2 = 0.1\nrules           Median(" in repr(one)
    assert "space" not in repr(one)


def test_one_group_for_each_configuration():
    found = study(grid(activation=["relu", "tanh"], learning_rate=[1e-3, 1e-2], batch_size=[32, 16]))
    assert [group.trials for group in found.groups] == [(0, 2), (1, 3), (4, 6), (5, 7)]
    assert len(set(found.job.trial_ids)) == 8


def test_a_study_over_configurations_trains_each():
    results = study(
        zipped(activation=["relu", "elu"], features=[[2], [2, 3]]) * grid(learning_rate=[1e-2, 1e-1]), 1
    ).run()
    assert results.layer.values.tolist() == ["conv_0", "conv_1"]
    assert np.isnan(results.dead_fraction[:2, :, 1]).all()
    assert not np.isnan(results.dead_fraction[:2, :, 0]).any()
    assert results.activation.values.tolist() == ["relu", "relu", "elu", "elu"]
    assert (results.dead_fraction[2:] == 0).all()
    assert results.can_die.values.tolist() == [True, True, False, False]
    labels = digits().train.targets
    most = np.mean(digits().validation.targets == np.bincount(labels).argmax())
    assert results.validation_accuracy.attrs["chance"] == pytest.approx(most)
    assert "chance" not in results.zero_fraction.attrs


def test_where_a_name_is_declared_decides_what_it_is():
    (group,) = study(grid(l2=[0, 1], seed=[0, 1])).groups
    assert group.hyperparameters["l2"].tolist() == [0.0, 0.0, 1.0, 1.0]
    assert "l2" not in group.configuration
    assert "seed" in group.hyperparameters
    assert not set(CONFIGURATION) & set(HYPERPARAMETERS)


def test_settings_that_defaults_make_the_same_are_one_trial():
    space = grid(l2=[0.0, 1e-4]) + grid(seed=[0, 1])
    assert len(study(space).job.trial_ids) == 3


def test_only_what_has_an_effect_is_declared():
    assert "momentum" not in study(grid()).groups[0].hyperparameters
    assert "momentum" in study(grid(), momentum_type="classical").groups[0].hyperparameters
    assert "decay" not in study(grid(), optimizer="sgd").groups[0].hyperparameters
    assert "warmup_fraction" in study(grid(), schedule="warmup_cosine").groups[0].hyperparameters


@pytest.mark.parametrize(
    ("optimizer", "l2_type"),
    [
        ("rmsprop", "decoupled"),
        ("sgd", "coupled"),
        *(
            pytest.param(optimizer, l2_type, marks=pytest.mark.slow)
            for optimizer in ("rmsprop", "sgd", "adam", "adagrad")
            for l2_type in ("coupled", "decoupled")
        ),
    ],
)
def test_every_optimizer_learns(optimizer, l2_type):
    rate = 0.3 if optimizer == "sgd" else 1e-2
    space = grid(learning_rate=[rate], l2=[1e-4])
    momentum = "none" if l2_type == "coupled" else "nesterov"
    results = study(space, 3, optimizer=optimizer, l2_type=l2_type, momentum_type=momentum).run()
    assert results.train_loss[0, -1] < results.train_loss[0, 0]


@pytest.mark.parametrize("optimizer", ["rmsprop", pytest.param("sgd", marks=pytest.mark.slow)])
def test_proximal_l1_gives_exact_zeros_and_coupled_does_not(optimizer):
    space = grid(learning_rate=[1e-2], l1=[3e-2])
    zeros = [
        study(space, 3, optimizer=optimizer, l1_type=kind).run().zero_fraction[0, -1]
        for kind in ("coupled", "proximal")
    ]
    assert zeros[0] == 0 < zeros[1]


@pytest.mark.parametrize(
    "schedule", ["warmup_cosine", *(pytest.param(s, marks=pytest.mark.slow) for s in ("exponential", "step"))]
)
def test_a_schedule_changes_the_steps(schedule):
    space = grid(learning_rate=[1e-2])
    constant = study(space, 3).run()
    scheduled = study(
        space * grid(drop_every=[1]) if schedule == "step" else space, 3, schedule=schedule
    ).run()
    assert constant.train_loss[0, 0] == scheduled.train_loss[0, 0]
    assert constant.train_loss[0, 3] != scheduled.train_loss[0, 3]


def numpy_style_quadratic(configuration):
    """A triple with nothing of a network, a data set or an optimizer."""

    def train_segment(h, w, target, epoch):
        w = w - h.learning_rate * configuration.curvature * (w - target)
        return w, {"size": jnp.abs(w)}

    def evaluate(h, w, target, final):
        return w, {"last" if final else "loss": 0.5 * configuration.curvature * jnp.sum((w - target) ** 2)}

    return Trial(lambda h, target: jnp.zeros(2), train_segment, evaluate)


def test_a_triple_of_ones_own_gets_groups_results_and_store(tmp_path):
    own = Study(
        trial=numpy_style_quadratic,
        shared=np.array([1.0, 2.0], np.float32),
        space=grid(curvature=[1.0, 2.0], learning_rate=[0.5, 1.5, 1e30]),
        configuration={"curvature": 1.0},
        hyperparameters={"learning_rate": 0.1},
        epochs=4,
    )
    results = own.run(tmp_path / "run")
    assert results["size"].shape == (6, 5, 2)
    assert results.outcome.values.tolist() == ["completed", "completed", "diverged"] * 2
    np.testing.assert_allclose(results.loss[0], 0.5 * 5 * 0.5 ** (2 * np.arange(5)), rtol=1e-6)
    np.testing.assert_array_equal(results["last"][0], results.loss[0, -1])


def bad(**fields):
    """What a study with something wrong says."""
    with pytest.raises(InputError) as error:
        Study(digits(), epochs=1, **fields).run()
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"configuration": {"activaton": "relu"}},
            "unknown name 'activaton' in configuration; did you mean 'activation'?",
        ),
        (
            {"configuration": {"activation": "rellu"}},
            "configuration.activation = 'rellu': did you mean 'relu'?",
        ),
        (
            {"configuration": {"batch_size": "64"}},
            "configuration.batch_size = '64': give a whole number >= 1",
        ),
        (
            {"configuration": {"batch_size": 151}},
            "configuration.batch_size = 151: the training set has 150 examples",
        ),
        ({"configuration": {"batch_norm": 1}}, "configuration.batch_norm = 1: give true or false"),
        ({"configuration": {"features": [8, 0]}}, "configuration.features = 0: give a whole number >= 1"),
        ({"configuration": {"pool_sizes": 4}}, "nothing is left"),
        ({"configuration": {"learning_rate": 0.1}}, "is a hyperparameter: declare it under hyperparameters"),
        ({"configuration": {"optimizer": "lion"}}, "configuration.optimizer = 'lion': "),
        (
            {"configuration": {"loss": "msle"}},
            "give a function, or one of cross_entropy, focal, mse, mae, huber",
        ),
        (
            {"configuration": {"l1_type": "proximal", "momentum_type": "classical"}},
            "does not work with proximal L1",
        ),
        ({"configuration": {"centered": True, "optimizer": "sgd"}}, "set configuration.optimizer to rmsprop"),
        (
            {"configuration": {"loss": "mae"}},
            "configuration.loss = 'mae': the targets of arrays are labels: take one of cross_entropy, focal",
        ),
        (
            {"hyperparameters": {"learning_rate": -0.1}},
            "hyperparameters.learning_rate = -0.1: give a number >= 0",
        ),
        ({"hyperparameters": {"decay": 1.0}}, "hyperparameters.decay = 1.0: give a number in [0, 1)"),
        ({"hyperparameters": {"decay": -0.1}}, "hyperparameters.decay = -0.1: give a number in [0, 1)"),
        ({"hyperparameters": {"l2": float("nan")}}, "hyperparameters.l2 = nan: give a finite number"),
        ({"hyperparameters": {"l2": "0.1"}}, "hyperparameters.l2 = '0.1': give a finite number"),
        (
            {"hyperparameters": {"l2": 1e39}},
            "hyperparameters.l2 = 1e+39: is inf in float32, in which it is traced",
        ),
        (
            {"space": grid(l2=[0, 1e-50])},
            "space.l2 = 1e-50: is 0 in float32, in which it is traced: give 0 or a size from 1.2e-38 to 3.4e+38",
        ),
        ({"hyperparameters": {"seed": -1}}, "hyperparameters.seed = -1: give a whole number in [0, 2**32)"),
        (
            {"hyperparameters": {"lr": 0.1}},
            "unknown name 'lr' in hyperparameters; known names are seed, learning_rate",
        ),
        (
            {"hyperparameters": {"momentum": 0.9}},
            "has no effect under this configuration: set configuration.momentum_type",
        ),
        ({"hyperparameters": {"activation": 0.9}}, "is configuration: declare it under configuration"),
        ({"space": grid(learning_rate=[0.1, -0.1])}, "space.learning_rate = -0.1: give a number >= 0"),
        ({"space": grid(decay=[0.9, 1.5])}, "space.decay = 1.5: give a number in [0, 1)"),
        ({"space": grid(activation=["relu", "rel"])}, "space.activation = 'rel': did you mean 'relu'?"),
        (
            {"space": grid(learning_rat=[0.1])},
            "unknown name 'learning_rat' in space; did you mean 'learning_rate'?",
        ),
        ({"space": grid(learning_rate=[0.1])[:0]}, "give one setting or more"),
        ({"data_seed": -1}, "data_seed = -1"),
        (
            {"configuration": {"model": plain_model, "diagnostics": ["effective_rank"]}},
            "needs a model that returns",
        ),
    ],
)
def test_bad_input_is_one_line_that_names_field_value_and_remedy(fields, message):
    assert message in bad(**fields)


def other_model(width):
    def model(configuration, hyperparameters, rngs):
        return CNN((8, 8, 1), 10, features=(width,), rngs=rngs)

    return model


def test_what_a_function_closes_over_is_part_of_the_program():
    def known(**configuration):
        its = Study(digits(), configuration=configuration)
        return fingerprint_of(its.job, its.groups[0])

    assert known(model=other_model(4)) != known(model=other_model(8))
    assert known(model=other_model(4)) == known(model=other_model(4))
    assert known(model=other_model(4)) == known(model=functools.partial(sized, size=4))
    same = Trial(lambda h, x: x, lambda h, x, _, epoch: (x, {}), lambda h, x, _, final: (x, {}))
    triples = [Study(trial=lambda configuration: same, shared=np.ones(shape)) for shape in (2, (1, 2))]
    assert triples[0].job.study_hash != triples[1].job.study_hash


def test_settings_and_epochs_are_no_part_of_a_studys_identity():
    jobs = [study(grid(l2=[0])).job, study(grid(l2=[1, 2]), 7, activation="tanh").job]
    assert jobs[0].study_hash == jobs[1].study_hash
    assert jobs[0].trial_ids == study(grid(l2=[0.0]), 9).job.trial_ids


def sized(configuration, hyperparameters, rngs, size):
    return CNN((8, 8, 1), 10, features=(size,), rngs=rngs)


def test_an_optimizer_of_ones_own_reads_the_usual_names():
    def optimizer(configuration, hyperparameters):
        return optax.adamw(hyperparameters.learning_rate, weight_decay=hyperparameters.l2)

    found = Study(digits(), grid(learning_rate=[1e-3, 1e-2]), 2, {"optimizer": optimizer}, {"l2": 0.1})
    results = found.run()
    assert (results.train_loss[:, 2] < results.train_loss[:, 0]).all()
    with pytest.raises(InputError, match=r"hyperparameters\.learning_rate = -1"):
        Study(digits(), hyperparameters={"learning_rate": -1}, configuration={"optimizer": optimizer})
    with pytest.raises(InputError, match="did you mean 'learning_rate'"):
        Study(digits(), hyperparameters={"learning_rte": 1}, configuration={"optimizer": optimizer})
    with pytest.raises(InputError, match="did you mean 'features'"):
        Study(
            digits(),
            configuration={"optimizer": optimizer, "featurs": 3},
            hyperparameters={"learning_rate": 1e-2, "l2": 0.1},
        )


def test_an_optax_schedule_is_a_factor_on_the_learning_rate():
    space = grid(learning_rate=[1e-2])
    stopped = study(space, 2, schedule=optax.piecewise_constant_schedule(1.0, {4: 0.0})).run()
    plain = study(space, 2).run()
    assert stopped.train_loss[0, 1] == plain.train_loss[0, 1]
    assert stopped.train_loss[0, 2] == stopped.train_loss[0, 1]


@pytest.mark.parametrize("field", ["loss", "metrics"])
def test_a_loss_that_is_no_value_per_example_is_refused(field):
    @better("higher")
    def mean(outputs, targets):
        return jnp.mean(outputs)

    assert f"configuration.{field} = " in bad(configuration={field: mean})


def test_out_of_memory_names_the_width(monkeypatch):
    def exhausted(*arguments):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 byte")

    monkeypatch.setattr(jax.stages.Compiled, "__call__", exhausted)
    with pytest.raises(InputError, match=r"width = 3: out of memory: give a smaller --width"):
        study(grid()).run(width=3)


def test_weights_that_are_all_zero_are_not_divergence():
    results = study(grid(init_scale=[0.0]), 1).run()
    assert results.outcome.values.tolist() == ["completed"]


def test_a_study_needs_data_or_a_triple():
    with pytest.raises(InputError, match="give data, or trial together with shared"):
        Study()


@pytest.mark.parametrize("epochs", [0, -1, True])
def test_epochs_must_be_a_whole_number(epochs):
    with pytest.raises(InputError, match=f"epochs = {epochs}: give a whole number >= 1"):
        Study(digits(), epochs=epochs)


def test_width_must_be_a_whole_number():
    with pytest.raises(InputError, match="width = 0: give a whole number >= 1"):
        study(grid()).run(width=0)


def test_what_nothing_can_hold_is_one_line_before_it_is_compiled(free_memory):
    with pytest.raises(
        InputError, match=r"epochs = 1000000000: give at most 536,870,911: a trial has at most"
    ):
        study(grid(), 10**9)
    for features in ([10**10], [10**12], [10**20]):
        with pytest.raises(InputError, match="the state of one trial exceeds the total memory"):
            study(grid(), model="mlp", features=features).run()
    free_memory(10**6)
    for epochs in (10**6, 10**8):  # more than is free for the results; for whatever is kept of each epoch
        with pytest.raises(InputError, match=f"epochs = {epochs}: is too many for the results of 1 trials"):
            study(grid(), epochs).run()


def test_plan_says_what_a_study_takes_without_writing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = study(grid(activation=["relu", "tanh"], learning_rate=[1e-3, 1e-2, 1e-1]), 5).plan(width=2)
    assert [(group.configuration, group.trials, group.packs) for group in plan.groups] == [
        ({"activation": "relu"}, 3, 2),
        ({"activation": "tanh"}, 3, 2),
    ]
    assert plan.trials == 6
    assert all(group.memory_bytes > 0 and group.seconds > 0 for group in plan.groups)
    assert not list(tmp_path.iterdir())


def test_nan_in_inputs_and_labels_outside_the_classes():
    inputs = np.zeros((20, 8, 8, 1), np.float32)
    labels = np.arange(20, dtype=np.int32) % 10
    broken = inputs.copy()
    broken[3, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match=r"nan|NaN|finite"):
        datasets.from_arrays((broken, labels), classes=10)
    with pytest.raises(InputError, match="11"):
        datasets.from_arrays((inputs, np.where(labels == 3, 11, labels)), classes=10)


def test_a_users_own_names_are_taken_only_with_a_function_of_theirs():
    assert "unknown name 'depth' in configuration" in bad(configuration={"depth": 3})

    def model(configuration, hyperparameters, rngs):
        layers = [nnx.Linear(64, 64, rngs=rngs) for _ in range(configuration.depth)]
        return nnx.Sequential(
            lambda x: hyperparameters.gain * x.reshape(x.shape[0], -1), *layers, nnx.Linear(64, 10, rngs=rngs)
        )

    found = Study(digits(), grid(gain=[1, 2]), 1, {"model": model, "depth": 3}, {"gain": 1.0})
    assert found.groups[0].configuration["depth"] == 3
    assert found.groups[0].hyperparameters["gain"].tolist() == [1.0, 2.0]


def test_no_jax_trace_leaks_into_the_error_of_a_bad_shape():
    message = bad(configuration={"features": [4, 4, 4, 4]})
    assert "conv_3's pooling" in message


def test_identity_is_stable_between_processes():
    code = (
        "import sys, json; sys.path.insert(0, 'tests')\n"
        "from small import grid, study\n"
        "job = study(grid(l2=[0, 1])).job\n"
        "print(json.dumps([job.study_hash, job.trial_ids]))"
    )
    outputs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
        for _ in range(2)
    }
    assert len(outputs) == 1
    assert len(json.loads(outputs.pop())[1]) == 2


@pytest.mark.parametrize("strength", [np.array(1e-4), np.float32(1e-4), jnp.float32(1e-4)])
def test_scalars_of_numpy_and_jax_are_numbers_in_results_and_on_disk(strength, tmp_path):
    static = {"features": np.array([3]), "batch_size": np.int64(32)}
    study_ = Study(digits(), grid(seed=[0]), 1, static, {"l2": strength})
    results = study_.run(tmp_path / "run", width=1)
    assert results.l2.values.tolist() == [float(strength)]
    assert json.loads(results.specification)["hyperparameters"] == {"l2": float(strength)}
    assert read_results(tmp_path / "run").equals(results)
