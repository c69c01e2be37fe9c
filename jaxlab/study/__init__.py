"""A study of many trials: the public entry."""

from jaxlab.study.fields import CONFIGURATION, known_hyperparameters
from jaxlab.study.files import load_study
from jaxlab.study.plan import GroupPlan, Plan
from jaxlab.study.progress import Progress
from jaxlab.study.study import Study
from jaxlab.study.trained import load_model
from jaxlab.study.verify import Verdict, Verification, verify

__all__ = [
    "CONFIGURATION",
    "GroupPlan",
    "Plan",
    "Progress",
    "Study",
    "Verdict",
    "Verification",
    "known_hyperparameters",
    "load_model",
    "load_study",
    "verify",
]
