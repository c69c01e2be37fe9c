"""What a trial came to: outcome, best epoch, instability and overfitting, from its recorded curves."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
import xarray as xr

from jaxlab.diagnostics import best_epoch, final, gap, oscillation, rise, unstable


def with_verdicts(recorded: xr.Dataset) -> xr.Dataset:
    """Add one value per trial for each verdict that the recorded variables allow."""
    results = recorded
    if "first_bad_step" in recorded:
        results = _outcomes(results)
    if {"train_loss", "validation_loss", "first_bad_step"} <= set(recorded):
        results = _stability(results)
        results = _overfitting(results)
    return results


def validation_metric(results: xr.Dataset) -> str:
    """Name of the metric that settings are compared by, without its prefix: the first one, or else the loss."""
    names = [
        name
        for name in results.data_vars
        if name.startswith("validation_") and "better" in results[name].attrs
    ]
    return names[0].removeprefix("validation_") if names else "loss"


def _outcomes(results: xr.Dataset) -> xr.Dataset:
    bad = results.first_bad_step
    step = bad.max("epoch").astype(np.int32).assign_attrs(bad.attrs)
    good = (bad < 0).values
    reached = _reached(results)
    ran = np.where(good.all(axis=1), reached, good.argmin(axis=1))
    whole = ran == results.sizes["epoch"] - 1
    outcome = np.where(step >= 0, "diverged", np.where(whole, "completed", "unfinished"))
    reason = [f"not finite after step {int(at)}" if at >= 0 else "" for at in step.values]
    return results.assign(
        first_bad_step=step,
        outcome=("trial", outcome.astype(object), {"long_name": "how the trial ended", "units": "1"}),
        reason=("trial", np.array(reason, dtype=object), {"long_name": "why it ended early", "units": "1"}),
        epochs_run=("trial", ran.astype(np.int32), {"long_name": "epochs run", "units": "epoch"}),
    )


def _reached(results: xr.Dataset) -> np.ndarray:
    """Last epoch of which anything was recorded; −1 where nothing was."""
    curves = [variable for variable in results.data_vars.values() if variable.dims[:2] == ("trial", "epoch")]
    known = np.zeros((results.sizes["trial"], results.sizes["epoch"]), bool)
    for curve in curves:
        if np.issubdtype(curve.dtype, np.floating):
            rest = tuple(range(2, curve.ndim))
            known |= ~np.isnan(curve.values).all(axis=rest) if rest else ~np.isnan(curve.values)
    last = results.sizes["epoch"] - 1 - known[:, ::-1].argmax(axis=1)
    return np.where(known.any(axis=1), last, -1)


def _stability(results: xr.Dataset) -> xr.Dataset:
    loss = results.train_loss.values
    verdict = jax.vmap(unstable)(results.first_bad_step.values, loss, loss[:, 0])
    labels = {
        "above_initial": "final training loss above the initial one",
        "not_converged": "mean of the last 20 of loss / initial loss is not below 1",
        "unstable": "a bad step, or above the initial loss, or not converged",
    }
    for name, words in labels.items():
        results[name] = ("trial", np.asarray(getattr(verdict, name)), {"long_name": words, "units": "1"})
    return _per_trial(
        results, "oscillation", oscillation, loss, "share of sign changes of the change in training loss"
    )


def _overfitting(results: xr.Dataset) -> xr.Dataset:
    metric = validation_metric(results)
    validation = results[f"validation_{metric}"]
    better = validation.attrs.get("better", "lower")
    best = np.asarray(jax.vmap(lambda curve: best_epoch(curve, better))(validation.values)).astype(np.int32)
    results["best_epoch"] = (
        "trial",
        best,
        {"long_name": f"epoch of the best validation {metric}, the first of equals", "units": "epoch"},
    )
    for name in dict.fromkeys((metric, "loss")):
        train, held = results[f"train_{name}"], results[f"validation_{name}"]
        ends = [np.asarray(jax.vmap(final)(curve.values)) for curve in (train, held)]
        words = f"generalisation gap in {name} at the last epoch reached, positive where validation is worse"
        attributes = {"long_name": words, "units": held.attrs["units"]}
        sense = held.attrs.get("better", "lower")
        results[f"{name}_gap"] = ("trial", np.asarray(gap(*ends, sense)), attributes)
    words = "validation loss at the last epoch reached over its minimum"
    return _per_trial(results, "rise", rise, results.validation_loss.values, words)


def _per_trial(
    results: xr.Dataset, name: str, function: Callable, curves: np.ndarray, words: str
) -> xr.Dataset:
    results[name] = ("trial", np.asarray(jax.vmap(function)(curves)), {"long_name": words, "units": "1"})
    return results
