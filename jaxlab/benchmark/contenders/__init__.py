"""The ways to train many trials, by name."""

from __future__ import annotations

from jaxlab.benchmark.contenders.fused import fused
from jaxlab.benchmark.contenders.loops import loop, scan
from jaxlab.benchmark.contenders.mapped import map_, vmap
from jaxlab.benchmark.contenders.protocol import Contender, Prepared
from jaxlab.benchmark.contenders.torch_ensemble import torch_ensemble
from jaxlab.benchmark.contenders.torch_loop import torch_loop
from jaxlab.benchmark.contenders.torch_network import missing

# The guesses are those of two CPU cores: FLOP/s as in the tables of docs/benchmarks, seconds of compiling and checking.
CONTENDERS: dict[str, Contender] = {
    "jaxlab": Contender(
        "jaxlab: packs of trials on all devices, guarded, gradient norms on record", fused, None, 1e11, 8.0
    ),
    "loop": Contender(
        "Python loop over trials and steps around a jitted step (nnx, optax)", loop, 4, 2e10, 2.5
    ),
    "scan": Contender("Python loop over trials around a jitted `lax.scan` of steps", scan, 4, 3e9, 2.5),
    "map": Contender("`lax.map` of that scan over trials", map_, 4, 3e9, 2.5),
    "vmap": Contender("`vmap` of that scan over trials, `nnx.Conv`", vmap, None, 2e9, 3.0),
    "torch-loop": Contender(
        "PyTorch, eager, a loop over trials and steps", torch_loop, 4, 4e10, 4.0, missing
    ),
    "torch-ensemble": Contender(
        "PyTorch, eager, `torch.func`: functional_call under vmap(grad)",
        torch_ensemble,
        None,
        2e10,
        2.0,
        missing,
    ),
}

__all__ = ["CONTENDERS", "Contender", "Prepared"]
