"""PyTorch's model ensembling: ``functional_call`` under ``vmap(grad)``."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxlab.benchmark.contenders import torch_network as net
from jaxlab.benchmark.contenders.protocol import Prepared
from jaxlab.benchmark.problem import Problem


def torch_ensemble(problem: Problem, steps: int) -> Prepared:
    """All trials side by side, eager, in a Python loop over steps."""
    import torch
    from torch.func import functional_call, grad_and_value, vmap
    from torch.nn.functional import cross_entropy

    net.forget_peak()
    module, weights, order = net.network(problem.cell), net.parameters(problem), net.order(problem)
    inputs, labels = net.split(problem)
    scale = problem.data.scale
    names = [name for name, _ in module.named_parameters()]
    squares = [torch.zeros_like(each) for each in weights]
    rates = torch.tensor(-problem.learning_rates, device=net.torch_device())
    minus_eta = [rates.view(-1, *(1,) * (each.ndim - 1)) for each in weights]
    done = 0

    def loss_of(named: dict[str, Any], images: Any, targets: Any) -> Any:
        return cross_entropy(functional_call(module, named, (images,)), targets)

    gradient_of = vmap(grad_and_value(loss_of), in_dims=(0, None, None))

    def step(index_B: Any) -> Any:
        images = inputs[index_B].float() * scale
        gradients, losses = gradient_of(dict(zip(names, weights, strict=True)), images, labels[index_B])
        net.update(weights, [gradients[name] for name in names], squares, minus_eta)
        return losses

    def run(calls: int) -> np.ndarray:
        nonlocal done
        numbers = range(done, done + calls * steps)
        losses = torch.stack([step(order[number % len(order)]) for number in numbers], dim=1)
        done += calls * steps
        return losses.cpu().numpy()

    return Prepared(run, problem.trials, steps, None, net.peak_bytes())
