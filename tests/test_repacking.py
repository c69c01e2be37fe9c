"""Trials that end leave, the others are packed anew, idle states stay in device memory if they fit: no bit changes."""

import os
import subprocess
import sys
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from small import optimised
from test_engine import quadratic, settings

from jaxlab.engine import (
    EndRecord,
    GroupTraining,
    Training,
    compile_programs,
    flatten,
    make_pack,
    place_shared,
    unflatten,
)
from jaxlab.engine.group import resident_packs
from jaxlab.engine.memory import idle_packs
from jaxlab.errors import InputError
from jaxlab.trial import Trial, Weights

RATES, EPOCHS, ONE = np.linspace(0.1, 1.9, 7), 5, np.float32(1)


@pytest.fixture(scope="module")
def programs():
    with optimised():
        return compile_programs(quadratic(), settings([0.1]), ONE, make_pack(2, jax.devices()[:1]))


def group_of(programs, resident=None, rates=RATES):
    return GroupTraining(programs, settings(rates), place_shared(ONE, programs.pack), resident=resident)


def bits_of(records):
    """Everything recorded: ``{(trial, epoch, name): bits}``; an `EndRecord` has epoch "end"."""
    found = {}
    for _, record in records:
        for name, values in record.values.items():
            for row, trial in enumerate(record.trials.tolist()):
                if isinstance(record, EndRecord):
                    assert (trial, "end", name) not in found
                    found[trial, "end", name] = values[row].tobytes()
                    continue
                for at, epoch in enumerate(record.epochs.tolist()):
                    assert (trial, epoch, name) not in found
                    found[trial, epoch, name] = values[row, at].tobytes()
    return found


def trained(group, ends, epochs=EPOCHS, calls=None):
    """The bits of all records where trial i ends after ``ends[i]`` epochs."""
    training = Training([group], epochs)

    def decide(epoch):
        if calls is not None:
            calls.append(group.packs)
        return [np.flatnonzero(np.asarray(ends) == epoch)]

    records = [*training.segments(decide), *training.finish()]
    assert not len(group.running)
    return bits_of(records)


@pytest.fixture(scope="module")
def whole(programs):
    return trained(group_of(programs), [EPOCHS] * 7)


def expected(whole, programs, ends):
    """What trials that end early should record: what they record without that, and their state at that time."""
    found = {}
    for (trial, epoch, name), bits in whole.items():
        if epoch != "end" and epoch <= ends[trial]:
            found[trial, epoch, name] = bits
            if epoch == ends[trial] and name == "w":
                found[trial, "end", "test_w"] = bits
    return found


@hypothesis_settings(max_examples=40, deadline=None)
@given(ends=st.lists(st.integers(0, EPOCHS), min_size=7, max_size=7), resident=st.sampled_from([None, 0, 1]))
def test_no_bit_depends_on_who_else_ends_and_on_where_states_wait(programs, whole, ends, resident):
    assert trained(group_of(programs, resident), ends) == expected(whole, programs, ends)


def test_survivors_take_as_few_packs_as_possible(programs):
    calls = []
    trained(group_of(programs), [1, 5, 1, 3, 1, 5, 1], calls=calls)
    assert calls == [4, 4, 2, 2, 1]  # packs before each rung's decision: 7 trials, then 3, then 2 of them


def test_repacking_compiles_nothing():
    traces = []
    programs = compile_programs(quadratic(traces=traces), settings([0.1]), ONE, make_pack(2))
    before = len(traces)
    trained(group_of(programs), [1, 2, 3, 4, 5, 1, 2])
    assert len(traces) == before == 1


def test_last_records_come_a_full_pack_at_a_time(programs):
    group = group_of(programs)
    training = Training([group], EPOCHS)
    ends = np.array([1, 2, 3, 5, 5, 5, 5])
    finals = [
        (sorted(record.trials.tolist()), record.epochs.tolist())
        for records in (training.segments(lambda epoch: [np.flatnonzero(ends == epoch)]), training.finish())
        for _, record in records
        if isinstance(record, EndRecord)
    ]
    assert finals[0] == ([0, 1], [1, 2])
    assert sorted(trial for trials, _ in finals for trial in trials) == list(range(7))
    assert len(finals) == 4


@pytest.mark.parametrize("after", [0, 3, 5, 9])
@pytest.mark.parametrize("width", [1, 2, 3])
def test_a_snapshot_resumes_in_other_packs_with_the_same_bits(programs, whole, after, width):
    """After any number of calls, packs at different epochs included."""
    group = group_of(programs, resident=1)
    training = Training([group], EPOCHS)
    records = []
    for record in training.segments(lambda epoch: [np.array([2]) if epoch == 1 else np.zeros(0, int)]):
        records.append(record)
        if training.begun and len(records) > after:
            records += training.drain()
            break
    ((running, ended),) = training.snapshot()
    restored = [rows._replace(states=unflatten(flatten(rows.states), programs.lane)) if len(rows.trials) else rows
                for rows in (running, ended)]  # fmt: skip
    again = group_of(programs) if width == 2 else group_of(other_width(width))
    again.restore(*restored)
    rest = Training([again], EPOCHS)
    stop = lambda epoch: [np.array([2]) if epoch == 1 else np.zeros(0, int)]  # noqa: E731
    found = bits_of([*records, *rest.segments(stop), *rest.finish()])
    assert found == expected(whole, programs, [EPOCHS, EPOCHS, 1, EPOCHS, EPOCHS, EPOCHS, EPOCHS])


def other_width(width, cache={}):  # noqa: B006
    if width not in cache:
        with optimised():
            cache[width] = compile_programs(
                quadratic(), settings([0.1]), ONE, make_pack(width, jax.devices()[:1])
            )
    return cache[width]


def test_a_snapshot_shares_no_memory_with_training(programs):
    group = group_of(programs)
    training = Training([group], EPOCHS)
    segments = training.segments()
    taken = None
    for _ in segments:
        if training.begun and taken is None:
            list(training.drain())
            ((rows, _),) = training.snapshot()
            taken = rows, [leaf.copy() for leaf in jax.tree.leaves(rows.states)]
    for leaf, copy in zip(jax.tree.leaves(taken[0].states), taken[1], strict=True):
        np.testing.assert_array_equal(leaf, copy)


@pytest.mark.parametrize("change", [lambda leaf: leaf.astype(np.float64), lambda leaf: leaf[:, None]])
def test_states_of_something_else_are_refused(programs, change):
    group = group_of(programs)
    list(group.begin())
    arrays = flatten(group.snapshot()[0].states)
    unflatten(arrays, programs.lane)
    name = next(iter(arrays))
    for wrong in (arrays | {name: change(arrays[name])}, {}, arrays | {"more": arrays[name]}):
        with pytest.raises(InputError, match="does not belong to the state of this study"):
            unflatten(wrong, programs.lane)


@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_typed_keys_survive_the_host(implementation):
    """Of any implementation, next to small dtypes."""

    def init(h, shared):
        return {"key": jax.random.key(h.seed, impl=implementation), "x": jnp.zeros((), jnp.bfloat16)}

    def train_segment(h, state, shared, epoch):
        key, other = jax.random.split(state["key"])
        x = jax.random.normal(other, (), jnp.float32)
        return {"key": key, "x": x.astype(jnp.bfloat16)}, {"x": x}

    trial = Trial(
        init, train_segment, lambda h, state, shared, final: (state, {} if final else {"w": state["x"]})
    )
    hyper = settings(RATES).replace(seed=np.arange(7, dtype=np.uint32))
    one = jax.tree.map(lambda leaf: leaf[0], hyper)
    programs = compile_programs(trial, one, ONE, make_pack(2))
    found = []
    for resident in (None, 0):
        group = GroupTraining(programs, hyper, place_shared(ONE, programs.pack), resident=resident)
        found.append(trained(group, [5, 1, 5, 2, 5, 1, 3]))
    assert found[0] == found[1]
    assert len({bits for (_, epoch, name), bits in found[0].items() if (epoch, name) == (1, "x")}) == 7


def test_the_best_epoch_is_kept_and_measured_at_the_end():
    """w falls to its minimum at epoch 3 and rises; of equals the first is best, NaN and -inf never."""
    path = jnp.array([4.0, -jnp.inf, jnp.nan, 1.0, 1.0, 5.0])

    def evaluate(h, state, shared, final):
        return state, {"test_w": state} if final else {"w": path[state.astype(int)] * h.learning_rate}

    trial = Trial(lambda h, shared: jnp.array(0.0), lambda h, state, shared, epoch: (state + 1, {}), evaluate)
    weights = Weights(lambda state: state, lambda state, kept: kept, lambda record: -record["w"])
    programs = compile_programs(trial._replace(weights=weights), settings([0.1]), ONE, make_pack(2))
    group = GroupTraining(programs, settings([1.0, np.nan, -1.0]), place_shared(ONE, programs.pack))
    training = Training([group], EPOCHS)
    found = {}
    for _, record in [*training.segments(), *training.finish()]:
        if isinstance(record, EndRecord):
            np.testing.assert_array_equal(record.values["test_w"], EPOCHS)
            np.testing.assert_array_equal(record.states.states.best.kept, record.values["test_w_at_best"])
            found |= dict(zip(record.trials.tolist(), record.values["test_w_at_best"].tolist(), strict=True))
    assert found == {0: 3.0, 1: 0.0, 2: 5.0}  # without any score it is the start


def test_states_wait_on_the_host_only_where_an_accelerator_is_full(programs):
    assert resident_packs(programs, 9) == 9  # host memory is the CPU's own

    def on_accelerator(usable):
        """The programs on a device with so many bytes of free memory, a tenth of which is a margin."""
        memory = {} if usable == np.inf else {"bytes_limit": 1000 + usable / 0.9, "bytes_in_use": 1000}
        device = Mock(spec=jax.Device, platform="gpu", **{"memory_stats.return_value": memory})
        mesh = type("Mesh", (), {"devices": np.array([device], object)})()
        return programs._replace(pack=programs.pack._replace(mesh=mesh))

    largest, state = programs.memory_bytes(), programs.state_bytes
    for states, fitting in ((5.5, 5), (-1, 0), (100, 9), (np.inf, 9)):
        assert resident_packs(on_accelerator(largest + states * state), 9) == fitting
    accelerator = on_accelerator(largest + 8.5 * state)
    for reserve, fitting in ((0, 8), (largest + 3 * state, 5), (2 * largest + 20 * state, 0)):
        assert resident_packs(accelerator, 9, reserve) == fitting
    assert idle_packs(9, jax.devices()[0]) == 8


_ON_DEVICES = """
import sys; sys.path.insert(0, "tests")
import dataclasses, jax, numpy as np
assert len(jax.devices()) == 4
from small import grid, study
space = grid(learning_rate=[1e-3, 1e-2, 1e-1, 1e30], seed=range(3))
def early(history):
    return (np.arange(12) % 4 == 1) & (history.epoch == 1) | (np.arange(12) % 3 == 0) & (history.epoch == 2)
def results(rules, devices):
    cnn = study(space, 4, features=[3], batch_norm=True, dropout=True)
    return dataclasses.replace(cnn, rules=rules).run(width=2, devices=jax.devices()[:devices])
for devices in (1, 2, 4):
    repacked, whole = results([early], devices), results([], devices)
    for name in whole.data_vars:
        values = whole[name].values
        if "epoch" not in whole[name].dims or values.dtype.kind != "f":
            continue
        for trial, epochs in enumerate(repacked.epochs_run.values):
            assert repacked[name].values[trial, : epochs + 1].tobytes() == values[trial, : epochs + 1].tobytes(), name
    assert (repacked.outcome.values == "pruned").sum() == 4 + 1, repacked.outcome.values
    assert not np.isnan(repacked.test_loss.values[repacked.outcome.values != "diverged"]).any()
    np.savez(f"{sys.argv[1]}/{devices}.npz", **{
        name: repacked[name].values.astype("U" if repacked[name].dtype == object else None)
        for name in repacked.data_vars
    })
"""


def test_repacked_or_not_on_one_two_and_four_devices(tmp_path):
    """A CNN with dropout and batch normalisation, a diverging setting, two rungs."""
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    subprocess.run([sys.executable, "-c", _ON_DEVICES, str(tmp_path)], check=True, env=environment)
    # XLA adds up the norms that are recorded, and used for nothing, in another order for one device than for several.
    norms = ("gradient_norm", "gradient_norm_max", "update_ratio")
    one, two, four = (dict(np.load(tmp_path / f"{devices}.npz")) for devices in (1, 2, 4))
    assert set(one) == set(two) == set(four)
    for name in one:
        np.testing.assert_array_equal(two[name], four[name], err_msg=name)
        if name in norms:
            np.testing.assert_allclose(one[name], four[name], rtol=1e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(one[name], four[name], err_msg=name)
