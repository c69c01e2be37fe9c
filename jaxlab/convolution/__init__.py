"""Convolutions as matrix products, fast under ``vmap`` over kernels. Requires only JAX."""

from jaxlab.convolution.api import conv_general_dilated
from jaxlab.convolution.examples_last import FULL_VECTORS, conv_examples_last, transposed
from jaxlab.convolution.materialized import materialize
from jaxlab.convolution.rules import LOWERINGS, check_lowering

__all__ = [
    "FULL_VECTORS",
    "LOWERINGS",
    "check_lowering",
    "conv_examples_last",
    "conv_general_dilated",
    "materialize",
    "transposed",
]
