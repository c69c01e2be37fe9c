"""Who stops, by all the rules of a study; and rules as a study file writes them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from jaxlab.checks import flag
from jaxlab.errors import InputError, UnknownName
from jaxlab.pruning.comparing import Hyperband, Median, SuccessiveHalving
from jaxlab.pruning.history import History, Outcome, Stop
from jaxlab.pruning.single import Divergence, GeneralizationLoss, Patience, ProductivityQuotient, Up

Rule = Callable[[History], Any]


@dataclass(frozen=True)
class AllOf:
    """Stop the trials that every one of some rules would stop at this epoch; the first gives the outcome."""

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


_NAMED = (
    Divergence,
    Patience,
    GeneralizationLoss,
    ProductivityQuotient,
    Up,
    Median,
    SuccessiveHalving,
    Hyperband,
)


def decide(rules: Sequence[Rule], history: History) -> dict[int, Stop]:
    """Who stops now, by row; the first of the rules that stops a trial gives the reason. Divergence comes first.

    Raises:
        InputError: a custom rule gives something else than a mask or a mapping of rows.
    """
    found: dict[int, Stop] = {}
    for rule in with_divergence(rules):
        for row, reason in _reasons(rule, history).items():
            found.setdefault(row, Stop(_outcome(rule), _name(rule), reason))
    return found


def with_divergence(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """The rules with `Divergence` in front, added if it is not among them."""
    first = [rule for rule in rules if isinstance(rule, Divergence)] or [Divergence()]
    return (*first, *(rule for rule in rules if not isinstance(rule, Divergence)))


def stop_early(rules: Sequence[Rule]) -> bool:
    """Whether a trial may stop though it has not diverged."""
    return any(not isinstance(rule, Divergence) for rule in rules)


def compare(rules: Sequence[Rule]) -> bool:
    """Whether one of the rules looks at other trials; a custom rule may."""
    return any(getattr(rule, "compares", True) for rule in rules)


def needing_epochs(rules: Sequence[Rule]) -> list[str]:
    """Names of the rules that depend on how many epochs are planned."""
    return [_name(rule) for rule in rules if getattr(rule, "depends_on_epochs", False)]


def draw(rules: Sequence[Rule]) -> bool:
    """Whether one of the rules draws from NumPy's generator, as a custom rule may."""
    return any(getattr(rule, "draws", True) for rule in rules)


def check_rules(rules: Any) -> None:
    """Raise unless a sequence of rules."""
    if not isinstance(rules, (list, tuple)):
        raise InputError("rules", rules, "give a list of rules, see jaxlab.pruning")
    for rule in rules:
        if isinstance(rule, type) or not callable(rule):
            raise InputError(
                "rules", rule, "give rules such as pruning.Median(), or functions of the history"
            )


def check_curves(rules: Sequence[Rule], history: History) -> None:
    """Raise unless what the built-in rules look at is among the curves of a history, however empty."""
    for rule in rules:
        if isinstance(rule, AllOf):
            check_curves(rule.rules, history)
        elif isinstance(rule, _NAMED):
            for name in getattr(rule, "curves", ()):
                history.curve(name, f"pruning.{rule.name}")
            if hasattr(rule, "metric"):
                history.losses(rule.metric, f"pruning.{rule.name}.metric")


def try_rules(rules: Sequence[Rule], history: History) -> None:
    """Call the custom rules once, before a stage is trained, on made-up curves of epoch 0.

    Args:
        rules: of a study.
        history: says which curves there are, of what shapes.

    Raises:
        InputError: one of them raises, or returns something else than a mask or a mapping of rows.
    """
    curves = {name: values.copy() for name, values in history.curves.items()}
    for name, values in curves.items():
        values[:, 0] = -1 if name == "first_bad_step" else 1
    made_up = history._replace(epoch=0, running=np.ones_like(history.running), curves=curves)
    for rule in rules:
        if isinstance(rule, AllOf):
            try_rules(rule.rules, history)
        elif not isinstance(rule, _NAMED):
            _reasons(rule, made_up)


def plain_rule(rule: Any, plain: Callable[[Any], Any] = repr) -> Any:
    """A rule as JSON holds it: a built-in one by its parameters, a custom rule as ``plain`` has it."""
    if isinstance(rule, AllOf):
        return {"rule": rule.name, "rules": [plain_rule(each, plain) for each in rule.rules]}
    if not isinstance(rule, _NAMED):
        return plain(rule)
    found = {"rule": rule.name}
    for field in fields(rule):
        value = getattr(rule, field.name)
        value = value.item() if isinstance(value, np.generic) else value
        found[field.name] = float(value) if field.type is float else value  # 5 says the same as 5.0
    return found


def from_table(table: Mapping[str, Any]) -> tuple[Rule, ...]:
    """The rules of a study file's table ``[pruning]``, in its order::

        [pruning]
        divergence = false                    # true, as by default, stops trials with a bad step
        median = true                         # with its defaults
        patience = { epochs = 5, min_delta = 1e-3 }
        own = "rules.py:too_many_dead_units"  # functions of the history, already looked up

    Raises:
        InputError: for an unknown rule or parameter, or a value that a rule refuses.
    """
    kinds = {kind.name: kind for kind in _NAMED}
    found: list[Rule] = []
    for name, value in table.items():
        if name == "own":
            found += _own(value)
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


def _own(value: Any) -> list[Rule]:
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
    """What a rule says, of running trials; a mask has the rule's name for a reason."""
    try:
        found = rule(history)
    except InputError:
        raise
    except Exception as error:  # whatever the user's code raises
        text = " ".join(f"{type(error).__name__}: {error}".split())
        remedy = f"raises {text[:200]} at epoch {history.epoch}: a rule is a function of the history, which returns "
        raise InputError(
            "rules", rule, f"{remedy}a bool array of the {len(history.running)} trials"
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
        remedy = f"return a bool array of the {trials} trials, or a mapping from rows to reasons"
        raise InputError(_name(rule), f"{mask.dtype} {list(mask.shape)}", remedy)
    return dict.fromkeys(np.flatnonzero(mask & history.running).tolist(), _name(rule))
