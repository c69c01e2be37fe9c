"""Runs on disk and the labelled results read from them."""

from jaxlab.store.dataset import check_epochs, not_reached, texts
from jaxlab.store.description import FORMAT, Description, digest_of, too_deep
from jaxlab.store.files import disk_errors
from jaxlab.store.folder import RunFolder, missing_library
from jaxlab.store.lock import only_writer
from jaxlab.store.log import Log, Recorded, Rung, read_log
from jaxlab.store.results import build_results, mended_results, read_results
from jaxlab.store.states import States
from jaxlab.store.verdicts import validation_metric
from jaxlab.store.weights import as_type, read_weights, write_weights

__all__ = [
    "FORMAT",
    "Description",
    "Log",
    "Recorded",
    "RunFolder",
    "Rung",
    "States",
    "as_type",
    "build_results",
    "check_epochs",
    "digest_of",
    "disk_errors",
    "mended_results",
    "missing_library",
    "not_reached",
    "only_writer",
    "read_log",
    "read_results",
    "read_weights",
    "texts",
    "too_deep",
    "validation_metric",
    "write_weights",
]
