"""One trial as pure functions, without a trial axis."""

from jaxlab.trial.guard import guarded_scan, select
from jaxlab.trial.network import build_model
from jaxlab.trial.protocol import PyTree, Record, Trial, Variable, Weights, comparison_metric
from jaxlab.trial.supervised import shared_arrays, supervised, update_with
from jaxlab.trial.task import PRECISIONS, State, Supervised

__all__ = [
    "PRECISIONS",
    "PyTree",
    "Record",
    "State",
    "Supervised",
    "Trial",
    "Variable",
    "Weights",
    "build_model",
    "comparison_metric",
    "guarded_scan",
    "select",
    "shared_arrays",
    "supervised",
    "update_with",
]
