"""Writing figures to files."""

from __future__ import annotations

import io
import os
from pathlib import Path

from matplotlib.figure import Figure

from jaxlab import __version__
from jaxlab.errors import InputError
from jaxlab.files import write_whole
from jaxlab.store.disk import open_regular

_MARK = "drawn by jaxlab"


def save(figure: Figure, stem: str | os.PathLike) -> tuple[Path, Path]:
    """Write ``stem.png`` (200 dpi) and ``stem.svg``, and create folders as needed.

    A figure that jaxlab drew earlier is replaced.

    Raises:
        InputError: a file of that name was not drawn by jaxlab, or the folder cannot be written to.
    """
    paths = tuple(Path(f"{os.fspath(stem)}.{kind}") for kind in ("png", "svg"))
    try:
        for path in paths:
            if os.path.lexists(path) and not _is_ours(path):
                raise InputError("out", str(path), "exists and was not drawn by jaxlab; name another folder")
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        words = f"{_MARK} {__version__}"
        options = (
            {"dpi": 200, "metadata": {"Software": words}},
            {"metadata": {"Creator": words, "Date": None}},
        )
        for path, chosen in zip(paths, options, strict=True):
            drawn = io.BytesIO()
            figure.savefig(drawn, format=path.suffix[1:], **chosen)
            write_whole(path, drawn.getvalue())
    except OSError as error:
        raise InputError("out", str(paths[0].parent), f"cannot be written ({error.strerror})") from error
    return paths


def _is_ours(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            return _MARK.encode() in file.read(4096)
    except (FileNotFoundError, ValueError):  # a dangling link, or not a regular file
        return False
