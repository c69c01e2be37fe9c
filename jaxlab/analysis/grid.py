"""A grid back into its axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr

from jaxlab.analysis.settings import used_values, varied
from jaxlab.errors import InputError


def unstack(results: xr.Dataset) -> xr.Dataset:
    """The results with one dimension for each axis of the grid, in place of ``trial``.

    >>> unstack(results).validation_accuracy.sel(learning_rate=0.01, l2=0.0, method="nearest").mean("seed")

    Axes are the hyperparameters and configuration fields that vary, and the seed if it does; what does not vary
    becomes a scalar coordinate. ``trial_id`` has all axes. A trial that does not use a name (NaN, or an empty text)
    stands at each of that name's values, as in the grid that was asked for.

    Raises:
        InputError: the settings are no full grid (random, zipped, or joined spaces).
    """
    several_seeds = "seed" in results.coords and len(set(results.seed.values.tolist())) > 1
    names = [*varied(results), *(["seed"] if several_seeds else [])]
    results = _spread(results, names)
    constant = {
        str(name): next(iter(used_values(values)), values.values[0])
        for name, values in results.coords.items()
        if values.dims == ("trial",) and name not in (*names, "trial", "trial_id")
    }
    plain = results.drop_vars(["trial", *constant], errors="ignore")
    if not names:
        return plain.isel(trial=0).assign_coords(constant)
    sizes = {name: len(set(results[name].values.tolist())) for name in names}
    settings = set(zip(*(results[name].values.tolist() for name in names), strict=True))
    if math.prod(sizes.values()) != results.sizes["trial"] or len(settings) != results.sizes["trial"]:
        shown = " x ".join(f"{size} {name}" for name, size in sizes.items())
        raise InputError(
            "results", f"{results.sizes['trial']} trials", f"no full grid of {shown}: cannot be unstacked"
        )
    return plain.set_index(trial=names).unstack("trial").assign_coords(constant)


def _spread(results: xr.Dataset, names: Sequence[str]) -> xr.Dataset:
    """Each trial that does not use a name once for each of that name's values."""
    for name in names:
        column = results[name].values
        unused = np.array([value != value or value == "" for value in column.tolist()])
        if unused.any():
            values = list(dict.fromkeys(used_values(results[name])))
            index = np.concatenate([np.flatnonzero(~unused), np.repeat(np.flatnonzero(unused), len(values))])
            filled = np.concatenate([column[~unused], np.tile(np.array(values, column.dtype), unused.sum())])
            results = results.isel(trial=index).assign_coords({name: ("trial", filled)})
    return results
