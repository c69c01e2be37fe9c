"""Functions that a study cannot use: each is an error of one line before anything is trained."""

import functools
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from small import Plain, grid
from test_reading import SHARED, SMALL, its, triple

from jaxlab import InputError, Study, read_results
from jaxlab.metrics import better
from jaxlab.trial import Weights


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
        ("model", nothing, "test_unusable_functions.nothing: returns None; return a flax.nnx.Module"),
        ("model", broken, "test_unusable_functions.broken: raises ValueError: two lines"),
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
        (
            "activation",
            nothing,
            "test_unusable_functions.nothing: returns None: return an array of the shape of x",
        ),
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
                (nothing, "test_unusable_functions.nothing: returns None: return an array of that shape"),
                (broken, "raises ValueError: two lines"),
                (of_one, "is a function of (x): give a function of (key, shape, dtype)"),
                (Plain, "is a class: give a function of (key, shape, dtype)"),
                (lambda key, shape, dtype: jnp.zeros(3), "returns shape [3] for ["),
                (
                    lambda key, shape, dtype: of_one,
                    "returns test_unusable_functions.of_one: return an array of that shape",
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
        (broken, r"rules = test_unusable_functions\.broken: raises ValueError: two lines at epoch 0"),
        (nothing, r"nothing = .*return a bool array \[1\], True for"),
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
    with pytest.raises(
        InputError, match=r"rules = test_unusable_functions\.late: raises KeyError: 'gone' at epoch 1"
    ):
        study_.run(tmp_path / "run")
    assert read_results(tmp_path / "run").epochs_run.values.tolist() == [1]


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
