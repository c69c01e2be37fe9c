"""Convolutions as matrix products, fast under ``vmap`` over kernels. Needs jax alone."""

from jaxlab.convolution.api import conv_general_dilated
from jaxlab.convolution.rules import LOWERINGS, check_lowering

__all__ = ["LOWERINGS", "check_lowering", "conv_general_dilated"]
