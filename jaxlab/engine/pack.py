"""Packs of trials side by side on some devices: the only place that maps and shards over trials."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jaxlib.version
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

# On a CPU, LAPACK splits a batch over the threads of XLA and waits for them. Before jaxlib 0.12 it waits for ever where
# each of these threads is itself in such an operation, of another host device.
_LAPACK = frozenset(
    ("cholesky", "eig", "eigh", "geqp3", "geqrf", "hessenberg", "householder_product", "lu", "schur", "svd")
) | {"triangular_solve", "tridiagonal", "tridiagonal_solve"}
_LAPACK_HANGS = jaxlib.version.__version_info__ < (0, 12)


class Pack(NamedTuple):
    """Where a pack of ``devices × width`` lanes runs."""

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
    """A pack of ``width`` trials on each of ``devices`` (all of them by default)."""
    devices = list(devices) if devices is not None else jax.devices()
    return Pack(
        jax.make_mesh((len(devices),), ("trial",), axis_types=(AxisType.Auto,), devices=devices), width
    )


def over_trials(
    pack: Pack, function: Callable, mapped: Sequence[bool], operations: Collection[str] = ()
) -> Callable:
    """``function`` of one trial as a function of a pack: vmap inside, shard_map around, nothing reduced.

    Args:
        pack: the mesh over which trials are split.
        function: of one trial.
        mapped: for each argument, whether it has an axis of trials in front; the others are the same for all.
        operations: names of those in ``function``. With some of them, a CPU takes one trial after the other.
    """
    if pack.width == 1:
        batched = _alone(function, mapped)
    elif (
        _LAPACK_HANGS and pack.platform == "cpu" and pack.mesh.size > 1 and not _LAPACK.isdisjoint(operations)
    ):
        batched = _one_by_one(function, mapped)
    else:
        batched = jax.vmap(function, in_axes=tuple(0 if each else None for each in mapped))
    specs = tuple(PartitionSpec("trial") if each else PartitionSpec() for each in mapped)
    return jax.shard_map(
        batched, mesh=pack.mesh, in_specs=specs, out_specs=PartitionSpec("trial"), check_vma=False
    )


def _alone(function: Callable, mapped: Sequence[bool]) -> Callable:
    """``vmap`` over one trial by taking the axis away: XLA transposes products slowly around an axis of length 1."""

    def batched(*arguments: Any) -> Any:
        one = [
            jax.tree.map(lambda leaf: leaf[0], argument) if own else argument
            for own, argument in zip(mapped, arguments, strict=True)
        ]
        return jax.tree.map(lambda leaf: jnp.expand_dims(leaf, 0), function(*one))

    return batched


def _one_by_one(function: Callable, mapped: Sequence[bool]) -> Callable:
    """What ``vmap`` gives, one trial after the other."""

    def batched(*arguments: Any) -> Any:
        own = [argument for argument, each in zip(arguments, mapped, strict=True) if each]

        def one(own: list) -> Any:
            left = iter(own)
            return function(
                *(next(left) if each else argument for argument, each in zip(arguments, mapped, strict=True))
            )

        return jax.lax.map(one, own)

    return batched
