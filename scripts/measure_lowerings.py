"""Which lowering of a convolution is fastest, by shape and number of trials?

    python scripts/measure_lowerings.py

For each shape, times one layer between two ReLUs on one device: the forward pass and both gradients (a first layer
needs none for its inputs), in a loop, mapped over the kernels of T trials with shared inputs. Prints a Markdown table
of microseconds per step, medians over interleaved rounds. It takes three minutes on one CPU core (taskset -c 0).
docs/convolution.md holds the table of such a core and the rules drawn from it.
"""

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlab.convolution import conv_general_dilated

# B, spatial, channels, features, kernel, stride, dilation, groups, trials.
SHAPES = [
    (16, (28, 28), 1, 16, 3, 1, 1, 1, 1),
    (16, (28, 28), 1, 16, 3, 1, 1, 1, 4),
    (64, (8, 8), 1, 16, 3, 1, 1, 1, 4),
    (16, (14, 14), 16, 32, 3, 1, 1, 1, 1),
    (16, (14, 14), 16, 32, 3, 1, 1, 1, 4),
    (8, (16, 16), 32, 64, 3, 1, 1, 1, 1),
    (8, (16, 16), 32, 64, 5, 1, 2, 1, 1),
    (8, (28, 28), 3, 32, 7, 2, 1, 1, 1),
    (16, (14, 14), 64, 64, 1, 1, 1, 1, 1),
    (4, (4, 4), 256, 256, 3, 1, 1, 1, 1),
    (100, (20,), 25, 25, 3, 2, 1, 1, 1),
    (100, (20,), 25, 25, 3, 2, 1, 1, 4),
    (16, (14, 14), 32, 32, 3, 1, 1, 4, 1),
    (16, (14, 14), 32, 32, 3, 1, 1, 32, 1),
    (16, (14, 14), 32, 32, 3, 1, 1, 32, 4),
    (16, (14, 14), 32, 64, 3, 1, 1, 32, 1),
]
ROUNDS, SECONDS = 5, 0.1


def program(shape, lowering):
    """A compiled loop of steps, each of which changes the kernels, and these kernels."""
    batch, spatial, channels, features, kernel, stride, dilation, groups, trials = shape
    axes = len(spatial)
    numbers = (("NWC", "WIO", "NWC"), ("NHWC", "HWIO", "NHWC"))[axes - 1]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, *spatial, channels)).astype(np.float32)
    kernels = rng.normal(size=(trials, *(kernel,) * axes, channels // groups, features)).astype(np.float32)

    def loss(x, k):
        y = conv_general_dilated(
            jax.nn.relu(x),
            k,
            (stride,) * axes,
            "SAME",
            rhs_dilation=(dilation,) * axes,
            dimension_numbers=numbers,
            feature_group_count=groups,
            lowering=lowering,
        )
        return jnp.sum(jax.nn.relu(y))

    def step(carry, _):
        k, shift = carry
        if channels > 4:
            of_x, of_k = jax.grad(loss, (0, 1))(x + shift, k)
            shift = 1e-9 * of_x.reshape(-1, channels)[0]
        else:
            of_k = jax.grad(loss, 1)(x + shift, k)
        return (k - 1e-9 * of_k, shift), None

    def train(k, steps):
        return lax.fori_loop(0, steps, lambda _, carry: step(carry, None)[0], (k, jnp.zeros(channels)))[0]

    return jax.jit(jax.vmap(train, in_axes=(0, None))).lower(kernels, 1).compile(), kernels


def seconds(run, kernels, steps):
    """Seconds of one step, in a call of ``steps`` steps."""
    began = time.perf_counter()
    jax.block_until_ready(run(kernels, steps))
    return (time.perf_counter() - began) / steps


def measure(shape):
    """Median seconds of a step, by lowering that the shape allows."""
    depthwise = shape[2] == shape[3] == shape[7] > 1
    programs = {
        name: program(shape, name) for name in ("product", "sum", "native") if name != "sum" or depthwise
    }
    steps = {name: max(1, round(SECONDS / seconds(*p, 1))) for name, p in programs.items()}
    rounds = [{name: seconds(*p, steps[name]) for name, p in programs.items()} for _ in range(ROUNDS)]
    return {name: float(np.median([each[name] for each in rounds])) for name in programs}


def main():
    print("| input | features | kernel | stride | dilation | groups | trials | product | sum | native |")
    print("| --- |" + " --: |" * 9)
    for shape in SHAPES:
        batch, spatial, channels, features, kernel, stride, dilation, groups, trials = shape
        found = measure(shape)
        times = [
            f"{1e6 * found[name]:,.0f}" if name in found else "" for name in ("product", "sum", "native")
        ]
        size = "×".join(map(str, (*spatial, channels)))
        cells = [f"{batch} of {size}", features, kernel, stride, dilation, groups, trials, *times]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
