"""Where settings come from: random draws and study-file tables."""

import math
import tomllib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlab import space as sp
from jaxlab.errors import InputError

quick = settings(deadline=None, max_examples=40)


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
        (
            {"samples": 2, "seed": MIXED["width"]},
            r"random\.seed = integers\(.*seed of the trials belongs in a grid",
        ),
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


def test_a_range_of_too_many_values_is_refused_at_once():
    with pytest.raises(InputError, match="num = 100000000: give at most 1,000,000 values"):
        sp.log_range(1e-3, 1, 100_000_000)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grid = {seed = {range = 1000000000}}", "space.grid.seed = .*: give at most 1,000,000 values"),
        ("grid = {seed = {range = 1e9}}", "space.grid.seed = .*: give at most 1,000,000 values"),
        ("grid = {seed = {range = [5, 9000000000]}}", "space.grid.seed = .*: give at most 1,000,000 values"),
        (
            "grid = {seed = {range = 99999999999999999999999}}",
            "space.grid.seed = .*: give at most 1,000,000 values",
        ),
        (
            "random = {samples = 1000000000, l2 = {uniform = [0, 1]}}",
            "space.random.samples = .*: give at most 1,000,000",
        ),
        (
            "random = {samples = 1e9, l2 = {uniform = [0, 1]}}",
            "space.random.samples = 1000000000.0: give at most 1,000,000",
        ),
        (
            "grid = {a = {range = 1000}, b = {range = 1000}, c = {range = 1000}}",
            "space.grid = .*: makes 1,000,000,000 settings: give at most 1,000,000",
        ),
        (
            "grid = {a = {range = 2000}}\nzipped = {b = {range = 2000}}",
            "space = {'grid': 2000, 'zipped': 2000}: makes 4,000,000 settings: give at most 1,000,000",
        ),
    ],
)
def test_more_settings_than_the_limit_are_refused_before_any_is_made(text, message):
    with pytest.raises(InputError, match=message):
        sp.from_table(tomllib.loads(f"[[space]]\n{text}")["space"])


def test_more_settings_than_the_limit_are_refused_in_python_too():
    many = sp.grid(a=range(2000))
    for make in (
        lambda: many * sp.grid(b=range(2000)),
        lambda: sp.grid(a=range(2000), b=range(2000)),
        lambda: sp.grid(seed=range(10**30)),
        lambda: sp.zipped(seed=range(10**30)),
        lambda: sp.random(10**9, a=sp.uniform(0, 1)),
    ):
        with pytest.raises(InputError, match="give at most 1,000,000"):
            make()


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
