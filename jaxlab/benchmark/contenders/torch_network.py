"""The same network, weights and data in PyTorch; the one place that knows whether it is installed."""

from __future__ import annotations

import importlib.util
from typing import Any

import jax
import numpy as np

from jaxlab.benchmark.cells import CLASSES, Cell
from jaxlab.benchmark.flops import layers_of
from jaxlab.benchmark.problem import Problem

DECAY, EPS = 0.9, 1e-8


def missing() -> str:
    """Why PyTorch's rows are absent."""
    return "" if importlib.util.find_spec("torch") else "PyTorch is not installed"


def torch_device() -> Any:
    """The device of JAX's kind; a GPU only if PyTorch sees one as well."""
    import torch

    gpu = jax.default_backend() != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if gpu else "cpu")


def peak_bytes() -> int | None:
    """Most bytes that PyTorch held on a GPU so far; its CPU allocator keeps no such count."""
    import torch

    return torch.cuda.max_memory_allocated() if torch_device().type == "cuda" else None


def forget_peak() -> None:
    """Start that count anew."""
    import torch

    if torch_device().type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def network(cell: Cell) -> Any:
    """``Conv``, ReLU and max pooling, one ``Linear`` at the end; channels first."""
    from torch import nn

    convolution = nn.Conv1d if cell.axes == 1 else nn.Conv2d
    pool = nn.MaxPool1d if cell.axes == 1 else nn.MaxPool2d
    padding = "same" if cell.padding == "SAME" else cell.padding
    layers: list[Any] = []
    channels = cell.input_shape[-1]
    for features, kernel in zip(cell.features, cell.kernel_sizes, strict=True):
        layers += [convolution(channels, features, kernel, stride=cell.stride, padding=padding), nn.ReLU()]
        layers += [pool(cell.pool)] if cell.pool > 1 else []
        channels = features
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(layers_of(cell)[-1].fan_in, CLASSES)).to(
        torch_device()
    )


def parameters(problem: Problem) -> list[Any]:
    """Initial weights [N, ...], in the order of ``network(cell).parameters()``."""
    import torch

    *convolutions, (dense, bias) = problem.weights
    arrays = []
    for kernel, conv_bias in convolutions:
        arrays += [np.moveaxis(kernel, (-1, -2), (1, 2)), conv_bias]
    # The dense layer's inputs are (*spatial, C) in JAX and (C, *spatial) here.
    channels = problem.cell.features[-1]
    trials, inputs, outputs = dense.shape
    by_channel = dense.reshape(trials, inputs // channels, channels, outputs).swapaxes(1, 2)
    arrays += [by_channel.reshape(trials, inputs, outputs).swapaxes(1, 2), bias]
    return [torch.tensor(np.ascontiguousarray(array), device=torch_device()) for array in arrays]


def split(problem: Problem) -> tuple[Any, Any]:
    """Inputs as uint8, channels first, and labels."""
    import torch

    inputs = np.ascontiguousarray(np.moveaxis(problem.data.train.inputs, -1, 1))
    labels = problem.data.train.targets.astype(np.int64)
    return torch.tensor(inputs, device=torch_device()), torch.tensor(labels, device=torch_device())


def order(problem: Problem) -> list[Any]:
    """The examples of each step."""
    import torch

    return [torch.tensor(index_B, dtype=torch.int64, device=torch_device()) for index_B in problem.order]


def update(weights: list[Any], gradients: list[Any], squares: list[Any], steps: list[Any]) -> None:
    """RMSProp with ε inside the root, in place; ``torch.optim.RMSprop`` has it outside.

    ``steps`` holds −η for each of the weights, as a tensor that broadcasts against it.
    """
    import torch

    torch._foreach_mul_(squares, DECAY)
    torch._foreach_addcmul_(squares, gradients, gradients, 1 - DECAY)
    roots = torch._foreach_add(squares, EPS)
    torch._foreach_sqrt_(roots)
    updates = torch._foreach_div(gradients, roots)
    torch._foreach_mul_(updates, steps)
    torch._foreach_add_(weights, updates)
