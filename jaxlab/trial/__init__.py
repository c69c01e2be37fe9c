"""ONE trial as pure functions; no axis of trials anywhere."""

from jaxlab.trial.guard import guarded_scan, select
from jaxlab.trial.network import build_model
from jaxlab.trial.protocol import Record, Trial, Variable, Weights, compared_by
from jaxlab.trial.supervised import shared_arrays, supervised, update_with
from jaxlab.trial.task import PRECISIONS, State, Supervised

__all__ = [
    "PRECISIONS",
    "Record",
    "State",
    "Supervised",
    "Trial",
    "Variable",
    "Weights",
    "build_model",
    "compared_by",
    "guarded_scan",
    "select",
    "shared_arrays",
    "supervised",
    "update_with",
]
