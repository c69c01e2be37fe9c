"""A study: many trials over one search space, with one data set and one model family."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from functools import cached_property
from typing import Any

import jax
import xarray as xr

from jaxlab.checks import number, whole
from jaxlab.datasets import Dataset
from jaxlab.devices import warn_if_cores_idle
from jaxlab.engine import code_digest
from jaxlab.errors import InputError, name_of, shown
from jaxlab.pruning import Rule, check_rules, plain_rule
from jaxlab.runs import Job, Options, Plan, Progress, arrays_digest, digest, make_plan, run, serialisable
from jaxlab.settings import Configuration
from jaxlab.space import Group, Space, grid
from jaxlab.store import Data, Source, Specification
from jaxlab.study.build import supervised_trial
from jaxlab.study.custom import built_trial
from jaxlab.study.fields import STUDY
from jaxlab.study.resolve import resolve_custom, resolve_supervised
from jaxlab.trial import Trial, shared_arrays

_FEW = 4  # values that are listed
_MOST_STEPS = 2**31 - 1  # an int32 counts them


@dataclass(frozen=True, repr=False)
class Study:
    """Many settings, trained side by side as one compiled program for each configuration.

    >>> study = Study(datasets.digits(), space.grid(learning_rate=[1e-3, 1e-2], seed=range(3)), epochs=5)
    >>> results = study.run()          # an xarray.Dataset
    >>> results.validation_accuracy.sel(epoch=5)

    Args:
        data: the data set; None with ``trial`` and ``shared``.
        space: the settings, see `jaxlab.space`.
        epochs: number of epochs of every trial.
        configuration: static fields by name (see `jaxlab.study.CONFIGURATION`); a new value compiles another program.
            ``model``, ``optimizer``, ``loss``, ``metrics``, ``augment`` and ``diagnostics`` also take functions.
            Custom names may stand here for model and optimizer to read. A name that nothing reads is an error.
        hyperparameters: values of traced scalars that the space does not vary, custom names included.
        name: name of the study in tables and figures.
        data_seed: seed of the minibatch order, which all trials share.
        trial: ``configuration -> Trial``, a custom triple instead of supervised training of an nnx model.
        shared: the arrays that the functions of the triple see.
        rules: stopping rules, see `jaxlab.pruning`; a trial stops if any one of them stops it. A trial with a bad step
            stops in any case, unless ``pruning.Divergence(stop=False)`` is among the rules.
        keep: weights kept in the run folder, see `jaxlab.load_model`: "none"; "last", the final weights of each trial;
            "best", also the weights of its epoch with the best validation metric, with which the test set is measured
            too (variables that end in ``_at_best``).
        deterministic: whether a trial's numbers are the same bits at every call and in every lane. CPUs and TPUs always
            compute deterministically; a GPU does so with slower operations. "auto" trains without the guarantee where
            an operation has no deterministic form, warns, and sets the results' attribute ``deterministic``; True
            refuses such a model; False takes what is fastest.
        source: the study file of this study, as `load_study` records it.

    Raises:
        InputError: for anything that cannot be trained, before anything is compiled or written.
    """

    data: Dataset | None = None
    space: Space = field(default_factory=grid)
    epochs: int = STUDY["epochs"].default
    configuration: Mapping[str, Any] = field(default_factory=dict)
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    name: str = STUDY["name"].default
    data_seed: int = STUDY["data_seed"].default
    trial: Callable[[Configuration], Trial] | None = None
    shared: Any = None
    rules: Sequence[Rule] = ()
    keep: str = STUDY["keep"].default
    deterministic: bool | str = STUDY["deterministic"].default
    source: Mapping[str, Any] | None = None

    def __post_init__(self):
        for name, (kind, remedy) in _KINDS.items():
            value = getattr(self, name)
            if not (isinstance(value, kind) or (name == "data" and value is None)):
                raise InputError(name, value, remedy)
        for name, each in STUDY.items():
            object.__setattr__(self, name, each.check(name, getattr(self, name)))
        if self.source is not None and set(self.source) != {"folder", "table"}:
            raise InputError("source", self.source, "give it as load_study does, with folder and table")
        if (self.data is None) == (self.trial is None):
            raise InputError("data", self.data, "give data, or trial together with shared")
        check_rules(self.rules)
        most = _MOST_STEPS // max(1, *map(self.steps_per_epoch, self.groups))
        if self.epochs > most:
            remedy = f"give at most {most:,}: a trial has at most 2**31 - 1 steps"
            raise InputError("epochs", self.epochs, remedy)

    def __repr__(self) -> str:
        trials = sum(len(group.trials) for group in self.groups)
        counts = [_count(trials, "trial"), _count(len(self.groups), "program"), _count(self.epochs, "epoch")]
        swept = {name: _shown_values(self.space.values(name)) for name in self.space.names}
        lines = {
            "data": "custom arrays" if self.data is None else f"{self.data.name}: {self.data.summary()}",
            "space": _shown_fields(swept),
            "configuration": _shown_fields({name: shown(each) for name, each in self.configuration.items()}),
            "hyperparameters": _shown_fields(
                {name: shown(each) for name, each in self.hyperparameters.items()}
            ),
            "rules": ", ".join(repr(rule) if is_dataclass(rule) else shown(rule) for rule in self.rules),
        }
        lines = [f"{name:16}{words}" for name, words in lines.items() if words]
        return "\n".join([f"<Study {self.name}: {', '.join(counts)}>", *lines])

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The trials by configuration, one compiled program each."""
        if self.trial is not None:
            return resolve_custom(
                self.trial, self.shared, self.space, self.configuration, self.hyperparameters
            )
        epochs = min(self.epochs, _MOST_STEPS // len(self.data.train.targets))
        return resolve_supervised(self.data, self.space, self.configuration, self.hyperparameters, epochs)

    @cached_property
    def arrays(self) -> Any:
        """What all trials share on the device."""
        return self.shared if self.data is None else shared_arrays(self.data)

    @cached_property
    def job(self) -> Job:
        """What `jaxlab.runs` executes."""
        declared = Specification(
            name=self.name,
            data=_data_description(self.data, self.shared),
            epochs=self.epochs,
            data_seed=self.data_seed,
            trial=serialisable(self.trial),
            rules=[plain_rule(rule, _rule_description) for rule in self.rules],
            keep=self.keep,
            deterministic=self.deterministic,
            configuration={name: serialisable(value) for name, value in self.configuration.items()},
            hyperparameters={name: serialisable(value) for name, value in self.hyperparameters.items()},
        )
        # All that decides the numbers, except settings, epochs and programs, which are compared by their fingerprints.
        # A custom rule is never traced, so its code is hashed.
        rules = [plain_rule(rule, code_digest) for rule in self.rules]
        return Job(
            groups=self.groups,
            trial_of=self.trial_of,
            arrays=self.arrays,
            epochs=self.epochs,
            steps_per_epoch=self.steps_per_epoch,
            rules=self.rules,
            deterministic=self.deterministic,
            labelled=self.trial is None,
            specification=declared,
            study_hash=digest([asdict(declared.data), self.data_seed, rules, self.keep]),
            source=None if self.source is None else Source(**self.source),
        )

    def steps_per_epoch(self, group: Group) -> int:
        """Optimisation steps in one epoch; a custom triple counts an epoch as one."""
        return 1 if self.data is None else len(self.data.train.targets) // group.configuration["batch_size"]

    def trial_of(self, group: Group) -> Trial:
        """The triple of pure functions that trains one trial of a group."""
        if self.trial is None:
            return supervised_trial(
                group.configuration, group.example, self.data, self.epochs, self.data_seed, self.keep
            )
        trial = built_trial(self.trial, group.configuration)
        if self.keep == "none":
            return trial._replace(weights=None)
        if trial.weights is None or (self.keep == "best" and trial.weights.score is None):
            remedy = "the trial does not say what is worth keeping: see Trial.weights"
            raise InputError("keep", self.keep, remedy)
        return trial if self.keep == "best" else trial._replace(weights=trial.weights._replace(score=None))

    def plan(
        self,
        *,
        width: int | str = "auto",
        devices: Sequence[jax.Device] | None = None,
        width_cache: str | os.PathLike | None = None,
    ) -> Plan:
        """Groups, packs, compilations, memory and time, without training the study; arguments as for `run`."""
        return make_plan(self.job, _width(width), _devices(devices), width_cache)

    def run(
        self,
        out: str | os.PathLike | None = None,
        *,
        width: int | str = "auto",
        devices: Sequence[jax.Device] | None = None,
        progress: Callable[[Progress], None] | None = None,
        width_cache: str | os.PathLike | None = None,
        checkpoint_seconds: float | None = None,
        stop: Callable[[], bool] | None = None,
        accept_changes: bool = False,
    ) -> xr.Dataset:
        """Train every trial, or what an earlier start left of it.

        If the folder holds an unfinished run of this study, training resumes from its last checkpoint. With more
        epochs or added settings, which become a new cohort, only what is new is trained. A finished run is read.

        Args:
            out: the run folder; without it the results are only returned. Another study is never overwritten.
            width: trials per device in a pack. "auto" takes the width of the run folder if the run has begun. Otherwise
                a short study gets a small width on a CPU and a large one on an accelerator, and a long study is timed
                at several widths and gets the fastest; with rules, the smallest within 10 % of the fastest.
            devices: all by default.
            progress: called with a `Progress` after every call of a compiled program.
            width_cache: a file that keeps chosen widths for later runs of the same program on the same kind of device.
                Without it, widths are kept in the run folder alone.
            checkpoint_seconds: seconds between two checkpoints; by default 30, or more if saving would take more than
                1 % of the time. Records are on disk after every segment, or at most 10 seconds later if writing each
                segment would take more than 1 % of the time.
            stop: called after every call of a program; once it returns True, the run saves and raises
                `jaxlab.RunInterrupted`.
            accept_changes: resume although code, versions, compiler flags, device or width differ from those of the
                run. Of a finished run, read the results although the code has changed.

        Returns:
            the results, see `jaxlab.store`. Their attributes hold the ``width`` (a list if groups differ),
            ``compile_seconds``, ``probe_seconds`` spent on choosing the width, ``train_seconds``,
            ``first_epoch_seconds`` until the first epoch of the first pack was done, the number of ``programs``, and
            how many of them came from a compilation cache (``programs_from_cache``).

        Raises:
            InputError: the folder belongs to another study, is in use, is damaged or cannot be written to; something
                that decides the numbers has changed; or memory ran out.
            RunInterrupted: ``stop`` returned True.
        """
        options = Options(
            _devices(devices),
            out,
            _width(width),
            progress or (lambda _: None),
            width_cache,
            None if checkpoint_seconds is None else number("checkpoint_seconds", checkpoint_seconds, 0),
            stop or (lambda: False),
            accept_changes,
        )
        return run(self.job, options)


_KINDS = {
    "data": (Dataset, 'give a data set, such as jaxlab.datasets.load("digits")'),
    "space": (Space, "give settings, such as jaxlab.space.grid(learning_rate=[1e-3, 1e-2])"),
    "configuration": (Mapping, "give a dict from names to values"),
    "hyperparameters": (Mapping, "give a dict from names to numbers"),
}


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _shown_fields(words: Mapping[str, str]) -> str:
    return ", ".join(f"{name} = {word}" for name, word in words.items())


def _shown_values(values: Sequence[Any]) -> str:
    """The values of a setting, or their number and ends if they are many."""
    if len(values) > _FEW:
        return f"[{len(values):,} values, {shown(values[0])} to {shown(values[-1])}]"
    return f"[{', '.join(map(shown, values))}]"


def _data_description(data: Dataset | None, shared: Any) -> Data:
    """Describe a data set, or the shared arrays of a custom trial."""
    if data is None:
        return Data(arrays_digest(shared))
    return Data(
        fingerprint=data.fingerprint(),
        name=data.name,
        input_shape=list(data.input_shape),
        outputs=data.outputs,
        scale=_plain(data.scale),
        shift=_plain(data.shift),
        class_names=list(data.class_names),
        target_mean=_plain(data.target_mean),
        target_std=_plain(data.target_std),
    )


def _plain(value: Any) -> Any:
    """A number as a float, several as a list of floats, None as None."""
    return list(map(float, value)) if isinstance(value, tuple) else value if value is None else float(value)


def _rule_description(rule: Rule) -> dict[str, str]:
    """Describe a custom stopping rule."""
    return {"function": name_of(rule), "code": code_digest(rule)}


def _width(width: int | str) -> int | None:
    if width == "auto":
        return None
    remedy = 'give "auto" or a whole number >= 1' if isinstance(width, str) else ""
    return whole("width", width, 1, remedy=remedy)


def _devices(devices: Sequence[jax.Device] | None) -> list[jax.Device]:
    if devices is None:
        devices = jax.devices()
        warn_if_cores_idle(devices)
    return list(devices)
