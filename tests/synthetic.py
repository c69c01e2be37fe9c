"""Results with known answers, made without training."""

import numpy as np
import xarray as xr

from jaxlab.pruning import Stop
from jaxlab.store.verdicts import with_verdicts

INITIAL_LOSS, INITIAL_METRIC = 2.0, 0.1
RATES, STRENGTHS, SEEDS = [0.01, 0.1, 1.0, 10.0], [0.0, 0.5], [0, 1]


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
    stops=None,
    metric="accuracy",
    better="higher",
    units="1",
    chance=None,
    can_die=None,
):
    """Curves that go in a straight line from a common start to the given value at the last epoch.

    Args:
        settings: columns by name, one entry a trial.
        loss, validation_loss: final losses.
        train, validation, test: final values of the metric.
        dead: final dead share, ``[trial, layer]``; all are alive at the start.
        bad: first bad step, -1 for none; a trial with one goes bad in epoch 2.
        reached: last epoch recorded of each trial; -1 for none.
        stops: a `Stop` by trial.
        chance: level of the metric, on every set.
        can_die: of each trial, whether its activation has a flat zero.
    """
    trials = len(next(iter(settings.values())))
    bad = np.full(trials, -1) if bad is None else np.asarray(bad)
    reached = np.full(trials, epochs) if reached is None else np.asarray(reached)
    epoch = np.arange(epochs + 1)
    went_bad = (bad >= 0)[:, None] & (epoch >= 2)
    missing = (epoch > reached[:, None]) | (went_bad & (epoch > 2))

    def recorded(values):
        """What a trial that went bad has at epoch 2 is its state of epoch 1, frozen."""
        values = np.array(values)
        values[bad >= 0, 2:3] = values[bad >= 0, 1:2]
        return np.where(missing.reshape(missing.shape + (1,) * (values.ndim - 2)), np.nan, values)

    held = loss if validation_loss is None else validation_loss
    ends = {
        "train_loss": (INITIAL_LOSS, loss, 1.0),
        "validation_loss": (INITIAL_LOSS, held, 1.0),
        f"train_{metric}": (INITIAL_METRIC, train, 0.9),
        f"validation_{metric}": (INITIAL_METRIC, validation, 0.8),
    }
    attributes = {"units": units, "better": better} | ({} if chance is None else {"chance": chance})
    variables = {
        "epochs_run": ("trial", reached.astype(np.int32)),
        "first_bad_step": (("trial", "epoch"), np.where(went_bad, bad[:, None], -1).astype(np.int32)),
    }
    for name, (start, end, default) in ends.items():
        values = _lines(start, np.full(trials, default) if end is None else end, epochs)
        own = attributes if metric in name else {"units": "1"}
        variables[name] = (("trial", "epoch"), recorded(values), own)
    if test is not None:
        variables[f"test_{metric}"] = ("trial", np.asarray(test, float), attributes)
    coordinates = _coordinates(settings, trials) | {"epoch": epoch}
    if dead is not None:
        share = recorded(np.moveaxis(_lines(0.0, dead, epochs), -1, 1))
        variables["dead_fraction"] = (("trial", "epoch", "layer"), share)
        if can_die is not None:
            variables["can_die"] = ("trial", np.asarray(can_die))
        coordinates["layer"] = np.array([f"conv_{index}" for index in range(share.shape[2])], object)
    stops = {trial: Stop(*stop) for trial, stop in (stops or {}).items()}
    return with_verdicts(xr.Dataset(variables, coordinates, {"title": "made up"}), stops).copy(deep=True)


def _lines(start, end, epochs):
    """A trial whose end is not finite is a good one until then, so that the last value alone can decide."""
    end = np.asarray(end, float)
    lost = ~np.isfinite(end)
    aim = np.where(lost, 0.1 if start > 1 else 0.95, end)
    values = start + (aim - start)[..., None] * np.linspace(0, 1, epochs + 1)
    values[..., -1] = end
    return values


def _coordinates(settings, trials):
    ids = np.array([f"id{index}" for index in range(trials)], object)
    columns = {name: np.asarray(values) for name, values in settings.items()}
    texts = {name: values.astype(object) for name, values in columns.items() if values.dtype.kind == "U"}
    return {"trial": np.arange(trials)} | {
        name: ("trial", values) for name, values in ({"trial_id": ids} | columns | texts).items()
    }


def rates(**given):
    """A study of every rate, strength and seed."""
    return results(grid(learning_rate=RATES, l2=STRENGTHS, seed=SEEDS), **given)


def by_rate(values):
    """One value for each (rate, strength), the same for both seeds."""
    return np.repeat(np.asarray(values, float).ravel(), len(SEEDS))


def example():
    """A study whose every answer is worked out by hand in the tests."""
    return rates(
        # Above the initial loss of 2: strength 0 from rate 1 on; strength .5 at rate .1 and 10, luck at 1.
        loss=by_rate([[1.0, 1.0], [0.5, 3.0], [3.0, 0.5], [3.0, 3.0]]),
        validation_loss=by_rate([[1.0, 1.0], [0.8, 3.0], [3.0, 0.9], [3.0, 3.0]]),
        train=by_rate([[0.7, 0.6], [0.95, 0.5], [0.4, 0.9], [0.1, 0.1]]),
        validation=by_rate([[0.65, 0.55], [0.85, 0.5], [0.4, 0.7], [0.1, 0.1]]) + np.tile([-0.01, 0.01], 8),
        test=by_rate([[0.6, 0.5], [0.8, 0.4], [0.3, 0.6], [0.1, 0.1]]),
        dead=np.stack(
            [
                by_rate([[0, 0], [0.1, 0], [0.3, 0.2], [0.8, 0.4]]),
                by_rate([[0, 0], [0, 0.3], [0.5, 0.5], [0.8, 0.7]]),
            ],
            axis=1,
        ),
    )
