"""What a run is identified by: what its programs compute, the code of its rules, and its trials' own settings."""

import copy
import dataclasses
import functools
import importlib.metadata
import json
import linecache
import re
import sys
import sysconfig
import textwrap
import types
from fractions import Fraction

import jax
import numpy as np
import optax
import pytest
from small import grid, study

from jaxlab import InputError, load_study, pruning, verify
from jaxlab.engine import code_digest
from jaxlab.errors import name_of, shown
from jaxlab.metrics import better
from jaxlab.runs import coordinates, environment, fingerprint_of, number_trials
from jaxlab.runs.changes import environment_changes

MODEL = """
    from flax import nnx
    import jax
    from parts import Base, squashed

    WIDTH = 3

    class Net(Base):
        def __init__(self, rngs):
            self.first = nnx.Linear(64, WIDTH, rngs=rngs)
            self.last = nnx.Linear(WIDTH, 10, rngs=rngs)

        def __call__(self, x):
            hidden = self.flat(x)
            return self.last(squashed(self.first(hidden)))

    def build(configuration, hyperparameters, rngs):
        return Net(rngs)
"""
PARTS = """
    from flax import nnx
    import jax

    @jax.jit
    def squashed(x):
        return jax.nn.tanh(x)

    class Base(nnx.Module):
        def flat(self, x):
            return x.reshape(x.shape[0], -1)
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A function that writes a model file and the module it imports, and loads a study of them."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # it is found by a time in whole seconds

    def write(model=MODEL, parts=PARTS):
        (tmp_path / "net.py").write_text(textwrap.dedent(model))
        (tmp_path / "parts.py").write_text(textwrap.dedent(parts))
        sys.modules.pop("parts", None)
        (tmp_path / "s.toml").write_text(
            'epochs = 1\ndata = {name = "digits", subset = 64}\n'
            'configuration = {model = "net.py:build", batch_size = 32}\nspace.grid.seed = [0]\n'
        )
        return load_study(tmp_path / "s.toml")

    yield write
    sys.modules.pop("parts", None)


OTHER_TEXT = [
    (MODEL.replace("hidden", "h"), PARTS),
    (
        MODEL.replace("Net", "Network").replace("WIDTH", "UNITS"),
        PARTS.replace("squashed(x)", "squashed(y)").replace("tanh(x)", "tanh(y)"),
    ),
    (
        MODEL.replace("hidden = self", "# flat first\n            hidden   =   self"),
        PARTS.replace("def flat(self, x):", 'def flat(self, x):\n            """Rows."""').replace(
            "(x):", "(x) :"
        ),
    ),
    (MODEL.replace("squashed", "squeezed"), PARTS.replace("squashed", "squeezed")),
]
OTHER_PROGRAMS = [
    (MODEL.replace("WIDTH = 3", "WIDTH = 4"), PARTS),
    (MODEL, PARTS.replace("tanh", "sigmoid")),
    (MODEL, PARTS.replace("x.reshape(x.shape[0], -1)", "0.5 * x.reshape(x.shape[0], -1)")),
]


def program(its):
    return fingerprint_of(its.job, its.groups[0])


def test_a_model_is_known_by_what_it_computes(written):
    first = program(written())
    assert {program(written(*files)) for files in OTHER_TEXT} == {first}
    others = [program(written(*files)) for files in OTHER_PROGRAMS]
    assert len({first, *others}) == 4


def test_a_finished_run_is_read_by_the_program_that_trained_it_alone(written, tmp_path):
    results = written().run(tmp_path / "run", width=1)
    again = written(*OTHER_TEXT[0]).run(tmp_path / "run")
    np.testing.assert_array_equal(again.train_loss, results.train_loss)
    other = written(*OTHER_PROGRAMS[1])
    with pytest.raises(
        InputError, match=r"is finished, and the code that trains net\.build has changed.*accept"
    ):
        other.run(tmp_path / "run")
    assert other.run(tmp_path / "run", accept_changes=True).train_loss.equals(results.train_loss)
    (change,) = verify(tmp_path / "run", 1, study=other).changes
    assert change.startswith("the code that trains net.build has changed")
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    run["environment"]["versions"]["jax"] = "0.1"
    (tmp_path / "run" / "run.json").write_text(json.dumps(run))
    with pytest.warns(UserWarning, match=r"read without comparing its code: jax is .* and was 0\.1"):
        other.run(tmp_path / "run")


def test_names_under_which_something_is_recorded_belong_to_the_program():
    @better("higher")
    def right(outputs, targets):
        return outputs[:, 0] * 0.0

    @better("higher")
    def wrong(outputs, targets):
        return outputs[:, 0] * 0.0

    assert program(study(grid(), metrics=[right])) != program(study(grid(), metrics=[wrong]))


def test_a_rule_is_known_by_its_code_and_all_that_it_reads():
    text = """
        LIMIT = 3
        def scaled(value):
            return value * LIMIT
        def rule(history):
            "Stops none."
            far = history.epoch  # of all
            return scaled(far) > 9
    """
    same = (
        text.replace("far", "reached")
        .replace("history", "h")
        .replace("scaled", "timed")
        .replace("of all", "")
        .replace("Stops none", "Stops no trial")
        .replace("(value):", "(value: float) -> float:")
    )
    digests = [
        code_digest(defined(each)["rule"])
        for each in (text, same, text.replace("= 3", "= 4"), text.replace("value *", "value -"))
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    both = [
        dataclasses.replace(study(grid()), rules=[defined(each)["rule"]]).job.study_hash
        for each in (text, same)
    ]
    assert both[0] == both[1]


def defined(text, module="a_users_module"):
    """A module of some source text, as `inspect` finds it."""
    text = textwrap.dedent(text)
    name = f"<{len(linecache.cache)} {text[:9]}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    names = {"__name__": module}
    exec(compile(text, name, "exec"), names)
    return names


class Above:
    """A rule with a state that it is known by."""

    def __init__(self, epoch):
        self.epoch = epoch

    def __call__(self, history):
        return np.full(len(history.running), history.epoch > self.epoch)


def test_rules_that_are_objects_partials_and_lambdas():
    rules = [Above(1), Above(2), functools.partial(Above.__call__, Above(1)), lambda history: history.running]
    digests = [code_digest(rule) for rule in rules]
    assert len(set(digests)) == 4
    assert digests[0] == code_digest(Above(1))


@dataclasses.dataclass(slots=True)
class Slotted:
    threshold: float

    def __call__(self, history):
        return history.epoch > self.threshold


def reads(value):
    return lambda history: (value, history.running)[1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (range(1, 5), range(1, 9)),
        (Fraction(1, 3), Fraction(2, 3)),
        (re.compile("a"), re.compile("b")),
        (slice(1), slice(2)),
        (Slotted(1.0), Slotted(2.0)),
        (np.random.default_rng(1), np.random.default_rng(2)),
    ],
)
def test_a_rule_is_known_by_the_objects_that_it_reads(one, other):
    assert code_digest(reads(one)) == code_digest(reads(copy.deepcopy(one)))
    assert code_digest(reads(one)) != code_digest(reads(other))


def test_a_wrapper_is_part_of_a_rule():
    def times(factor):
        def wrap(rule):
            @functools.wraps(rule)
            def wrapped(history):
                return rule(history) * factor

            return wrapped

        return wrap

    rules = [times(factor)(Above.__call__) for factor in (1, 2, 1)]
    assert code_digest(rules[0]) == code_digest(rules[2]) != code_digest(rules[1])


def test_a_constant_is_read_though_a_function_inside_has_a_name_like_it():
    text = """
        scale = {}
        def rule(h):
            f = lambda scale: scale + 1
            return h > scale
        """
    digests = [code_digest(defined(text.format(scale))["rule"]) for scale in (3, 4)]
    assert digests[0] != digests[1]


@pytest.mark.parametrize("package", ["xarray", "iniconfig", "py"])
@pytest.mark.parametrize("of", ["module", "function", "class"])
def test_what_a_rule_reads_of_an_installed_package_is_known_by_its_version(package, of, monkeypatch):
    """The module's, or that of its distribution; ``py`` comes with pytest."""
    module = importlib.import_module(package)
    read = {
        "module": module,
        "function": types.FunctionType(reads.__code__, {"__name__": package}),
        "class": type("Read", (), {"__module__": package}),
    }[of]
    before = code_digest(reads(read))
    assert before == code_digest(reads(read))
    if hasattr(module, "__version__"):
        monkeypatch.setattr(module, "__version__", "0.0")
    else:
        version = importlib.metadata.version
        monkeypatch.setattr(importlib.metadata, "version", lambda name: f"{version(name)}.1")
    assert before != code_digest(reads(read))


def test_a_folder_beside_the_installed_packages_is_not_installed(monkeypatch):
    beside = types.ModuleType("beside")
    beside.__file__ = f"{sysconfig.get_paths()['platstdlib']}_of_mine/beside.py"
    monkeypatch.setitem(sys.modules, "beside", beside)
    texts = ["def helper(x): return x + 1", "def helper(x): return x + 2"]
    helpers = [defined(text, "beside")["helper"] for text in texts]
    assert code_digest(reads(helpers[0])) != code_digest(reads(helpers[1]))


def test_callables_are_shown_by_name():
    def mine(x):
        return x

    name = "test_identity.test_callables_are_shown_by_name.<locals>.mine"
    assert name_of(mine) == name
    assert (
        shown({"a": [mine, 1], "b": (functools.partial(mine, x=2),)})
        == f"{{'a': [{name}, 1], 'b': ({name}(x=2),)}}"
    )
    assert "0x" not in shown(optax.adamw(1e-3))
    assert shown([object()]) == "[<object object>]"
    assert shown("at 0x7f") == "'at 0x7f'"
    numbering = number_trials(study(grid(activation=[mine, "relu"])).job, None)
    assert coordinates(numbering)["activation"] == [name, "relu"]


def test_flags_that_change_arithmetic_are_compared(monkeypatch):
    devices = jax.devices()  # XLA reads its flags here, so that those below are only compared

    def now(flags):
        monkeypatch.setenv("XLA_FLAGS", flags)
        return environment(devices)

    before = now("--xla_cpu_enable_fast_math=true --xla_dump_to=here")
    assert environment_changes(before, now(" --xla_cpu_enable_fast_math=true")) == []
    assert (
        environment_changes(
            before, now("--xla_force_host_platform_device_count=2 --xla_cpu_enable_fast_math=true")
        )
        == []
    )
    (change,) = environment_changes(before, now(""))
    assert change == "the compiler's flags are none and were xla_cpu_enable_fast_math=true"


@pytest.mark.parametrize(
    ("rule", "counts"),
    [
        (pruning.Median(), False),
        (pruning.Hyperband(), True),
        (pruning.AllOf([pruning.Hyperband()]), True),
        (Above(1), True),
    ],
)
def test_numpys_version_counts_where_rules_may_draw(rule, counts):
    now = environment(jax.devices())
    before = dataclasses.replace(now, versions=now.versions | {"numpy": "1.0"})
    found = environment_changes(before, now, [rule])
    assert found == [f"numpy is {np.__version__} and was 1.0"] * counts
