"""Files of downloaded data sets: search, download, and checks."""

from __future__ import annotations

import gzip
import logging
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from jaxlab.errors import InputError, how_to_install


def find(folders: list[Path], names: list[str]) -> Path | None:
    """Find the first existing file ``folder / name``, by folder and then by name; None if there is none."""
    for folder in folders:
        for name in names:
            if (folder / name).is_file():
                return folder / name
    return None


def cache_folder() -> Path | None:
    """The folder in which `fetch` stores files, or None if pooch is not installed."""
    try:
        return _import_pooch().os_cache("jaxlab")
    except InputError:
        return None


def fetch(url: str, check: Callable[[Path], object]) -> Path:
    """Download a file into the cache unless it is there already; return its path.

    Args:
        url: address of the file; its last component is the file name in the cache.
        check: raises InputError if the content is wrong. The cached copy is then deleted, so that the next call
            downloads it again.

    Raises:
        InputError: pooch is missing, the download fails, or the content is wrong.
    """
    pooch = _import_pooch()
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)  # pooch would suggest a hash, which `check` makes unnecessary
    try:
        path = Path(
            pooch.retrieve(url, known_hash=None, fname=url.rsplit("/", 1)[-1], path=pooch.os_cache("jaxlab"))
        )
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        remedy = (
            f"download failed ({reason}); check the network, or download the file elsewhere and give folder"
        )
        raise InputError("url", url, remedy) from None
    finally:
        logger.setLevel(level)
    try:
        check(path)
    except InputError:
        path.unlink()
        raise
    return path


def read(path: Path, remedy: str) -> bytes:
    """Read a file, uncompressed if its name ends in ``.gz``; raise InputError if it cannot be read."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except EOFError:
        raise InputError("file", str(path), f"truncated; {remedy}") from None
    except (gzip.BadGzipFile, zlib.error):
        raise InputError("file", str(path), f"not a valid gzip file; {remedy}") from None
    except OSError as error:
        raise InputError("file", str(path), f"cannot be read ({error.strerror}); {remedy}") from None


def _import_pooch() -> ModuleType:
    try:
        import pooch
    except ImportError:
        raise InputError("download", True, f"needs pooch: {how_to_install('data')}") from None
    return pooch
