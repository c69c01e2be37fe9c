"""PyTorch, one trial after the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxlab.benchmark.contenders import torch_network as net
from jaxlab.benchmark.contenders.protocol import Prepared
from jaxlab.benchmark.problem import Problem


def torch_loop(problem: Problem, steps: int) -> Prepared:
    """A Python loop over trials and steps, eager, with the optimizer's arithmetic over all tensors at once."""
    import torch
    from torch.func import functional_call
    from torch.nn.functional import cross_entropy

    net.forget_peak()
    module, stacked, order = net.network(problem.cell), net.parameters(problem), net.order(problem)
    inputs, labels = net.split(problem)
    scale = problem.data.scale
    names = [name for name, _ in module.named_parameters()]
    trials = [_Trial(stacked, trial, float(rate)) for trial, rate in enumerate(problem.learning_rates)]
    done = 0

    def step(trial: _Trial, index_B: Any) -> Any:
        images = inputs[index_B].float() * scale
        outputs = functional_call(module, dict(zip(names, trial.weights, strict=True)), (images,))
        loss = cross_entropy(outputs, labels[index_B])
        gradients = torch.autograd.grad(loss, trial.weights)
        with torch.no_grad():
            net.update(trial.weights, list(gradients), trial.squares, trial.steps)
        return loss.detach()

    def run(calls: int) -> np.ndarray:
        nonlocal done
        losses = []
        for trial in trials:
            numbers = range(done, done + calls * steps)
            losses.append(torch.stack([step(trial, order[number % len(order)]) for number in numbers]))
        done += calls * steps
        return torch.stack(losses).cpu().numpy()

    return Prepared(run, problem.trials, steps, None, net.peak_bytes())


class _Trial:
    """Weights, mean squares and −η of one trial."""

    def __init__(self, stacked: list[Any], trial: int, rate: float):
        import torch

        self.weights = [each[trial].clone().requires_grad_() for each in stacked]
        self.squares = [torch.zeros_like(each) for each in self.weights]
        self.steps = [torch.tensor(-rate, device=each.device) for each in self.weights]
