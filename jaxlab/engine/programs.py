"""The compiled programs of one group: the only place that maps and shards over trials."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxlab.engine.traced import Stage, Traced, trace
from jaxlab.trial import Trial

# A trial's numbers must not depend on its neighbours, so a GPU may neither use atomics nor pick kernels by timing.
# These go to these programs alone; the process' XLA_FLAGS are the user's.
_OPTIONS = {"gpu": {"xla_gpu_exclude_nondeterministic_ops": True, "xla_gpu_autotune_level": 0}}
# The initial draws run once a pack, but take LLVM as long to optimise as the training loop.
_OPTIONS_OF_START = _OPTIONS | {"cpu": {"xla_backend_optimization_level": 0}}
# The states of a pack are overwritten, not copied.
_DONATED = {"measure": (1,), "segment": (1,)}
_LONGEST = ("segment", "measure", "start", "finish")


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


class Programs(NamedTuple):
    """One group's compiled programs, for any values, number of trials and number of epochs.

    ``start(hyperparameters, shared)``, ``measure(hyperparameters, lanes, shared)`` for epoch 0,
    ``segment(hyperparameters, lanes, shared, epochs)`` and ``finish(hyperparameters, lanes, shared)``; hyperparameters
    and lanes have a leading axis of ``pack.lanes`` trials.

    Attributes:
        compile_seconds: tracing included.
        saved_seconds: one entry for each of the four that came from JAX's persistent compilation cache.
        state_bytes: of a pack's states, on one device.
        lane: shapes and dtypes of one trial's state.
        fingerprint: of what the four compute, see `jaxlab.engine.traced.Traced.digest`.
    """

    start: jax.stages.Compiled
    measure: jax.stages.Compiled
    segment: jax.stages.Compiled
    finish: jax.stages.Compiled
    pack: Pack
    segment_epochs: int
    compile_seconds: float
    saved_seconds: list[float]
    state_bytes: int
    lane: Any
    fingerprint: str

    @property
    def cold_seconds(self) -> float:
        """What compiling takes where nothing is in the cache; the programs are compiled side by side."""
        return self.compile_seconds + max(self.saved_seconds, default=0.0)

    def memory_bytes(self, packs: int = 1) -> int:
        """Bytes needed on one device: by the largest of the programs, and by the states of the packs that wait."""
        programs = (self.start, self.measure, self.segment, self.finish)
        return max(bytes_of(program) for program in programs) + (packs - 1) * self.state_bytes


def bytes_of(program: jax.stages.Compiled) -> int:
    """Bytes that a program holds on one device: arguments, results and temporaries."""
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
    """Trace and compile the programs of one group, each once; the arguments are those of `trace`, and the pack."""
    return compile_traced(trace(trial, hyperparameters, shared, segment_epochs), pack)


def compile_traced(traced: Traced, pack: Pack) -> Programs:
    """The programs of what `trace` returned, at one width."""
    began = time.perf_counter()
    programs, saved = compile_stages(traced, pack, ("start", "measure", "segment", "finish"))
    seconds = traced.seconds + time.perf_counter() - began
    return Programs(
        *programs,
        pack,
        traced.segment_epochs,
        seconds,
        saved,
        traced.state_bytes * pack.width,
        traced.start.result,
        traced.digest,
    )


def compile_stages(
    traced: Traced, pack: Pack, names: Sequence[str]
) -> tuple[list[jax.stages.Compiled], list[float]]:
    """Some of the programs, in order, and the seconds saved by each that JAX had in its persistent cache."""
    backend = pack.mesh.devices.flat[0].platform
    jobs = {}
    with _saved_seconds() as saved, ThreadPoolExecutor() as pool:
        # Compiling leaves the interpreter lock to the others; what takes longest begins first.
        for name in sorted(names, key=_LONGEST.index):
            options = (_OPTIONS_OF_START if name == "start" else _OPTIONS).get(backend)
            lowered = _lower(getattr(traced, name), pack, _DONATED.get(name, ()))
            jobs[name] = pool.submit(lowered.compile, options)
        return [jobs[name].result() for name in names], saved


def _lower(stage: Stage, pack: Pack, donated: tuple[int, ...]) -> jax.stages.Lowered:
    arguments = tuple(
        jax.tree.map(partial(_over_pack, pack, own), argument)
        for own, argument in zip(stage.mapped, stage.arguments, strict=True)
    )
    function = over_trials(pack, stage.function, stage.mapped)
    return jax.jit(function, donate_argnums=donated).lower(*arguments)


def _over_pack(pack: Pack, own: bool, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """Shape of one trial's argument as a pack has it."""
    if own:
        return jax.ShapeDtypeStruct((pack.lanes, *leaf.shape), leaf.dtype, sharding=pack.over_trials)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=pack.replicated)


@contextmanager
def _saved_seconds() -> Iterator[list[float]]:
    """One entry for each program that JAX loads from its persistent cache: what compiling it took, less loading it."""
    found: list[float] = []

    def listen(event: str, seconds: float, **_: Any) -> None:
        if event == "/jax/compilation_cache/compile_time_saved_sec":
            found.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
