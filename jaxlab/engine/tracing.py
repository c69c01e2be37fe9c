"""Trace the functions of one trial once, unbatched, to compile at any width and to identify by a digest."""

import hashlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import jaxpr_as_fun

from jaxlab.engine import lane
from jaxlab.engine.memory import total_memory
from jaxlab.engine.pack import Pack, over_trials
from jaxlab.engine.program_identity import Identity, identity
from jaxlab.errors import InputError
from jaxlab.trial import PyTree, Trial


class TracedFunction(NamedTuple):
    """One traced function of a trial.

    Attributes:
        function: replays the traced operations without calling the trial's Python code.
        arguments: shapes of one trial's arguments.
        result: shapes of one trial's result.
        mapped: for each argument, whether it differs between trials.
        identity: identity of the traced program.
    """

    function: Callable
    arguments: tuple
    result: Any
    mapped: Sequence[bool]
    identity: Identity

    def lower(self, pack: Pack, donated: tuple[int, ...] = ()) -> jax.stages.Lowered:
        """Lower the function, mapped over a pack; the arguments at the indices ``donated`` are overwritten."""
        arguments = tuple(
            jax.tree.map(partial(_pack_shape, pack, mapped), argument)
            for mapped, argument in zip(self.mapped, self.arguments, strict=True)
        )
        function = over_trials(pack, self.function, self.mapped, self.identity.operations)
        return jax.jit(function, donate_argnums=donated).lower(*arguments)


class Traced(NamedTuple):
    """The four traced functions of a trial, see `jaxlab.engine.lane`."""

    start: TracedFunction
    measure: TracedFunction
    segment: TracedFunction
    finish: TracedFunction
    seconds: float

    @property
    def digest(self) -> str:
        """Digest of all four programs and of the names of their results; the same in every process."""
        functions = (self.start, self.measure, self.segment, self.finish)
        text = [line for each in functions for line in (each.identity.digest, *_paths(each.result))]
        return hashlib.sha256("\n".join(text).encode()).hexdigest()[:16]

    @property
    def state_bytes(self) -> int:
        """Size of one trial's state."""
        return _bytes(self.start.result)


def trace(trial: Trial, hyperparameters: PyTree, shared: PyTree) -> Traced:
    """Trace each function of a trial once, for any width.

    Args:
        trial: the triple.
        hyperparameters: pytree of scalars of one trial, of which only dtypes are used.
        shared: the arrays that all trials share, of which only shapes and dtypes are used.

    Raises:
        InputError: the state of one trial exceeds the total memory of a device, or names of records collide.
    """
    began = time.perf_counter()
    hyper = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((), canonical(leaf).dtype), hyperparameters)
    shared = jax.tree.map(lambda leaf: shape_of(canonical(leaf)), shared)
    epoch = jax.ShapeDtypeStruct((), np.int32)
    start = _traced(lane.start, trial, (hyper, shared), (True, False))
    state = start.result
    _check_size(state)
    measure = _traced(lane.measure, trial, (hyper, state, shared), (True, True, False))
    segment = _traced(lane.segment, trial, (hyper, state, shared, epoch), (True, True, False, False))
    finish = _traced(lane.finish, trial, (hyper, state, shared), (True, True, False))
    _check_names(segment.result[1], finish.result)
    return Traced(start, measure, segment, finish, time.perf_counter() - began)


def _traced(function: Callable, trial: Trial, arguments: tuple, mapped: Sequence[bool]) -> TracedFunction:
    program, result = jax.make_jaxpr(partial(function, trial), return_shape=True)(*arguments)
    result = jax.tree.map(shape_of, result)
    flat, structure = jaxpr_as_fun(program), jax.tree.structure(result)

    def replay(*values: PyTree) -> Any:
        return jax.tree.unflatten(structure, flat(*jax.tree.leaves(values)))

    replay.__name__ = function.__name__  # the name in profiles and of the compiled program
    return TracedFunction(replay, arguments, result, mapped, identity(program))


def _bytes(shapes: Any) -> int:
    return sum(leaf.size * getattr(leaf.dtype, "itemsize", 8) for leaf in jax.tree.leaves(shapes))


def _check_size(state: PyTree) -> None:
    """Raise InputError for a state that no device can hold, before a compilation that is slow or fails."""
    if _bytes(state) > total_memory(jax.devices()[0]):
        remedy = "the state of one trial exceeds the total memory; make the model smaller"
        raise InputError("configuration", f"{_bytes(state):,} bytes", remedy)


def _paths(tree: PyTree) -> list[str]:
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def _check_names(each_epoch: dict, at_the_end: dict) -> None:
    both = sorted(set(each_epoch) & set(at_the_end))
    if both:
        raise InputError("trial.evaluate", both, "use other names with final=True than at each epoch")


def canonical(leaf: Any) -> Any:
    """Convert an array to the dtype that the device uses: float64 to float32 unless x64 is enabled."""
    if isinstance(leaf, jax.Array):
        return leaf
    leaf = np.asarray(leaf)
    return leaf.astype(jax.dtypes.canonicalize_dtype(leaf.dtype), copy=False)


def shape_of(leaf: Any) -> jax.ShapeDtypeStruct:
    """Shape and dtype of an array."""
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def _pack_shape(pack: Pack, mapped: bool, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """Shape and sharding of an argument in a pack, given its shape for one trial."""
    if mapped:
        return jax.ShapeDtypeStruct((pack.lanes, *leaf.shape), leaf.dtype, sharding=pack.over_trials)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=pack.replicated)
