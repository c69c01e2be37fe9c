"""Results of a grid search with one dimension for each axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr

from jaxlab.analysis.averages import used_values, values_of, varied
from jaxlab.errors import InputError


def unstack(results: xr.Dataset) -> xr.Dataset:
    """Replace the dimension ``trial`` by one dimension for each axis of the grid.

    >>> unstack(results).validation_accuracy.sel(learning_rate=0.01, l2=0.0, method="nearest").mean("seed")

    The axes are the hyperparameters and configuration fields that vary, and the seed if it varies. Those that do not
    vary become scalar coordinates. ``trial_id`` has all axes. A trial that does not use a name (NaN, or an empty
    string) is repeated at each value of that name, as in the grid that was declared.

    Raises:
        InputError: the settings are not a full grid, as those of random, zipped or concatenated spaces.
    """
    several_seeds = "seed" in results.coords and len(set(values_of(results.seed))) > 1
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
    sizes = {name: len(set(values_of(results[name]))) for name in names}
    settings = set(zip(*(values_of(results[name]) for name in names), strict=True))
    if math.prod(sizes.values()) != results.sizes["trial"] or len(settings) != results.sizes["trial"]:
        axes = " x ".join(f"{size} {name}" for name, size in sizes.items())
        remedy = f"are not a full grid of {axes}: cannot be unstacked"
        raise InputError("results", f"{results.sizes['trial']} trials", remedy)
    return plain.set_index(trial=names).unstack("trial").assign_coords(constant)


def _spread(results: xr.Dataset, names: Sequence[str]) -> xr.Dataset:
    """Repeat each trial that does not use a name, once for each value of that name."""
    for name in names:
        column = results[name].values
        unused = np.array([value != value or value == "" for value in column.tolist()])
        if unused.any():
            values = list(dict.fromkeys(used_values(results[name])))
            index = np.concatenate([np.flatnonzero(~unused), np.repeat(np.flatnonzero(unused), len(values))])
            filled = np.concatenate([column[~unused], np.tile(np.array(values, column.dtype), unused.sum())])
            results = results.isel(trial=index).assign_coords({name: ("trial", filled)})
    return results
