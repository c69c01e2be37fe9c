"""Files of downloaded data sets: where they lie, how they are fetched, what is said when they are broken."""

from __future__ import annotations

import gzip
import hashlib
import logging
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from jaxlab.errors import InputError, how_to_install


def find(folders: list[Path], names: list[str]) -> Path | None:
    """The first of ``names`` that is a file in the first of ``folders`` that has one."""
    for folder in folders:
        for name in names:
            if (folder / name).is_file():
                return folder / name
    return None


def cache_folder() -> Path | None:
    """The folder that `fetch` keeps files in, or None where pooch is not installed."""
    try:
        return _pooch().os_cache("jaxlab")
    except InputError:
        return None


def fetch(url: str, check: Callable[[Path], object]) -> Path:
    """Downloads a file into the cache, once, and returns its path.

    Args:
        url: address of the file; its last part is the file's name in the cache.
        check: raises `InputError` if the downloaded content is wrong. The copy in the cache is then deleted,
            so that the next call downloads it again.

    Raises:
        InputError: if pooch is missing, the download fails, or the content is wrong.
    """
    pooch = _pooch()
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)  # it would advise on a hash; `check` does more
    try:
        path = Path(
            pooch.retrieve(url, known_hash=None, fname=url.rsplit("/", 1)[-1], path=pooch.os_cache("jaxlab"))
        )
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        remedy = f"download failed ({reason}); check the network, or download it elsewhere and give folder"
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
    """The content of a file, uncompressed if its name ends in ``.gz``; `InputError` if it cannot be read."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except EOFError:
        raise InputError("file", str(path), f"it is truncated; {remedy}") from None
    except (gzip.BadGzipFile, zlib.error):
        raise InputError("file", str(path), f"it is not a valid gzip file; {remedy}") from None
    except OSError as error:
        raise InputError("file", str(path), f"it cannot be read ({error.strerror}); {remedy}") from None


def check_sha256(path: Path, content: bytes, sha256: str, remedy: str) -> None:
    """`InputError` unless the content has this SHA-256."""
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(
            "file", str(path), f"its content is not the published one (SHA-256 differs); {remedy}"
        )


def _pooch() -> ModuleType:
    try:
        import pooch
    except ImportError:
        raise InputError("download", True, f"it needs pooch: {how_to_install('data')}") from None
    return pooch
