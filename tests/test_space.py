"""Search spaces: grids, draws, study-file tables, groups of one configuration and trial ids."""

import copy
import doctest
import functools
import importlib
import itertools
import math
import os
import pickle
import subprocess
import sys
import tomllib
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlab import space as sp
from jaxlab.errors import InputError

quick = settings(deadline=None, max_examples=40)
names = st.lists(st.sampled_from("abcdef"), unique=True, max_size=3)
values = st.one_of(st.integers(0, 3), st.booleans(), st.sampled_from(["x", "y", (1, 2), 0.5, 1.0]))


def exactly(value):
    """Value and type: 1, 1.0 and True differ."""
    return (type(value), value)


@st.composite
def grids(draw, allowed=names):
    axes = st.lists(st.integers(-3, 3), min_size=1, max_size=3, unique=True)
    return {name: draw(axes) for name in draw(allowed)}


# --- values and axes ---------------------------------------------------------------------------------------


def test_grid_is_the_full_product_with_the_last_axis_fastest():
    space = sp.grid(b=[1, 2], a=["x", "y", "z"], c=[True])
    assert [tuple(s.items()) for s in space] == [
        (("b", b), ("a", a), ("c", True)) for b, a in itertools.product([1, 2], ["x", "y", "z"])
    ]


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        (range(2, 4), [2, 3]),
        ((0.1, 2), [0.1, 2]),
        (np.array([0.1, 1e-7]), [0.1, 1e-7]),
        (np.array([0.1], np.float32), [float(np.float32(0.1))]),
        (np.arange(2), [0, 1]),
        ([np.float64(0.1), np.int32(3), np.bool_(True), np.str_("relu")], [0.1, 3, True, "relu"]),
        ([np.array(0.5), np.array([1, 2])], [0.5, (1, 2)]),
        (jnp.array([0.25, 0.5]), [0.25, 0.5]),
        ([[16, 32], [[1, 2], [3]]], [(16, 32), ((1, 2), (3,))]),
        ([None, math.inf, math.tanh], [None, math.inf, math.tanh]),
    ],
)
def test_axes_become_plain_python_values_exactly(axis, expected):
    assert [exactly(s["a"]) for s in sp.grid(a=axis)] == [exactly(value) for value in expected]
    assert [exactly(s["a"]) for s in sp.zipped(a=axis)] == [exactly(value) for value in expected]


@pytest.mark.parametrize(
    ("axis", "remedy"),
    [
        ([], "list of one or more"),
        (np.zeros(0), "list of one or more"),
        (range(0), "list of one or more"),
        ("relu", "list of one or more"),
        (0.1, "list of one or more"),
        (np.array(0.1), "list of one or more"),
        ({1, 2}, "list of one or more"),
        ([0.1, math.nan], "not NaN"),
        ([(1, np.float32("nan"))], "not NaN"),
        ([{"a": 1}], "give a number, string"),
        ([1j], "give a number, string"),
        ([type("Unhashable", (), {"__call__": print, "__hash__": None})()], "give a number, string"),
    ],
)
@pytest.mark.parametrize("build", [sp.grid, sp.zipped])
def test_bad_axis_is_named(build, axis, remedy):
    with pytest.raises(InputError, match=rf"^{build.__name__}\.momentum = .*{remedy}"):
        build(momentum=axis)


@pytest.mark.parametrize("axis", [[0.1, 0.2, 0.1], [1, 1.0], [0.0, -0.0], ["a", "a"], [(1, 2), [1.0, 2]]])
def test_grid_names_axis_and_value_given_twice(axis):
    with pytest.raises(InputError) as caught:
        sp.grid(seed=[0], momentum=axis)
    assert (caught.value.field, caught.value.value) == ("grid.momentum", sp.zipped(m=axis[-1:])[0]["m"])


def test_a_bool_is_not_the_number_it_equals():
    assert len(sp.grid(norm=[True, 1, False, 0])) == 4
    assert len(sp.grid(norm=[True]) + sp.grid(norm=[1])) == 2
    assert sp.grid(norm=[(True, 0)]) != sp.grid(norm=[(1, False)])
    assert sp.grid(norm=[1]) == sp.grid(norm=[1.0])


def test_zipped_pairs_and_refuses_unequal_lengths_repeats_and_nothing():
    assert list(sp.zipped(a=[1, 2], b=range(2))) == [{"a": 1, "b": 0}, {"a": 2, "b": 1}]
    assert len(sp.zipped(a=[1, 1], b=[1, 2])) == 2
    with pytest.raises(InputError, match=r"zipped = \{'a': 2, 'b': 3\}: give all axes the same length"):
        sp.zipped(a=[1, 2], b=[1, 2, 3])
    with pytest.raises(InputError, match=r"zipped = \{'a': 1, 'b': 2\}: give each setting once"):
        sp.zipped(a=[1, 3, 1], b=[2, 2, 2])
    with pytest.raises(InputError, match=r"zipped = .*one axis or more"):
        sp.zipped()


def test_ranges_give_the_floats_one_would_write():
    assert sp.log_range(1e-6, 1e2, 9) == (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
    assert sp.log_range(1, 1e-2, 3) == (1.0, 0.1, 0.01)
    assert sp.log_range(2, 32, 5) == (2.0, 4.0, 8.0, 16.0, 32.0)
    assert sp.linear_range(0, 1, 11) == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    assert sp.linear_range(0.3, -0.3, 7) == (0.3, 0.2, 0.1, 0.0, -0.1, -0.2, -0.3)
    assert sp.log_range(0.3, 5, 1) == sp.linear_range(0.3, 5, 1) == (0.3,)
    assert all(type(value) is float for value in sp.linear_range(np.int64(0), 4, np.int64(5)))


@quick
@given(st.floats(1e-300, 1e300), st.floats(1e-300, 1e300), st.integers(2, 30))
def test_log_range_has_exact_ends_and_agrees_with_numpy(low, high, num):
    if not 1e-290 < high / low < 1e290 or abs(math.log(high / low)) < 1e-6:
        high = 2 * low
    values = sp.log_range(low, high, num)
    assert (len(values), values[0], values[-1]) == (num, low, high)
    np.testing.assert_allclose(values, np.geomspace(low, high, num), rtol=1e-11)
    assert list(values) == sorted(values, reverse=high < low)


@quick
@given(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300), st.integers(2, 30))
def test_linear_range_has_exact_ends_and_agrees_with_numpy(low, high, num):
    high = low + 1 if high == low and low + 1 != low else high
    if high == low:
        return
    values = sp.linear_range(low, high, num)
    assert (len(values), values[0], values[-1]) == (num, low, high)
    np.testing.assert_allclose(values, np.linspace(low, high, num), rtol=1e-12, atol=1e-12 * abs(high - low))
    assert list(values) == sorted(values, reverse=high < low)


def test_ends_that_lie_halfway_between_floats_stay_exact():
    # Through their logarithms, 1e23 would become the float above it and 7e22 the one below.
    assert sp.log_range(1e23, 1e25, 3)[0] == 1e23
    assert sp.log_range(1e21, 1e23, 3)[-1] == 1e23
    assert sp.log_uniform(7e22, 1e25).at(Fraction(0)) == 7e22


@pytest.mark.parametrize(
    ("build", "arguments", "field"),
    [
        (sp.log_range, (0, 1, 3), "log_range.low"),
        (sp.log_range, (1, -1, 3), "log_range.high"),
        (sp.log_range, (1, math.inf, 3), "log_range.high"),
        (sp.log_range, (1, 10, 0), "log_range.num"),
        (sp.log_range, (1, 10, 2.0), "log_range.num"),
        (sp.log_range, (1, 1.0, 2), "log_range"),
        (sp.linear_range, (math.nan, 1, 3), "linear_range.low"),
        (sp.linear_range, (True, 3, 3), "linear_range.low"),
        (sp.linear_range, (0, "1", 3), "linear_range.high"),
        (sp.linear_range, (0, 10**400, 3), "linear_range.high"),
        (sp.linear_range, (0, 1, True), "linear_range.num"),
        (sp.linear_range, (0, 1, -1), "linear_range.num"),
        (sp.uniform, (1, 1), "uniform"),
        (sp.uniform, (0, math.inf), "uniform.high"),
        (sp.uniform, ("0", 1), "uniform.low"),
        (sp.log_uniform, (0, 1), "log_uniform.low"),
        (sp.log_uniform, (2, 1), "log_uniform"),
        (sp.integers, (3, 3), "integers"),
        (sp.integers, (0, 2.5), "integers.high"),
        (sp.choice, (), "choice"),
        (sp.choice, (1, math.nan), "choice"),
    ],
)
def test_bad_ends_are_named(build, arguments, field):
    with pytest.raises(InputError) as caught:
        build(*arguments)
    assert caught.value.field == field


# --- the space ---------------------------------------------------------------------------------------------


@quick
@given(grids())
def test_length_of_a_grid_is_the_product_of_its_axes(axes):
    space = sp.grid(**axes)
    assert len(space) == math.prod(map(len, axes.values()))
    assert space.names == tuple(axes)


@quick
@given(grids(st.just(["a", "b"])), grids(st.just(["c"])), grids(st.just(["d", "e"])))
def test_product_multiplies_lengths_and_is_associative(x, y, z):
    a, b, c = sp.grid(**x), sp.grid(**y), sp.grid(**z)
    assert len(a * b) == len(a) * len(b)
    assert (a * b) * c == a * (b * c) == sp.grid(**x, **y, **z)
    assert a * sp.grid() == a == sp.grid() * a


@quick
@given(st.lists(grids(), min_size=1, max_size=4))
def test_concatenation_keeps_the_first_of_equal_settings_in_order(many):
    spaces = [sp.grid(**axes) for axes in many]
    expected = []
    for setting in itertools.chain.from_iterable(spaces):
        if setting not in expected:
            expected.append(setting)
    assert list(functools.reduce(lambda a, b: a + b, spaces)) == expected


def test_settings_of_different_names_are_kept_apart_and_names_are_an_ordered_union():
    space = sp.grid(l2=[0.0]) + sp.grid(l1=[0.0], l2=[0.0]) + sp.grid() + sp.Space([{"l2": 0, "l1": 0}])
    assert list(space) == [{"l2": 0.0}, {"l1": 0.0, "l2": 0.0}, {}]
    assert space.names == ("l2", "l1")


def test_product_with_a_common_name_is_refused():
    with pytest.raises(InputError, match=r"space = \['seed'\]: give both sides .* different names"):
        sp.grid(l2=[0], seed=[0]) * sp.grid(seed=[1], l1=[0])


@pytest.mark.parametrize("operation", [lambda s: s * 2, lambda s: s + 1, lambda s: 0 + s])
def test_a_space_combines_only_with_a_space(operation):
    with pytest.raises(TypeError):
        operation(sp.grid(a=[1]))


def test_indexing_slicing_and_repr():
    space = sp.grid(learning_rate=[0.1, 0.01], seed=range(3))
    assert space[-1] == {"learning_rate": 0.01, "seed": 2} == space[np.int64(5)]
    assert space[1:3] == sp.grid(learning_rate=[0.1], seed=[1, 2])
    assert space[::-1][0] == space[5]
    with pytest.raises(IndexError):
        space[6]
    assert repr(space) == "Space(6 settings of learning_rate, seed)"
    assert repr(sp.grid()) == "Space(1 setting of defaults alone)"


def test_a_space_is_immutable_and_hashable_and_survives_pickling():
    channels = [[1, 2]]
    space = sp.grid(channels=channels, seed=range(2))
    space[0]["seed"] = 7
    next(iter(space)).clear()
    channels[0].append(3)
    assert space[0] == {"channels": (1, 2), "seed": 0}
    with pytest.raises(AttributeError):
        space.names = ()
    with pytest.raises(AttributeError):
        space.extra = 1
    with pytest.raises(TypeError):
        space[0] = {}
    assert pickle.loads(pickle.dumps(space)) == copy.deepcopy(space) == space
    assert len({space, copy.copy(space), space[:1]}) == 2


def test_equality_looks_at_order_of_settings_not_of_names():
    assert sp.Space([{"a": 1, "b": 2}]) == sp.Space([{"b": 2, "a": 1}])
    assert sp.grid(a=[1, 2]) != sp.grid(a=[2, 1])
    assert sp.grid(a=[1]) != [{"a": 1}]


def test_with_defaults_completes_settings_keeps_given_values_and_drops_repeats():
    space = sp.grid(l2=[0.0, 1e-4]) + sp.grid(seed=[0, 1])
    full = space.with_defaults({"seed": 0, "l2": 0.0})
    assert list(full) == [{"l2": 0.0, "seed": 0}, {"l2": 1e-4, "seed": 0}, {"l2": 0.0, "seed": 1}]
    assert full.names == ("l2", "seed")
    assert full.with_defaults({"seed": 5}) == full


# --- random search -----------------------------------------------------------------------------------------

MIXED = {
    "learning_rate": sp.log_uniform(1e-4, 1),
    "momentum": sp.uniform(0, 0.9),
    "activation": sp.choice("relu", "tanh", "elu"),
    "width": sp.integers(4, 9),
}


@quick
@given(st.integers(1, 40), st.integers(0, 40), st.integers(-5, 2**70), st.sets(st.sampled_from([*MIXED])))
def test_more_samples_extend_the_smaller_draw(samples, more, seed, chosen):
    distributions = {name: MIXED[name] for name in chosen or MIXED}
    small = sp.random(samples, seed, **distributions)
    assert sp.random(samples + more, seed, **distributions)[: len(small)] == small


def test_another_name_changes_no_draw_and_seed_and_name_change_all():
    both = [s["momentum"] for s in sp.random(20, momentum=sp.uniform(0, 1), l2=sp.uniform(0, 1))]
    assert both == [s["momentum"] for s in sp.random(20, momentum=sp.uniform(0, 1))]
    assert not set(both) & {s["l2"] for s in sp.random(20, l2=sp.uniform(0, 1))}
    assert not set(both) & {s["momentum"] for s in sp.random(20, seed=1, momentum=sp.uniform(0, 1))}


def test_draws_stay_in_their_ranges_and_fill_them_evenly():
    space = sp.random(2000, **MIXED)
    assert len(space) == 2000
    exponents = [math.log10(s["learning_rate"]) for s in space]
    moments = [s["momentum"] for s in space]
    assert -4 <= min(exponents) < -3.98
    assert -0.02 < max(exponents) <= 0
    assert 0 <= min(moments) < 0.01
    assert 0.89 < max(moments) <= 0.9
    # Standard errors: 1.15 / sqrt(2000) = 0.026 and 0.26 / sqrt(2000) = 0.006.
    assert abs(np.mean(exponents) + 2) < 0.1
    assert abs(np.mean(moments) - 0.45) < 0.024
    assert np.abs(np.corrcoef(exponents, moments)[0, 1]) < 0.1
    for name, options in (("activation", ["relu", "tanh", "elu"]), ("width", [4, 5, 6, 7, 8])):
        drawn = [s[name] for s in space]
        assert set(drawn) == set(options)
        assert min(drawn.count(option) for option in options) > 0.8 * 2000 / len(options)


def test_draws_are_pinned():
    # A change here changes every random study that anyone has on disk.
    (setting,) = sp.random(1, seed=0, **MIXED)
    assert setting == {
        "learning_rate": 0.0007127732229003036,
        "momentum": 0.57093113985767,
        "activation": "relu",
        "width": 7,
    }


def test_discrete_draws_that_repeat_are_one_trial():
    space = sp.random(50, activation=sp.choice("relu", "tanh"))
    assert sorted(s["activation"] for s in space) == ["relu", "tanh"]


def test_distributions_are_immutable_values():
    assert sp.uniform(0, 1) == sp.uniform(0.0, np.float32(1))
    assert sp.choice([1, 2], 3) == sp.choice((1, 2), 3)
    for distribution in MIXED.values():
        with pytest.raises(AttributeError):
            distribution.low = 0


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (
            {"samples": 0, "l2": MIXED["momentum"]},
            r"random\.samples = 0: give samples as a whole number >= 1",
        ),
        ({"samples": 2.0, "l2": MIXED["momentum"]}, r"random\.samples = 2\.0: give samples"),
        ({"samples": True, "l2": MIXED["momentum"]}, r"random\.samples = True: give samples"),
        ({"samples": 2, "seed": 0.5, "l2": MIXED["momentum"]}, r"random\.seed = 0\.5: give a whole number"),
        ({"samples": 2, "seed": MIXED["width"]}, r"random\.seed = integers\(.*trials' seed in a grid"),
        ({"samples": 2}, r"random = \{\}: give one distribution or more"),
        ({"samples": 2, "l2": 0.1}, r"random\.l2 = 0\.1: give uniform\(low, high\)"),
        ({"samples": 2, "l2": [0.1]}, r"random\.l2 = \[0\.1\]: give uniform\(low, high\)"),
    ],
)
def test_bad_random_arguments_are_named(arguments, match):
    with pytest.raises(InputError, match=f"^{match}"):
        sp.random(**arguments)


# --- study files -------------------------------------------------------------------------------------------


def test_tables_of_a_study_file_equal_the_python_they_stand_for():
    text = """
    [[space]]
    zipped = {width = [16, 32], channels = [[4, 8], [8, 16]]}
    [space.grid]
    l2 = {log = [1e-4, 1.0], num = 5}
    l1 = {linear = [0, 1], num = 3}
    seed = {range = 3}
    warm = [true]
    [space.random]
    samples = 4
    seed = 3
    learning_rate = {log_uniform = [1e-4, 1]}
    momentum = {uniform = [0, 0.9]}
    activation = {choice = ["relu", "tanh"]}
    units = {integers = [4, 9]}

    [[space]]
    grid = {seed = {range = [5, 7]}}
    """
    zipped = sp.zipped(width=[16, 32], channels=[(4, 8), (8, 16)])
    grid = sp.grid(l2=[1e-4, 1e-3, 1e-2, 1e-1, 1.0], l1=[0.0, 0.5, 1.0], seed=[0, 1, 2], warm=[True])
    drawn = sp.random(
        4,
        3,
        learning_rate=sp.log_uniform(1e-4, 1),
        momentum=sp.uniform(0, 0.9),
        activation=sp.choice("relu", "tanh"),
        units=sp.integers(4, 9),
    )
    tables = tomllib.loads(text)["space"]
    assert sp.from_table(tables) == zipped * grid * drawn + sp.grid(seed=[5, 6])
    assert sp.from_table(tables[1]) == sp.from_table(tables[1:]) == sp.grid(seed=[5, 6])
    assert sp.from_table({"grid": {}}) == sp.grid()


def test_overlapping_tables_are_merged_and_the_seed_of_draws_defaults_to_zero():
    tables = [{"grid": {"a": [1, 2]}}, {"grid": {"a": [2, 3]}}]
    assert [s["a"] for s in sp.from_table(tables)] == [1, 2, 3]
    part = {"samples": 3, "a": {"uniform": [0, 1]}}
    assert sp.from_table({"random": part}) == sp.random(3, 0, a=sp.uniform(0, 1))


AXIS_FORMS = "give a list, {log = "
LAWS = "give {uniform = "


@pytest.mark.parametrize("kind", ["grid", "zipped"])
@pytest.mark.parametrize(
    ("axis", "remedy"),
    [
        ("[]", "give a list of one or more values"),
        ("[0.1, nan]", "give a number, not NaN"),
        ("[1979-05-27]", "give a number, string"),
        ("0.1", AXIS_FORMS),
        ('"relu"', AXIS_FORMS),
        ("{}", AXIS_FORMS),
        ("{lg = [1, 2], num = 3}", AXIS_FORMS),
        ("{log = [1, 2]}", AXIS_FORMS),
        ("{log = [1, 2, 3], num = 3}", AXIS_FORMS),
        ("{log = 1, num = 3}", AXIS_FORMS),
        ("{log = [1, 2], num = 3, base = 2}", AXIS_FORMS),
        ("{linear = [1, 2], range = 3, num = 3}", AXIS_FORMS),
        ("{range = 3, num = 3}", AXIS_FORMS),
        ("{range = [1, 2], num = 3}", AXIS_FORMS),
        ("{range = true}", AXIS_FORMS),
        ("{range = 2.0}", AXIS_FORMS),
        ("{range = [0, 2.0]}", "give a whole number"),
        ("{range = 0}", "give a list of one or more values"),
        ("{range = [3, 3]}", "give a list of one or more values"),
        ("{log = [0, 1], num = 3}", "give positive ends"),
        ("{log = [-1, 1], num = 3}", "give positive ends"),
        ('{log = ["1", 1], num = 3}', "give a finite number"),
        ("{log = [1, inf], num = 3}", "give a finite number"),
        ("{log = [1, 2], num = 0}", "give num as a whole number >= 1"),
        ("{linear = [1, 2], num = 2.5}", "give num as a whole number >= 1"),
        ("{linear = [1, 2], num = true}", "give num as a whole number >= 1"),
        ("{linear = [nan, 2], num = 2}", "give a finite number"),
        ("{linear = [1, 1], num = 2}", "give two different ends"),
    ],
)
def test_bad_axis_of_a_table_is_named(kind, axis, remedy):
    table = tomllib.loads(f"[[space]]\n{kind} = {{seed = [1], learning_rate = {axis}}}")["space"]
    with pytest.raises(InputError) as caught:
        sp.from_table(table)
    assert caught.value.field == f"space.{kind}.learning_rate"
    assert caught.value.remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("law", "remedy"),
    [
        ("0.1", LAWS),
        ("[0.1]", LAWS),
        ("{}", LAWS),
        ("{normal = [0, 1]}", LAWS),
        ("{uniform = [0, 1], choice = [1]}", LAWS),
        ("{uniform = [0, 1, 2]}", LAWS),
        ("{uniform = 1}", LAWS),
        ('{choice = "ab"}', LAWS),
        ("{choice = []}", "give a list of one or more values"),
        ("{choice = [nan]}", "give a number, not NaN"),
        ("{uniform = [1, 0]}", "give low < high"),
        ("{uniform = [0, inf]}", "give a finite number"),
        ("{log_uniform = [0, 1]}", "give positive ends"),
        ("{integers = [0.5, 3]}", "give a whole number"),
    ],
)
def test_bad_distribution_of_a_table_is_named(law, remedy):
    table = tomllib.loads(f"[space]\nrandom = {{samples = 3, learning_rate = {law}}}")["space"]
    with pytest.raises(InputError) as caught:
        sp.from_table(table)
    assert caught.value.field == "space.random.learning_rate"
    assert caught.value.remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("tables", "field"),
    [
        ([], "space"),
        ({}, "space"),
        (3, "space"),
        ("grid", "space"),
        ([{}], "space"),
        ([{"grid": {}}, {}], "space[1]"),
        ([{"grid": {}}, 3], "space[1]"),
        ({"gird": {"a": [1]}}, "space.gird"),
        ({"grid": [1]}, "space.grid"),
        ({"zipped": {}}, "space.zipped"),
        ({"zipped": {"a": [1], "b": [1, 2]}}, "space.zipped"),
        ({"grid": {"a": [1, 1]}}, "space.grid.a"),
        ([{"grid": {"a": [1]}}, {"grid": {"a": []}}], "space[1].grid.a"),
        ({"grid": {"a": [1]}, "zipped": {"a": [2]}}, "space"),
        ({"random": {"a": {"uniform": [0, 1]}}}, "space.random"),
        ({"random": {"samples": 3}}, "space.random"),
        ({"random": {"samples": 0, "a": {"uniform": [0, 1]}}}, "space.random.samples"),
        ({"random": {"samples": 2.5, "a": {"uniform": [0, 1]}}}, "space.random.samples"),
        ({"random": {"samples": 2, "seed": {"range": 3}, "a": {"uniform": [0, 1]}}}, "space.random.seed"),
    ],
)
def test_bad_table_is_named(tables, field):
    with pytest.raises(InputError) as caught:
        sp.from_table(tables)
    assert caught.value.field == field


# --- groups ------------------------------------------------------------------------------------------------

NUMBERS = {"learning_rate": 1e-3, "l2": 0, "seed": 0}
STATICS = {"activation": "relu", "channels": [16, 32], "batch_size": 64}


def test_groups_split_by_declared_configuration_in_order_of_appearance():
    space = sp.grid(l2=[1, 0.5]) * sp.grid(activation=["tanh", "relu"], seed=[3, 4])
    tanh, relu = sp.groups(space, NUMBERS, STATICS)
    assert tanh.configuration == {"activation": "tanh", "channels": (16, 32), "batch_size": 64}
    assert relu.configuration == {**tanh.configuration, "activation": "relu"}
    assert (tanh.trials, relu.trials) == ((0, 1, 4, 5), (2, 3, 6, 7))
    assert {name: column.tolist() for name, column in relu.hyperparameters.items()} == {
        "learning_rate": [1e-3] * 4,
        "l2": [1.0, 1.0, 0.5, 0.5],
        "seed": [3, 4, 3, 4],
    }
    kinds = {name: column.dtype for name, column in relu.hyperparameters.items()}
    assert kinds == {"learning_rate": np.float64, "l2": np.float64, "seed": np.int64}
    hash(tuple(relu.configuration.items()))


def test_the_declaration_decides_not_the_type_of_the_value():
    space = sp.grid(momentum=[0.0, 0.5])
    assert len(sp.groups(space, {"momentum": 0}, {})) == 1
    assert [g.configuration for g in sp.groups(space, {}, {"momentum": None})] == [
        {"momentum": 0.0},
        {"momentum": 0.5},
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
    assert (bare.configuration, bare.trials, bare.hyperparameters) == ({}, (0,), {})


def test_large_seeds_stay_exact_and_whole_floats_are_seeds():
    (group,) = sp.groups(sp.Space([{"seed": 2**62 + 1}, {"seed": 5.0}, {"seed": -1}]), NUMBERS, {})
    assert group.hyperparameters["seed"].tolist() == [2**62 + 1, 5, -1]


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
            assert group.configuration == {name: full[name] for name in statics}
            ids.add(sp.trial_id(row, group.configuration))
    assert len(ids) == len(space)
    assert len({sp.grid(**{k: [v] for k, v in group.configuration.items()}) for group in found}) == len(found)


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        (
            {"lerning_rate": 1},
            r"space\.lerning_rate = 1: did you mean learning_rate\? give a declared name: lear",
        ),
        (
            {"zzz": 1},
            r"space\.zzz = 1: give a declared name: learning_rate, l2, seed, activation, channels, batch",
        ),
        ({"l2": "0.1"}, r"space\.l2 = '0\.1': give a finite number, or declare it under configuration"),
        ({"l2": True}, r"space\.l2 = True: give a finite number, or declare it under configuration"),
        ({"l2": None}, r"space\.l2 = None: give a finite number, or declare it under configuration"),
        ({"l2": (1, 2)}, r"space\.l2 = \(1, 2\): give a finite number, or declare"),
        ({"l2": math.inf}, r"space\.l2 = inf: give a finite number"),
        ({"l2": 10**400}, r"space\.l2 = 1000.*: give a finite number"),
        ({"seed": 0.5}, r"space\.seed = 0\.5: give a whole number of at most 64 bits"),
        ({"seed": 2**63}, r"space\.seed = 9223372036854775808: give a whole number of at most 64 bits"),
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
    with pytest.raises(InputError, match=r"setting 3 is the trial of setting 1 once"):
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
    with pytest.raises(InputError, match=r"configuration\.activation = .*define each function under a name"):
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


@pytest.mark.parametrize("module", ["", ".values", ".settings", ".distributions", ".table", ".grouping"])
def test_examples_in_docstrings_hold(module):
    result = doctest.testmod(importlib.import_module(f"jaxlab.space{module}"))
    assert result.failed == 0
    assert result.attempted > 0


def test_space_needs_no_jax():
    code = "import sys, jaxlab.space; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
