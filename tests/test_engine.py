"""The engine: any triple, packs, freezing, neighbours, one trace, no collective."""

import os
import subprocess
import sys

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import optimised

from jaxlab.engine import EpochRecord, compile_programs, default_width, make_pack, split_into_packs, train
from jaxlab.errors import InputError
from jaxlab.settings import Hyperparameters
from jaxlab.trial import Trial, guarded_scan

STEPS, EPOCHS, ONE = 10, 4, np.float32(1)


def quadratic(steps: int = STEPS, traces: list | None = None) -> Trial:
    """Gradient descent on ½λw², in plain jnp: no network anywhere."""

    def step(w, _, h):
        gradient = h.curvature * w
        return w - h.learning_rate * gradient, {"loss": 0.5 * h.curvature * w**2}

    def train_segment(h, state, shared, epoch):
        if traces is not None:
            traces.append(epoch)
        w, count = state
        w, metrics, bad = guarded_scan(lambda w, x: step(w, x, h), w, jnp.arange(steps), count)
        good = jnp.sum(~jnp.isnan(metrics["loss"]))
        return (w, count + good), {"minibatch_loss": jnp.nanmean(metrics["loss"]), "first_bad_step": bad}

    def evaluate(h, state, shared, final):
        return state, {"test_w" if final else "w": state[0] * shared}

    return Trial(lambda h, shared: (jnp.array(1.0), jnp.array(0, jnp.int32)), train_segment, evaluate)


def settings(learning_rates, curvature=1.0) -> Hyperparameters:
    rates = np.asarray(learning_rates, np.float32)
    return Hyperparameters(learning_rate=rates, curvature=np.full_like(rates, curvature))


def run(trial, hyper, width=3, epochs=EPOCHS, shared=ONE):
    """All records of a run as arrays over trials."""
    example = jax.tree.map(lambda leaf: leaf[0], hyper)
    programs = compile_programs(trial, example, shared, make_pack(width))
    count = len(jax.tree.leaves(hyper)[0])
    recorded: dict[str, np.ndarray] = {}
    for record in train(programs, hyper, shared, epochs):
        for name, values in record.values.items():
            if isinstance(record, EpochRecord):
                shape = (count, epochs + 1, *values.shape[2:])
                array = recorded.setdefault(name, np.full(shape, -99, values.dtype))
                array[np.ix_(record.trials, record.epochs)] = values
            else:
                recorded.setdefault(name, np.full((count, *values.shape[1:]), -99, values.dtype))[
                    record.trials
                ] = values
    return recorded


@pytest.mark.parametrize("width", [1, 2, 3, 8])
def test_quadratic_follows_its_law(width):
    rates = np.array([0.1, 0.5, 1.0, 1.5, 1.9], np.float32)
    found = run(quadratic(), settings(rates), width)
    steps = STEPS * np.arange(EPOCHS + 1)
    np.testing.assert_allclose(found["w"], (1 - rates[:, None]) ** steps, rtol=2e-4, atol=1e-30)
    np.testing.assert_array_equal(found["test_w"], found["w"][:, -1])
    assert (found["first_bad_step"] == -1).all()


def test_divergence_is_recorded_at_its_step_and_frozen():
    rates = np.array([0.5, 1e5, 1e9, 1.0], np.float32)
    found = run(quadratic(), settings(rates))
    with np.errstate(over="ignore", invalid="ignore"):
        for row, rate in enumerate(rates):
            w, expected = np.float32(1), -1
            for step in range(1, STEPS * EPOCHS + 1):
                loss = np.float32(0.5) * w * w
                new = np.float32(w - rate * w)
                if not (np.isfinite(new) and np.isfinite(loss)):
                    expected = step
                    break
                w = new
            assert found["first_bad_step"][row, -1] == expected
            assert found["test_w"][row] == pytest.approx(w, rel=1e-4)
    bad_epoch = -(-int(found["first_bad_step"][1, -1]) // STEPS)
    assert np.isfinite(found["w"][1, : bad_epoch + 1]).all()
    assert np.isnan(found["w"][1, bad_epoch + 1 :]).all()
    assert (found["first_bad_step"][1, :bad_epoch] == -1).all()


def test_a_trial_without_a_guard_is_frozen_at_the_epochs_start():
    def train_segment(h, state, shared, epoch):
        return jnp.where(epoch == 3, jnp.inf, state + 1) * h.learning_rate, {"loss": state}

    def evaluate(h, state, shared, final):
        return state, {} if final else {"w": state}

    trial = Trial(lambda h, shared: jnp.array(0.0), train_segment, evaluate)
    found = run(trial, settings([1.0, 0.0]))
    np.testing.assert_array_equal(found["first_bad_step"][0], [-1, -1, -1, 3, 3])
    np.testing.assert_array_equal(found["w"][0], [0, 1, 2, 2, np.nan])


def test_a_start_that_is_not_finite_is_bad_at_step_0():
    trial = quadratic()._replace(init=lambda h, shared: (jnp.log(h.curvature), jnp.array(0, jnp.int32)))
    found = run(trial, settings([0.1, 0.1], curvature=0.0))
    assert (found["first_bad_step"] == 0).all()
    assert np.isnan(found["minibatch_loss"][:, 1:]).all()


def test_what_an_evaluation_finds_not_finite_is_divergence_after_the_steps_so_far():
    """At the start, on the way, and at the last epoch, after which no step could find it."""

    def evaluate(h, state, shared, final):
        if final:
            return state, {"test_w": state}
        bad = state >= h.learning_rate
        return state, {"w": state, "first_bad_step": jnp.where(bad, 10 * state, -1).astype(jnp.int32)}

    trial = Trial(lambda h, shared: jnp.array(0.0), lambda h, state, shared, epoch: (state + 1, {}), evaluate)
    found = run(trial, settings([0.0, 2.0, 4.0, 9.0]), epochs=4)
    steps = [[0] * 5, [-1, -1, 20, 20, 20], [-1, -1, -1, -1, 40], [-1] * 5]
    np.testing.assert_array_equal(found["first_bad_step"], steps)
    np.testing.assert_array_equal(found["test_w"], [0, 2, 4, 4])
    nan = np.nan
    np.testing.assert_array_equal(
        found["w"][:3], [[0, nan, nan, nan, nan], [0, 1, 2, nan, nan], [0, 1, 2, 3, 4]]
    )


@pytest.mark.parametrize("width", [2, 3])
def test_neighbours_do_not_matter(width):
    tame = run(quadratic(), settings([0.3, 0.4, 0.5, 0.6, 0.7]), width)
    wild = run(quadratic(), settings([np.nan, 0.4, 1e30, 0.6, np.inf]), width)
    for name in tame:
        np.testing.assert_array_equal(tame[name][[1, 3]], wild[name][[1, 3]])


def test_one_trace_for_any_values_trials_and_epochs():
    traces = []
    trial = quadratic(traces=traces)
    programs = compile_programs(trial, settings([0.1]), np.float32(1), make_pack(2))
    traces_of_compiling = len(traces)
    for rates, epochs in (([0.1, 0.2, 0.3], 4), ([1.0], 1), (np.linspace(0, 1, 9), 7)):
        assert len(list(train(programs, settings(rates), np.float32(1), epochs))) > 0
    assert traces_of_compiling == len(traces) == 1


def test_a_linen_model_goes_through():
    model = flax.linen.Dense(1)
    x = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
    y = x @ np.array([[1.0], [2.0], [3.0]], np.float32)

    def loss(parameters, shared):
        return jnp.mean((model.apply(parameters, shared[0]) - shared[1]) ** 2)

    def init(h, shared):
        parameters = model.init(jax.random.key(h.seed), shared[0])
        return parameters, optax.adam(h.learning_rate).init(parameters)

    def train_segment(h, state, shared, epoch):
        def step(state, _):
            parameters, memory = state
            value, gradient = jax.value_and_grad(loss)(parameters, shared)
            updates, memory = optax.adam(h.learning_rate).update(gradient, memory, parameters)
            return (optax.apply_updates(parameters, updates), memory), {"loss": value}

        state, metrics, bad = guarded_scan(step, state, jnp.arange(100), 100 * (epoch - 1))
        return state, {"loss": metrics["loss"][-1], "first_bad_step": bad}

    def evaluate(h, state, shared, final):
        return state, {"final" if final else "now": loss(state[0], shared)}

    hyper = Hyperparameters(learning_rate=np.array([1e-3, 1e-1, 1e-1]), seed=np.array([0, 0, 1], np.uint32))
    found = run(Trial(init, train_segment, evaluate), hyper, shared=(x, y))
    assert found["final"][1] < 1e-3 < found["final"][0]
    assert found["now"][0, 0] == found["now"][1, 0] != found["now"][2, 0]


def test_names_recorded_at_the_end_must_differ():
    def evaluate(h, state, shared, final):
        return state, {"w": state[0]}

    with pytest.raises(InputError, match=r"trial.evaluate = \['w'\]: use other names with final=True"):
        compile_programs(
            quadratic()._replace(evaluate=evaluate), settings([0.1]), np.float32(1), make_pack(1)
        )


def test_packs_cover_every_trial_once_and_repeat_only_the_last():
    packs = split_into_packs(7, 3)
    assert [pack.tolist() for pack in packs] == [[0, 1, 2], [3, 4, 5], [6, 6, 6]]


def test_default_width_is_never_above_the_trials():
    assert default_width(jax.devices()[0], 1) == 1


def test_at_least_one_epoch_is_trained():
    programs = compile_programs(quadratic(), settings([0.1]), np.float32(1), make_pack(1))
    with pytest.raises(InputError, match="epochs = 0: give a whole number >= 1"):
        list(train(programs, settings([0.1]), np.float32(1), 0))


def pixels(traces=None):
    """A triple that reads uint8 images, and converts them inside its step."""

    def train_segment(h, state, shared, epoch):
        def step(w, index):
            return w + h.learning_rate * jnp.mean(shared[index].astype(jnp.float32) / 255), {}

        return jax.lax.scan(step, state, jnp.arange(len(shared)))

    def evaluate(h, state, shared, final):
        return state, {"test_w" if final else "w": state}

    return Trial(lambda h, shared: jnp.array(0.0), train_segment, evaluate)


def test_nothing_goes_between_host_and_device_but_what_train_sends():
    hyper, shared = settings([0.1, 0.2, 0.3]), np.full((10, 8, 8), 255, np.uint8)
    programs = compile_programs(pixels(), settings([0.1]), shared, make_pack(2))
    with jax.transfer_guard("disallow"):
        records = list(train(programs, hyper, shared, EPOCHS))
    np.testing.assert_allclose(records[-1].values["test_w"], [12.0], rtol=1e-5)
    for program in (programs.segment, programs.measure, programs.finish):
        for word in ("callback", "infeed", "outfeed", "send(", "recv("):
            assert word not in program.as_text(), word


def test_states_are_overwritten_and_bytes_stay_bytes_on_the_device():
    shared = np.zeros((1000, 28, 28), np.uint8)
    programs = compile_programs(pixels(), settings([0.1]), shared, make_pack(2))
    assert programs.segment.in_avals[0][2].dtype == np.uint8
    memory = programs.segment.memory_analysis()
    assert shared.nbytes <= memory.argument_size_in_bytes < shared.nbytes + 1000
    assert memory.temp_size_in_bytes < shared.nbytes
    assert memory.alias_size_in_bytes >= programs.state_bytes == 2 * (4 + 4)
    assert programs.memory_bytes(11) == programs.memory_bytes() + 10 * programs.state_bytes


def test_programs_say_what_came_from_the_cache(tmp_path):
    code = """
import sys; sys.path.insert(0, "tests")
import numpy as np
from test_engine import quadratic, settings, compile_programs, make_pack, train
programs = compile_programs(quadratic(), settings([0.1]), np.float32(1), make_pack(2))
records = list(train(programs, settings([0.1, 1.9, 1e9]), np.float32(1), 3))
values = "".join(each.values[name].tobytes().hex() for each in records for name in sorted(each.values))
print(len(programs.saved_seconds), programs.cold_seconds > programs.compile_seconds, values)
"""
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    cold, warm = (
        subprocess.run(
            [sys.executable, "-c", code], check=True, env=environment, capture_output=True, text=True
        )
        for _ in range(2)
    )
    assert cold.stderr == warm.stderr == ""
    assert cold.stdout.split()[0] == "0"
    assert warm.stdout.split()[0] == "4"
    assert cold.stdout.split()[2] == warm.stdout.split()[2]


_FOUR_DEVICES = """
import numpy as np, jax
assert len(jax.devices()) == 4
import sys; sys.path.insert(0, "tests")
from test_engine import quadratic, run, settings
from jaxlab.engine import compile_programs, make_pack, place_shared
programs = compile_programs(quadratic(), settings([0.1]), np.float32(1), make_pack(2))
shared = np.arange(7001, dtype=np.float32)[1:]  # not aligned as JAX's own memory is
shards = place_shared(shared, make_pack(2)).addressable_shards
assert len({shard.data.unsafe_buffer_pointer() for shard in shards}) == 1
assert all(np.array_equal(shard.data, shared) for shard in shards)
text = "".join(program.as_text() for program in programs[:4])
for word in ("all-reduce", "all-gather", "all-to-all", "collective", "reduce-scatter"):
    assert word not in text, word
found = run(quadratic(), settings([0.3, 0.4, 1e9, 0.6, 1.7]), width=2)
np.savez(sys.argv[1], **found)
"""


def test_no_collective_one_copy_of_the_data_and_the_same_bits_on_four_devices(tmp_path):
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    command = [sys.executable, "-c", _FOUR_DEVICES, str(tmp_path / "four.npz")]
    subprocess.run(command, check=True, env=environment)
    with optimised():
        one = run(quadratic(), settings([0.3, 0.4, 1e9, 0.6, 1.7]), width=2)
    with np.load(tmp_path / "four.npz") as four:
        for name in one:
            np.testing.assert_array_equal(one[name], four[name])
