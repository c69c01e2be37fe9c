"""Search spaces: values, axes, grids and the space itself."""

import copy
import decimal
import functools
import itertools
import math
import pickle
import random

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlab import space as sp
from jaxlab.errors import InputError
from jaxlab.space.values import log_between

quick = settings(deadline=None, max_examples=40)
names = st.lists(st.sampled_from("abcdef"), unique=True, max_size=3)


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
    np.testing.assert_allclose(
        values, np.linspace(low, high, num), rtol=1e-12, atol=1e-300 + 1e-12 * abs(high - low)
    )
    assert list(values) == sorted(values, reverse=high < low)


def test_ends_that_lie_halfway_between_floats_stay_exact():
    # Through their logarithms, 1e23 would become the float above it and 7e22 the one below.
    assert sp.log_range(1e23, 1e25, 3)[0] == 1e23
    assert sp.log_range(1e21, 1e23, 3)[-1] == 1e23
    assert sp.log_uniform(7e22, 1e25).at([0], 1) == [7e22]


@pytest.mark.parametrize(
    ("low", "high"), [(1e-4, 1.0), (1e-308, 1e308), (5e-324, 1e-300), (1.0, 1.0000000000000002), (7e22, 3e-9)]
)
def test_logarithmic_values_are_the_floats_nearest_to_the_exact_ones(low, high):
    exact = decimal.Context(prec=60)
    start, end = (exact.ln(decimal.Decimal(repr(value))) for value in (low, high))
    parts = [1, 2, 2**11, 2**33 + 5, 2**52, 2**53 - 1, *random.Random(0).sample(range(2**53), 300)]
    powers = [exact.multiply(end - start, decimal.Decimal(part) / 2**53) + start for part in parts]
    smallest, largest = sorted((low, high))
    nearest = [min(max(float(exact.exp(power)), smallest), largest) for power in powers]
    assert log_between(low, high, parts, 2**53) == nearest


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


def test_values_of_a_name_keep_types_apart_and_are_replaced_once_each():
    space = sp.Space(
        [{"a": 1, "b": 0}, {"a": 1.0, "b": 1}, {"a": (1, True)}, {"a": (1, 1)}, {"b": 2}, {"a": 1, "b": 3}]
    )
    assert list(map(repr, space.values("a"))) == ["1", "1.0", "(1, True)", "(1, 1)"]
    called = []
    replaced = space.replaced("a", lambda value: called.append(value) or str(value))
    assert [each.get("a") for each in replaced] == ["1", "1.0", "(1, True)", "(1, 1)", None, "1"]
    assert len(called) == 4
    assert space.replaced("b", float) != sp.grid(b=[0])
    assert [type(each["b"]) for each in sp.grid(b=[0]).replaced("b", float)] == [float]
    assert space.replaced("b", int) is space


@pytest.mark.parametrize(
    "build", [sp.grid, sp.zipped, lambda l2: sp.Space([{"l2": l2}]), lambda l2: sp.choice(l2)]
)
def test_masked_arrays_are_refused(build):
    with pytest.raises(InputError, match="masked_array"):
        build(l2=np.ma.array([0.0, 1e-4], mask=[False, True]))


def test_with_defaults_completes_settings_keeps_given_values_and_drops_repeats():
    space = sp.grid(l2=[0.0, 1e-4]) + sp.grid(seed=[0, 1])
    full = space.with_defaults({"seed": 0, "l2": 0.0})
    assert list(full) == [{"l2": 0.0, "seed": 0}, {"l2": 1e-4, "seed": 0}, {"l2": 0.0, "seed": 1}]
    assert full.names == ("l2", "seed")
    assert full.with_defaults({"seed": 5}) == full
