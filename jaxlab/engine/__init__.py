"""Packs of trials through one compiled program."""

from jaxlab.engine.programs import Pack, Programs, compile_programs, default_width, make_pack
from jaxlab.engine.train import Piece, packs_of, train

__all__ = ["Pack", "Piece", "Programs", "compile_programs", "default_width", "make_pack", "packs_of", "train"]
