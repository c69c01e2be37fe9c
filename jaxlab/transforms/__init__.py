"""Optax transforms with traceable numbers: RMSProp; coupled, decoupled and proximal penalties; clipping.

Each transform acts on one trial's parameters, any tree of real arrays, and works under ``jit``, ``vmap``,
``scan`` and ``grad``. Chain them like any other Optax transform::

    optax.chain(add_l2(1e-4), rmsprop(1e-3))                                             # coupled
    optax.chain(scale_by_rms(), add_decoupled_l2(1e-2), scale_by_learning_rate(1e-3))    # decoupled
    optax.chain(add_l2(1e-4), proximal_l1(1e-3, 1e-4, decay=0.9))                        # exact zeros

Arithmetic on half-precision leaves is in float32; updates keep the dtype of their leaf.
"""

from jaxlab.transforms.clipping import clip_by_global_norm
from jaxlab.transforms.masks import kernels
from jaxlab.transforms.penalties import add_decoupled_l2, add_l1, add_l2, l1_penalty, l2_penalty
from jaxlab.transforms.proximal import ProximalL1State, proximal_l1
from jaxlab.transforms.rate import TraceState, scale_by_learning_rate, trace
from jaxlab.transforms.rms import EPS_POSITIONS, ScaleByRmsState, rmsprop, scale_by_rms

__all__ = [
    "EPS_POSITIONS",
    "ProximalL1State",
    "ScaleByRmsState",
    "TraceState",
    "add_decoupled_l2",
    "add_l1",
    "add_l2",
    "clip_by_global_norm",
    "kernels",
    "l1_penalty",
    "l2_penalty",
    "proximal_l1",
    "rmsprop",
    "scale_by_learning_rate",
    "scale_by_rms",
    "trace",
]
