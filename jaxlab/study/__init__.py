"""A study of many trials: the public entry."""

from jaxlab.runs import GroupPlan, Plan, Progress, Verdict, Verification
from jaxlab.study.fields import CONFIGURATION, HYPERPARAMETERS, STUDY, Field
from jaxlab.study.loading import load_model
from jaxlab.study.study import Study
from jaxlab.study.study_file import TABLES, load_study
from jaxlab.study.verification import verify

__all__ = [
    "CONFIGURATION",
    "HYPERPARAMETERS",
    "STUDY",
    "TABLES",
    "Field",
    "GroupPlan",
    "Plan",
    "Progress",
    "Study",
    "Verdict",
    "Verification",
    "load_model",
    "load_study",
    "verify",
]
