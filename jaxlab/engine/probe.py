"""Automatic width: the search of `jaxlab.engine.width` on a group's own program, and what it may cost."""

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jaxlib
import numpy as np

from jaxlab.devices import cores
from jaxlab.engine.group import packs_of, rows
from jaxlab.engine.memory import fits, is_out_of_memory, waiting_packs
from jaxlab.engine.pack import Pack, make_pack
from jaxlab.engine.program_cache import clear_programs
from jaxlab.engine.programs import Programs, bytes_of, compile_stages, compile_traced
from jaxlab.engine.remembered import recall, remember
from jaxlab.engine.traced import Traced, on_device, trace
from jaxlab.engine.train import placed
from jaxlab.engine.width import calls, candidates, chosen, default_width, search
from jaxlab.errors import InputError
from jaxlab.trial import Trial

_MOMENT = 0.5  # seconds that one width is timed for
_WORTH = 8  # training must take this many times longer than all the trying
# An epoch goes forward and backward over most of the examples that its evaluation goes forward over and measures:
# between 2 (a small network with all diagnostics, timed) and 4 (arithmetic alone).
_SEGMENT_TO_EVALUATION = 3


class Choice(NamedTuple):
    """The programs of a group at the width chosen for it.

    Attributes:
        programs: compiled.
        seconds: what one segment of all trials took (of a sample of the data where the trial offers one), by width;
            empty where nothing was tried.
        probe_seconds: what choosing took beyond compiling these programs.
    """

    programs: Programs
    seconds: dict[int, float]
    probe_seconds: float


class _Job(NamedTuple):
    """What is to be trained where."""

    trial: Trial
    hyperparameters: Any
    shared: Any
    devices: list[jax.Device]
    epochs: int
    trials: int  # on one device
    traced: Traced
    deterministic: bool | str
    clock: Callable[[], float]


def compile_group(
    trial: Trial,
    hyperparameters: Any,
    shared: Any,
    epochs: int,
    width: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    *,
    segment_epochs: int = 1,
    cache: str | os.PathLike | None = None,
    smallest_within: float = 0.0,
    deterministic: bool | str = "auto",
    tell: Callable[[int], None] = lambda width: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Choice:
    """Compile a group at a given width, or at the one that trains it fastest.

    The rule of thumb is compiled first, since a short study is trained at it: another width is tried only while
    training at the best one so far would take 8 times longer than all the trying. A width whose programs do not fit
    into memory is none, and a smaller one takes its place.

    Args:
        trial: the triple. A trial with a ``sample`` is tried on that part of the shared arrays.
        hyperparameters: pytree of NumPy arrays ``[trials]``.
        shared: the arrays that all trials see.
        epochs: of the whole training.
        width: trials on each device; None chooses.
        devices: all by default; no more are used than there are trials for.
        segment_epochs: epochs inside one call.
        cache: a file of widths chosen earlier for the same program, devices, versions and number of trials, which are
            taken without trying; what is chosen is added.
        smallest_within: take the smallest width that is at most this fraction slower than the fastest.
        deterministic: see `compile_traced`.
        tell: called with each width before it is tried.
        clock: gives the seconds by which widths are timed.

    Raises:
        InputError: there is no memory for even one trial on a device, or determinism is demanded and cannot be had.
    """
    began = clock()
    everyone = len(jax.tree.leaves(hyperparameters)[0])
    # A device without a trial would train copies, and host devices share the cores.
    devices = (list(devices) if devices is not None else jax.devices())[: calls(width or 1, everyone)]
    trials = calls(len(devices), everyone)
    traced = trace(trial, rows(hyperparameters, 0), shared, segment_epochs)
    if width is not None:
        return Choice(compile_traced(traced, make_pack(width, devices), deterministic), {}, 0.0)
    job = _Job(trial, hyperparameters, shared, devices, epochs, trials, traced, deterministic, clock)
    thumb = default_width(devices[0], trials)
    widths = candidates(2 if devices[0].platform == "cpu" else 4, thumb, trials)
    key = _key(job, smallest_within)
    earlier = recall(cache, key) or recall(cache, _untried(key, epochs))
    undecided = earlier not in widths and len(widths) > 1
    first = earlier if earlier in widths else thumb
    programs, seconds = _largest_that_fits(job, widths[: widths.index(first) + 1], undecided)
    found: dict[int, float] = {}
    if seconds > _WORTH * (programs.cold_seconds + _MOMENT):
        if programs.pack.width < first:  # what is larger did not fit
            widths = widths[: widths.index(programs.pack.width) + 1]
        found = _searched(job, widths, programs, seconds, smallest_within, tell)
        if not math.isfinite(min(found.values())):
            raise _no_memory()
        width = chosen(found, smallest_within)
        if width != programs.pack.width:
            programs = compile_traced(traced, make_pack(width, devices), deterministic)
    if seconds:
        remember(cache, key if len(found) > 1 else _untried(key, epochs), programs.pack.width)
    return Choice(programs, found, clock() - began - programs.compile_seconds)


def fingerprint(trial: Trial, hyperparameters: Any, shared: Any, segment_epochs: int = 1) -> str:
    """That of the programs which `compile_group` would compile, see `Programs`; traced alone."""
    return trace(trial, rows(hyperparameters, 0), shared, segment_epochs).digest


def _untried(key: str, epochs: int) -> str:
    """The key of a training too short for a try: one of more epochs decides anew, the same one has the same width."""
    return f"{key}-{epochs}"


def _key(job: _Job, smallest_within: float) -> str:
    """Everything that decides which width is fastest."""
    device = job.devices[0]
    known = [
        job.traced.digest,
        device.platform,
        device.device_kind,
        cores() if device.platform == "cpu" else None,
        len(job.devices),
        job.trials,
        smallest_within,
        job.deterministic,
        jax.__version__,
        jaxlib.__version__,
    ]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]


def _largest_that_fits(job: _Job, widths: Sequence[int], estimate: bool) -> tuple[Programs, float]:
    """The programs at the last of some widths that there is memory for, and about how long training would take."""
    for width in reversed(widths):
        try:
            programs = compile_traced(job.traced, make_pack(width, job.devices), job.deterministic)
            packs = 1 + waiting_packs(calls(width, job.trials), job.devices[0])
            if width > widths[0] and not fits(programs.memory_bytes(packs), job.devices):
                continue
            return programs, _training_seconds(job, programs) if estimate else 0.0
        except jax.errors.JaxRuntimeError as error:
            if not is_out_of_memory(error):
                raise
            clear_programs()  # those of earlier studies lie in the same memory
    raise _no_memory()


def _no_memory() -> InputError:
    remedy = "out of memory even at width 1: give smaller batches or a smaller model"
    return InputError("width", "auto", remedy)


def _training_seconds(job: _Job, programs: Programs) -> float:
    """About how long the whole training takes: from one segment, or one evaluation where the trial offers a sample.

    0 where even that costs too much, since training is only a few times longer.
    """
    pack, sampled = programs.pack, job.trial.sample is not None
    segments = calls(pack.width, job.trials) * job.epochs / programs.segment_epochs
    cost = 1 / (_SEGMENT_TO_EVALUATION * programs.segment_epochs) if sampled else 1.0  # in segments
    if segments <= 2 * _WORTH * cost:
        return 0.0
    shared, values, now = placed(job.shared, pack), _first_pack(job, pack), _epochs(job, pack)
    lanes = programs.start(values, shared)
    if sampled:
        once = _clocked(lambda lanes: programs.measure(values, lanes, shared), lanes, _MOMENT / 5, job.clock)
    else:
        once = _clocked(
            lambda lanes: programs.segment(values, lanes, shared, now), lanes, _MOMENT / 5, job.clock
        )
    return once / cost * segments


def _searched(
    job: _Job,
    widths: Sequence[int],
    programs: Programs,
    seconds: float,
    smallest_within: float,
    tell: Callable[[int], None],
) -> dict[int, float]:
    """Seconds of one segment of all trials by width, as far as it pays to know them.

    Args:
        job: what is to be trained.
        widths: the candidates.
        programs: at the width to begin with.
        seconds: about how long the whole training takes at that width.
        smallest_within: see `search`.
        tell: called with each width.
    """
    began, first = job.clock(), programs.pack.width
    shared, traced, ready = job.shared, job.traced, [programs.start, programs.segment]
    if job.trial.sample is not None:
        shared, ready = job.trial.sample(shared), None
        traced = trace(job.trial, rows(job.hyperparameters, 0), shared, traced.segment_epochs)
    once: dict[int, float] = {}

    def seconds_of(width: int) -> float:
        tell(width)
        compiled = ready if width == first else None
        once[width] = _seconds_at(job, traced, shared, width, compiled, not programs.nondeterministic)
        return once[width]

    def worth(best: float) -> bool:
        if not math.isfinite(best):
            return True  # there was no memory: some width must do
        left = seconds * best / (once[first] * calls(first, job.trials))
        another = programs.cold_seconds + max(_MOMENT, once[first])
        return left > _WORTH * (job.clock() - began + another)

    return search(seconds_of, widths, first, job.trials, worth=worth, smallest_within=smallest_within)


def _seconds_at(
    job: _Job,
    traced: Traced,
    shared: Any,
    width: int,
    compiled: list[jax.stages.Compiled] | None,
    deterministic: bool,
) -> float:
    """Seconds of one call of the segment at one width; ``inf`` where there is no memory for it."""
    pack = make_pack(width, job.devices)
    try:
        start, segment = compiled or compile_stages(traced, pack, ("start", "segment"), deterministic)[0]
        waiting = waiting_packs(calls(width, job.trials), job.devices[0]) * width * traced.state_bytes
        apart = _size(job.shared) - _size(shared)
        if not fits(max(bytes_of(start), bytes_of(segment)) + waiting + apart, job.devices):
            return math.inf
        shared, values, now = placed(shared, pack), _first_pack(job, pack), _epochs(job, pack)
        lanes = start(values, shared)
        return _clocked(lambda lanes: segment(values, lanes, shared, now), lanes, _MOMENT, job.clock)
    except jax.errors.JaxRuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return math.inf


def _clocked(call: Callable[[Any], tuple], lanes: Any, moment: float, clock: Callable[[], float]) -> float:
    """Seconds of the fastest of some calls ``lanes -> (lanes, record)``, one after the other for a moment."""
    times: list[float] = []
    while not times or sum(times) < moment:
        began = clock()
        lanes, record = call(lanes)
        jax.block_until_ready((lanes, record))
        times.append(clock() - began)
    return min(times)


def _first_pack(job: _Job, pack: Pack) -> Any:
    lanes = packs_of(len(jax.tree.leaves(job.hyperparameters)[0]), pack.lanes)[0]
    return jax.device_put(rows(job.hyperparameters, lanes), pack.over_trials)


def _epochs(job: _Job, pack: Pack) -> jax.Array:
    return jax.device_put(np.arange(1, job.traced.segment_epochs + 1, dtype=np.int32), pack.replicated)


def _size(tree: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(jax.tree.map(on_device, tree)))
