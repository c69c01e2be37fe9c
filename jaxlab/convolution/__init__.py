"""Convolutions as matrix products, fast under ``vmap`` over kernels. Requires only JAX."""

from jaxlab.convolution.api import LOWERINGS, conv_general_dilated
from jaxlab.convolution.examples_last import FULL_VECTORS, conv_examples_last, transposed
from jaxlab.convolution.materialized import materialize

__all__ = [
    "FULL_VECTORS",
    "LOWERINGS",
    "conv_examples_last",
    "conv_general_dilated",
    "materialize",
    "transposed",
]
