"""Compilation of the programs of one group."""

import threading
import time
import warnings
from collections.abc import Collection, Hashable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax

from jaxlab.engine.determinism import (
    check_deterministic,
    determinism_error,
    deterministic_options,
    nondeterministic_operation,
)
from jaxlab.engine.pack import Pack
from jaxlab.engine.program_cache import Compiled, add_program, find_program, record_cache_hits
from jaxlab.engine.tracing import Traced, TracedFunction, trace
from jaxlab.trial import PyTree, Trial

# The initial draws run once per pack, but LLVM takes as long to optimise them as the training loop.
_START_OPTIONS = {"cpu": {"xla_backend_optimization_level": 0}}
# Donated arguments: the states of a pack are overwritten, not copied.
_DONATED = {"measure": (1,), "segment": (1,)}
_LONGEST_FIRST = ("segment", "measure", "start", "finish")
# A program with more bytes of closed-over arrays is not cached, since these stay in device memory.
_MAX_CONSTANT_BYTES = 1 << 24


class Programs(NamedTuple):
    """Compiled programs of one group, for any values, number of trials and number of epochs.

    They are ``start(hyperparameters, shared)``, ``measure(hyperparameters, lanes, shared)`` for epoch 0,
    ``segment(hyperparameters, lanes, shared, epoch)`` and ``finish(hyperparameters, lanes, shared)``; hyperparameters
    and lanes have a leading axis of ``pack.lanes`` trials.

    Attributes:
        pack: devices and width.
        compile_seconds: time to trace and compile.
        saved_seconds: one entry for each program that came from the cache of this process or from JAX's persistent
            compilation cache: compile time minus load time.
        state_bytes: size of a pack's states on one device.
        lane: shapes and dtypes of one lane.
        fingerprint: digest of the four functions, see `jaxlab.engine.tracing.Traced.digest`.
        nondeterministic: reason why numbers may change from call to call; empty if they do not.
    """

    start: jax.stages.Compiled
    measure: jax.stages.Compiled
    segment: jax.stages.Compiled
    finish: jax.stages.Compiled
    pack: Pack
    compile_seconds: float
    saved_seconds: list[float]
    state_bytes: int
    lane: PyTree
    fingerprint: str
    nondeterministic: str = ""

    @property
    def cold_seconds(self) -> float:
        """Time to compile without any cache; the programs are compiled in parallel."""
        return self.compile_seconds + max(self.saved_seconds, default=0.0)

    def memory_bytes(self, packs: int = 1) -> int:
        """Bytes needed on one device by the largest program and the states of the idle packs."""
        largest = max(map(bytes_of, (self.start, self.measure, self.segment, self.finish)))
        return largest + (packs - 1) * self.state_bytes


def bytes_of(program: jax.stages.Compiled) -> int:
    """Bytes that a program uses on one device: arguments, results and temporaries."""
    memory = program.memory_analysis()
    if memory is None:
        return 0
    separate = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    return separate - memory.alias_size_in_bytes


def compile_programs(
    trial: Trial,
    hyperparameters: PyTree,
    shared: PyTree,
    pack: Pack,
    *,
    deterministic: bool | str = "auto",
    options: Mapping[str, Any] | None = None,
) -> Programs:
    """Trace and compile the programs of one group.

    Args:
        trial, hyperparameters, shared: as in `trace`.
        pack: devices and width.
        deterministic, options: as in `compile_traced`.
    """
    return compile_traced(trace(trial, hyperparameters, shared), pack, deterministic, options)


def compile_traced(
    traced: Traced,
    pack: Pack,
    deterministic: bool | str = "auto",
    options: Mapping[str, Any] | None = None,
) -> Programs:
    """Compile the functions that `trace` returned, at one width.

    Args:
        traced: the four functions of a trial.
        pack: devices and width.
        deterministic: whether the same call must give the same bits, in every lane. CPUs always do; a GPU needs
            deterministic kernels. "auto" warns and compiles without them if an operation has no deterministic form.
        options: additional XLA options, for experiments.

    Raises:
        InputError: ``deterministic`` is True, and an operation has no deterministic form.
    """
    check_deterministic(deterministic)
    began = time.perf_counter()
    why = ""
    try:
        programs, saved = compile_functions(traced, pack, _LONGEST_FIRST, bool(deterministic), options)
    except jax.errors.JaxRuntimeError as error:
        operation = nondeterministic_operation(error)
        if operation is None:
            raise
        if deterministic is True:
            raise determinism_error(operation) from error
        why = f"{operation} has no deterministic form on this device"
        warnings.warn(f"{why}: a trial's numbers may change from run to run", stacklevel=2)
        programs, saved = compile_functions(traced, pack, _LONGEST_FIRST, False, options)
    if deterministic is False and deterministic_options(pack.platform):
        why = "as requested"
    return Programs(
        **programs,
        pack=pack,
        compile_seconds=traced.seconds + time.perf_counter() - began,
        saved_seconds=saved,
        state_bytes=traced.state_bytes * pack.width,
        lane=traced.start.result,
        fingerprint=traced.digest,
        nondeterministic=why,
    )


def compile_functions(
    traced: Traced,
    pack: Pack,
    names: Collection[str],
    deterministic: bool = True,
    options: Mapping[str, Any] | None = None,
) -> tuple[dict[str, jax.stages.Compiled], list[float]]:
    """Compile some of the functions: programs by name, and the seconds saved by each cached one."""
    backend = pack.platform
    common = dict(deterministic_options(backend) if deterministic else {}) | dict(options or {})
    found: dict[str, Compiled] = {}
    jobs: dict[str, tuple[Hashable, Future[Compiled]]] = {}
    saved: list[float] = []
    with record_cache_hits(saved) as last, ThreadPoolExecutor() as pool:
        # Compiling releases the GIL; start the longest compilation first.
        for name in sorted(names, key=_LONGEST_FIRST.index):
            function, donated = getattr(traced, name), _DONATED.get(name, ())
            program_options = common | (_START_OPTIONS.get(backend, {}) if name == "start" else {})
            key = _key(function, pack, donated, program_options)
            held = None if key is None else find_program(key)
            if held is None:
                jobs[name] = key, pool.submit(_compile, function.lower(pack, donated), program_options, last)
            else:
                found[name] = held
                saved.append(held.seconds)
        for name, (key, job) in jobs.items():
            found[name] = job.result()
            if key is not None:
                add_program(key, found[name])
    return {name: each.program for name, each in found.items()}, saved


def _key(
    function: TracedFunction, pack: Pack, donated: tuple[int, ...], options: Mapping[str, Any]
) -> Hashable:
    """Cache key of a compiled program; None for a program that must not be cached."""
    if not function.identity.complete or function.identity.constant_bytes > _MAX_CONSTANT_BYTES:
        return None
    structure = jax.tree.structure((function.arguments, function.result))
    values = sorted(jax.config.values.items())
    config = tuple(repr(getattr(jax.config, name, value)) for name, value in values)
    compilation = (pack, donated, tuple(sorted(options.items())), config)
    return (function.identity.digest, structure, tuple(function.mapped), compilation)


def _compile(lowered: jax.stages.Lowered, options: Mapping[str, Any], last: dict[int, float]) -> Compiled:
    """Compile in this thread; time saved by JAX's persistent cache counts as compile time."""
    began = time.perf_counter()
    program = lowered.compile(dict(options) or None)
    return Compiled(program, time.perf_counter() - began + last.pop(threading.get_ident(), 0.0))
