"""A small real data set and a small study for tests that train."""

import contextlib
import os

import jax
import numpy as np
import pytest
from flax import nnx

from jaxlab import Study, datasets, space
from jaxlab.engine import clear_programs


def digits(train=150, other=70):
    """The first of the real digits: quick, and with a remainder batch everywhere."""
    data = datasets.load("digits")
    cut = {"train": train, "validation": other, "test": other}
    return datasets.from_arrays(
        **{
            name: (getattr(data, name).inputs[:size], getattr(data, name).targets[:size])
            for name, size in cut.items()
        },
        classes=10,
    )


def study(space_, epochs=2, data=None, **configuration):
    """A study of a tiny CNN."""
    own = {} if callable(configuration.get("model")) else {"features": [4]}
    static = own | {"batch_size": 32, "evaluation_batch_size": 64} | configuration
    return Study(data or digits(), space_, epochs=epochs, configuration=static)


@contextlib.contextmanager
def optimised():
    """Let XLA optimise the programs of trials as it does for users; by default the tests' programs compile fast."""
    compile_, users = jax.stages.Lowered.compile, {"xla_backend_optimization_level": 3}
    if "fusion_emitters" in os.environ["XLA_FLAGS"]:
        users["xla_cpu_use_fusion_emitters"] = True

    def optimising(lowered, compiler_options=None, **more):
        return compile_(lowered, users | dict(compiler_options or {}), **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax.stages.Lowered, "compile", optimising)
        clear_programs()
        yield
    clear_programs()


class Plain(nnx.Module):
    """A user's own network: outputs alone, a layer with dropout, nothing of jaxlab's."""

    def __init__(self, rngs):
        self.first = nnx.Linear(64, 12, rngs=rngs)
        self.norm = nnx.BatchNorm(12, rngs=rngs)
        self.drop = nnx.Dropout(0.2, rngs=rngs)
        self.last = nnx.Linear(12, 10, rngs=rngs)

    def __call__(self, x):
        x = x.reshape(x.shape[0], -1)
        return self.last(self.drop(jax.nn.relu(self.norm(self.first(x)))))


def plain_model(configuration, hyperparameters, rngs):
    return Plain(rngs)


def rows(results, **where):
    """Index of the only trial at some coordinates."""
    found = np.ones(results.sizes["trial"], bool)
    for name, value in where.items():
        found &= (
            np.isclose(results[name].values, value) if not isinstance(value, str) else results[name] == value
        )
    (index,) = np.flatnonzero(found)
    return index


grid = space.grid
