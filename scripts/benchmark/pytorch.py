"""Contenders in PyTorch: one trial after the other, and all trials side by side under ``torch.func``."""

from __future__ import annotations

import importlib.util
from typing import Any

import jax
import numpy as np

from benchmark.cells import CLASSES, Cell, layers_of
from benchmark.problem import Prepared, Problem, in_calls

DECAY, EPS = 0.9, 1e-8


def missing() -> str:
    """Why PyTorch cannot run here; empty if it can."""
    return "" if importlib.util.find_spec("torch") else "PyTorch is not installed"


def loop(problem: Problem, steps: int) -> Prepared:
    """An eager Python loop over trials and steps, with an optimizer that updates all tensors at once."""
    import torch
    from torch.func import functional_call
    from torch.nn.functional import cross_entropy

    setup = _Setup(problem)
    weights = [[each[i].clone().requires_grad_() for each in setup.weights] for i in range(problem.trials)]
    squares = [[torch.zeros_like(each) for each in one] for one in weights]
    minus_eta = [
        [torch.tensor(-float(rate), device=_device())] * len(setup.names) for rate in problem.learning_rates
    ]

    def step(trial: int, number: int) -> Any:
        images, labels = setup.batch(number)
        own = weights[trial]
        loss = cross_entropy(functional_call(setup.module, setup.named(own), (images,)), labels)
        gradients = torch.autograd.grad(loss, own)
        with torch.no_grad():
            update(own, list(gradients), squares[trial], minus_eta[trial])
        return loss.detach()

    def call(number: int) -> Any:
        numbers = range(number * steps, (number + 1) * steps)
        return torch.stack([torch.stack([step(i, n) for n in numbers]) for i in range(problem.trials)])

    return Prepared(in_calls(call, _fetched), problem.trials, steps, None, _peak_bytes())


def ensemble(problem: Problem, steps: int) -> Prepared:
    """PyTorch's model ensembling: all trials under ``vmap(grad)``, in an eager Python loop over steps."""
    import torch
    from torch.func import functional_call, grad_and_value, vmap
    from torch.nn.functional import cross_entropy

    setup = _Setup(problem)
    weights, names = setup.weights, setup.names
    squares = [torch.zeros_like(each) for each in weights]
    rates = torch.tensor(-problem.learning_rates, device=_device())
    minus_eta = [rates.view(-1, *(1,) * (each.ndim - 1)) for each in weights]

    def loss_of(named: dict[str, Any], images: Any, labels: Any) -> Any:
        return cross_entropy(functional_call(setup.module, named, (images,)), labels)

    gradient_of = vmap(grad_and_value(loss_of), in_dims=(0, None, None))

    def step(number: int) -> Any:
        gradients, losses = gradient_of(setup.named(weights), *setup.batch(number))
        update(weights, [gradients[name] for name in names], squares, minus_eta)
        return losses

    def call(number: int) -> Any:
        return torch.stack([step(n) for n in range(number * steps, (number + 1) * steps)], dim=1)

    return Prepared(in_calls(call, _fetched), problem.trials, steps, None, _peak_bytes())


def update(weights: list[Any], gradients: list[Any], squares: list[Any], steps: list[Any]) -> None:
    """Apply RMSProp in place, with ε inside the root; ``torch.optim.RMSprop`` has it outside.

    ``steps`` holds −η for each weight array, as a tensor that broadcasts against it.
    """
    import torch

    torch._foreach_mul_(squares, DECAY)
    torch._foreach_addcmul_(squares, gradients, gradients, 1 - DECAY)
    roots = torch._foreach_add(squares, EPS)
    torch._foreach_sqrt_(roots)
    updates = torch._foreach_div(gradients, roots)
    torch._foreach_mul_(updates, steps)
    torch._foreach_add_(weights, updates)


class _Setup:
    """A problem on the device, for both contenders.

    Attributes:
        module: the network; its own weights are not used.
        names: names of its parameters.
        weights: initial weights of all trials, [N, ...] for each name.
    """

    def __init__(self, problem: Problem):
        import torch

        device = _device()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self.module = _network(problem.cell).to(device)
        self.names = [name for name, _ in self.module.named_parameters()]
        self.weights = [torch.tensor(np.ascontiguousarray(each), device=device) for each in _weights(problem)]
        channels_first = np.ascontiguousarray(np.moveaxis(problem.data.train.inputs, -1, 1))
        self._inputs = torch.tensor(channels_first, device=device)
        self._labels = torch.tensor(problem.data.train.targets.astype(np.int64), device=device)
        self._scale = problem.data.scale
        self._order = [torch.tensor(each, dtype=torch.int64, device=device) for each in problem.order]

    def batch(self, number: int) -> tuple[Any, Any]:
        """Inputs and labels of a step."""
        index_B = self._order[number % len(self._order)]
        return self._inputs[index_B].float() * self._scale, self._labels[index_B]

    def named(self, weights: list[Any]) -> dict[str, Any]:
        """The weights by name."""
        return dict(zip(self.names, weights, strict=True))


def _network(cell: Cell) -> Any:
    """``Conv``, ReLU and max pooling per layer, and a final ``Linear``; channels first."""
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
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(layers_of(cell)[-1].fan_in, CLASSES))


def _weights(problem: Problem) -> list[np.ndarray]:
    """Initial weights [N, ...], in the order of ``_network(cell).parameters()``."""
    *convolutions, (dense, bias) = problem.weights
    arrays = []
    for kernel, conv_bias in convolutions:
        arrays += [np.moveaxis(kernel, (-1, -2), (1, 2)), conv_bias]
    # The dense layer's inputs are (*spatial, C) in JAX and (C, *spatial) here.
    channels = problem.cell.features[-1]
    trials, inputs, outputs = dense.shape
    by_channel = dense.reshape(trials, inputs // channels, channels, outputs).swapaxes(1, 2)
    return [*arrays, by_channel.reshape(trials, inputs, outputs).swapaxes(1, 2), bias]


def _fetched(losses: list[Any]) -> np.ndarray:
    import torch

    return torch.cat(losses, dim=1).cpu().numpy()


def _device() -> Any:
    """A GPU if JAX runs on an accelerator and PyTorch sees a GPU, else the CPU."""
    import torch

    gpu = jax.default_backend() != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if gpu else "cpu")


def _peak_bytes() -> int | None:
    """Peak bytes that PyTorch held on a GPU since the setup; None on a CPU, where it keeps no count."""
    import torch

    return torch.cuda.max_memory_allocated() if _device().type == "cuda" else None
