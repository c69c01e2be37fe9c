"""Flax models that return their activations: a plain CNN, a plain MLP, and their building blocks."""

from __future__ import annotations

from jaxlab.models.activations import ACTIVATIONS, has_flat_zero
from jaxlab.models.cnn import CNN
from jaxlab.models.fast import use_fast_convolutions
from jaxlab.models.initializers import BIAS_INITIALIZERS, INITIALIZERS
from jaxlab.models.layers import BatchNorm, Block, Dropout, Rate
from jaxlab.models.mlp import MLP

#: The built-in models by name.
MODELS: dict[str, type] = {"cnn": CNN, "mlp": MLP}

__all__ = [
    "ACTIVATIONS",
    "BIAS_INITIALIZERS",
    "CNN",
    "INITIALIZERS",
    "MLP",
    "MODELS",
    "BatchNorm",
    "Block",
    "Dropout",
    "Rate",
    "has_flat_zero",
    "use_fast_convolutions",
]
