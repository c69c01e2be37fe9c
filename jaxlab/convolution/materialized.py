"""An array that XLA computes once and stores, where its CPU backend would compute it again at every use."""

from __future__ import annotations

import jax
import numpy as np
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters import ad, batching, mlir


def materialize(x: jax.Array) -> jax.Array:
    """Return x unchanged; a CPU computes it once and stores it, and its cotangent likewise.

    XLA's CPU backend fuses an elementwise operation, a sum of slices or a pooling into every operation that reads it. A
    convolution reads each element of its input once per tap, so nine taps compute a pooling nine times. Likewise each
    element of a pooling window computes the sum over the taps of its gradient again. The backend drops
    ``lax.optimization_barrier`` before it fuses, but fuses nothing across a conditional. On a CPU this operation is
    therefore a conditional whose branch XLA cannot predict. On other devices it is nothing.

    The evidence is in docs/convolution.md.
    """
    return _materialize.bind(x)


def _through_conditional(x: jax.Array) -> jax.Array:
    # Nothing of x may be in the predicate: a second reader of x changes how XLA fuses what computes x.
    always = _replica.bind() != np.uint32(2**32 - 1)
    return lax.cond(always, lambda x: x, jax.numpy.zeros_like, x)


#: The number of the replica that runs a program, which XLA learns when the program runs.
_replica = Primitive("replica")
_replica.def_abstract_eval(lambda: ShapedArray((), np.uint32))
mlir.register_lowering(_replica, lambda context: [stablehlo.replica_id()])

_materialize = Primitive("materialize")
_materialize.def_impl(lambda x: x)
_materialize.def_abstract_eval(lambda x: x)
ad.deflinear2(_materialize, lambda cotangent, _: [_materialize.bind(cotangent)])
batching.primitive_batchers[_materialize] = lambda values, axes: (_materialize.bind(*values), axes[0])
mlir.register_lowering(_materialize, mlir.lower_fun(lambda x: x, multiple_results=False))
mlir.register_lowering(
    _materialize, mlir.lower_fun(_through_conditional, multiple_results=False), platform="cpu"
)
