"""Runs on disk and the labelled results read from them."""

from jaxlab.store.folder import RunFolder
from jaxlab.store.results import build_results, read_results
from jaxlab.store.verdicts import validation_metric

__all__ = ["RunFolder", "build_results", "read_results", "validation_metric"]
