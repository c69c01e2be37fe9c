"""Stopping rules that compare the trials of a cohort."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from jaxlab.pruning.history import BuiltIn, History, Outcome


class _Comparing(BuiltIn):
    """The attributes that these rules share."""

    outcome: ClassVar[str] = Outcome.PRUNED
    compares: ClassVar[bool] = True


@dataclass(frozen=True)
class Median(_Comparing):
    """Stop a trial whose best value so far is worse than the median of all trials' values at this epoch.

    This is Optuna's MedianPruner (Golovin et al. 2017 describe the related rule of Vizier) for trials that run side by
    side. All trials of the cohort count, a stopped one with its last value, so that the survivors are not halved again
    at each epoch. Values that are not finite and trials with a bad step count as worst. The rule alone never stops all
    trials, since the best one is not worse than the median. Together with other rules it may stop all running trials,
    where stopped trials ended better.

    Args:
        warmup_epochs: no trial stops before this epoch.
        every: epochs between two decisions.
        min_trials: smallest cohort in which trials stop.
        metric: name of a curve; by default the first validation metric.
    """

    warmup_epochs: int = 5
    every: int = 1
    min_trials: int = 5
    metric: str | None = None
    name: ClassVar[str] = "median"
    least: ClassVar[Mapping[str, int]] = {"every": 1, "min_trials": 1}

    def __call__(self, history: History) -> dict[int, str]:
        name, losses = history.losses(self.metric, "pruning.median.metric")
        since = history.epoch - self.warmup_epochs
        if since < 0 or since % self.every or len(losses) < self.min_trials:
            return {}
        latest = losses[np.arange(len(losses)), history.last_epochs()]
        best, median = losses.min(axis=1), _median(np.where(_had_bad_step(history), np.inf, latest))
        sign = -1 if history.better[name] == "higher" else 1
        words = "best {} so far, {:.4g}, is worse than the median at epoch {}, {:.4g}"
        return {
            row: words.format(name, sign * best[row], history.epoch, sign * median)
            for row in np.flatnonzero((best > median) & history.running).tolist()
        }


@dataclass(frozen=True)
class SuccessiveHalving(_Comparing):
    """Keep the best ⌊n / eta**(k+1)⌋ of a cohort's n trials at epochs ``min_epochs · eta**k``, at least one.

    Trials are ranked by their value at that epoch, ties by their number. Values that are not finite rank last, followed
    only by trials with a bad step. Trials that stopped for other reasons count among the n. Source: Jamieson &
    Talwalkar 2016; Li et al. 2018.

    Args:
        min_epochs: epochs that every trial is trained for.
        eta: one in ``eta`` trials continues.
        metric: name of a curve; by default the first validation metric.
    """

    min_epochs: int = 1
    eta: int = 3
    metric: str | None = None
    name: ClassVar[str] = "successive_halving"
    least: ClassVar[Mapping[str, int]] = {"min_epochs": 1, "eta": 2}

    def __call__(self, history: History) -> dict[int, str]:
        name, losses = history.losses(self.metric, "pruning.successive_halving.metric")
        members = np.arange(len(losses))
        rung, kept = int(self.min_epochs), len(members) // int(self.eta)
        while rung < history.epoch:
            rung, kept = rung * int(self.eta), kept // int(self.eta)
        return _dropped(history, name, losses, members, kept) if rung == history.epoch else {}


class Bracket(NamedTuple):
    """One bracket of Hyperband: trials that are compared only with each other.

    Attributes:
        trials: rows of the history, ascending.
        rungs: epochs at which trials are dropped.
        kept: number of trials that continue after each rung.
    """

    trials: np.ndarray
    rungs: tuple[int, ...]
    kept: tuple[int, ...]

    def epochs(self, planned: int) -> int:
        """The epochs of training that the bracket takes, summed over its trials."""
        ends, left = [*self.rungs, planned], [len(self.trials), *self.kept]
        return sum(n * (end - begin) for n, end, begin in zip(left, ends, [0, *ends[:-1]], strict=True))


@dataclass(frozen=True)
class Hyperband(_Comparing):
    """Run several brackets of successive halving, which differ in how early they begin to drop trials.

    With R = epochs / min_epochs and s_max = ⌊log_eta R⌋, bracket s = s_max … 0 of the algorithm has
    n_s = ⌈(s_max + 1) / (s + 1) · eta**s⌉ trials, which are trained for r_s = epochs · eta**−s epochs before the first
    are dropped. Here the cohort's trials are assigned to the brackets in proportion to n_s, by the largest remainder,
    at least one to each as long as there are any, s_max first. Their order is drawn with ``seed``, see `brackets`.
    Within a bracket, trials are ranked as in `SuccessiveHalving`, at r_s · eta**i rounded to whole epochs.
    Source: Li et al. 2018.

    Args:
        eta: one in ``eta`` trials continues.
        min_epochs: epochs that every trial is trained for.
        seed: seed of the assignment of trials to brackets.
        metric: name of a curve; by default the first validation metric.
    """

    eta: int = 3
    min_epochs: int = 1
    seed: int = 0
    metric: str | None = None
    name: ClassVar[str] = "hyperband"
    least: ClassVar[Mapping[str, int]] = {"eta": 2, "min_epochs": 1}
    depends_on_epochs: ClassVar[bool] = True
    draws: ClassVar[bool] = True

    def brackets(self, trials: int, epochs: int) -> list[Bracket]:
        """The non-empty brackets for a number of trials and epochs, the one that drops trials earliest first."""
        most = 0
        while self.min_epochs * self.eta ** (most + 1) <= epochs:
            most += 1
        levels = list(range(most, -1, -1))
        sizes = [-(-(most + 1) * self.eta**s // (s + 1)) for s in levels]
        order = np.random.default_rng(self.seed).permutation(trials)
        ends = np.cumsum(_divide_in_proportion(trials, sizes))
        found = []
        for s, part in zip(levels, np.split(order, ends[:-1]), strict=True):
            rungs = tuple(_rounded_quotient(epochs, self.eta ** (s - i)) for i in range(s))
            kept = tuple(max(1, len(part) // self.eta ** (i + 1)) for i in range(s))
            if len(part):
                found.append(Bracket(np.sort(part), rungs, kept))
        return found

    def __call__(self, history: History) -> dict[int, str]:
        name, losses = history.losses(self.metric, "pruning.hyperband.metric")
        found: dict[int, str] = {}
        for bracket in self.brackets(len(losses), history.epochs):
            if history.epoch in bracket.rungs:
                kept = bracket.kept[bracket.rungs.index(history.epoch)]
                found |= _dropped(history, name, losses, bracket.trials, kept)
        return found


def _dropped(
    history: History, name: str, losses: np.ndarray, members: np.ndarray, kept: int
) -> dict[int, str]:
    """The running ``members`` that are not among the best ``kept``, with reasons; at least one member is kept."""
    running = members[history.running[members]]
    # A diverged trial stops anyway. The metric of its frozen state is usually finite; it must not take another's place.
    ranked = running[np.lexsort((losses[running, -1], _had_bad_step(history)[running]))]
    kept = max(1, kept)
    words = f"{name} at epoch {history.epoch} is not among the best {kept} of {len(members)}"
    return dict.fromkeys(ranked[kept:].tolist(), words)


def _had_bad_step(history: History) -> np.ndarray:
    """Whether each trial had a bad step so far, ``[T]``."""
    return (history.curves["first_bad_step"][:, : history.epoch + 1] >= 0).any(axis=1)


def _median(losses: np.ndarray) -> float:
    """The median of ``losses``; of an even number the mean of the middle two, infinite if one of them is."""
    low, high = np.sort(losses)[[(len(losses) - 1) // 2, len(losses) // 2]].tolist()
    return low if low == high else low / 2 + high / 2  # halve first: the sum may overflow


def _divide_in_proportion(count: int, weights: list[int]) -> list[int]:
    """Divide a count in proportion to weights, by the largest remainder; at least one to each if possible."""
    total = sum(weights)
    shares = [count * weight // total for weight in weights]
    order = sorted(range(len(weights)), key=lambda each: (-(count * weights[each] % total), each))
    for each in order[: count - sum(shares)]:
        shares[each] += 1
    while 0 in shares and max(shares) > 1:
        fullest = max(range(len(shares)), key=lambda each: (shares[each], each))
        shares[fullest] -= 1
        shares[shares.index(0)] += 1
    return shares


def _rounded_quotient(epochs: int, share: int) -> int:
    """``epochs / share`` rounded to the nearest integer, halves up."""
    return (2 * epochs + share) // (2 * share)
