"""The answers of a study in words, one row a question."""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import xarray as xr

from jaxlab.analysis.answers import Best, best_setting, largest_gap
from jaxlab.analysis.limits import largest_stable, sensitivity, threshold_crossing
from jaxlab.analysis.measures import dead_units, divergence
from jaxlab.analysis.settings import by_setting, default_over, require, stopped_early, varied
from jaxlab.analysis.words import amount, counted, difference, label, number, percent, setting
from jaxlab.errors import InputError

_SHARES = (0.1, 0.4)
_MOST = 4  # answers that are told apart


class Row(NamedTuple):
    """A question and its answer, both plain text of one line."""

    question: str
    answer: str


def summary(results: xr.Dataset) -> tuple[Row, ...]:
    """What a study is run for: the best setting, and where training diverges, overfits and loses units.

    A question that the run cannot answer (it varies no number, records no dead units, has trained for no epoch) has
    an answer that says so; nothing is raised for a run of any kind.
    """
    over = default_over(results) or ("learning_rate" if "learning_rate" in results.coords else None)
    rate = label(over) if over else "learning rate"
    questions: dict[str, Callable[[], str]] = {
        "best setting": lambda: _best(results),
        "diverged": lambda: _diverged(results),
        **_stopped(results),
        f"largest stable {rate}": lambda: _stable(results, over),
        f"sensitivity to {rate}": lambda: _sensitivity(results, over),
        "largest generalisation gap": lambda: _gap(results),
        "dead units": lambda: _dead(results),
    }
    for share in _SHARES:
        questions[f"{percent(share)} of units dead"] = lambda share=share: _crossing(results, share, over)
    return tuple(Row(question, _answered(answer)) for question, answer in questions.items())


def _answered(answer: Callable[[], str]) -> str:
    try:
        return answer()
    except InputError as error:
        return "not recorded" if "is not recorded" in error.remedy else error.remedy


def _best(results: xr.Dataset) -> str:
    best = best_setting(results)
    value = amount(best.validation, best.metric, best.units)
    spread = _spread(best)
    test = "" if np.isnan(best.test) else f", test {amount(best.test, best.metric, best.units)}"
    warning = "; every setting has a diverged trial" if best.diverged else ""
    return f"{_where(best.setting)}validation {label(best.metric)} {value}{spread}{test}{warning}"


def _spread(best: Best) -> str:
    """Over how many seeds, and how far they are apart."""
    parts = []
    if best.trials > 1:
        low, high = (amount(each, best.metric, best.units) for each in best.validation_range)
        parts.append(f"mean of {_seeds(best)}, {low} to {high}")
    elif best.pruned:
        parts.append(_seeds(best))
    if best.pruned:
        parts.append("the others pruned")
    return f" ({'; '.join(parts)})" if parts else ""


def _seeds(best: Best) -> str:
    every = counted(best.trials + best.pruned, "seed")
    return f"{best.trials} of {every}" if best.pruned else every


def _gap(results: xr.Dataset) -> str:
    gap = largest_gap(results)
    train, validation = (amount(value, gap.metric, gap.units) for value in (gap.train, gap.validation))
    size = difference(gap.gap, gap.metric, gap.units)
    return (
        f"{_where(gap.setting)}{size} of {label(gap.metric)} (training {train}, validation {validation}); "
        f"validation loss ends at {number(gap.rise)} x its minimum"
    )


def _where(values: dict) -> str:
    return f"{setting(values)}: " if values else ""


def _diverged(results: xr.Dataset) -> str:
    if "first_bad_step" not in results:
        return "not recorded"
    bad = results.isel(trial=np.flatnonzero(results.first_bad_step.values >= 0))
    of = f"{bad.sizes['trial']} of {counted(results.sizes['trial'], 'trial')}"
    if not bad.sizes["trial"]:
        return of
    over = default_over(results)
    lowest = f", the smallest {label(over)} {number(bad[over].values.min().item())}" if over else ""
    return f"{of}{lowest}; first bad step {int(bad.first_bad_step.min())} at the earliest"


def _stopped(results: xr.Dataset) -> dict[str, Callable[[], str]]:
    """A row about the trials that a rule stopped, divergence apart, where there are any."""
    stopped = stopped_early(results)
    if not stopped.sizes["trial"]:
        return {}
    rules = ", ".join(
        f"{label(rule)} {count}" for rule, count in Counter(stopped.stopped_by.values).most_common()
    )
    low, high = int(stopped.epochs_run.min()), int(stopped.epochs_run.max())
    planned = results.sizes["trial"] * (results.sizes["epoch"] - 1)
    words = (
        f"{stopped.sizes['trial']} of {counted(results.sizes['trial'], 'trial')} ({rules}), after {low} to {high} "
        f"epochs; {percent(float(results.epochs_run.sum()) / planned)} of all epochs trained"
    )
    return {"stopped by rules": lambda: words}


def _stable(results: xr.Dataset, over: str | None) -> str:
    limits = largest_stable(results, _followed(results, over, "unstable"))

    def words(row: xr.Dataset) -> str:
        stable, unstable = float(row.largest_stable), float(row.smallest_unstable)
        if np.isnan(stable):
            return f"none (unstable from {number(unstable)}, the smallest tried)"
        beyond = "the largest tried" if np.isnan(unstable) else f"unstable at {number(unstable)}"
        return f"{number(stable)} ({beyond})"

    return _lines(limits, words)


def _followed(results: xr.Dataset, over: str | None, variable: str) -> str:
    """``over``, once there is one and the variable that is followed along it."""
    require(results, variable)
    if over is None:
        raise InputError("over", None, "no number was varied")
    return over


def _sensitivity(results: xr.Dataset, over: str | None) -> str:
    over = _followed(results, over, "train_loss")
    if over not in varied(results):
        return f"one {label(over)} alone was tried"
    figures = divergence(results)
    if not bool((figures.loss_ratio < 1).any()):
        return "no trial ends below its initial loss"
    values = figures[over].values
    words = _lines(sensitivity(results, over), lambda row: number(float(row.sensitivity)))
    tried = f"{number(values.min().item())} to {number(values.max().item())}"
    return f"{words} (mean training loss above the best, {tried})"


def _dead(results: xr.Dataset) -> str:
    names = varied(results)
    figures = dead_units(results)
    means = by_setting(figures[["start", "end", "worst_end"]], names)
    if not bool(means.end.notnull().any()):
        return "not recorded"
    if float(results.dead_fraction.max()) == 0:
        return "none (always so where the activation has no flat zero)"
    worst = means.isel(setting=int(means.end.argmax("setting")))
    at = setting({name: worst[name].item() for name in names})
    end, layer = percent(float(worst.end)), percent(float(worst.worst_end))
    details = [*([at] if at else []), *([f"{layer} in the worst layer"] if layer != end else [])]
    return (
        f"{percent(float(means.start.mean()))} before training, {'up to ' if at else ''}{end} at the end"
        + (f" ({'; '.join(details)})" if details else "")
    )


def _crossing(results: xr.Dataset, share: float, over: str | None) -> str:
    over = _followed(results, over, "dead_fraction")
    crossings = threshold_crossing(results, share, over)

    def words(row: xr.Dataset) -> str:
        if np.isnan(float(row.worst_layer_crossing)):
            return "never"
        mean, worst = (number(float(row[name])) for name in ("crossing", "worst_layer_crossing"))
        whole = "never over all layers" if mean == "-" else f"from {label(over)} {mean} on"
        return whole if mean == worst else f"{whole} (in some layer from {worst})"

    return _lines(crossings, words)


def _lines(answer: xr.Dataset, words: Callable[[xr.Dataset], str]) -> str:
    """One answer for each line of settings; those that agree share theirs."""
    names = [str(name) for name in answer.coords if answer[name].dims == ("setting",)]
    said: dict[str, list[str]] = {}
    for index in range(answer.sizes["setting"]):
        row = answer.isel(setting=index)
        said.setdefault(words(row), []).append(", ".join(number(row[name].item()) for name in names))
    told = " and ".join(map(label, names))
    if len(said) == 1:
        (text,) = said
        return f"{text} at every {told}" if answer.sizes["setting"] > 1 else text
    if len(names) > 1 or len(said) > _MOST:
        most = sorted(said, key=lambda text: -len(said[text]))[:_MOST]
        counts = ", ".join(f"{text} for {len(said[text])}" for text in most)
        return f"{counts}{', ...' * (len(said) > _MOST)} of {answer.sizes['setting']} settings of {told}"
    return "; ".join(f"{told} {' and '.join(values)}: {text}" for text, values in said.items())
