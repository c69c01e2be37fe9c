"""A grid back into its axes."""

from __future__ import annotations

import math

import xarray as xr

from jaxlab.analysis.settings import values_of, varied
from jaxlab.errors import InputError


def unstack(results: xr.Dataset) -> xr.Dataset:
    """The results with one dimension for each axis of the grid, in place of ``trial``.

    >>> unstack(results).validation_accuracy.sel(learning_rate=0.01, l2=0.0, method="nearest").mean("seed")

    Axes are the hyperparameters and configuration fields that vary, and the seed if it does; what does not vary
    becomes a scalar coordinate. ``trial_id`` has all axes.

    Raises:
        InputError: the settings are no full grid (random, zipped, or joined spaces).
    """
    several_seeds = "seed" in results.coords and len(set(values_of(results.seed))) > 1
    names = [*varied(results), *(["seed"] if several_seeds else [])]
    constant = {
        str(name): values.values[0]
        for name, values in results.coords.items()
        if values.dims == ("trial",) and name not in (*names, "trial", "trial_id")
    }
    plain = results.drop_vars(["trial", *constant], errors="ignore")
    if not names:
        return plain.isel(trial=0).assign_coords(constant)
    sizes = {name: len(set(values_of(results[name]))) for name in names}
    settings = set(zip(*(values_of(results[name]) for name in names), strict=True))
    if math.prod(sizes.values()) != results.sizes["trial"] or len(settings) != results.sizes["trial"]:
        shown = " x ".join(f"{size} {name}" for name, size in sizes.items())
        raise InputError(
            "results", f"{results.sizes['trial']} trials", f"no full grid of {shown}: cannot be unstacked"
        )
    return plain.set_index(trial=names).unstack("trial").assign_coords(constant)
