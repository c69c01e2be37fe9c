"""A study: many trials over one search space, with one data set and one model family."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import xarray as xr

from jaxlab.datasets import Dataset
from jaxlab.devices import hint_at_cores
from jaxlab.errors import InputError
from jaxlab.space import Group, Space, grid, trial_id
from jaxlab.study.build import supervised_trial
from jaxlab.study.checks import positive_int
from jaxlab.study.checks import seed as check_seed
from jaxlab.study.plan import Plan, make_plan
from jaxlab.study.resolve import example_in, resolve_custom, resolve_supervised
from jaxlab.study.run import Progress, run_study
from jaxlab.trial import Configuration, Trial, shared_arrays


@dataclass(frozen=True)
class Study:
    """Many settings, trained side by side as one compiled program for each configuration.

    >>> study = Study(datasets.digits(), space.grid(learning_rate=[1e-3, 1e-2], seed=range(3)), epochs=5)
    >>> results = study.run()          # an xarray.Dataset
    >>> results.validation_accuracy.sel(epoch=5)

    Args:
        data: what to learn; or None with ``trial`` and ``shared``.
        space: the settings, see `jaxlab.space`.
        epochs: of every trial.
        configuration: static fields, by name (see `jaxlab.study.CONFIGURATION`); a new value is a new compilation.
            ``model``, ``optimizer``, ``loss``, ``metrics``, ``augment`` and ``diagnostics`` take functions too; then
            names of your own may stand here for those functions to read.
        hyperparameters: values of traced scalars where the space does not vary them; names of your own likewise.
        name: for people.
        data_seed: seed of the minibatch order, which is the same for all trials.
        trial: ``configuration -> Trial``, a triple of your own instead of supervised training of an nnx model.
        shared: the arrays that its functions see.

    Raises:
        InputError: for anything that cannot be trained, before anything is compiled or written.
    """

    data: Dataset | None = None
    space: Space = field(default_factory=grid)
    epochs: int = 10
    configuration: Mapping[str, Any] = field(default_factory=dict)
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    name: str = "study"
    data_seed: int = 0
    trial: Callable[[Configuration], Trial] | None = None
    shared: Any = None

    def __post_init__(self):
        positive_int("epochs", self.epochs)
        check_seed("data_seed", self.data_seed)
        if (self.data is None) == (self.trial is None):
            raise InputError("data", self.data, "give either data, or trial with what it shares")
        _ = self.groups

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The trials by configuration, one compiled program each."""
        if self.trial is not None:
            return resolve_custom(self.space, self.configuration, self.hyperparameters)
        return resolve_supervised(self.data, self.space, self.configuration, self.hyperparameters)

    @cached_property
    def arrays(self) -> Any:
        """What all trials share on the device."""
        return self.shared if self.data is None else shared_arrays(self.data)

    @cached_property
    def trial_ids(self) -> tuple[str, ...]:
        """A hash of each trial's setting, in the order of the space."""
        ids: dict[int, str] = {}
        for group in self.groups:
            for row, index in enumerate(group.trials):
                values = {name: column[row] for name, column in group.hyperparameters.items()}
                ids[index] = trial_id(values, group.configuration)
        return tuple(ids[index] for index in sorted(ids))

    def steps_per_epoch(self, group: Group) -> int:
        """Optimisation steps in one epoch; a triple of one's own counts an epoch as one."""
        return 1 if self.data is None else len(self.data.train.targets) // group.configuration["batch_size"]

    def trial_of(self, group: Group) -> Trial:
        """The triple of pure functions that trains one trial of a group."""
        configuration = Configuration(group.configuration)
        if self.trial is not None:
            return self.trial(configuration)
        return supervised_trial(configuration, example_in(group), self.data, self.epochs, self.data_seed)

    def plan(
        self,
        *,
        width: int | str = "auto",
        devices: Sequence[jax.Device] | None = None,
        width_cache: str | os.PathLike | None = None,
    ) -> Plan:
        """Groups, packs, compilations, memory and time, without training the study; arguments as for `run`."""
        return make_plan(self, _width(width), _devices(devices), width_cache)

    def run(
        self,
        out: str | os.PathLike | None = None,
        *,
        width: int | str = "auto",
        devices: Sequence[jax.Device] | None = None,
        progress: Callable[[Progress], None] | None = None,
        width_cache: str | os.PathLike | None = None,
    ) -> xr.Dataset:
        """Train every trial.

        Args:
            out: a run folder to write; without it the results are only returned. A folder that holds this same study
                finished is read instead of trained again; another study is never overwritten.
            width: trials per device in a pack. "auto" takes the one in the run folder where the study was begun
                before; else the one that trains fastest, as far as finding out pays: a short study has a small width
                on a CPU and a large one on an accelerator, a long one is tried at several for a moment.
            devices: all by default.
            progress: called with what is done so far, after every call of a compiled program.
            width_cache: a file in which widths chosen by the clock are remembered for the next run of the same program
                on such devices. Without it nothing is remembered outside the run folder.

        Returns:
            the results, see `jaxlab.store`. Attributes say the ``width`` (a list where the groups have different
            ones), ``compile_seconds``, ``probe_seconds`` of choosing the width, ``train_seconds``,
            ``first_epoch_seconds`` until the first epoch of the first pack was done, and how many of the
            ``programs`` were ``programs_from_cache``.

        Raises:
            InputError: the folder is another study's, or memory ran out.
        """
        return run_study(self, _width(width), _devices(devices), out, progress, width_cache)


def _width(width: int | str) -> int | None:
    if width == "auto":
        return None
    if isinstance(width, str):
        raise InputError("width", width, 'give "auto" or a whole number >= 1')
    return positive_int("width", width)


def _devices(devices: Sequence[jax.Device] | None) -> list[jax.Device]:
    if devices is None:
        devices = jax.devices()
        hint_at_cores(devices)
    return list(devices)
