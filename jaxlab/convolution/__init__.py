"""Convolutions as matrix products, fast under ``vmap`` over kernels. Needs jax alone."""

from jaxlab.convolution.api import conv_general_dilated
from jaxlab.convolution.rules import LOWERINGS

__all__ = ["LOWERINGS", "conv_general_dilated"]
