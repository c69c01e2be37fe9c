"""The compiled programs of one group: the only place that maps and shards over trials."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxlab.engine import lane
from jaxlab.errors import InputError
from jaxlab.trial import Trial

# A trial's numbers must not depend on its neighbours, so a GPU may neither use atomics nor pick kernels by timing.
# These go to these programs alone; the process' XLA_FLAGS are the user's.
_OPTIONS = {"gpu": {"xla_gpu_exclude_nondeterministic_ops": True, "xla_gpu_autotune_level": 0}}
# The initial draws run once a pack, but take LLVM as long to optimise as the training loop.
_OPTIONS_OF_START = _OPTIONS | {"cpu": {"xla_backend_optimization_level": 0}}


class Pack(NamedTuple):
    """Where a pack of ``devices × width`` lanes runs."""

    mesh: Mesh
    width: int

    @property
    def lanes(self) -> int:
        return self.mesh.size * self.width

    @property
    def over_trials(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec("trial"))

    @property
    def replicated(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())


def make_pack(width: int, devices: Sequence[jax.Device] | None = None) -> Pack:
    """A pack of ``width`` trials on each of ``devices`` (all of them by default)."""
    devices = list(devices) if devices is not None else jax.devices()
    return Pack(
        jax.make_mesh((len(devices),), ("trial",), axis_types=(AxisType.Auto,), devices=devices), width
    )


def default_width(device: jax.Device, trials: int) -> int:
    """A width for ``trials`` trials on one device: few where cores do the arithmetic, many on an accelerator.

    On two CPU cores a small CNN on 8×8 images trained 6 epochs of 78 trials in 7.2, 7.8, 10.2, 11.8 s at widths 1, 2,
    4, 8 with two host devices, and in 11.1, 8.1, 9.8 s at 1, 2, 8 with one. Accelerators are still to be measured.
    """
    return min(trials, 2 if device.platform == "cpu" else 256)


class Programs(NamedTuple):
    """One group's compiled programs, for any values, number of trials and number of epochs.

    ``start(hyperparameters, shared)``, ``measure(hyperparameters, lanes, shared)`` for epoch 0,
    ``segment(hyperparameters, lanes, shared, epochs)`` and ``finish(hyperparameters, lanes, shared)``; hyperparameters
    and lanes have a leading axis of ``pack.lanes`` trials.
    """

    start: jax.stages.Compiled
    measure: jax.stages.Compiled
    segment: jax.stages.Compiled
    finish: jax.stages.Compiled
    pack: Pack
    segment_epochs: int
    compile_seconds: float

    def memory_bytes(self) -> int:
        """Bytes that the largest of the programs holds on one device: arguments, results and temporaries."""
        return max(_bytes(program) for program in (self.start, self.measure, self.segment, self.finish))


def _bytes(program: jax.stages.Compiled) -> int:
    memory = program.memory_analysis()
    if memory is None:
        return 0
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )


def over_trials(pack: Pack, function: Callable, mapped: Sequence[bool]) -> Callable:
    """``function`` of one trial as a function of a pack: vmap inside, shard_map around, nothing reduced.

    Args:
        pack: the mesh over which trials are split.
        function: of one trial.
        mapped: for each argument, whether it has an axis of trials in front; the others are the same for all.
    """
    batched = jax.vmap(function, in_axes=tuple(0 if each else None for each in mapped))
    specs = tuple(PartitionSpec("trial") if each else PartitionSpec() for each in mapped)
    return jax.shard_map(
        batched, mesh=pack.mesh, in_specs=specs, out_specs=PartitionSpec("trial"), check_vma=False
    )


def compile_programs(
    trial: Trial, hyperparameters: Any, shared: Any, pack: Pack, segment_epochs: int = 1
) -> Programs:
    """Trace and compile the programs of one group, each once.

    Args:
        trial: the triple.
        hyperparameters: a pytree of scalars of one trial, for dtypes.
        shared: the arrays that all trials see.
        pack: devices and width.
        segment_epochs: epochs inside one call; must divide the number of epochs.
    """
    began = time.perf_counter()
    hyper_T = _stacked(hyperparameters, pack)
    shared = jax.tree.map(lambda leaf: _shape(on_device(leaf), pack.replicated), shared)
    epochs = jax.ShapeDtypeStruct((segment_epochs,), np.int32, sharding=pack.replicated)
    start = _lower(over_trials(pack, partial(lane.start, trial), (True, False)), (hyper_T, shared))
    lanes = jax.tree.map(lambda leaf: _shape(leaf, pack.over_trials), start.out_info)
    measure = _lower(
        over_trials(pack, partial(lane.measure, trial), (True, True, False)),
        (hyper_T, lanes, shared),
        donate=(1,),
    )
    segment = _lower(
        over_trials(pack, partial(lane.segment, trial), (True, True, False, False)),
        (hyper_T, lanes, shared, epochs),
        donate=(1,),
    )
    finish = _lower(
        over_trials(pack, partial(lane.finish, trial), (True, True, False)), (hyper_T, lanes, shared)
    )
    _check_names(segment.out_info[1], finish.out_info)
    backend = pack.mesh.devices.flat[0].platform
    with ThreadPoolExecutor() as pool:  # compiling leaves the interpreter lock to the others
        jobs = [pool.submit(start.compile, _OPTIONS_OF_START.get(backend))]
        jobs += [pool.submit(each.compile, _OPTIONS.get(backend)) for each in (measure, segment, finish)]
        programs = [job.result() for job in jobs]
    return Programs(*programs, pack, segment_epochs, time.perf_counter() - began)


def _lower(function: Callable, arguments: tuple, donate: tuple[int, ...] = ()) -> jax.stages.Lowered:
    return jax.jit(function, donate_argnums=donate).lower(*arguments)


def _check_names(each_epoch: dict, at_the_end: dict) -> None:
    both = sorted(set(each_epoch) & set(at_the_end))
    if both:
        raise InputError("trial.evaluate", both, "with final=True record other names than at each epoch")


def on_device(leaf: Any) -> Any:
    """An array in the dtype that the device uses: float64 is float32 unless x64 is on. Typed keys are left alone."""
    if isinstance(leaf, jax.Array):
        return leaf
    leaf = np.asarray(leaf)
    return leaf.astype(jax.dtypes.canonicalize_dtype(leaf.dtype), copy=False)


def _shape(leaf: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _stacked(hyperparameters: Any, pack: Pack) -> Any:
    def stacked(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((pack.lanes,), on_device(leaf).dtype, sharding=pack.over_trials)

    return jax.tree.map(stacked, hyperparameters)
