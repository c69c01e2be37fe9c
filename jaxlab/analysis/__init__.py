"""Analysis of a study's results: pure functions of the labelled data set, which never train.

Every function takes what `jaxlab.read_results` returns, for a finished or an unfinished run, and leaves out trials that
have not completed an epoch yet. `by_setting` is the one place where trials are averaged over seeds.
"""

from jaxlab.analysis.answers import Best, Gap, best_setting, largest_gap
from jaxlab.analysis.averages import (
    Line,
    by_setting,
    default_by,
    default_over,
    judged,
    last,
    lines,
    matching,
    stopped_early,
    values_of,
    varied,
)
from jaxlab.analysis.grid import unstack
from jaxlab.analysis.limits import largest_stable, limits_table, sensitivity, threshold_crossing
from jaxlab.analysis.measures import dead_units, divergence, overfitting
from jaxlab.analysis.summary import Row, summary
from jaxlab.analysis.tables import dead_units_table, divergence_table, overfitting_table

__all__ = [
    "Best",
    "Gap",
    "Line",
    "Row",
    "best_setting",
    "by_setting",
    "dead_units",
    "dead_units_table",
    "default_by",
    "default_over",
    "divergence",
    "divergence_table",
    "judged",
    "largest_gap",
    "largest_stable",
    "last",
    "limits_table",
    "lines",
    "matching",
    "overfitting",
    "overfitting_table",
    "sensitivity",
    "stopped_early",
    "summary",
    "threshold_crossing",
    "unstack",
    "values_of",
    "varied",
]
