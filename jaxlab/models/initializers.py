"""Initial kernels and biases by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import initializers as init
from jax.typing import ArrayLike

from jaxlab.checks import one_of, scalar

#: ``(key, shape, dtype) -> array``, JAX's convention for initializers.
Initializer = Callable[..., Any]


def _uniform_bias(fan_in: int) -> Initializer:
    bound = 1 / math.sqrt(fan_in)
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)


#: Kernels, of shape (*spatial, inputs, outputs): fan_in is the product of all but the last.
#: ``lecun_*`` have variance 1/fan_in (LeCun et al. 1998), ``he_*`` 2/fan_in (He et al. 2015), ``glorot_*``
#: 2/(fan_in + fan_out) (Glorot & Bengio 2010); the normal ones are truncated at two standard deviations.
#: ``uniform_fan_in`` is PyTorch's default, uniform in ±1/√fan_in: variance 1/(3·fan_in).
INITIALIZERS: dict[str, Initializer] = {
    "lecun_normal": init.lecun_normal(),
    "lecun_uniform": init.lecun_uniform(),
    "he_normal": init.he_normal(),
    "he_uniform": init.he_uniform(),
    "glorot_normal": init.glorot_normal(),
    "glorot_uniform": init.glorot_uniform(),
    "orthogonal": init.orthogonal(),
    "uniform_fan_in": init.variance_scaling(1 / 3, "fan_in", "uniform"),
    "zeros": init.zeros,
}

#: Biases, built from the fan_in of their layer, which the shape of a bias does not show.
BIAS_INITIALIZERS: dict[str, Callable[[int], Initializer]] = {
    "zeros": lambda fan_in: init.zeros,
    "uniform_fan_in": _uniform_bias,
}


def kernel_initializer(given: Any, scale: ArrayLike) -> Initializer:
    """Initializer of a kernel: ``scale`` times the draws of ``given``; None is LeCun normal.

    Raises:
        InputError: the name is unknown, or a concrete scale is negative or not finite.
    """
    scalar("init_scale", scale, 0)
    found = one_of("kernel_init", "lecun_normal" if given is None else given, INITIALIZERS, or_function=True)
    draw = found if callable(found) else INITIALIZERS[found]
    return lambda key, shape, dtype: draw(key, shape, dtype) * jnp.asarray(scale, dtype)


def bias_initializer(given: Any) -> Callable[[int], Initializer]:
    """Function from a layer's fan_in to the initializer of its bias; None is zeros, a number is a constant.

    Raises:
        InputError: the name is unknown, or the value is not a name, number or initializer.
    """
    if isinstance(given, str):
        return BIAS_INITIALIZERS[one_of("bias_init", given, BIAS_INITIALIZERS)]
    if callable(given):
        return lambda fan_in: given
    value = 0.0 if given is None else given
    scalar("bias_init", value)
    return lambda fan_in: init.constant(value)
