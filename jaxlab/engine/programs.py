"""The compiled programs of one group."""

import threading
import time
import warnings
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax

from jaxlab.engine.determinism import (
    check_deterministic,
    deterministic_options,
    refusal,
    refused_operation,
    without_guarantee,
)
from jaxlab.engine.pack import Pack, over_trials
from jaxlab.engine.program_cache import Compiled, add_program, find_program, loading
from jaxlab.engine.traced import Stage, Traced, trace
from jaxlab.trial import Trial

# The initial draws run once a pack, but take LLVM as long to optimise as the training loop.
_OPTIONS_OF_START = {"cpu": {"xla_backend_optimization_level": 0}}
# The states of a pack are overwritten, not copied.
_DONATED = {"measure": (1,), "segment": (1,)}
_LONGEST = ("segment", "measure", "start", "finish")
# Bytes of closed-over arrays with which a program is not held: they would lie in the device's memory.
_MOST_CONSTANTS = 1 << 24


class Programs(NamedTuple):
    """One group's compiled programs, for any values, number of trials and number of epochs.

    ``start(hyperparameters, shared)``, ``measure(hyperparameters, lanes, shared)`` for epoch 0,
    ``segment(hyperparameters, lanes, shared, epochs)`` and ``finish(hyperparameters, lanes, shared)``; hyperparameters
    and lanes have a leading axis of ``pack.lanes`` trials.

    Attributes:
        compile_seconds: tracing included.
        saved_seconds: one entry for each of the four that was compiled before, by this process or by another one that
            had the same persistent compilation cache: what compiling took, less what loading took.
        state_bytes: of a pack's states, on one device.
        lane: shapes and dtypes of one trial's state.
        fingerprint: of what the four compute, see `jaxlab.engine.traced.Traced.digest`.
        nondeterministic: why a trial's numbers may change from call to call, in words; "" where they do not.
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
    nondeterministic: str = ""

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


def compile_programs(
    trial: Trial,
    hyperparameters: Any,
    shared: Any,
    pack: Pack,
    segment_epochs: int = 1,
    *,
    deterministic: bool | str = "auto",
    options: Mapping[str, Any] | None = None,
) -> Programs:
    """Trace and compile the programs of one group, each once.

    Args:
        trial, hyperparameters, shared, segment_epochs: as for `trace`.
        pack: where they run.
        deterministic, options: as for `compile_traced`.
    """
    traced = trace(trial, hyperparameters, shared, segment_epochs)
    return compile_traced(traced, pack, deterministic, options)


def compile_traced(
    traced: Traced,
    pack: Pack,
    deterministic: bool | str = "auto",
    options: Mapping[str, Any] | None = None,
) -> Programs:
    """The programs of what `trace` returned, at one width.

    Args:
        traced: the four functions of a trial.
        pack: where they run.
        deterministic: whether the same call must give the same bits, in whatever lane a trial is. CPUs always do so; a
            GPU does with kernels that are chosen for it. "auto" does without where an operation has no deterministic
            form, and warns.
        options: XLA options to add, for experiments.

    Raises:
        InputError: determinism is demanded, and an operation has no deterministic form.
    """
    check_deterministic(deterministic)
    began = time.perf_counter()
    names = ("start", "measure", "segment", "finish")
    why = ""
    try:
        programs, saved = compile_stages(traced, pack, names, bool(deterministic), options)
    except jax.errors.JaxRuntimeError as error:
        operation = refused_operation(error)
        if operation is None:
            raise
        if deterministic is True:
            raise refusal(operation) from error
        why = without_guarantee(operation)
        warnings.warn(f"{why}: a trial's numbers may change from run to run", stacklevel=2)
        programs, saved = compile_stages(traced, pack, names, False, options)
    if deterministic is False and deterministic_options(pack.platform):
        why = "as asked"
    return Programs(
        *programs,
        pack,
        traced.segment_epochs,
        traced.seconds + time.perf_counter() - began,
        saved,
        traced.state_bytes * pack.width,
        traced.start.result,
        traced.digest,
        why,
    )


def compile_stages(
    traced: Traced,
    pack: Pack,
    names: Sequence[str],
    deterministic: bool = True,
    options: Mapping[str, Any] | None = None,
) -> tuple[list[jax.stages.Compiled], list[float]]:
    """Some of the programs, in order, and the seconds saved by each that was compiled before."""
    backend = pack.platform
    common = dict(deterministic_options(backend) if deterministic else {}) | dict(options or {})
    found: dict[str, Compiled] = {}
    jobs: dict[str, tuple[Hashable, Future[Compiled]]] = {}
    saved: list[float] = []
    with loading(saved) as last, ThreadPoolExecutor() as pool:
        # Compiling leaves the interpreter lock to the others; what takes longest begins first.
        for name in sorted(names, key=_LONGEST.index):
            stage, donated = getattr(traced, name), _DONATED.get(name, ())
            own = common | (_OPTIONS_OF_START.get(backend, {}) if name == "start" else {})
            key = _key(stage, pack, donated, own)
            held = None if key is None else find_program(key)
            if held is None:
                jobs[name] = key, pool.submit(_compiled, _lower(stage, pack, donated), own, last)
            else:
                found[name] = held
                saved.append(held.seconds)
        for name, (key, job) in jobs.items():
            found[name] = job.result()
            if key is not None:
                add_program(key, found[name])
    return [found[name].program for name in names], saved


def _key(stage: Stage, pack: Pack, donated: tuple[int, ...], options: Mapping[str, Any]) -> Hashable:
    """What a compiled program is found by; None for one that is not to be held."""
    if not stage.identity.complete or stage.identity.constant_bytes > _MOST_CONSTANTS:
        return None
    structure = jax.tree.structure((stage.arguments, stage.result))
    config = tuple(
        repr(getattr(jax.config, name, value)) for name, value in sorted(jax.config.values.items())
    )
    return (
        stage.identity.digest,
        structure,
        tuple(stage.mapped),
        pack,
        donated,
        tuple(sorted(options.items())),
        config,
    )


def _compiled(lowered: jax.stages.Lowered, options: Mapping[str, Any], last: dict[int, float]) -> Compiled:
    """Compiled in this thread; what JAX's persistent cache saved counts as time to compile."""
    began = time.perf_counter()
    program = lowered.compile(dict(options) or None)
    return Compiled(program, time.perf_counter() - began + last.pop(threading.get_ident(), 0.0))


def _lower(stage: Stage, pack: Pack, donated: tuple[int, ...]) -> jax.stages.Lowered:
    arguments = tuple(
        jax.tree.map(partial(_over_pack, pack, own), argument)
        for own, argument in zip(stage.mapped, stage.arguments, strict=True)
    )
    function = over_trials(pack, stage.function, stage.mapped, stage.identity.operations)
    return jax.jit(function, donate_argnums=donated).lower(*arguments)


def _over_pack(pack: Pack, own: bool, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """Shape of one trial's argument as a pack has it."""
    if own:
        return jax.ShapeDtypeStruct((pack.lanes, *leaf.shape), leaf.dtype, sharding=pack.over_trials)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=pack.replicated)
