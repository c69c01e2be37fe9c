"""Nothing is timed that does not train the same."""

from __future__ import annotations

import numpy as np

from jaxlab.benchmark.problem import CHECKED_STEPS

#: Of the loss at every one of the first steps. Rounding alone makes about 1e-6 in them, ε outside the root 1e-2.
TOLERANCE = 2e-4


def disagreement(losses: np.ndarray, reference: np.ndarray) -> str:
    """Where the losses [trials, steps] leave the reference's first trials and steps; nothing if they agree."""
    steps = min(CHECKED_STEPS, losses.shape[1], reference.shape[1])
    if steps < CHECKED_STEPS or len(losses) > len(reference):
        return f"only {losses.shape} losses to compare with {reference.shape}"
    found, expected = losses[:, :steps], reference[: len(losses), :steps]
    wrong = np.argwhere(~np.isclose(found, expected, rtol=TOLERANCE, atol=0))
    if not len(wrong):
        return ""
    trial, step = (int(i) for i in wrong[0])
    return (
        f"other losses: {found[trial, step]:.6g} instead of {expected[trial, step]:.6g} in trial {trial}, "
        f"step {step + 1}"
    )
