"""Trace a setting through the package: which files handle its value, from the study file to the update?

    python scripts/trace_a_setting.py scripts/studies/learning_rate.toml
    python scripts/trace_a_setting.py STUDY.toml --setting l2 --fields

Trains the study in memory, as a small MLP for one epoch, and lists the files of jaxlab that handle the setting: one of
their functions has it as an argument or a local variable, or as a key of a mapping among these, such as
`Hyperparameters`. ``--fields`` also lists files that only hold an object with such a mapping in a field, such as a
`Group`. Files are in the order in which they first handle the setting, by room; docs/architecture.md describes the
rooms. Takes a minute on two CPU cores.
"""

import argparse
import itertools
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import jax

import jaxlab
from jaxlab.settings import Hyperparameters

ROOT = Path(jaxlab.__file__).parent
SMALL = ["epochs=1", "configuration.model=mlp", "configuration.features=[8]", "data.subset=200"]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", help="the study file")
    parser.add_argument("--setting", default="learning_rate", help="name (default: learning_rate)")
    parser.add_argument("--fields", action="store_true", help="count fields of objects, too")
    given = parser.parse_args(arguments)
    jax.devices()  # JAX starts outside the trace
    with Tracer(given.setting, given.fields) as tracer:
        jaxlab.load_study(given.study, SMALL).run()
    files = sorted(tracer.first, key=tracer.first.get)
    entries = [room for room, _ in itertools.groupby(files, room_of)]
    print(
        f"{given.setting}: {len(files)} files in {len(set(entries))} rooms, entered in {len(entries)} turns"
    )
    for room, those in itertools.groupby(files, room_of):
        print(room)
        for file in those:
            print(f"    {file:32} {tracer.functions[file]}")
    return 0


class Tracer:
    """Collects the files that handle a setting while the context is open.

    Attributes:
        first: time of the first call that handles the setting, counted in calls, by file.
        functions: name of that call's function, by file.
    """

    def __init__(self, setting: str, fields: bool):
        self.setting, self.fields = setting, fields
        self.first: dict[str, int] = {}
        self.functions: dict[str, str] = {}
        self._clock = itertools.count()
        self._began: dict[int, int] = {}

    def __enter__(self) -> "Tracer":
        sys.setprofile(self._event)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _event(self, frame: FrameType, event: str, argument: Any) -> None:
        path = frame.f_code.co_filename
        module = frame.f_code.co_name == "<module>"
        if module or not path.startswith(str(ROOT)) or event not in ("call", "return"):
            return
        if event == "call":
            self._began[id(frame)] = next(self._clock)
            return
        began, file = self._began.pop(id(frame), None), Path(path).relative_to(ROOT).as_posix()
        # Locals are complete at the end of a call, but its start decides the order.
        if began is None or began >= self.first.get(file, sys.maxsize) or not self._handles(frame.f_locals):
            return
        self.first[file], self.functions[file] = began, frame.f_code.co_qualname

    def _handles(self, variables: dict[str, Any]) -> bool:
        if self.setting in variables or any(map(self._has_key, variables.values())):
            return True
        fields = (vars(each).values() for each in variables.values() if hasattr(each, "__dict__"))
        return self.fields and any(map(self._has_key, itertools.chain.from_iterable(fields)))

    def _has_key(self, value: Any, depth: int = 3) -> bool:
        """Whether a mapping has the setting as a key; a study file's tables are nested."""
        if not isinstance(value, (dict, Hyperparameters)):
            return False
        return self.setting in value or (
            depth > 0 and any(self._has_key(each, depth - 1) for each in list(value.values())[:64])
        )


def room_of(file: str) -> str:
    """The room of a file: the first part of its path."""
    return file.partition("/")[0].removesuffix(".py")


if __name__ == "__main__":
    sys.exit(main())
