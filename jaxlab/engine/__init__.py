"""Train packs of trials with one compiled program."""

from jaxlab.engine.code import code_digest
from jaxlab.engine.determinism import check_deterministic
from jaxlab.engine.group import GroupTraining, split_into_packs
from jaxlab.engine.host import NO_ROWS, EndRecord, EpochRecord, Rows, flatten, to_device, unflatten
from jaxlab.engine.memory import is_out_of_memory
from jaxlab.engine.pack import Pack, make_pack
from jaxlab.engine.probe import Choice, compile_group, fingerprint
from jaxlab.engine.program_cache import clear_programs
from jaxlab.engine.programs import Programs, bytes_of, compile_programs
from jaxlab.engine.train import Training, place_shared, train
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
    "flatten",
    "is_out_of_memory",
    "make_pack",
    "place_shared",
    "split_into_packs",
    "to_device",
    "train",
    "unflatten",
]
