"""Packs of trials on one or more devices: the only place that maps and shards over trials."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jaxlib.version
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

# On a CPU, a batched LAPACK operation waits for XLA's threads. Before jaxlib 0.12 it deadlocks if each of these threads
# runs such an operation of another host device.
_LAPACK = frozenset(
    ("cholesky", "eig", "eigh", "geqp3", "geqrf", "hessenberg", "householder_product", "lu", "schur", "svd")
) | {"triangular_solve", "tridiagonal", "tridiagonal_solve"}
_LAPACK_DEADLOCKS = jaxlib.version.__version_info__ < (0, 12)


class Pack(NamedTuple):
    """Devices and width of a pack of ``devices × width`` lanes."""

    mesh: Mesh
    width: int

    @property
    def lanes(self) -> int:
        return self.mesh.size * self.width

    @property
    def platform(self) -> str:
        return self.mesh.devices.flat[0].platform

    @property
    def over_trials(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec("trial"))

    @property
    def replicated(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())


def make_pack(width: int, devices: Sequence[jax.Device] | None = None) -> Pack:
    """Make a pack of ``width`` trials on each of ``devices``, by default all."""
    devices = list(devices) if devices is not None else jax.devices()
    return Pack(
        jax.make_mesh((len(devices),), ("trial",), axis_types=(AxisType.Auto,), devices=devices), width
    )


def over_trials(
    pack: Pack, function: Callable, mapped: Sequence[bool], operations: Collection[str] = ()
) -> Callable:
    """Map a function of one trial over a pack: shard_map over devices, vmap inside, no reduction over trials.

    Args:
        pack: the mesh over which trials are split.
        function: function of one trial.
        mapped: for each argument, whether it has a leading trial axis; other arguments are shared by all trials.
        operations: names of the operations in ``function``. With some of them, a CPU runs trials one by one.
    """
    may_deadlock = _LAPACK_DEADLOCKS and pack.platform == "cpu" and pack.mesh.size > 1
    if pack.width == 1:
        batched = _map_single(function, mapped)
    elif may_deadlock and not _LAPACK.isdisjoint(operations):
        batched = _map_sequentially(function, mapped)
    else:
        batched = jax.vmap(function, in_axes=tuple(0 if each else None for each in mapped))
    specs = tuple(PartitionSpec("trial") if each else PartitionSpec() for each in mapped)
    return jax.shard_map(
        batched, mesh=pack.mesh, in_specs=specs, out_specs=PartitionSpec("trial"), check_vma=False
    )


def _map_single(function: Callable, mapped: Sequence[bool]) -> Callable:
    """``vmap`` over a single trial by removing the axis: XLA transposes products slowly around an axis of length 1."""

    def batched(*arguments: Any) -> Any:
        one = [
            jax.tree.map(lambda leaf: leaf[0], argument) if each else argument
            for each, argument in zip(mapped, arguments, strict=True)
        ]
        return jax.tree.map(lambda leaf: jnp.expand_dims(leaf, 0), function(*one))

    return batched


def _map_sequentially(function: Callable, mapped: Sequence[bool]) -> Callable:
    """Sequential equivalent of ``vmap``."""

    def batched(*arguments: Any) -> Any:
        per_trial = [argument for argument, each in zip(arguments, mapped, strict=True) if each]

        def one(per_trial: list) -> Any:
            remaining = iter(per_trial)
            pairs = zip(arguments, mapped, strict=True)
            return function(*(next(remaining) if each else argument for argument, each in pairs))

        return jax.lax.map(one, per_trial)

    return batched
