"""Building blocks of networks: dropout with a traceable rate, batch normalisation, and hidden layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import ArrayLike

from jaxlab.checks import scalar
from jaxlab.convolution import transposed
from jaxlab.errors import InputError
from jaxlab.models import activations, initializers


class Rate(nnx.Variable):
    """A dropout rate: part of the model's state but not a parameter, so no gradient updates it."""


class Dropout(nnx.Module):
    """y = m·x / (1 − rate), with m ∈ {0, 1} drawn per element, P(m = 0) = rate; y = x in evaluation mode.

    It equals ``nnx.Dropout`` draw for draw, but the rate may be traced: it is stored in the state as a ``Rate``,
    so that trials with different rates share one program. Rate 0 is exactly the identity and rate 1 exactly
    zero, gradients included. For one key, a higher rate drops every element that a lower rate drops.

    Args:
        rate: a scalar in [0, 1).
        rngs: the ``dropout`` stream, or the default one, is forked; the counter of the fork advances per call.

    ``model.train()``, ``model.eval()`` and ``nnx.view(model, deterministic=…)`` switch its mode as in ``nnx.Dropout``.

    Raises:
        InputError: the rate is not a scalar, or is concrete and outside [0, 1).

    Source: Srivastava et al. 2014.
    """

    def __init__(self, rate: ArrayLike, *, rngs: nnx.Rngs):
        scalar("dropout_rate", rate, 0, below=1)
        self.rate = Rate(jnp.asarray(rate, jnp.float32))
        self.deterministic = False
        self.rngs = rngs["dropout"].fork()

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.deterministic:
            return x
        keep = 1 - self.rate[...]
        kept = jax.random.bernoulli(self.rngs(), keep, x.shape)
        # At rate 1 nothing is kept, but x / 0 would still give a NaN gradient.
        divisor = jnp.where(keep > 0, keep, 1).astype(x.dtype)
        return jnp.where(kept, x / divisor, jnp.zeros_like(x))

    def set_view(self, deterministic: bool | None = None) -> None:
        """Set the mode; called by ``nnx.view``.

        Args:
          deterministic: if True, the layer is the identity.
        """
        if deterministic is not None:
            self.deterministic = deterministic


@dataclass(frozen=True)
class LayerOptions:
    """Options that all trainable layers of a network share, checked and resolved."""

    activation: Callable[..., Any]
    kernel_init: initializers.Initializer
    bias_init: Callable[[int], initializers.Initializer]
    batch_norm: bool
    dtype: jnp.dtype

    @property
    def param_dtype(self) -> jnp.dtype:
        """Dtype of parameters and statistics: float32 if the computation is narrower."""
        return jnp.promote_types(self.dtype, jnp.float32)


def layer_options(
    activation: Any, kernel_init: Any, bias_init: Any, init_scale: ArrayLike, batch_norm: bool, dtype: Any
) -> LayerOptions:
    """Check and resolve the options that layers share; see ``CNN`` for the arguments."""
    return LayerOptions(
        activations.resolve(activation),
        initializers.kernel_initializer(kernel_init, init_scale),
        initializers.bias_initializer(bias_init),
        batch_norm,
        _float_dtype(dtype),
    )


def _float_dtype(given: Any) -> jnp.dtype:
    """A floating-point dtype; None is JAX's default one (float32, or float64 where x64 is enabled)."""
    try:
        dtype = jnp.dtype(jnp.result_type(float) if given is None else given)
    except TypeError:
        dtype = None
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        raise InputError("dtype", given, "give a floating-point dtype, e.g. 'float32' or 'bfloat16'")
    return dtype


def build_layer(
    shared: LayerOptions, kind: type, *sizes: Any, fan_in: int, rngs: nnx.Rngs, **options: Any
) -> Any:
    """Build ``kind(*sizes, …)``, an ``nnx.Linear`` or ``nnx.Conv``, with the shared initializers and dtypes."""
    return kind(
        *sizes,
        kernel_init=shared.kernel_init,
        bias_init=shared.bias_init(fan_in),
        dtype=shared.dtype,
        param_dtype=shared.param_dtype,
        rngs=rngs,
        **options,
    )


def layer_rngs(key: jax.Array, layer: int) -> nnx.Rngs:
    """PRNG streams of one layer, by its index, so that initial weights do not depend on the draws of other layers."""
    return nnx.Rngs(params=jax.random.fold_in(key, layer))


class BatchNorm(nnx.BatchNorm):
    """y = γ·(x − μ) / √(σ² + ε) + β per feature, accurate even if |μ| is much larger than σ.

    In training μ is the batch's mean over all axes but the last, and σ² the mean of (x − μ)². ``nnx.BatchNorm``
    computes E[x²] − μ², which loses all digits if μ² is much larger than σ². Here the mean is subtracted from x, and
    then the mean of the remainder, so that the rounding error of the mean does not affect y.

    In evaluation μ and σ² are running statistics. After each batch a statistic s becomes s + (1 − momentum)·(b − s),
    where b is the batch's statistic and momentum 0.99. The running mean is ``mean + mean_rest``: a single float32
    would lose every step below half its last digit, and stay up to 50 such digits away.

    Args:
        features: size of the last axis.
        dtype: dtype of y; the computation is in ``param_dtype``.
        param_dtype: dtype of γ, β and the statistics, float32 or wider.
        rngs: as in ``nnx.BatchNorm``.

    ε = 1e-5. ``model.train()``, ``model.eval()`` and ``nnx.view(model, use_running_average=…)`` switch it.

    Source: Ioffe & Szegedy 2015.
    """

    def __init__(self, features: int, *, dtype: Any, param_dtype: Any, rngs: nnx.Rngs):
        super().__init__(features, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        # Flax always creates float32 statistics, which cannot hold float64 values.
        self.mean = nnx.BatchStat(self.mean[...].astype(param_dtype))
        self.mean_rest = nnx.BatchStat(jnp.zeros_like(self.mean[...]))
        self.var = nnx.BatchStat(self.var[...].astype(param_dtype))

    def __call__(self, x: jax.Array) -> jax.Array:
        x, axes = x.astype(self.param_dtype), tuple(range(x.ndim - 1))

        def wide(feature: jax.Array) -> jax.Array:
            return jnp.expand_dims(feature, axes)

        if self.use_running_average:
            centred, var = (x - wide(self.mean[...])) - wide(self.mean_rest[...]), self.var[...]
        else:
            # y does not depend on the first subtrahend, so no gradient flows through it.
            mean = lax.stop_gradient(jnp.mean(x, axes))
            rest = jnp.mean(x - wide(mean), axes)
            centred = (x - wide(mean)) - wide(rest)
            var = jnp.mean(jnp.square(centred), axes)
            self._update_statistics(*map(lax.stop_gradient, (mean, rest, var)))
        y = centred * wide(lax.rsqrt(var + self.epsilon) * self.scale[...]) + wide(self.bias[...])
        return y.astype(self.dtype)

    def _update_statistics(self, mean: jax.Array, rest: jax.Array, var: jax.Array) -> None:
        """Move the running statistics towards those of a batch."""
        share, before = 1 - self.momentum, self.mean[...]
        step = self.mean_rest[...] + share * ((mean - before) + (rest - self.mean_rest[...]))
        self.mean[...] = before + step
        self.mean_rest[...] = step - (self.mean[...] - before)
        self.var[...] += share * (var - self.var[...])


class Block(nnx.Module):
    """A hidden layer: one trainable layer, optional batch normalisation, and the activation.

    Maps x_Bx… to the post-activations of the layer.
    """

    def __init__(self, layer: nnx.Module, features: int, shared: LayerOptions, *, rngs: nnx.Rngs):
        self.layer = layer
        dtypes = {"dtype": shared.dtype, "param_dtype": shared.param_dtype}
        self.norm = BatchNorm(features, **dtypes, rngs=rngs) if shared.batch_norm else None
        self.activation = shared.activation

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.activate(self.layer(x))

    def activate(self, x: jax.Array) -> jax.Array:
        """Normalise and activate the outputs [B, ..., features] of the trainable layer."""
        if self.norm is not None:
            x = self.norm(x)
        return self.activation(x)

    def activate_examples_last(self, x: jax.Array) -> jax.Array:
        """`activate` for outputs [features, ..., B]."""
        if self.norm is None and activations.is_elementwise(self.activation):
            return self.activation(x)
        return transposed(self.activate(transposed(x)))
