"""Figures of a run, drawn with matplotlib but without pyplot, a backend or a global style.

Each function takes what `jaxlab.read_results` returns and returns a `matplotlib.figure.Figure` whose title states the
finding.
"""

from __future__ import annotations

import importlib.util

from jaxlab.errors import how_to_install

if importlib.util.find_spec("matplotlib") is None:
    raise ModuleNotFoundError(f"matplotlib is missing: {how_to_install('plot')}", name="matplotlib")

from jaxlab.plots.dead_units import dead_units_figure
from jaxlab.plots.divergence import divergence_figure
from jaxlab.plots.measure import measure
from jaxlab.plots.overfitting import overfitting_figure
from jaxlab.plots.saving import save

__all__ = ["dead_units_figure", "divergence_figure", "measure", "overfitting_figure", "save"]
