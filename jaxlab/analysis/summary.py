"""A summary of a study in words, one question and answer per row."""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import xarray as xr

from jaxlab.analysis.answers import Best, best_setting, largest_gap
from jaxlab.analysis.averages import (
    NotRecorded,
    by_setting,
    default_over,
    judged,
    require,
    stopped_early,
    values_of,
    varied,
)
from jaxlab.analysis.limits import (
    MOST_NAMED,
    SHARES,
    fixed,
    largest_stable,
    sensitivity,
    threshold_crossing,
)
from jaxlab.analysis.measures import dead_units, divergence
from jaxlab.analysis.words import (
    amount,
    counted,
    difference,
    joined,
    label,
    number,
    numbers,
    percent,
    setting,
    settings,
)
from jaxlab.errors import InputError


class Row(NamedTuple):
    """A question and its answer, each one line of plain text."""

    question: str
    answer: str


def summary(results: xr.Dataset) -> tuple[Row, ...]:
    """Summarise a run: the best setting, and where training diverges, overfits and has dead units.

    Where the run cannot answer a question (no number varies, dead units are not recorded, no epoch is complete), the
    answer says so; no run raises an error.
    """
    over = default_over(results) or ("learning_rate" if "learning_rate" in results.coords else None)
    rate = label(over) if over else "learning rate"
    questions: dict[str, Callable[[], str | None]] = {
        "best setting": lambda: _best(results),
        "diverged": lambda: _diverged(results),
        "did not learn": lambda: _idle(results),
        "stopped by rules": lambda: _stopped(results),
        f"largest stable {rate}": lambda: _stable(results, over),
        f"sensitivity to {rate}": lambda: _sensitivity(results, over),
        "largest generalisation gap": lambda: _gap(results),
        "dead units": lambda: _dead(results),
    }
    for share in SHARES:
        questions[f"{percent(share)} of units dead"] = lambda share=share: _crossing(results, share, over)
    answers = {question: _answered(answer) for question, answer in questions.items()}
    return tuple(Row(question, answer) for question, answer in answers.items() if answer is not None)


def _answered(answer: Callable[[], str | None]) -> str | None:
    try:
        return answer()
    except NotRecorded:
        return "not recorded"
    except InputError as error:
        return error.remedy


def _best(results: xr.Dataset) -> str:
    best = best_setting(results)
    value = amount(best.validation, best.metric, best.units)
    test = "" if np.isnan(best.test) else f", test {amount(best.test, best.metric, best.units)}"
    warning = "; every setting has a trial that diverged or is not finite" if best.diverged else ""
    return f"{_where(best.setting)}validation {label(best.metric)} {value}{_spread(best)}{test}{warning}"


def _spread(best: Best) -> str:
    """The number of seeds and their range, in brackets."""
    left_out = best.pruned + best.not_finite
    if best.trials == 1 and not left_out:
        return ""
    words = counted(best.trials + left_out, "seed")
    if left_out:
        words = f"{best.trials} of {words}"
    if best.trials > 1:
        low, high = (amount(each, best.metric, best.units) for each in best.validation_range)
        words = f"mean of {words}, {low} to {high}"
    if left_out:
        reasons = [*["pruned"] * (best.pruned > 0), *["not finite"] * (best.not_finite > 0)]
        words += f"; the others {' or '.join(reasons)}"
    return f" ({words})"


def _gap(results: xr.Dataset) -> str:
    gap = largest_gap(results)
    train, validation = (amount(value, gap.metric, gap.units) for value in (gap.train, gap.validation))
    size = difference(gap.gap, gap.metric, gap.units)
    every = counted(gap.trials + gap.not_finite, "seed")
    seeds = f"; {gap.trials} of {every}, the others not finite" if gap.not_finite else ""
    return (
        f"{_where(gap.setting)}{size} of {label(gap.metric)} (training {train}, validation {validation}{seeds}); "
        f"validation loss ends at {number(gap.rise)} x its minimum"
    )


def _where(values: dict) -> str:
    return f"{setting(values)}: " if values else ""


def _diverged(results: xr.Dataset) -> str:
    if "first_bad_step" not in results:
        return "not recorded"
    bad = results.isel(trial=results.first_bad_step.values >= 0)
    of = f"{bad.sizes['trial']} of {counted(results.sizes['trial'], 'trial')}"
    if not bad.sizes["trial"]:
        return of
    over = default_over(results)
    values = bad[over].dropna("trial").values if over else np.array([])
    lowest = f", the smallest {label(over)} {number(values.min().item())}" if values.size else ""
    return f"{of}{lowest}; first bad step {int(bad.first_bad_step.min())} at the earliest"


def _idle(results: xr.Dataset) -> str | None:
    """Words about the trials that did not learn; None where there are none."""
    if "did_not_learn" not in results or not bool(results.did_not_learn.any()):
        return None
    trained = judged(results)
    idle = trained.isel(trial=trained.did_not_learn.values)
    over, where = default_over(results), ""
    if over:
        values = sorted(set(values_of(idle[over].dropna("trial"))))
        few = len(values) < 4
        shown = (" and " if few else " to ").join(numbers(values if few else [values[0], values[-1]]))
        where = f", {label(over)} {shown}" if values else ""
    of = f"{idle.sizes['trial']} of {counted(results.sizes['trial'], 'trial')}"
    return f"{of}{where}: stable, but no better than before training or than a constant answer"


def _stopped(results: xr.Dataset) -> str | None:
    """Words about the trials that a rule stopped, diverged ones excluded; None where there are none."""
    stopped = stopped_early(results)
    if not stopped.sizes["trial"]:
        return None
    rules = ", ".join(
        f"{label(rule)} {count}" for rule, count in Counter(stopped.stopped_by.values).most_common()
    )
    low, high = int(stopped.epochs_run.min()), int(stopped.epochs_run.max())
    planned = results.sizes["trial"] * (results.sizes["epoch"] - 1)
    return (
        f"{stopped.sizes['trial']} of {counted(results.sizes['trial'], 'trial')} ({rules}), after {low} to {high} "
        f"epochs; {percent(float(results.epochs_run.sum()) / planned)} of all epochs trained"
    )


def _stable(results: xr.Dataset, over: str | None) -> str:
    limits = largest_stable(results, _followed(results, over, "unstable"))

    def words(row: xr.Dataset) -> str:
        stable, unstable = float(row.largest_stable), float(row.smallest_unstable)
        if np.isnan(stable):
            return f"none (unstable from {number(unstable)}, the smallest tried)"
        largest, smallest = numbers([stable, unstable])
        beyond = "the largest tried" if np.isnan(unstable) else f"unstable at {smallest}"
        idle = float(row.did_not_learn)
        idle_words = f"; {percent(idle)} of its trials did not learn" if idle > 0 else ""
        return f"{largest} ({beyond}{idle_words})"

    return _lines(limits, words)


def _followed(results: xr.Dataset, over: str | None, variable: str) -> str:
    """``over`` itself, or InputError where it is None or ``variable`` is not recorded."""
    require(results, variable)
    if over is None:
        raise InputError("over", None, "no number varies")
    return over


def _sensitivity(results: xr.Dataset, over: str | None) -> str:
    over = _followed(results, over, "train_loss")
    if over not in varied(results):
        return f"one {label(over)} alone was tried"
    figures = divergence(results)
    if not bool((figures.loss_ratio < 1).any()):
        return "no trial ends below its initial loss"
    values = figures[over].dropna("trial").values
    units = results.train_loss.attrs.get("units", "1")
    words = _lines(sensitivity(results, over), lambda row: amount(float(row.sensitivity), "loss", units))
    tried = f"{number(values.min().item())} to {number(values.max().item())}"
    return f"{words} (mean training loss above the best, {tried})"


def _dead(results: xr.Dataset) -> str:
    names = varied(results)
    figures = dead_units(results)
    means = by_setting(figures[["start", "end", "worst_end"]], names)
    if not bool(means.end.notnull().any()):
        return "not recorded" if bool(figures.can_die.any()) else "not defined: no activation has a flat zero"
    counted_in, every = int(figures.can_die.sum()), figures.sizes["trial"]
    of = [f"of the {counted_in} of {every} trials whose activation has a flat zero"] * (counted_in < every)
    if float(results.dead_fraction.max()) == 0:
        return " ".join(["none", *of])
    worst = means.isel(setting=int(means.end.argmax("setting")))
    at = setting({name: worst[name].item() for name in names})
    end, layer = percent(float(worst.end)), percent(float(worst.worst_end))
    details = [*([at] if at else []), *([f"{layer} in the worst layer"] if layer != end else []), *of]
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
    """One answer for each setting; equal answers are joined."""
    names = fixed(answer)
    rows = [answer.isel(setting=index) for index in range(answer.sizes["setting"])]
    texts = [words(row) for row in rows]
    if len(set(texts)) == 1:
        return f"{texts[0]} at every {joined(names)}" if len(rows) > 1 else texts[0]
    if len(rows) > MOST_NAMED:
        return f"differs between the {len(rows)} settings of {joined(names)}, see the table of limits"
    if len(names) == 1:
        subject, values = label(names[0]), numbers(values_of(answer[names[0]]))
    else:
        subject, values = "", settings([{name: row[name].item() for name in names} for row in rows])
    said: dict[str, list[str]] = {}
    for text, value in zip(texts, values, strict=True):
        said.setdefault(text, []).append(value)
    return "; ".join(f"{subject} {' and '.join(which)}: {text}".lstrip() for text, which in said.items())
