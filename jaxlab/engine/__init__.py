"""Packs of trials through one compiled program."""

from jaxlab.engine.code import code_digest
from jaxlab.engine.determinism import check_deterministic
from jaxlab.engine.group import GroupTraining, packs_of
from jaxlab.engine.host import NO_ROWS, Rows, flat, to_device, unflat
from jaxlab.engine.memory import is_out_of_memory
from jaxlab.engine.pack import Pack, make_pack
from jaxlab.engine.probe import Choice, compile_group, fingerprint
from jaxlab.engine.program_cache import clear_programs
from jaxlab.engine.programs import Programs, bytes_of, compile_programs
from jaxlab.engine.records import EndRecord, EpochRecord
from jaxlab.engine.train import Training, placed, train
from jaxlab.engine.width import default_width

__all__ = [
    "NO_ROWS",
    "Choice",
    "EndRecord",
    "EpochRecord",
    "GroupTraining",
    "Pack",
    "Programs",
    "Rows",
    "Training",
    "bytes_of",
    "check_deterministic",
    "clear_programs",
    "code_digest",
    "compile_group",
    "compile_programs",
    "default_width",
    "fingerprint",
    "flat",
    "is_out_of_memory",
    "make_pack",
    "packs_of",
    "placed",
    "to_device",
    "train",
    "unflat",
]
