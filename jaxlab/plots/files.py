"""Figures to files."""

from __future__ import annotations

import os
from pathlib import Path

from matplotlib.figure import Figure

from jaxlab import __version__
from jaxlab.errors import InputError

_MARK = "drawn by jaxlab"


def save(figure: Figure, stem: str | os.PathLike) -> tuple[Path, Path]:
    """Write ``stem.png`` (200 dpi) and ``stem.svg``; folders are made as needed.

    An earlier figure of jaxlab's is replaced.

    Raises:
        InputError: a file of that name was not drawn by jaxlab, or the folder cannot be written.
    """
    paths = tuple(Path(f"{os.fspath(stem)}.{kind}") for kind in ("png", "svg"))
    try:
        for path in paths:
            if path.exists() and _MARK.encode() not in path.read_bytes()[:4096]:
                raise InputError("out", str(path), "exists and was not drawn by jaxlab; name another folder")
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        words = f"{_MARK} {__version__}"
        figure.savefig(paths[0], dpi=200, metadata={"Software": words})
        figure.savefig(paths[1], metadata={"Creator": words, "Date": None})
    except OSError as error:
        raise InputError("out", str(paths[0].parent), f"cannot be written ({error.strerror})") from error
    return paths
