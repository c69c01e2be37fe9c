"""``materialize``: make XLA's CPU backend store an array instead of recomputing it at every use."""

from __future__ import annotations

import jax
import numpy as np
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters import ad, batching, mlir


def materialize(x: jax.Array) -> jax.Array:
    """Return x unchanged; a CPU computes and stores it once, and likewise its cotangent.

    XLA's CPU backend fuses an elementwise operation, a sum of slices or a pooling into every operation that reads it. A
    convolution reads each element of its input once per tap, so nine taps compute a pooling nine times. Likewise, each
    element of a pooling window recomputes the sum over the taps of its gradient. The backend removes
    ``lax.optimization_barrier`` before it fuses, but does not fuse across a conditional. On a CPU this operation is
    therefore a conditional whose branch XLA cannot predict. On other devices it is the identity.

    See docs/convolution.md for measurements.
    """
    return _materialize.bind(x)


def _through_conditional(x: jax.Array) -> jax.Array:
    # The predicate must not depend on x: a second reader of x changes how XLA fuses the operations that compute x.
    always = _replica.bind() != np.uint32(2**32 - 1)
    return lax.cond(always, lambda x: x, jax.numpy.zeros_like, x)


#: The index of the replica that runs the program; XLA does not know it at compile time.
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
