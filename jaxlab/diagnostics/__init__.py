"""Training diagnostics as pure functions of one trial: divergence, overfitting, dead units, norms.

``units.init`` and ``units.update`` accumulate the counts of `units`.
"""

from jaxlab.diagnostics import divergence, norms, overfitting, units
from jaxlab.diagnostics.curves import final, or_worst
from jaxlab.diagnostics.divergence import (
    Instability,
    all_finite,
    convergence_measure,
    did_not_learn,
    first_bad,
    learning_rate_sensitivity,
    opposed_updates,
    oscillation,
    unstable,
)
from jaxlab.diagnostics.norms import cosine, global_norm, update_ratio, zero_fraction
from jaxlab.diagnostics.overfitting import (
    best_epoch,
    gap,
    generalization_loss,
    productivity_quotient,
    progress,
    rise,
    up,
)
from jaxlab.diagnostics.units import (
    UnitCounts,
    dead,
    dead_positions,
    died,
    died_at,
    dormant,
    effective_rank,
    revived,
)

__all__ = [
    "Instability",
    "UnitCounts",
    "all_finite",
    "best_epoch",
    "convergence_measure",
    "cosine",
    "dead",
    "dead_positions",
    "did_not_learn",
    "died",
    "died_at",
    "divergence",
    "dormant",
    "effective_rank",
    "final",
    "first_bad",
    "gap",
    "generalization_loss",
    "global_norm",
    "learning_rate_sensitivity",
    "norms",
    "opposed_updates",
    "or_worst",
    "oscillation",
    "overfitting",
    "productivity_quotient",
    "progress",
    "revived",
    "rise",
    "units",
    "unstable",
    "up",
    "update_ratio",
    "zero_fraction",
]
