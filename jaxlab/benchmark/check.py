"""Nothing is timed that does not train the same."""

from __future__ import annotations

import jax
import numpy as np

from jaxlab.benchmark.problem import CHECKED_STEPS

#: Of the loss at every one of the first steps. Rounding alone makes about 1e-6 in them, ε outside the root 1e-2.
TOLERANCE = 2e-4
#: Where the device rounds the factors of its products to 10 bits or fewer, correct programs drift apart by far more.
LOOSE = 0.1


def tolerance() -> float:
    """`TOLERANCE` where float32 arrays are multiplied in float32, `LOOSE` at an accelerator's own precision."""
    exact = jax.default_backend() == "cpu" or jax.config.jax_default_matmul_precision in (
        "float32",
        "highest",
    )
    return TOLERANCE if exact else LOOSE


def disagreement(losses: np.ndarray, reference: np.ndarray) -> str:
    """Where the losses [trials, steps] leave the reference's first trials and steps; nothing if they agree."""
    steps = min(CHECKED_STEPS, losses.shape[1], reference.shape[1])
    if steps < CHECKED_STEPS or len(losses) > len(reference):
        return f"only {losses.shape} losses to compare with {reference.shape}"
    found, expected = losses[:, :steps], reference[: len(losses), :steps]
    wrong = np.argwhere(~np.isclose(found, expected, rtol=tolerance(), atol=0))
    if not len(wrong):
        return ""
    trial, step = (int(i) for i in wrong[0])
    return (
        f"other losses: {found[trial, step]:.6g} instead of {expected[trial, step]:.6g} in trial {trial}, "
        f"step {step + 1}"
    )
