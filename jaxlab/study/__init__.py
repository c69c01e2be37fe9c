"""A study of many trials: the public entry."""

from jaxlab.study.fields import CONFIGURATION, known_hyperparameters
from jaxlab.study.files import load_study
from jaxlab.study.plan import GroupPlan, Plan
from jaxlab.study.run import Progress
from jaxlab.study.study import Study

__all__ = ["CONFIGURATION", "GroupPlan", "Plan", "Progress", "Study", "known_hyperparameters", "load_study"]
