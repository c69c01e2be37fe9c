"""The parts of a network: dropout whose rate may be traced, and the block around every hidden layer."""

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
    """A dropout rate: part of the model's state, but no parameter, so no gradient moves it."""


class Dropout(nnx.Module):
    """y = m·x / (1 − rate), with m ∈ {0, 1} drawn per element, P(m = 0) = rate; y = x in evaluation mode.

    It equals ``nnx.Dropout`` draw for draw, but the rate may be traced: it lives in the state as a ``Rate``,
    so that trials with different rates share one program. Rate 0 is exactly the identity, rate 1 exactly
    zero, gradients included. For one key, what a lower rate drops a higher one drops too.

    Args:
        rate: a scalar in [0, 1).
        rngs: its ``dropout`` stream (or the default one) is forked; the fork's counter advances per call.

    ``model.train()``, ``model.eval()`` and ``nnx.view(model, deterministic=…)`` switch it like Flax' own.

    Raises:
        InputError: for a rate that is known while building and outside [0, 1), or that is not a scalar.

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
        # At rate 1 nothing is kept, yet x / 0 would still reach the gradient as NaN.
        divisor = jnp.where(keep > 0, keep, 1).astype(x.dtype)
        return jnp.where(kept, x / divisor, jnp.zeros_like(x))

    def set_view(self, deterministic: bool | None = None) -> None:
        """What ``nnx.view`` calls.

        Args:
          deterministic: if True, the layer is the identity.
        """
        if deterministic is not None:
            self.deterministic = deterministic


@dataclass(frozen=True)
class Recipe:
    """What all trainable layers of a network share, checked and resolved."""

    activation: Callable[..., Any]
    kernel_init: initializers.Initializer
    bias_init: Callable[[int], initializers.Initializer]
    batch_norm: bool
    dtype: jnp.dtype

    @property
    def param_dtype(self) -> jnp.dtype:
        """Parameters and statistics stay in float32 where the computation is narrower."""
        return jnp.promote_types(self.dtype, jnp.float32)


def recipe(
    activation: Any, kernel_init: Any, bias_init: Any, init_scale: ArrayLike, batch_norm: bool, dtype: Any
) -> Recipe:
    """A ``Recipe`` from what a person wrote; the arguments are those of ``CNN``."""
    return Recipe(
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


def trainable(recipe: Recipe, kind: type, *sizes: Any, fan_in: int, rngs: nnx.Rngs, **options: Any) -> Any:
    """``kind(*sizes, …)``, an ``nnx.Linear`` or ``nnx.Conv`` with the recipe's initializers and dtypes."""
    return kind(
        *sizes,
        kernel_init=recipe.kernel_init,
        bias_init=recipe.bias_init(fan_in),
        dtype=recipe.dtype,
        param_dtype=recipe.param_dtype,
        rngs=rngs,
        **options,
    )


def layer_rngs(key: jax.Array, layer: int) -> nnx.Rngs:
    """The streams of one layer, by its index, so that its initial weights do not hang on what others draw."""
    return nnx.Rngs(params=jax.random.fold_in(key, layer))


class BatchNorm(nnx.BatchNorm):
    """y = γ·(x − μ) / √(σ² + ε) + β per feature, exact to the rounding of x where the mean dwarfs the spread.

    In training μ is the batch's mean over all axes but the last, and σ² the mean of (x − μ)². ``nnx.BatchNorm``
    computes E[x²] − μ², which loses all digits where μ² is large against σ². Here a first mean is subtracted from x,
    then the mean of what remains, so that the rounding of a mean does not reach y.

    In evaluation μ and σ² are running statistics. After each batch a statistic s becomes s + (1 − momentum)·(b − s),
    b the batch's, momentum 0.99. The running mean is ``mean + mean_rest``: a float32 alone would lose each step below
    half its last digit, and stay up to 50 such digits away.

    Args:
        features: size of the last axis.
        dtype: of y; the computation is in ``param_dtype``.
        param_dtype: of γ, β and the statistics, float32 or wider.
        rngs: as in ``nnx.BatchNorm``.

    ε = 1e-5. ``model.train()``, ``model.eval()`` and ``nnx.view(model, use_running_average=…)`` switch it.

    Source: Ioffe & Szegedy 2015.
    """

    def __init__(self, features: int, *, dtype: Any, param_dtype: Any, rngs: nnx.Rngs):
        super().__init__(features, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        # Flax keeps the statistics in float32 whatever the dtype, and cannot store float64 ones there.
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
            # y does not depend on what is subtracted first, so no gradient flows through it.
            mean = lax.stop_gradient(jnp.mean(x, axes))
            rest = jnp.mean(x - wide(mean), axes)
            centred = (x - wide(mean)) - wide(rest)
            var = jnp.mean(jnp.square(centred), axes)
            self._follow(*map(lax.stop_gradient, (mean, rest, var)))
        y = centred * wide(lax.rsqrt(var + self.epsilon) * self.scale[...]) + wide(self.bias[...])
        return y.astype(self.dtype)

    def _follow(self, mean: jax.Array, rest: jax.Array, var: jax.Array) -> None:
        """Move the running statistics towards a batch's."""
        share, before = 1 - self.momentum, self.mean[...]
        step = self.mean_rest[...] + share * ((mean - before) + (rest - self.mean_rest[...]))
        self.mean[...] = before + step
        self.mean_rest[...] = step - (self.mean[...] - before)
        self.var[...] += share * (var - self.var[...])


class Block(nnx.Module):
    """One trainable layer, its batch normalisation if any, then the activation: what every hidden layer is.

    Maps x_Bx… to the layer's post-activation array.
    """

    def __init__(self, layer: nnx.Module, features: int, recipe: Recipe, *, rngs: nnx.Rngs):
        self.layer = layer
        dtypes = {"dtype": recipe.dtype, "param_dtype": recipe.param_dtype}
        self.norm = BatchNorm(features, **dtypes, rngs=rngs) if recipe.batch_norm else None
        self.activation = recipe.activation

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.activate(self.layer(x))

    def activate(self, x: jax.Array) -> jax.Array:
        """What follows the trainable layer: from its outputs, [B, ..., features], to post-activations."""
        if self.norm is not None:
            x = self.norm(x)
        return self.activation(x)

    def activate_examples_last(self, x: jax.Array) -> jax.Array:
        """The same of [features, ..., B]."""
        if self.norm is None and activations.is_elementwise(self.activation):
            return self.activation(x)
        return transposed(self.activate(transposed(x)))
