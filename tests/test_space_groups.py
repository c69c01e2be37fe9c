"""Groups of one configuration, and trial ids."""

import doctest
import functools
import hashlib
import importlib
import json
import math
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlab import space as sp
from jaxlab.errors import InputError
from jaxlab.settings import Configuration

quick = settings(deadline=None, max_examples=40)
values = st.one_of(st.integers(0, 3), st.booleans(), st.sampled_from(["x", "y", (1, 2), 0.5, 1.0]))


# --- groups ------------------------------------------------------------------------------------------------

NUMBERS = {"learning_rate": 1e-3, "l2": 0, "seed": 0}
STATICS = {"activation": "relu", "channels": [16, 32], "batch_size": 64}


def test_groups_split_by_declared_configuration_in_order_of_appearance():
    space = sp.grid(l2=[1, 0.5]) * sp.grid(activation=["tanh", "relu"], seed=[3, 4])
    tanh, relu = sp.groups(space, NUMBERS, STATICS)
    assert tanh.configuration == Configuration(activation="tanh", channels=(16, 32), batch_size=64)
    assert relu.configuration == tanh.configuration.replace(activation="relu")
    assert (tanh.trials, relu.trials) == ((0, 1, 4, 5), (2, 3, 6, 7))
    assert {name: column.tolist() for name, column in relu.hyperparameters.items()} == {
        "learning_rate": [1e-3] * 4,
        "l2": [1.0, 1.0, 0.5, 0.5],
        "seed": [3, 4, 3, 4],
    }
    kinds = {name: column.dtype for name, column in relu.hyperparameters.items()}
    assert kinds == {"learning_rate": np.float64, "l2": np.float64, "seed": np.uint32}
    hash(relu.configuration)


def test_the_declaration_decides_not_the_type_of_the_value():
    space = sp.grid(momentum=[0.0, 0.5])
    assert len(sp.groups(space, {"momentum": 0}, {})) == 1
    assert [g.configuration for g in sp.groups(space, {}, {"momentum": None})] == [
        Configuration(momentum=0.0),
        Configuration(momentum=0.5),
    ]


def test_a_space_of_no_names_is_one_trial_of_all_defaults():
    (group,) = sp.groups(sp.grid(), NUMBERS, STATICS)
    assert group.trials == (0,)
    assert {name: column.tolist() for name, column in group.hyperparameters.items()} == {
        "learning_rate": [1e-3],
        "l2": [0.0],
        "seed": [0],
    }
    (bare,) = sp.groups(sp.grid(), {}, {})
    assert (dict(bare.configuration), bare.trials, dict(bare.hyperparameters)) == ({}, (0,), {})


def test_large_seeds_stay_exact_and_whole_floats_are_seeds():
    (group,) = sp.groups(sp.Space([{"seed": 2**32 - 1}, {"seed": 5.0}]), NUMBERS, {})
    assert group.hyperparameters["seed"].tolist() == [2**32 - 1, 5]


@quick
@given(st.lists(st.dictionaries(st.sampled_from("abcde"), values, max_size=5), min_size=1, max_size=12))
def test_groups_partition_the_space(many):
    numbers, statics = {"a": 9, "b": 8.5}, {"c": "z", "d": 7, "e": None}
    many = [{n: v for n, v in s.items() if n not in numbers or type(v) in (int, float)} for s in many]
    space = sp.Space(many)
    found = sp.groups(space, numbers, statics)
    assert sorted(i for group in found for i in group.trials) == list(range(len(space)))
    assert [group.trials[0] for group in found] == sorted(group.trials[0] for group in found)
    ids = set()
    for group in found:
        assert list(group.trials) == sorted(group.trials)
        for position, index in enumerate(group.trials):
            full = {**numbers, **statics, **space[index]}
            row = {name: column[position] for name, column in group.hyperparameters.items()}
            assert row == {name: full[name] for name in numbers}
            assert group.configuration == Configuration({name: full[name] for name in statics})
            ids.add(sp.trial_id(row, group.configuration))
    assert len(ids) == len(space)
    assert len({sp.grid(**{k: [v] for k, v in group.configuration.items()}) for group in found}) == len(found)


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        (
            {"lerning_rate": 1},
            r"unknown name 'lerning_rate' in space; did you mean 'learning_rate'\?",
        ),
        (
            {"zzz": 1},
            r"unknown name 'zzz' in space; known names are learning_rate, l2, seed, activation, channels, batch",
        ),
        ({"l2": "0.1"}, r"space\.l2 = '0\.1': give a finite number, or declare it under configuration"),
        ({"l2": True}, r"space\.l2 = True: give a finite number, or declare it under configuration"),
        ({"l2": None}, r"space\.l2 = None: give a finite number, or declare it under configuration"),
        ({"l2": (1, 2)}, r"space\.l2 = \(1, 2\): give a finite number, or declare"),
        ({"l2": math.inf}, r"space\.l2 = inf: give a finite number"),
        ({"l2": 10**400}, r"space\.l2 = 1000.*: give a finite number"),
        ({"seed": 0.5}, r"space\.seed = 0\.5: give a whole number in \[0, 2\*\*32\)"),
        ({"seed": 2**32}, r"space\.seed = 4294967296: give a whole number in \[0, 2\*\*32\)"),
        ({"seed": -1}, r"space\.seed = -1: give a whole number in"),
    ],
)
def test_bad_setting_is_named(setting, match):
    space = sp.Space([{}, setting])
    with pytest.raises(InputError, match=f"^{match}"):
        sp.groups(space, NUMBERS, STATICS)


@pytest.mark.parametrize(
    ("numbers", "statics", "match"),
    [
        ({"l2": 0}, {"l2": 0}, r"hyperparameters\.l2 = 0: declare it under .*, not both"),
        ({"l2": "0"}, {}, r"hyperparameters\.l2 = '0': .*declare it under configuration"),
        ({"l2": False}, {}, r"hyperparameters\.l2 = False: .*declare it under configuration"),
        ({"l2": math.nan}, {}, r"hyperparameters\.l2 = nan: give a finite number"),
        ({"seed": 1.5}, {}, r"hyperparameters\.seed = 1\.5: give a whole number"),
        ({}, {"layers": {"a": 1}}, r"configuration\.layers = .*: give a number, string"),
        ({}, {"clip": math.nan}, r"configuration\.clip = nan: give a number, not NaN"),
    ],
)
def test_bad_declaration_is_named(numbers, statics, match):
    with pytest.raises(InputError, match=f"^{match}"):
        sp.groups(sp.grid(), numbers, statics)


def test_an_empty_space_is_refused():
    with pytest.raises(InputError, match=r"space = .*give one setting or more"):
        sp.groups(sp.grid(l2=[1])[:0], NUMBERS, STATICS)


@pytest.mark.parametrize("again", [{"l2": 0.0}, {"activation": "relu", "seed": 0}, {"channels": [16, 32.0]}])
def test_settings_that_are_one_trial_once_complete_are_refused_and_with_defaults_drops_them(again):
    space = sp.Space([{"l2": 1}, {}, {"l2": 2}, again])
    with pytest.raises(InputError, match=r"setting 3 is the same trial as setting 1 once"):
        sp.groups(space, NUMBERS, STATICS)
    (group,) = sp.groups(space.with_defaults(NUMBERS | STATICS), NUMBERS, STATICS)
    assert group.hyperparameters["l2"].tolist() == [1.0, 0.0, 2.0]


def scaled(factor):
    def activation(x):
        return factor * x

    return activation


def test_functions_group_by_identity_and_two_of_one_name_are_refused():
    space = sp.grid(activation=[jnp.tanh, jax.nn.relu], l2=[0, 1])
    assert [g.configuration["activation"] for g in sp.groups(space, NUMBERS, STATICS)] == [
        jnp.tanh,
        jax.nn.relu,
    ]
    clash = sp.grid(activation=["relu", scaled(1), scaled(2)])
    with pytest.raises(InputError, match=r"configuration\.activation = .*give each function a distinct name"):
        sp.groups(clash, NUMBERS, STATICS)
    apart = [functools.partial(jax.nn.leaky_relu, negative_slope=slope) for slope in (0.1, 0.2)]
    assert len(sp.groups(sp.grid(activation=apart), NUMBERS, STATICS)) == 2


# --- trial ids ---------------------------------------------------------------------------------------------

ROW, CONFIGURATION = (
    {"learning_rate": 1e-3, "seed": 0},
    {"activation": "relu", "channels": (16, 32), "norm": True},
)


def test_trial_id_is_pinned_across_processes_and_hash_seeds():
    # A change here orphans every result that anyone has on disk.
    assert sp.trial_id(ROW, CONFIGURATION) == "20527eb081b5"
    code = f"from jaxlab.space import trial_id; print(trial_id({ROW}, {CONFIGURATION}))"
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "20527eb081b5"


@pytest.mark.parametrize("configuration", [CONFIGURATION, {}])
def test_ids_of_a_group_are_hashes_of_sorted_json(configuration):
    space = sp.Space(
        [{"l2": l2, "seed": seed} for l2, seed in [(0, 0), (1e16, 1), (0.1, 2**32 - 2), (-0.0, 3), (0, 4)]]
    )
    (group,) = sp.groups(space, NUMBERS, configuration)
    ids = []
    for l2, seed in [(0, 0), (10**16, 1), (0.1, 2**32 - 2), (0, 3), (0, 4)]:
        row = {"hyperparameters.l2": l2, "hyperparameters.seed": seed, "hyperparameters.learning_rate": 1e-3}
        complete = row | {f"configuration.{name}": value for name, value in configuration.items()}
        ids.append(hashlib.sha256(json.dumps(complete, sort_keys=True).encode()).hexdigest()[:12])
    assert sp.trial_ids(group) == ids
    (bare,) = sp.groups(sp.grid(), {}, configuration)
    assert sp.trial_ids(bare) == [sp.trial_id({}, configuration)]


@pytest.mark.parametrize(
    ("row", "configuration"),
    [
        ({"seed": 0, "learning_rate": 0.001}, CONFIGURATION),
        ({"seed": -0.0, "learning_rate": np.float64(1e-3)}, CONFIGURATION),
        ({"seed": np.int64(0), "learning_rate": np.array(1e-3)}, CONFIGURATION),
        (ROW, {"norm": np.bool_(True), "channels": [16, 32.0], "activation": "relu"}),
    ],
)
def test_one_setting_has_one_id_however_it_is_written(row, configuration):
    assert sp.trial_id(row, configuration) == sp.trial_id(ROW, CONFIGURATION)


def double(x):
    return 2 * x


def test_different_settings_have_different_ids():
    rows = [
        ROW,
        {**ROW, "seed": 1},
        {**ROW, "learning_rate": math.nextafter(1e-3, 1)},
        {"learning_rate": 1e-3},
        {},
    ]
    ids = {sp.trial_id(row, CONFIGURATION) for row in rows}
    options = [
        *(1, 2.5, "1", "relu", True, None, (), (1,), ((1,),), (1, 2), "[1, 2]", math.inf, 2**53, 2**53 + 1),
        *(double, f"{__name__}.double", jnp.tanh, np.tanh, jnp.float32, np.float32),
        *(functools.partial(double), functools.partial(double, 1), functools.partial(double, 2)),
        *(functools.partial(double, x=1), functools.partial(double, x=2), functools.partial(jnp.tanh, 1)),
    ]
    ids |= {sp.trial_id(ROW, {"activation": option}) for option in options}
    ids |= {sp.trial_id({}, {"l2": 1}), sp.trial_id({"l2": 1}, {})}
    assert len(ids) == len(rows) + len(options) + 2
    assert all(len(one) == 12 and set(one) <= set("0123456789abcdef") for one in ids)


@pytest.mark.parametrize(
    ("row", "configuration", "match"),
    [
        ({"l2": math.nan}, {}, r"hyperparameters\.l2 = nan: give a finite number"),
        ({"l2": "1"}, {}, r"hyperparameters\.l2 = '1': give a finite number"),
        ({}, {"f": {}}, r"configuration\.f = \{\}: give a number, string"),
        ({}, {"f": type("Nameless", (), {"__call__": print})()}, r"configuration\.f = .*: give a function"),
    ],
)
def test_setting_without_an_id_is_named(row, configuration, match):
    with pytest.raises(InputError, match=f"^{match}"):
        sp.trial_id(row, configuration)


@pytest.mark.parametrize("module", ["", ".values", ".space", ".distributions", ".table", ".grouping"])
def test_examples_in_docstrings_hold(module):
    result = doctest.testmod(importlib.import_module(f"jaxlab.space{module}"))
    assert result.failed == 0
    assert result.attempted > 0
