"""What a program computes is told apart, and a process compiles the same only once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from small import Plain, digits, grid, study

from jaxlab import Study
from jaxlab.engine import clear_programs, kept
from jaxlab.engine.identity import identity
from jaxlab.trial import Trial

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
    assert first.attrs["programs_from_cache"] <= 4
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


def test_those_used_last_are_kept(monkeypatch):
    clear_programs()
    monkeypatch.setattr(kept, "MOST", 2)
    program = jax.jit(jnp.sin).lower(X).compile()
    for key in ("a", "b"):
        kept.keep(key, kept.Kept(program, 1.0))
    assert kept.recall("a").seconds == 1.0
    kept.keep("c", kept.Kept(program, 1.0))
    assert kept.recall("b") is None
    assert kept.recall("a") is not None
    clear_programs()
    assert kept.recall("a") is None
