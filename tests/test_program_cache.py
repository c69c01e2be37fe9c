"""Programs are identified by what they compute, and a process compiles the same only once."""

import ast
import os
import subprocess
import sys

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from small import Plain, digits, grid, study

from jaxlab import Study
from jaxlab.convolution import materialize
from jaxlab.engine import clear_programs, compile_programs, fingerprint, make_pack, program_cache
from jaxlab.engine.program_identity import identity
from jaxlab.settings import Hyperparameters
from jaxlab.trial import Trial

something = jax.extend.core.Primitive("something")
something.def_abstract_eval(lambda x, **parameters: x)
X = jnp.arange(6.0).reshape(2, 3)
LONG = np.linspace(0, 1, 3000, dtype=np.float32)


def of(function, *arguments):
    return identity(jax.make_jaxpr(function)(*(arguments or (X,))))


def scanned(step):
    return lambda x: jax.lax.scan(lambda carry, _: (step(carry), None), x, None, length=3)[0]


def adding(constant):
    return lambda x: x + constant


def shuffled(seed, implementation="threefry2x32"):
    return lambda x: jax.random.permutation(jax.random.key(seed, impl=implementation), x)


def test_names_and_addresses_do_not_matter():
    def first(a):
        b = jnp.sin(a)
        return jax.nn.relu(b @ b.T)

    def first_again(y):
        z = jnp.sin(y)
        return jax.nn.relu(z @ z.T)

    one, other = of(first), of(first_again)
    assert one == other
    assert one.complete
    assert of(jax.grad(lambda x: first(x).sum())) == of(jax.grad(lambda x: first_again(x).sum()))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (adding(1.0), adding(2.0)),
        (lambda x: x.sum(0), lambda x: x.sum(1)),
        (lambda x: x - x.T.T, lambda x: x.T.T - x),
        (lambda x: (x, 2 * x), lambda x: (2 * x, x)),
        (scanned(adding(1.0)), scanned(adding(2.0))),
        (scanned(jnp.sin), scanned(jnp.cos)),
        (adding(jnp.ones((2, 3))), adding(jnp.ones((2, 3)).at[1, 2].set(5))),
        (lambda x: x.sum() * LONG, lambda x: x.sum() * np.where(LONG[1500] == LONG, 7, LONG)),
        (
            lambda x: jax.jit(lambda x: x.sum() * LONG)(x),
            lambda x: jax.jit(lambda x: x.sum() * np.where(LONG[1500] == LONG, 7, LONG))(x),
        ),
        (shuffled(0), shuffled(1)),
        (shuffled(0), shuffled(0, "rbg")),
        (
            lambda x: jnp.matmul(x, x.T, precision="highest"),
            lambda x: jnp.matmul(x, x.T, precision="default"),
        ),
        (lambda x: jax.lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, x), lambda x: jnp.sin(x)),
    ],
)
def test_other_numbers_are_another_program(one, other):
    assert of(one).digest != of(other).digest


def test_shapes_and_dtypes_are_part_of_it():
    found = {of(jnp.sin, x).digest for x in (X, X[:1], X[0], X.astype(jnp.bfloat16), X.astype(int))}
    assert len(found) == 5


def test_what_is_called_back_is_not_known():
    def calling(function):
        return lambda x: jax.pure_callback(function, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    assert not of(calling(np.sin)).complete
    assert not of(scanned(calling(np.sin))).complete

    def printing(x):
        jax.debug.print("{}", x)
        return x

    assert not of(printing).complete
    assert of(shuffled(0)).complete


def test_arrays_among_an_operations_parameters():
    """Compared by their numbers, of which their text shows only a few."""

    def calling(table):
        out = jax.ShapeDtypeStruct(X.shape, X.dtype)
        return lambda x: jax.ffi.ffi_call("none", out)(x, table=table)

    other = np.where(LONG[1500] == LONG, 7, LONG)
    assert of(calling(LONG)).digest != of(calling(other)).digest
    assert of(calling(np.float64(0.123456789))).digest != of(calling(np.float64(0.1234567891))).digest


def test_a_parameter_of_an_unknown_type_is_not_known():
    for value, complete in (
        (object(), False),
        (object, False),
        (np.float32, True),
        (frozenset({1, 2}), True),
    ):
        found = of(lambda x, value=value: something.bind(x, thing=value))
        assert found.complete == complete, value


@pytest.fixture
def compiled(monkeypatch):
    """The programs that JAX compiles, beginning with nothing kept."""
    real, seen = jax.stages.Lowered.compile, []

    def compile_(lowered, *arguments, **more):
        seen.append(lowered)
        return real(lowered, *arguments, **more)

    monkeypatch.setattr(jax.stages.Lowered, "compile", compile_)
    clear_programs()
    yield seen
    clear_programs()


def tiny(space, epochs=1, **configuration):
    return study(space, epochs, **{"model": "mlp", "features": [3]} | configuration)


def test_the_same_again_compiles_nothing_and_gives_the_same_bits(compiled):
    first = tiny(grid(learning_rate=[1e-2, 1e-3])).run(width=2)
    assert len(compiled) == 4
    again = tiny(grid(learning_rate=[1e-2, 1e-3])).run(width=2)
    assert len(compiled) == 4
    assert again.attrs["programs_from_cache"] == 4
    for name in first.data_vars:
        np.testing.assert_array_equal(first[name], again[name], err_msg=name)


def test_other_values_trials_and_epochs_are_the_same_programs(compiled):
    tiny(grid(learning_rate=[1e-2, 1e-3])).run(width=2)
    more = tiny(grid(learning_rate=[0.1, 0.2, 0.3], seed=[4, 5]), epochs=2).run(width=2)
    assert len(compiled) == 4
    assert (more.sizes["trial"], more.sizes["epoch"]) == (6, 3)
    clear_programs()
    fresh = tiny(grid(learning_rate=[0.1, 0.2, 0.3], seed=[4, 5]), epochs=2).run(width=2)
    for name in more.data_vars:
        np.testing.assert_array_equal(more[name], fresh[name], err_msg=name)


@pytest.mark.parametrize(
    ("change", "width"),
    [({"features": [4]}, 2), ({"activation": "tanh"}, 2), ({"loss": "focal"}, 2), ({}, 3)],
)
def test_another_network_or_width_is_compiled(compiled, change, width):
    if change.get("loss") == "focal":
        change = {"loss": lambda outputs, targets: jnp.mean(outputs**2, axis=1)}
    tiny(grid(seed=[0, 1])).run(width=2)
    before = len(compiled)
    tiny(grid(seed=[0, 1]), **change).run(width=width)
    assert len(compiled) > before


def test_other_data_of_the_same_shape_are_the_same_programs(compiled):
    for data in (digits(), digits()):
        tiny(grid(seed=[0]), data=data).run(width=1)
    assert len(compiled) == 4


def test_a_model_that_calls_back_is_compiled_each_time(compiled):
    class Calling(Plain):
        def __call__(self, x):
            out = super().__call__(x)
            zero = jax.pure_callback(
                lambda: np.float32(0), jax.ShapeDtypeStruct((), np.float32), vmap_method="sequential"
            )
            return out + zero

    def model(configuration, hyperparameters, rngs):
        return Calling(rngs)

    static = {"model": model, "batch_size": 32, "optimizer": "sgd"}
    for _ in range(2):
        Study(digits(), grid(seed=[0]), 1, static).run(width=1)
    assert len(compiled) > 5
    assert isinstance(Calling(nnx.Rngs(0)), Plain)


def count_down(by):
    def evaluate(h, state, shared, final):
        return state, {"at_the_end" if final else "value": state}

    return Trial(lambda h, shared: h.start, lambda h, state, shared, epoch: (state - by, {}), evaluate)


def triple(by):
    return Study(
        trial=lambda configuration: count_down(by),
        shared=np.float32(1),
        space=grid(start=[3.0, 5.0]),
        hyperparameters={"start": 0.0},
        epochs=1,
    )


def test_functions_of_the_same_name_that_differ_in_a_number(compiled):
    np.testing.assert_array_equal(triple(1.0).run()["value"], [[3, 2], [5, 4]])
    np.testing.assert_array_equal(triple(2.0).run()["value"], [[3, 1], [5, 3]])
    assert len(compiled) == 5  # only the one that trains differs


def test_the_programs_used_last_are_held():
    clear_programs()
    one = program_cache.Compiled(jax.jit(jnp.sin).lower(X).compile(), 1.0)
    keys = range(program_cache.MAX_PROGRAMS)
    for key in keys:
        program_cache.add_program(key, one)
    assert program_cache.find_program(0) is one
    program_cache.add_program("another", one)
    assert program_cache.find_program(1) is None
    for key in ("another", 0, *keys[2:]):
        assert program_cache.find_program(key) is one
    clear_programs()
    assert program_cache.find_program(0) is None


def count_down_programs(trial=None, pack=None, **given):
    values = Hyperparameters(start=3.0)
    return compile_programs(trial or count_down(1.0), values, np.float32(1), pack or make_pack(1), **given)


@pytest.mark.parametrize("change", [{"options": {"xla_cpu_enable_fast_math": True}}, {"width": 2}])
def test_how_a_program_is_compiled_tells_it_apart(compiled, change):
    count_down_programs()
    assert len(compiled) == 4
    count_down_programs()
    assert len(compiled) == 4
    change = {"pack": make_pack(2)} if "width" in change else change
    count_down_programs(**change)
    assert len(compiled) > 4


def test_jaxs_settings_tell_programs_apart(compiled):
    count_down_programs()
    before = jax.config.values["jax_disable_most_optimizations"]
    try:
        jax.config.update("jax_disable_most_optimizations", not before)
        count_down_programs()
    finally:
        jax.config.update("jax_disable_most_optimizations", before)
    assert len(compiled) == 8


def test_large_arrays_that_a_program_closes_over_are_not_held(compiled):
    table = np.zeros(5_000_000, np.float32)

    def trial():
        return count_down(1.0)._replace(init=lambda h, shared: h.start + jnp.sum(table))

    for _ in range(2):
        count_down_programs(trial())
    assert len(compiled) == 5  # the one that draws the start, twice


class Box:
    """A custom container with a static part that has no hash."""

    def __init__(self, value, static):
        self.value, self.static = value, static


jax.tree_util.register_pytree_node(
    Box, lambda box: ((box.value,), box.static), lambda static, leaves: Box(*leaves, static)
)


def test_the_static_part_of_a_container_tells_programs_apart(compiled):
    def evaluate(h, state, shared, final):
        return state, {"at_the_end" if final else "value": state.value}

    def train(h, state, shared, epoch):
        return Box(state.value - 1, state.static), {}

    for static, programs in ((["a"], 4), (["a"], 4), (["b"], 8)):
        count_down_programs(Trial(lambda h, shared, static=static: Box(h.start, static), train, evaluate))
        assert len(compiled) == programs


def in_a_fresh_process(code, **environment):
    command = [sys.executable, "-c", f'import sys; sys.path.insert(0, "tests")\n{code}']
    run = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    return ast.literal_eval(run.stdout)


def test_what_compiling_takes_is_known_wherever_a_program_comes_from(tmp_path):
    """Compiled, found in the process, loaded from JAX's cache: it decides which widths are tried."""
    code = """
from small import grid, study
from jaxlab.engine import clear_programs, compile_group
its = study(grid(), model="mlp")
(group,) = its.groups
def programs():
    return compile_group(its.trial_of(group), group.hyperparameters, its.arrays, 1).programs
found = programs(), programs(), clear_programs() or programs(), programs()
print([each.saved_seconds for each in found])
"""
    cold, held, loaded, again = in_a_fresh_process(
        code,
        JAX_COMPILATION_CACHE_DIR=str(tmp_path),
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
        XLA_FLAGS="",
    )
    assert [len(each) for each in (cold, held, loaded, again)] == [0, 4, 4, 4]
    assert min(held) > 0
    assert max(again) > max(loaded)  # loading included, whatever it took


def test_digests_are_equal_in_every_process():
    """With other hashes of strings and other addresses."""
    code = "from test_program_cache import digests\nprint(digests())"
    assert in_a_fresh_process(code, PYTHONHASHSEED="1") == in_a_fresh_process(code, PYTHONHASHSEED="2")


def digests():
    """Of a network with everything, and of sets among an operation's parameters."""
    its = study(grid(), features=[3], batch_norm=True, dropout=True, augment=["shift"], activation="gelu")
    (group,) = its.groups
    names = frozenset(f"name {i}" for i in range(9))
    return [
        fingerprint(its.trial_of(group), group.hyperparameters, its.arrays),
        of(lambda x: something.bind(x, thing=names)).digest,
        of(lambda x: something.bind(x, thing=object())).digest,
    ]


def test_a_program_that_materializes_an_array_is_known_whole():
    assert of(materialize) != of(lambda x: x + 0)
    assert of(materialize).complete
