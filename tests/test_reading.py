"""What of a study has an effect: names that its functions read, and functions that cannot be used."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from small import Plain, digits, grid, plain_model, study

from jaxlab import InputError, Study, load_model, read_results
from jaxlab.analysis import unstack, varied
from jaxlab.metrics import better
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


def labelled(configuration, hyperparameters):
    """Steps of the last layer alone, by a label for each of the model's names."""
    labels = {"first": "fixed", "norm": "fixed", "last": "free"}
    parts = {"free": optax.sgd(hyperparameters.learning_rate), "fixed": optax.set_to_zero()}
    return optax.multi_transform(
        parts,
        lambda parameters: jax.tree_util.tree_map_with_path(
            lambda path, leaf: labels[path[0].key], parameters
        ),
    )


@pytest.mark.parametrize("steps", [1, 3])
def test_an_optimizer_may_begin_with_an_infinite_value(steps):
    """As the best loss so far does, for the first steps or several epochs; an overflow later is divergence."""

    def plateau(configuration, hyperparameters):
        reduce = optax.contrib.reduce_on_plateau(accumulation_size=steps)
        return optax.chain(optax.scale(hyperparameters.size), optax.scale_by_adam(), optax.sgd(0.1), reduce)

    results = its(
        grid(size=[1.0, 1e30]), 2, {"size": 1.0}, model="mlp", features=[4], optimizer=plateau
    ).run()
    assert results.outcome.values.tolist() == ["completed", "diverged"]
    assert results.first_bad_step.values.tolist() == [-1, 1]
    assert results.train_loss[0, 2] < results.train_loss[0, 0]


def masked(configuration, hyperparameters):
    """The same by a mask in the shape of the model's parameters."""
    parameters = nnx.state(nnx.eval_shape(lambda: Plain(nnx.Rngs(0))), nnx.Param)
    others = jax.tree_util.tree_map_with_path(lambda path, leaf: path[0].key != "last", parameters)
    return optax.chain(optax.sgd(hyperparameters.learning_rate), optax.masked(optax.set_to_zero(), others))


@pytest.mark.parametrize("optimizer", [labelled, masked])
def test_an_optimizer_may_look_at_the_parameters_names(optimizer, tmp_path):
    static = {"batch_size": 32, "model": plain_model, "optimizer": optimizer}
    Study(SMALL, grid(learning_rate=[0.1]), 1, static, keep="last").run(tmp_path / "run")
    model = load_model(tmp_path / "run", 0, functions={"model": plain_model})
    before = Plain(nnx.Rngs(jax.random.key(0)))
    np.testing.assert_allclose(model.first.kernel[...], before.first.kernel[...], atol=1e-6)
    assert np.abs(model.last.kernel[...] - before.last.kernel[...]).max() > 1e-2


@pytest.mark.parametrize("microbatch", [None, 16])
def test_an_optimizer_gets_the_loss_and_the_gradient(microbatch):
    def polyak(configuration, hyperparameters):
        return optax.chain(seen(), optax.polyak_sgd(max_learning_rate=hyperparameters.learning_rate))

    results = its(
        grid(learning_rate=[0.1]),
        2,
        model="mlp",
        features=[4],
        optimizer=polyak,
        microbatch=microbatch,
        step_losses=True,
    ).run()
    assert results.outcome.values.tolist() == ["completed"]
    assert results.train_loss[0, 2] < results.train_loss[0, 0]


def seen():
    """Updates that are NaN unless the loss is positive and the gradient that of the loss."""

    def update(updates, state, parameters=None, *, value, grad, **others):
        same = optax.tree.norm(optax.tree.sub(updates, grad)) == 0
        return jax.tree.map(lambda each: jnp.where((value > 0) & same, each, jnp.nan), updates), state

    return optax.GradientTransformationExtraArgs(lambda parameters: optax.EmptyState(), update)


@better("higher")
def nothing(*arguments):
    return None


@better("higher")
def broken(*arguments):
    raise ValueError("two\nlines")


def looking(x, *more):
    return 1.0 if jnp.sum(x) > 0 else 2.0


def of_one(x):
    return x


def by_name(c, h, *, rngs):
    return Plain(rngs)


class Silent(Plain):
    def __call__(self, x):
        super().__call__(x)


@pytest.mark.parametrize(
    ("field", "given", "message"),
    [
        ("model", nothing, "test_reading.nothing: returns None; return a flax.nnx.Module"),
        ("model", broken, "test_reading.broken: raises ValueError: two lines"),
        ("model", of_one, "is a function of (x): give a function of (configuration, hyperparameters, rngs)"),
        (
            "model",
            Plain,
            "is a class that is built from (rngs): give a function (configuration, hyp",
        ),
        (
            "model",
            Plain(nnx.Rngs(0)),
            "is a model that is built: give a function (configuration, hyperparameters, rngs)",
        ),
        ("model", lambda c, h, rngs: Silent(rngs), "return outputs [B, K], or (outputs, activations)"),
        ("optimizer", nothing, "returns None: return an optax.GradientTransformation"),
        (
            "optimizer",
            optax.adamw,
            "is Optax's own: give a function (configuration, hyperparameters) that calls it",
        ),
        ("optimizer", functools.partial(optax.adamw, b1=0.5), "is Optax's own"),
        (
            "optimizer",
            optax.adamw(1e-3),
            "is built already: give a function of (configuration, hyperparameters)",
        ),
        *(
            (
                "optimizer",
                each,
                "is L-BFGS or a line search, which compare losses or gradients of one function",
            )
            for each in (
                lambda c, h: optax.lbfgs(),
                lambda c, h: optax.chain(optax.trace(0.9), optax.lbfgs(0.1, linesearch=None)),
                lambda c, h: optax.chain(optax.sgd(0.1), optax.scale_by_backtracking_linesearch(3)),
            )
        ),
        (
            "model",
            by_name,
            "is a function of (c, h, *, rngs): give a function of (configuration, hyperparameters, rngs), p",
        ),
        (
            "optimizer",
            lambda c, h: optax.adamw,
            "returns optax._src.alias.adamw: return an optax.GradientTransformation",
        ),
        ("activation", nothing, "test_reading.nothing: returns None: return an array of the shape of x"),
        ("activation", broken, "raises ValueError: two lines"),
        ("activation", looking, "looks at the value of a traced array in Python"),
        ("activation", jnp.sum, "returns shape [] for [2, 8, 8, 16]: return an array of the shape of x"),
        ("activation", lambda x, y: x, "is a function of (x, y): give a function of (x), passed by position"),
        ("activation", Silent, "is a class: give a function of (x)"),
        ("activation", object(), "<object object>: give a function, or one of relu"),
        *(
            (field, given, message)
            for field in ("kernel_init", "bias_init")
            for given, message in (
                (nothing, "test_reading.nothing: returns None: return an array of that shape"),
                (broken, "raises ValueError: two lines"),
                (of_one, "is a function of (x): give a function of (key, shape, dtype)"),
                (Plain, "is a class: give a function of (key, shape, dtype)"),
                (lambda key, shape, dtype: jnp.zeros(3), "returns shape [3] for ["),
                (
                    lambda key, shape, dtype: of_one,
                    "returns test_reading.of_one: return an array of that shape",
                ),
            )
        ),
        ("loss", nothing, "returns None: return one value per example [B]"),
        ("loss", broken, "raises ValueError: two lines"),
        ("loss", of_one, "is a function of (x): give a function of (outputs, targets)"),
        ("loss", looking, "looks at the value of a traced array in Python"),
        ("metrics", nothing, "returns None"),
        ("metrics", [broken], "raises ValueError: two lines"),
        ("metrics", [], "configuration.metrics = []: give 1 or more"),
        ("metrics", [nothing, nothing], "is the name of another recorded variable; rename it"),
        ("schedule", nothing, "returns None: return a factor on the learning rate"),
        ("schedule", broken, "raises ValueError: two lines"),
        ("schedule", optax.cosine_decay_schedule, "is a function of"),
        ("schedule", looking, "looks at the value of a traced array in Python"),
        ("augment", of_one, "is a function of (x): give a function of (key, inputs)"),
        ("diagnostics", broken, "raises ValueError: two lines"),
    ],
)
def test_a_function_that_cannot_be_used_is_one_line(field, given, message, tmp_path):
    with pytest.raises(InputError) as error:
        its(**{field: given}).run(tmp_path / "run")
    assert str(error.value).startswith(f"configuration.{field}")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert "0x" not in str(error.value)
    assert not (tmp_path / "run").exists()


def train_loss(outputs, activations, targets):
    return jnp.zeros(())


def gradient_norm(outputs, activations, targets):
    return jnp.zeros(())


@pytest.mark.parametrize("given", [train_loss, gradient_norm])
def test_a_diagnostic_replaces_nothing_that_is_recorded(given):
    with pytest.raises(
        InputError, match=f"diagnostics = '{given.__name__}': is the name of another recorded variable"
    ):
        its(diagnostics=[given]).run()


def late(history):
    if history.epoch:
        raise KeyError("gone")
    return np.zeros(len(history.running), bool)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (broken, r"rules = test_reading\.broken: raises ValueError: two lines at epoch 0"),
        (nothing, r"nothing = .*return a bool array of the 1 trials"),
        (lambda: None, r"rules = .*raises TypeError.*at epoch 0: a rule is a function of the history"),
    ],
)
def test_rules_are_tried_before_anything_is_trained(rule, message, tmp_path):
    study_ = Study(SMALL, grid(), 1, {"model": "mlp", "features": [2]}, rules=[rule])
    with pytest.raises(InputError, match=message):
        study_.run(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_rule_that_fails_later_loses_nothing(tmp_path):
    study_ = Study(SMALL, grid(), 3, {"model": "mlp", "features": [2]}, rules=[late])
    with pytest.raises(InputError, match=r"rules = test_reading\.late: raises KeyError: 'gone' at epoch 1"):
        study_.run(tmp_path / "run")
    assert read_results(tmp_path / "run").epochs_run.values.tolist() == [1]


def triple(**functions):
    parts = {
        "init": lambda h, shared: shared["start"],
        "train_segment": lambda h, state, shared, epoch: (state - 1, {}),
        "evaluate": lambda h, state, shared, final: (state, {"end" if final else "value": state}),
    }
    return lambda configuration: Trial(**parts | functions)


SHARED = {"start": np.float32(3), "end": np.float32(0)}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            triple(init=lambda h, shared: shared["begin"]),
            "trial.init = .*raises KeyError: 'begin'; shared has start, end",
        ),
        (
            triple(init=of_one),
            r"trial.init = .*is a function of \(x\): give a function of \(hyperparameters, shared\)",
        ),
        (triple(train_segment=nothing), r"trial.train_segment = .*returns None: return \(state, record\)"),
        (
            triple(evaluate=lambda h, s, shared, f: {"a": s, "b": s}),
            "trial.evaluate = .*returns dict: return",
        ),
        (triple(evaluate=lambda h, s, shared, f: (s, {"a": {"b": s}})), "trial.evaluate = .*: return"),
        (triple(train_segment=lambda h, s, shared, e: ((s, s), {})), "state of another structure"),
        (
            triple(train_segment=lambda h, s, shared, e: (jnp.stack([s]), {})),
            r"state with float32 \[1\] where",
        ),
        (
            triple(init=lambda h, shared: 3, train_segment=lambda h, s, shared, e: (s + 0.5, {})),
            r"trial.train_segment = .*state with float32 \[\] where it was given int32 \[\]",
        ),
        (
            triple(init=lambda h, shared: h.rate),
            "trial.init = .*reads rate, which is not declared: declare it under hyp",
        ),
        (
            lambda c: triple()(c.rate),
            "trial = .*reads rate, which is not declared: declare it under configuration",
        ),
        (
            triple(init=lambda h, shared: shared["start"] if h.seed > 0 else shared["end"]),
            "trial.init = .*looks at the value of seed in Python",
        ),
        (lambda c: triple()(c)._replace(sample=broken), "trial.sample = .*raises ValueError: two lines"),
        (
            lambda c: triple()(c)._replace(weights=Weights(broken, broken)),
            "trial.weights.kept = .*raises ValueError",
        ),
        (nothing, r"trial = .*returns None: return a jaxlab.Trial"),
        (broken, "trial = .*raises ValueError: two lines"),
    ],
)
def test_a_triple_that_cannot_be_used_is_one_line(given, message):
    with pytest.raises(InputError, match=message) as error:
        Study(trial=given, shared=SHARED, epochs=1)
    assert str(error.value).startswith("trial")
    assert "\n" not in str(error.value)
    assert "0x" not in str(error.value)


@pytest.mark.parametrize("shared", ["text", SHARED | {"more": "text"}, SHARED | {"more": object()}])
def test_what_a_triple_shares_is_arrays(shared):
    with pytest.raises(InputError, match=r"^shared = .*give a tree of arrays of numbers"):
        Study(trial=triple(), shared=shared)


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


WRONG = """
from jaxlab import InputError, Study, datasets
from jaxlab.trial import Trial
wrong = {
    "data": "digits", "space": {"seed": [1]}, "configuration": "mlp", "hyperparameters": [0.1], "name": 3,
    "trial": Trial(None, None, None),
}
for name, value in wrong.items():
    try:
        Study(**({} if name == "trial" else {"data": datasets.load("digits")}) | {name: value})
    except InputError as error:
        print(error.remedy)
try:
    Study(trial=lambda configuration: wrong["trial"])
except InputError as error:
    print(error)
"""


def test_what_a_study_is_made_of_has_the_right_type():
    """In a process that does not check type hints."""
    said = subprocess.run([sys.executable, "-c", WRONG], check=True, capture_output=True, text=True).stdout
    assert said.splitlines() == [
        'give a data set, such as jaxlab.datasets.load("digits")',
        "give settings, such as jaxlab.space.grid(learning_rate=[1e-3, 1e-2])",
        "give a dict from names to values",
        "give a dict from names to numbers",
        "give text",
        "give a function (configuration)",
        "trial.init = None: give a function (hyperparameters, shared)",
    ]
