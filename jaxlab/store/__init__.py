"""Run folders on disk, and the labelled results that are read from them."""

from jaxlab.store.arrays import Arrays, with_prefix
from jaxlab.store.checkpoints import Checkpoints
from jaxlab.store.dataset import check_epochs, not_reached, texts
from jaxlab.store.description import (
    FORMAT,
    Data,
    Description,
    Environment,
    GroupEntry,
    Source,
    Specification,
)
from jaxlab.store.disk import disk_errors
from jaxlab.store.folder import RunFolder, missing_library
from jaxlab.store.lock import only_writer
from jaxlab.store.records import Records, RecordWriter, Rung, read_records
from jaxlab.store.results import build_results, mended_results, read_results
from jaxlab.store.verdicts import validation_metric
from jaxlab.store.weights import discard_weights, read_weights, write_weights

__all__ = [
    "FORMAT",
    "Arrays",
    "Checkpoints",
    "Data",
    "Description",
    "Environment",
    "GroupEntry",
    "RecordWriter",
    "Records",
    "RunFolder",
    "Rung",
    "Source",
    "Specification",
    "build_results",
    "check_epochs",
    "discard_weights",
    "disk_errors",
    "mended_results",
    "missing_library",
    "not_reached",
    "only_writer",
    "read_records",
    "read_results",
    "read_weights",
    "texts",
    "validation_metric",
    "with_prefix",
    "write_weights",
]
