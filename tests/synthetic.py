"""Results with known answers, made without training."""

import numpy as np
import xarray as xr

from jaxlab.store.verdicts import with_verdicts

INITIAL_LOSS, INITIAL_ACCURACY = 2.0, 0.1


def grid(**axes):
    """Every combination, the last axis fastest, as one list a name."""
    mesh = np.meshgrid(*(np.array(values) for values in axes.values()), indexing="ij")
    return {name: values.ravel() for name, values in zip(axes, mesh, strict=True)}


def results(
    settings,
    *,
    loss=None,
    validation_loss=None,
    train=None,
    validation=None,
    test=None,
    dead=None,
    bad=None,
    epochs=4,
    reached=None,
    metric="accuracy",
    better="higher",
    units="1",
):
    """Curves that go in a straight line from a common start to the given value at the last epoch.

    Args:
        settings: columns by name, one entry a trial.
        loss, validation_loss: final losses.
        train, validation, test: final values of the metric.
        dead: final dead share, ``[trial, layer]``; all are alive at the start.
        bad: first bad step, -1 for none; a trial with one has no losses from epoch 2 on.
        reached: last epoch recorded of each trial; -1 for none.
    """
    trials = len(next(iter(settings.values())))
    line = np.linspace(0, 1, epochs + 1)

    def curve(start, end, default):
        end = np.full(trials, default) if end is None else np.asarray(end, float)
        return start + (end - start)[..., None] * line

    curves = {
        "train_loss": curve(INITIAL_LOSS, loss, 1.0),
        "validation_loss": curve(INITIAL_LOSS, loss if validation_loss is None else validation_loss, 1.0),
        f"train_{metric}": curve(INITIAL_ACCURACY, train, 0.9),
        f"validation_{metric}": curve(INITIAL_ACCURACY, validation, 0.8),
    }
    bad = np.full(trials, -1) if bad is None else np.asarray(bad)
    reached = np.full(trials, epochs) if reached is None else np.asarray(reached)
    epoch = np.arange(epochs + 1)
    missing = (epoch > reached[:, None]) | ((bad >= 0)[:, None] & (epoch >= 2))
    attributes = {"units": units, "better": better}
    variables = {
        name: (
            ("trial", "epoch"),
            np.where(missing, np.nan, values),
            attributes if metric in name else {"units": "1"},
        )
        for name, values in curves.items()
    }
    steps = np.where((bad >= 0)[:, None] & (epoch >= 2), bad[:, None], -1)
    variables["first_bad_step"] = (("trial", "epoch"), steps.astype(np.int32), {"units": "step"})
    coordinates = {"trial": np.arange(trials), "epoch": epoch}
    if test is not None:
        variables[f"test_{metric}"] = ("trial", np.asarray(test, float), attributes)
    if dead is not None:
        share = np.moveaxis(curve(0.0, dead, None), -1, 1)
        variables["dead_fraction"] = (
            ("trial", "epoch", "layer"),
            np.where(missing[..., None], np.nan, share),
        )
        coordinates["layer"] = np.array([f"conv_{index}" for index in range(share.shape[2])], object)
    coordinates["trial_id"] = ("trial", np.array([f"id{index}" for index in range(trials)], object))
    for name, values in settings.items():
        values = np.asarray(values)
        coordinates[name] = ("trial", values.astype(object) if values.dtype.kind == "U" else values)
    return with_verdicts(xr.Dataset(variables, coordinates, {"title": "made up"})).copy(deep=True)
