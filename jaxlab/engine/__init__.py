"""Packs of trials through one compiled program."""

from jaxlab.engine.memory import is_out_of_memory
from jaxlab.engine.probe import Choice, compile_group
from jaxlab.engine.programs import Pack, Programs, bytes_of, compile_programs, make_pack
from jaxlab.engine.train import Piece, packs_of, train
from jaxlab.engine.width import default_width

__all__ = [
    "Choice",
    "Pack",
    "Piece",
    "Programs",
    "bytes_of",
    "compile_group",
    "compile_programs",
    "default_width",
    "is_out_of_memory",
    "make_pack",
    "packs_of",
    "train",
]
