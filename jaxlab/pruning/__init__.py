"""Rules that stop trials between epochs: pure functions from the curves so far to who stops.

>>> from jaxlab import pruning
>>> study = Study(data, sweep, epochs=27, rules=[pruning.Hyperband(), pruning.Patience(epochs=5)])

At each epoch, once all running trials of a cohort (those that started together) have reached it and before the next one
is trained, each rule is called with the `History` and says who stops and why; any one rule suffices, `AllOf` asks for
agreement. A rule of your own is a function of the history that returns a bool array of the trials; it is called once on
made-up curves of epoch 0 before a stage is trained. Trials with a bad step always stop, see `Divergence`.
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
