"""Stopping rules: pure functions from the curves recorded so far to the trials that stop.

>>> from jaxlab import pruning
>>> study = Study(data, sweep, epochs=27, rules=[pruning.Hyperband(), pruning.Patience(epochs=5)])

A cohort is the trials that started together. Once all its running trials have reached an epoch, and before the next one
is trained, each rule is called with the `History` and returns the trials that stop, with reasons. One rule is enough to
stop a trial; `AllOf` requires several to agree. A custom rule is a function of the history that returns a bool array of
the trials; it is called once on artificial curves of epoch 0 before training begins. Trials with a bad step always
stop, see `Divergence`.
"""

from jaxlab.pruning.comparing import Bracket, Hyperband, Median, SuccessiveHalving
from jaxlab.pruning.deciding import (
    AllOf,
    Rule,
    check_curves,
    check_rules,
    compare,
    decide,
    draw,
    from_table,
    needing_epochs,
    plain_rule,
    stop_early,
    try_rules,
    with_divergence,
)
from jaxlab.pruning.history import History, Outcome, Stop
from jaxlab.pruning.single import Divergence, GeneralizationLoss, Patience, ProductivityQuotient, Up

__all__ = [
    "AllOf",
    "Bracket",
    "Divergence",
    "GeneralizationLoss",
    "History",
    "Hyperband",
    "Median",
    "Outcome",
    "Patience",
    "ProductivityQuotient",
    "Rule",
    "Stop",
    "SuccessiveHalving",
    "Up",
    "check_curves",
    "check_rules",
    "compare",
    "decide",
    "draw",
    "from_table",
    "needing_epochs",
    "plain_rule",
    "stop_early",
    "try_rules",
    "with_divergence",
]
