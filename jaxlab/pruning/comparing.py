"""Rules that compare the trials of a cohort."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from jaxlab.checks import whole
from jaxlab.pruning.history import History, Outcome, metric_name


class _Comparing:
    """What these rules have in common."""

    outcome: ClassVar[str] = Outcome.PRUNED
    compares: ClassVar[bool] = True
    draws: ClassVar[bool] = False
    depends_on_epochs: ClassVar[bool] = False


@dataclass(frozen=True)
class Median(_Comparing):
    """Stop a trial whose best value so far is worse than the median of all trials' values at this epoch.

    Optuna's MedianPruner (Golovin et al. 2017 have its relative in Vizier) for trials that run side by side: all
    trials of the cohort count, one that stopped with its last value, so that the survivors are not halved again at
    each epoch. What is not finite and trials with a bad step count as worst. By itself it never stops all trials: the
    best at an epoch is not worse than the median. All that still run may stop where others, stopped by other rules,
    ended better.

    Args:
        warmup_epochs: before which no trial stops.
        every: epochs between two looks.
        min_trials: that a cohort must have.
        metric: what is recorded per epoch; by default the first validation metric.
    """

    warmup_epochs: int = 5
    every: int = 1
    min_trials: int = 5
    metric: str | None = None
    name: ClassVar[str] = "median"

    def __post_init__(self) -> None:
        whole("pruning.median.warmup_epochs", self.warmup_epochs, 0)
        whole("pruning.median.every", self.every, 1)
        whole("pruning.median.min_trials", self.min_trials, 1)
        metric_name("pruning.median.metric", self.metric)

    def __call__(self, history: History) -> dict[int, str]:
        name, losses = history.losses(self.metric, "pruning.median.metric")
        since = history.epoch - self.warmup_epochs
        if since < 0 or since % self.every or len(losses) < self.min_trials:
            return {}
        latest = losses[np.arange(len(losses)), history.last_epochs()]
        best, median = losses.min(axis=1), _middle(np.where(_diverged(history), np.inf, latest))
        sign = -1 if history.better[name] == "higher" else 1
        words = "best {} so far, {:.4g}, is worse than the median at epoch {}, {:.4g}"
        return {
            row: words.format(name, sign * best[row], history.epoch, sign * median)
            for row in np.flatnonzero((best > median) & history.running).tolist()
        }


@dataclass(frozen=True)
class SuccessiveHalving(_Comparing):
    """At epochs ``min_epochs · eta**k`` only the best ⌊n / eta**(k+1)⌋ of the cohort's n trials go on, at least one.

    Compared by the value at that epoch; of equals the first go on; what is not finite is worst, and trials with a bad
    step come after it. Trials that stopped for other reasons are among the n. Source: Jamieson & Talwalkar 2016; Li et
    al. 2018.

    Args:
        min_epochs: of every trial.
        eta: one in so many goes on.
        metric: what is recorded per epoch; by default the first validation metric.
    """

    min_epochs: int = 1
    eta: int = 3
    metric: str | None = None
    name: ClassVar[str] = "successive_halving"

    def __post_init__(self) -> None:
        whole("pruning.successive_halving.min_epochs", self.min_epochs, 1)
        whole("pruning.successive_halving.eta", self.eta, 2)
        metric_name("pruning.successive_halving.metric", self.metric)

    def __call__(self, history: History) -> dict[int, str]:
        name, losses = history.losses(self.metric, "pruning.successive_halving.metric")
        everyone = np.arange(len(losses))
        rung, kept = int(self.min_epochs), len(everyone) // int(self.eta)
        while rung < history.epoch:
            rung, kept = rung * int(self.eta), kept // int(self.eta)
        return _halved(history, name, losses, everyone, kept) if rung == history.epoch else {}


class Bracket(NamedTuple):
    """A cohort within Hyperband.

    Attributes:
        trials: rows, ascending.
        rungs: epochs after which one in ``eta`` of those that reached it goes on.
        kept: how many go on at each rung.
    """

    trials: np.ndarray
    rungs: tuple[int, ...]
    kept: tuple[int, ...]

    def epochs(self, planned: int) -> int:
        """Epochs of training that it takes, over all its trials."""
        ends, left = [*self.rungs, planned], [len(self.trials), *self.kept]
        return sum(n * (end - begin) for n, end, begin in zip(left, ends, [0, *ends[:-1]], strict=True))


@dataclass(frozen=True)
class Hyperband(_Comparing):
    """Several brackets of successive halving, which differ in how early they begin to drop trials.

    With R = epochs / min_epochs and s_max = ⌊log_eta R⌋, bracket s = s_max … 0 of the algorithm has
    n_s = ⌈(s_max + 1) / (s + 1) · eta**s⌉ trials that get r_s = epochs · eta**−s epochs before the first are dropped.
    Here the cohort's trials are dealt to the brackets in proportion to n_s (by the largest remainder, at least one to
    each while there are any, s_max first), in an order drawn with ``seed``; see `brackets`. Within a bracket, trials
    are compared as in `SuccessiveHalving`, at r_s · eta**i rounded to whole epochs. Source: Li et al. 2018.

    Args:
        eta: one in so many goes on.
        min_epochs: of every trial.
        seed: of who goes to which bracket.
        metric: what is recorded per epoch; by default the first validation metric.
    """

    eta: int = 3
    min_epochs: int = 1
    seed: int = 0
    metric: str | None = None
    name: ClassVar[str] = "hyperband"
    depends_on_epochs: ClassVar[bool] = True
    draws: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole("pruning.hyperband.eta", self.eta, 2)
        whole("pruning.hyperband.min_epochs", self.min_epochs, 1)
        whole("pruning.hyperband.seed", self.seed, 0)
        metric_name("pruning.hyperband.metric", self.metric)

    def brackets(self, trials: int, epochs: int) -> list[Bracket]:
        """The plan for so many trials and epochs, the most aggressive bracket first; empty brackets are left out."""
        most = 0
        while self.min_epochs * self.eta ** (most + 1) <= epochs:
            most += 1
        levels = list(range(most, -1, -1))
        sizes = [-(-(most + 1) * self.eta**s // (s + 1)) for s in levels]
        order = np.random.default_rng(self.seed).permutation(trials)
        ends = np.cumsum(_dealt(trials, sizes))
        found = []
        for s, part in zip(levels, np.split(order, ends[:-1]), strict=True):
            rungs = tuple(_rounded(epochs, self.eta ** (s - i)) for i in range(s))
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
                found |= _halved(history, name, losses, bracket.trials, kept)
        return found


def _halved(
    history: History, name: str, losses: np.ndarray, members: np.ndarray, kept: int
) -> dict[int, str]:
    """Which of some running trials are not among the best ``kept``, at least one."""
    running = members[history.running[members]]
    # A diverged trial stops anyway: the metric of its frozen state, finite as a rule, must take nobody's place.
    ranked = running[np.lexsort((losses[running, -1], _diverged(history)[running]))]
    kept = max(1, kept)
    words = f"{name} at epoch {history.epoch} is not among the best {kept} of {len(members)}"
    return dict.fromkeys(ranked[kept:].tolist(), words)


def _diverged(history: History) -> np.ndarray:
    """Which trials have had a bad step, ``[T]``."""
    return (history.curves["first_bad_step"][:, : history.epoch + 1] >= 0).any(axis=1)


def _middle(losses: np.ndarray) -> float:
    """The median; the mean of the middle two, which is infinite if one of them is."""
    low, high = np.sort(losses)[[(len(losses) - 1) // 2, len(losses) // 2]].tolist()
    return low if low == high else low / 2 + high / 2  # halves first: the sum may overflow


def _dealt(trials: int, sizes: list[int]) -> list[int]:
    """So many trials in proportion to sizes, by the largest remainder, of equals the first; one to each if possible."""
    total = sum(sizes)
    dealt = [trials * size // total for size in sizes]
    order = sorted(range(len(sizes)), key=lambda each: (-(trials * sizes[each] % total), each))
    for each in order[: trials - sum(dealt)]:
        dealt[each] += 1
    while 0 in dealt and max(dealt) > 1:
        fullest = max(range(len(dealt)), key=lambda each: (dealt[each], each))
        dealt[fullest] -= 1
        dealt[dealt.index(0)] += 1
    return dealt


def _rounded(epochs: int, share: int) -> int:
    """``epochs / share`` rounded to the nearest whole number, halves up."""
    return (2 * epochs + share) // (2 * share)
