"""Verdicts on each trial from its curves: outcome, best epoch, instability and overfitting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from jaxlab.diagnostics import best_epoch, did_not_learn, final, gap, oscillation, rise, unstable
from jaxlab.pruning import Outcome, Stop
from jaxlab.store.dataset import per_trial
from jaxlab.trial import comparison_metric

Stops = Mapping[int, Stop]


def with_verdicts(recorded: xr.Dataset, stops: Stops = MappingProxyType({})) -> xr.Dataset:
    """Add every verdict that the recorded variables allow, one value for each trial.

    Args:
        recorded: the recorded arrays.
        stops: stops of the trials that a rule stopped, by number.
    """
    results = recorded
    if "first_bad_step" in recorded:
        results = _outcomes(results, stops)
    if {"train_loss", "validation_loss", "first_bad_step"} <= set(recorded):
        results = _stability(results)
        results = _overfitting(results)
    return results


def validation_metric(results: xr.Dataset) -> str:
    """The name, without prefix, of the metric by which settings are compared; see `jaxlab.trial.comparison_metric`."""
    better = {
        str(name): each.attrs["better"] for name, each in results.data_vars.items() if "better" in each.attrs
    }
    return comparison_metric(better).removeprefix("validation_")


def _outcomes(results: xr.Dataset, stops: Stops) -> xr.Dataset:
    bad = results.first_bad_step
    step = bad.max("epoch").astype(np.int32).assign_attrs(bad.attrs)
    good = (bad < 0).values
    ran = np.where(good.all(axis=1), results.epochs_run.values, good.argmin(axis=1))
    whole = ran == results.sizes["epoch"] - 1
    ended = np.where(whole, Outcome.COMPLETED.value, Outcome.UNFINISHED.value)
    outcome = np.where(step >= 0, Outcome.DIVERGED.value, ended).astype(object)
    reason = np.array(
        [f"not finite after step {int(at)}" if at >= 0 else "" for at in step.values], dtype=object
    )
    rule = np.full(len(outcome), "", dtype=object)
    for trial, (how, name, why) in stops.items():
        rule[trial] = name
        if step[trial] < 0:
            outcome[trial], reason[trial] = str(how), why
    return results.assign(
        outcome=per_trial(outcome, "how the trial ended"),
        reason=per_trial(reason, "why it ended early"),
        stopped_by=per_trial(rule, "the rule that ended it after epochs_run epochs"),
        epochs_run=per_trial(ran.astype(np.int32), "epochs run", "epoch"),
        first_bad_step=step,
    )


def _judge(
    bad: jax.Array,
    last: jax.Array,
    train_E: jax.Array,
    figure_E: jax.Array,
    held_E: jax.Array,
    better: str,
    better_figure: str,
    chance: float | None,
) -> dict[str, jax.Array]:
    """Compute the verdicts on one trial from its first bad step, last epoch and curves.

    The curves are the training loss, the training metric (or the loss, where there is none) and the validation metric.
    """
    stability = unstable(bad, train_E, train_E[0], last)
    return {
        "above_initial": stability.above_initial,
        "not_converged": stability.not_converged,
        "unstable": stability.unstable,
        "did_not_learn": ~stability.unstable & did_not_learn(train_E, figure_E, chance, better_figure, last),
        "oscillation": oscillation(train_E),
        "best_epoch": best_epoch(held_E, better),
    }


@cache  # compiled once, since results are built repeatedly during training
def _judge_of_all(
    better: str, better_figure: str, chance: float | None
) -> Callable[..., dict[str, jax.Array]]:
    return jax.jit(jax.vmap(partial(_judge, better=better, better_figure=better_figure, chance=chance)))


def _stability(results: xr.Dataset) -> xr.Dataset:
    metric = validation_metric(results)
    held = results[f"validation_{metric}"]
    figure = results.get(f"train_{metric}", results.train_loss)
    better = held.attrs.get("better", "lower")
    judge = _judge_of_all(better, figure.attrs.get("better", "lower"), figure.attrs.get("chance"))
    curves = (each.values for each in (results.train_loss, figure, held))
    found = judge(results.first_bad_step.values, results.epochs_run.values, *curves)
    labels = {
        "above_initial": "final training loss above the initial one",
        "not_converged": "mean of the last 20 of loss / initial loss is not below 1",
        "unstable": "a bad step, or above the initial loss, or not converged, unless the loss stood still",
        "did_not_learn": "stable, and no better than before training or than a constant answer",
        "oscillation": "share of sign changes of the change in training loss",
        "best_epoch": f"epoch of the best validation {metric}, the first of equals",
    }
    units = {"best_epoch": "epoch"}
    return results.assign(
        {
            name: per_trial(np.asarray(found[name]), words, units.get(name, "1"))
            for name, words in labels.items()
        }
    )


def _finite(value: jax.Array) -> jax.Array:
    return jnp.where(jnp.isfinite(value), value, jnp.nan)


@cache
def _gaps_of_all(better: tuple[tuple[str, str], ...]) -> Callable[..., dict[str, jax.Array]]:
    def gaps(curves: dict, last: jax.Array) -> dict[str, jax.Array]:
        ends = {name: [final(curve, last) for curve in curves[name]] for name, _ in better}
        found = {name: _finite(gap(*ends[name], sense)) for name, sense in better}
        return found | ({"rise": rise(curves["loss"][1], last)} if "loss" in curves else {})

    return jax.jit(jax.vmap(gaps))


def _overfitting(results: xr.Dataset) -> xr.Dataset:
    both = (validation_metric(results), "loss")
    names = [name for name in dict.fromkeys(both) if {f"train_{name}", f"validation_{name}"} <= set(results)]
    curves = {name: (results[f"train_{name}"], results[f"validation_{name}"]) for name in names}
    better = tuple((name, held.attrs.get("better", "lower")) for name, (_, held) in curves.items())
    arrays = jax.tree.map(lambda curve: curve.values, curves)
    found = _gaps_of_all(better)(arrays, results.epochs_run.values)
    added = {}
    for name in names:
        words = f"generalisation gap in {name} at the last epoch reached, > 0 where validation is worse"
        added[f"{name}_gap"] = per_trial(np.asarray(found[name]), words, curves[name][1].attrs["units"])
        added[f"{name}_gap"].attrs["comment"] = "NaN where one of the two is not finite there"
    if "rise" in found:
        words = "validation loss at the last epoch reached over its minimum"
        added["rise"] = per_trial(np.asarray(found["rise"]), words)
    return results.assign(added)
