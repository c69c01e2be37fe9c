"""Automatic width: time a group's programs at several widths, within a budget."""

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jaxlib
import numpy as np

from jaxlab.devices import cores
from jaxlab.engine.group import split_into_packs, take_rows
from jaxlab.engine.memory import fits, idle_packs, is_out_of_memory
from jaxlab.engine.pack import Pack, make_pack
from jaxlab.engine.program_cache import clear_programs
from jaxlab.engine.programs import Programs, bytes_of, compile_functions, compile_traced
from jaxlab.engine.tracing import Traced, canonical, trace
from jaxlab.engine.train import place_shared
from jaxlab.engine.width import candidates, choose, default_width, pack_count, search
from jaxlab.engine.width_cache import load_width, save_width
from jaxlab.errors import InputError
from jaxlab.trial import PyTree, Trial

_TIMING_SECONDS = 0.5  # time to spend on timing one width
_TRAINING_TO_PROBE = 8  # training must take at least this many times longer than all probing
# Ratio of an epoch, forward and backward over most examples, to its evaluation, forward over all examples:
# between 2 (measured on a small network with all diagnostics) and 4 (arithmetic alone).
_SEGMENT_TO_EVALUATION = 3


class Choice(NamedTuple):
    """Programs of a group at the chosen width.

    Attributes:
        programs: the compiled programs.
        seconds: time of one segment of all trials by width, on a sample of the data if the trial has one; empty if no
            width was timed.
        probe_seconds: time of the choice, except for compiling ``programs``.
    """

    programs: Programs
    seconds: dict[int, float]
    probe_seconds: float


class _Workload(NamedTuple):
    """Everything to train, and the devices to train on."""

    trial: Trial
    hyperparameters: PyTree
    shared: PyTree
    devices: list[jax.Device]
    epochs: int
    trials: int  # per device
    traced: Traced
    deterministic: bool | str
    clock: Callable[[], float]


def compile_group(
    trial: Trial,
    hyperparameters: PyTree,
    shared: PyTree,
    epochs: int,
    width: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    *,
    cache: str | os.PathLike | None = None,
    smallest_within: float = 0.0,
    deterministic: bool | str = "auto",
    notify: Callable[[int], None] = lambda width: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Choice:
    """Compile a group at a given width, or at the width that trains it fastest.

    The default width is compiled first and serves short studies: another width is tried only while training at the
    best width so far would take 8 times longer than all probing. If the programs of a width do not fit in memory, a
    smaller one replaces it.

    Args:
        trial: the triple. A trial with a ``sample`` is timed on that part of the shared arrays.
        hyperparameters: pytree of NumPy arrays ``[trials]``.
        shared: the arrays that all trials share.
        epochs: total number of epochs.
        width: trials per device; None chooses.
        devices: all by default; at most as many as there are trials are used.
        cache: file of widths chosen earlier for the same program, devices, versions and number of trials. A cached
            width is used without timing; a new choice is added.
        smallest_within: choose the smallest width that is at most this fraction slower than the fastest.
        deterministic: see `compile_traced`.
        notify: called with each width before it is tried.
        clock: returns the seconds by which widths are timed.

    Raises:
        InputError: not even one trial fits in the memory of a device, or ``deterministic`` is True and an operation
            has no deterministic form.
    """
    began = clock()
    all_trials = len(jax.tree.leaves(hyperparameters)[0])
    # A device without a trial would train copies, and slow down host devices that share its cores.
    devices = (list(devices) if devices is not None else jax.devices())[: pack_count(width or 1, all_trials)]
    trials = pack_count(len(devices), all_trials)
    traced = trace(trial, take_rows(hyperparameters, 0), shared)
    if width is not None:
        return Choice(compile_traced(traced, make_pack(width, devices), deterministic), {}, 0.0)
    workload = _Workload(
        trial, hyperparameters, shared, devices, epochs, trials, traced, deterministic, clock
    )
    default = default_width(devices[0], trials)
    widths = candidates(2 if devices[0].platform == "cpu" else 4, default, trials)
    key = _key(workload, smallest_within)
    earlier = load_width(cache, key) or load_width(cache, _unprobed_key(key, epochs))
    undecided = earlier not in widths and len(widths) > 1
    first = earlier if earlier in widths else default
    programs, seconds = _largest_that_fits(workload, widths[: widths.index(first) + 1], undecided)
    found: dict[int, float] = {}
    if seconds > _TRAINING_TO_PROBE * (programs.cold_seconds + _TIMING_SECONDS):
        if programs.pack.width < first:  # larger widths did not fit
            widths = widths[: widths.index(programs.pack.width) + 1]
        found = _search_width(workload, widths, programs, seconds, smallest_within, notify)
        if not math.isfinite(min(found.values())):
            raise _out_of_memory()
        width = choose(found, smallest_within)
        if width != programs.pack.width:
            programs = compile_traced(traced, make_pack(width, devices), deterministic)
    if seconds:
        save_width(cache, key if len(found) > 1 else _unprobed_key(key, epochs), programs.pack.width)
    return Choice(programs, found, clock() - began - programs.compile_seconds)


def fingerprint(trial: Trial, hyperparameters: PyTree, shared: PyTree) -> str:
    """`Programs.fingerprint` of the programs that `compile_group` would compile, by tracing alone."""
    return trace(trial, take_rows(hyperparameters, 0), shared).digest


def _unprobed_key(key: str, epochs: int) -> str:
    """Cache key of a training too short to probe. It contains the epochs, so that a longer training probes."""
    return f"{key}-{epochs}"


def _key(workload: _Workload, smallest_within: float) -> str:
    """Cache key: a digest of everything that determines the fastest width."""
    device = workload.devices[0]
    known = [
        workload.traced.digest,
        device.platform,
        device.device_kind,
        cores() if device.platform == "cpu" else None,
        len(workload.devices),
        workload.trials,
        smallest_within,
        workload.deterministic,
        jax.__version__,
        jaxlib.__version__,
    ]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]


def _largest_that_fits(workload: _Workload, widths: Sequence[int], estimate: bool) -> tuple[Programs, float]:
    """Compile the largest width that fits in memory; return the programs and, if ``estimate``, the training time."""
    for width in reversed(widths):
        try:
            programs = compile_traced(
                workload.traced, make_pack(width, workload.devices), workload.deterministic
            )
            packs = 1 + idle_packs(pack_count(width, workload.trials), workload.devices[0])
            if width > widths[0] and not fits(programs.memory_bytes(packs), workload.devices):
                continue
            return programs, _estimate_training(workload, programs) if estimate else 0.0
        except jax.errors.JaxRuntimeError as error:
            if not is_out_of_memory(error):
                raise
            clear_programs()  # programs of earlier studies occupy the same memory
    raise _out_of_memory()


def _out_of_memory() -> InputError:
    remedy = "out of memory even at width 1; give smaller batches or a smaller model"
    return InputError("width", "auto", remedy)


def _estimate_training(workload: _Workload, programs: Programs) -> float:
    """Estimate the training time from one segment, or from one evaluation if the trial has a sample.

    0 if even that costs too much because training is only a few times longer.
    """
    pack, sampled = programs.pack, workload.trial.sample is not None
    segments = pack_count(pack.width, workload.trials) * workload.epochs
    cost = 1 / _SEGMENT_TO_EVALUATION if sampled else 1.0  # in segments
    if segments <= 2 * _TRAINING_TO_PROBE * cost:
        return 0.0

    def measure(values: PyTree, lanes: PyTree, shared: PyTree, epoch: jax.Array) -> tuple:
        return programs.measure(values, lanes, shared)

    call = measure if sampled else programs.segment
    return _fastest(workload, pack, programs.start, call, _TIMING_SECONDS / 5) / cost * segments


def _search_width(
    workload: _Workload,
    widths: Sequence[int],
    programs: Programs,
    seconds: float,
    smallest_within: float,
    notify: Callable[[int], None],
) -> dict[int, float]:
    """Search for the fastest width; return the seconds of one segment of all trials by width.

    Args:
        workload: what to train.
        widths: the candidates.
        programs: programs at the width to begin with.
        seconds: estimated training time at that width.
        smallest_within: see `search`.
        notify: called with each width.
    """
    began, first = workload.clock(), programs.pack.width
    sampled, ready = workload, {"start": programs.start, "segment": programs.segment}
    if workload.trial.sample is not None:
        shared = workload.trial.sample(workload.shared)
        traced = trace(workload.trial, take_rows(workload.hyperparameters, 0), shared)
        sampled, ready = workload._replace(shared=shared, traced=traced), None
    unsampled = _size(workload.shared) - _size(sampled.shared)
    once: dict[int, float] = {}

    def seconds_of(width: int) -> float:
        notify(width)
        compiled = ready if width == first else None
        once[width] = _time_width(sampled, width, compiled, unsampled, not programs.nondeterministic)
        return once[width]

    def worth(best: float) -> bool:
        if not math.isfinite(best):
            return True  # none fitted in memory so far: keep searching
        left = seconds * best / (once[first] * pack_count(first, workload.trials))
        another = programs.cold_seconds + max(_TIMING_SECONDS, once[first])
        return left > _TRAINING_TO_PROBE * (workload.clock() - began + another)

    return search(seconds_of, widths, first, workload.trials, worth=worth, smallest_within=smallest_within)


def _time_width(
    workload: _Workload,
    width: int,
    compiled: Mapping[str, jax.stages.Compiled] | None,
    unsampled: int,
    deterministic: bool,
) -> float:
    """Time one segment at one width; ``inf`` if it does not fit in memory together with ``unsampled`` bytes."""
    pack, traced = make_pack(width, workload.devices), workload.traced
    try:
        if compiled is None:
            compiled, _ = compile_functions(traced, pack, ("start", "segment"), deterministic)
        needed = unsampled + max(map(bytes_of, compiled.values()))
        packs = idle_packs(pack_count(width, workload.trials), workload.devices[0])
        if not fits(needed + packs * width * traced.state_bytes, workload.devices):
            return math.inf
        return _fastest(workload, pack, compiled["start"], compiled["segment"], _TIMING_SECONDS)
    except jax.errors.JaxRuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return math.inf


def _fastest(
    workload: _Workload, pack: Pack, start: Callable, call: Callable[..., tuple], duration: float
) -> float:
    """Seconds of the fastest call ``(hyperparameters, lanes, shared, epoch) -> (lanes, record)`` on the first pack.

    It is repeated for ``duration`` seconds, with the lanes that the previous call returned.
    """
    first = split_into_packs(len(jax.tree.leaves(workload.hyperparameters)[0]), pack.lanes)[0]
    values = jax.device_put(take_rows(workload.hyperparameters, first), pack.over_trials)
    shared, epoch = place_shared(workload.shared, pack), jax.device_put(np.int32(1), pack.replicated)
    lanes, times = start(values, shared), []
    while not times or sum(times) < duration:
        began = workload.clock()
        lanes, record = call(values, lanes, shared, epoch)
        jax.block_until_ready((lanes, record))
        times.append(workload.clock() - began)
    return min(times)


def _size(tree: PyTree) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(jax.tree.map(canonical, tree)))
