"""The decision which trials stop, by all rules of a study; and rules read from a study file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from jaxlab.checks import flag
from jaxlab.errors import InputError, UnknownName
from jaxlab.pruning.comparing import Hyperband, Median, SuccessiveHalving
from jaxlab.pruning.history import BuiltIn, History, Outcome, Stop
from jaxlab.pruning.single import Divergence, GeneralizationLoss, Patience, ProductivityQuotient, Up

Rule = Callable[[History], Any]
_KINDS = (Divergence, Patience, GeneralizationLoss, ProductivityQuotient, Up)
_KINDS += (Median, SuccessiveHalving, Hyperband)


@dataclass(frozen=True)
class AllOf:
    """Stop the trials that all of the given rules would stop at this epoch; the first rule gives the outcome."""

    rules: Sequence[Rule]
    name: ClassVar[str] = "all_of"

    def __post_init__(self) -> None:
        check_rules(self.rules)
        if not self.rules:
            raise InputError("pruning.all_of.rules", self.rules, "give one rule or more")
        object.__setattr__(self, "rules", tuple(self.rules))

    @property
    def outcome(self) -> str:
        return _outcome(self.rules[0])

    @property
    def compares(self) -> bool:
        return compare(self.rules)

    @property
    def draws(self) -> bool:
        return draw(self.rules)

    @property
    def depends_on_epochs(self) -> bool:
        return bool(needing_epochs(self.rules))

    def __call__(self, history: History) -> dict[int, str]:
        found = [_reasons(rule, history) for rule in self.rules]
        rows = set(found[0]).intersection(*found[1:])
        return {row: " and ".join(reasons[row] for reasons in found) for row in sorted(rows)}


def decide(rules: Sequence[Rule], history: History) -> dict[int, Stop]:
    """Decide which trials stop now: stops by row, each from the first rule that stops the trial, divergence first.

    Raises:
        InputError: a custom rule returns neither a mask nor a mapping from rows to reasons.
    """
    found: dict[int, Stop] = {}
    for rule in with_divergence(rules):
        for row, reason in _reasons(rule, history).items():
            found.setdefault(row, Stop(_outcome(rule), _name(rule), reason))
    return found


def with_divergence(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """The rules with `Divergence` first, added where it is missing."""
    first = [rule for rule in rules if isinstance(rule, Divergence)] or [Divergence()]
    return (*first, *(rule for rule in rules if not isinstance(rule, Divergence)))


def stop_early(rules: Sequence[Rule]) -> bool:
    """Whether a rule may stop a trial that has not diverged."""
    return any(not isinstance(rule, Divergence) for rule in rules)


def compare(rules: Sequence[Rule]) -> bool:
    """Whether a rule compares trials with each other, as a custom rule may."""
    return any(getattr(rule, "compares", True) for rule in rules)


def needing_epochs(rules: Sequence[Rule]) -> list[str]:
    """Names of the rules that depend on the planned number of epochs."""
    return [_name(rule) for rule in rules if getattr(rule, "depends_on_epochs", False)]


def draw(rules: Sequence[Rule]) -> bool:
    """Whether a rule draws from NumPy's random generator, as a custom rule may."""
    return any(getattr(rule, "draws", True) for rule in rules)


def check_rules(rules: Any) -> None:
    """Raise InputError unless ``rules`` is a list or tuple of rules."""
    if not isinstance(rules, (list, tuple)):
        raise InputError("rules", rules, "give a list of rules, see jaxlab.pruning")
    for rule in rules:
        if isinstance(rule, type) or not callable(rule):
            raise InputError(
                "rules", rule, "give rules such as pruning.Median(), or functions of the history"
            )


def check_curves(rules: Sequence[Rule], history: History) -> None:
    """Raise InputError unless a history has the curves that the built-in rules read; they may be empty."""
    for rule in rules:
        if isinstance(rule, AllOf):
            check_curves(rule.rules, history)
        elif isinstance(rule, BuiltIn):
            for name in rule.curves:
                history.curve(name, f"pruning.{rule.name}")
            if hasattr(rule, "metric"):
                history.losses(rule.metric, f"pruning.{rule.name}.metric")


def try_rules(rules: Sequence[Rule], history: History) -> None:
    """Call the custom rules once on artificial curves of epoch 0, so that mistakes show before training.

    Args:
        rules: rules of a study.
        history: has the names and shapes of the curves.

    Raises:
        InputError: a rule raises, or returns neither a mask nor a mapping from rows to reasons.
    """
    curves = {name: values.copy() for name, values in history.curves.items()}
    for name, values in curves.items():
        values[:, 0] = -1 if name == "first_bad_step" else 1
    made_up = history._replace(epoch=0, running=np.ones_like(history.running), curves=curves)
    for rule in rules:
        if isinstance(rule, AllOf):
            try_rules(rule.rules, history)
        elif not isinstance(rule, BuiltIn):
            _reasons(rule, made_up)


def plain_rule(rule: Any, plain: Callable[[Any], Any] = repr) -> Any:
    """A rule as a JSON-serialisable value: the parameters of a built-in rule, ``plain(rule)`` of a custom one."""
    if isinstance(rule, AllOf):
        return {"rule": rule.name, "rules": [plain_rule(each, plain) for each in rule.rules]}
    if not isinstance(rule, BuiltIn):
        return plain(rule)
    found = {"rule": rule.name}
    for field in fields(rule):
        value = getattr(rule, field.name)
        value = value.item() if isinstance(value, np.generic) else value
        found[field.name] = float(value) if field.type is float else value  # 5 means the same as 5.0
    return found


def from_table(table: Mapping[str, Any]) -> tuple[Rule, ...]:
    """Read the rules of a study file's table ``[pruning]``, in order::

        [pruning]
        divergence = false                    # true, the default, stops trials with a bad step
        median = true                         # with its defaults
        patience = { epochs = 5, min_delta = 1e-3 }
        own = "rules.py:too_many_dead_units"  # functions of the history, already looked up

    Raises:
        InputError: a rule or parameter is unknown, or a value is not valid.
    """
    kinds = {kind.name: kind for kind in _KINDS}
    found: list[Rule] = []
    for name, value in table.items():
        if name == "own":
            found += _custom_rules(value)
        elif name not in kinds:
            raise UnknownName("pruning", name, [*kinds, "own"], "rule")
        elif name == "divergence":
            found.append(Divergence(flag("pruning.divergence", value)))
        elif value is not False:
            found.append(_rule(kinds[name], name, value))
    return tuple(found)


def _rule(kind: type, name: str, value: Any) -> Rule:
    if value is True:
        return kind()
    if not isinstance(value, Mapping):
        raise InputError(f"pruning.{name}", value, "give true, false or a table of its parameters")
    known = [field.name for field in fields(kind)]
    for key in value:
        if key not in known:
            raise UnknownName(f"pruning.{name}", key, known, "parameter")
    return kind(**value)


def _custom_rules(value: Any) -> list[Rule]:
    functions = list(value) if isinstance(value, (list, tuple)) else [value]
    for function in functions:
        if not callable(function):
            raise InputError("pruning.own", function, 'give "file.py:function" or a list of these')
    return functions


def _outcome(rule: Rule) -> str:
    return getattr(rule, "outcome", Outcome.PRUNED)


def _name(rule: Rule) -> str:
    return getattr(rule, "name", None) or getattr(rule, "__name__", type(rule).__name__)


def _reasons(rule: Rule, history: History) -> dict[int, str]:
    """The running trials that a rule stops, with reasons; for a mask, the reason is the rule's name."""
    try:
        found = rule(history)
    except InputError:
        raise
    except Exception as error:  # a custom rule may raise anything
        text = " ".join(f"{type(error).__name__}: {error}".split())
        remedy = (
            f"raises {text[:200]} at epoch {history.epoch}: a rule is a function of the history that returns "
        )
        raise InputError(
            "rules", rule, f"{remedy}a bool array [{len(history.running)}], True for the trials that stop"
        ) from error
    trials = len(history.running)
    if isinstance(found, Mapping):
        for row in found:
            whole = isinstance(row, (int, np.integer)) and not isinstance(row, bool)
            if not whole or not 0 <= row < trials:
                raise InputError(_name(rule), row, f"is no row: there are {trials} trials")
        return {int(row): str(reason) for row, reason in found.items() if history.running[row]}
    try:
        mask = np.asarray(found)
    except ValueError:  # lists of unequal lengths
        mask = np.asarray(found, object)
    if mask.shape != (trials,) or mask.dtype != bool:
        remedy = f"return a bool array [{trials}], True for the trials that stop, or a mapping from rows to reasons"
        raise InputError(_name(rule), f"{mask.dtype} {list(mask.shape)}", remedy)
    return dict.fromkeys(np.flatnonzero(mask & history.running).tolist(), _name(rule))
