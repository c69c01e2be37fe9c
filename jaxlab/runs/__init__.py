"""Execution of a job: a run, which begins anew or resumes where an earlier start ended.

The module `jaxlab.runs.execution` is the life of a run from top to bottom: begin or resume, compile, train, decide,
record, checkpoint, finish.
"""

from jaxlab.runs.compiling import fingerprint_of
from jaxlab.runs.describe import coordinates, environment, varied
from jaxlab.runs.digests import arrays_digest, digest, serialisable
from jaxlab.runs.execution import Options, run
from jaxlab.runs.job import Job
from jaxlab.runs.numbering import Numbering, Stage, number_trials, stages
from jaxlab.runs.plan import GroupPlan, Plan, make_plan
from jaxlab.runs.progress import Progress
from jaxlab.runs.verification import Verdict, Verification, verify

__all__ = [
    "GroupPlan",
    "Job",
    "Numbering",
    "Options",
    "Plan",
    "Progress",
    "Stage",
    "Verdict",
    "Verification",
    "arrays_digest",
    "coordinates",
    "digest",
    "environment",
    "fingerprint_of",
    "make_plan",
    "number_trials",
    "run",
    "serialisable",
    "stages",
    "varied",
    "verify",
]
