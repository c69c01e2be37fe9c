"""CIFAR-10, read from its binary version."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from jaxlab import checks
from jaxlab.datasets import published
from jaxlab.datasets.dataset import Dataset, Split
from jaxlab.datasets.downloads import cache_folder, fetch, find, read
from jaxlab.errors import InputError

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
ARCHIVE = "cifar-10-binary.tar.gz"
INNER = "cifar-10-batches-bin"
TRAIN = [f"data_batch_{i}.bin" for i in range(1, 6)]
TEST = "test_batch.bin"
BYTES = 1 + 3 * 32 * 32
REMEDY = "replace it with a fresh copy of the binary version"

#: What the images show, in the order of the labels.
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def cifar10(folder: Any = None, download: Any = False, url: Any = URL) -> Dataset:
    """CIFAR-10: 32×32 colour images of ten classes (Krizhevsky 2009).

    Splits 45,000/5,000/10,000: validation is the second half of ``data_batch_5.bin``, test is
    ``test_batch.bin``. Inputs uint8 [N, 32, 32, 3], seen by the network as value/255.

    Args:
        folder: folder that holds ``data_batch_1.bin`` … ``data_batch_5.bin`` and ``test_batch.bin``, or a
            subfolder ``cifar-10-batches-bin`` with them, or the official ``cifar-10-binary.tar.gz``; the first
            one found is read. The cache by default. Files in a folder may have other contents in the same
            format: 10,000 records of a label (0 to 9) and 3,072 bytes, the red, green and blue planes.
        download: download the official archive into the cache if it is missing (needs pooch). Has no effect
            with ``folder``.
        url: address of the archive. The download is checked against the published MD5.

    Raises:
        InputError: a file, which the error names, is missing, truncated or corrupt.
    """
    folder = None if folder is None else checks.path("folder", folder)
    batches = [
        _decode(*batch)
        for batch in _read_files(folder, checks.flag("download", download), checks.text("url", url))
    ]
    inputs = np.concatenate([inputs for inputs, _ in batches[:-1]])
    targets = np.concatenate([targets for _, targets in batches[:-1]])
    validation = published.CIFAR10_RECORDS // 2
    return Dataset(
        name="cifar10",
        train=Split(inputs[:-validation], targets[:-validation]),
        validation=Split(inputs[-validation:], targets[-validation:]),
        test=Split(*batches[-1]),
        classes=10,
        scale=1 / 255,
        class_names=CLASSES,
    )


def _read_files(folder: Path | None, download: bool, url: str) -> list[tuple[str, bytes]]:
    """Name and content of the five training files and the test file."""
    root = folder if folder is not None else cache_folder()
    for place in [] if root is None else [root, root / INNER]:
        if find([place], [*TRAIN, TEST]):
            return [_read_batch(place / name) for name in [*TRAIN, TEST]]
    archive = None if root is None else find([root], [ARCHIVE])
    if archive is not None:
        return _read_archive(archive)
    if folder is not None:
        remedy = f"contains neither {TRAIN[0]} nor {ARCHIVE}; put one there, or omit folder"
        raise InputError("folder", str(folder), remedy)
    if not download:
        raise InputError("folder", None, f"{ARCHIVE} was not found; give folder, or set download=True")
    return _read_archive(fetch(url, _check_archive))


def _read_batch(path: Path) -> tuple[str, bytes]:
    if not path.is_file():
        raise InputError("folder", str(path.parent), f"{path.name} is missing; put it into this folder")
    return str(path), read(path, REMEDY)


def _check_archive(path: Path) -> None:
    with path.open("rb") as file:
        if (
            hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            != published.CIFAR10_MD5
        ):
            raise InputError("file", str(path), "not the published archive (MD5 differs); download it again")


def _read_archive(path: Path) -> list[tuple[str, bytes]]:
    # Read the whole file: tarfile would stop before the checksum at the end.
    content = io.BytesIO(read(path, REMEDY))
    try:
        with tarfile.open(fileobj=content, mode="r:") as archive:
            return [
                (f"{path}:{name}", archive.extractfile(f"{INNER}/{name}").read()) for name in [*TRAIN, TEST]
            ]
    except KeyError as error:
        raise InputError("file", str(path), f"{error.args[0]}; {REMEDY}") from None
    except tarfile.TarError as error:
        raise InputError("file", str(path), f"not a complete tar archive ({error}); {REMEDY}") from None


def _decode(path: str, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Decode one file to inputs uint8 [N, 32, 32, 3] and labels int32 [N]."""
    expected = published.CIFAR10_RECORDS
    if len(content) != expected * BYTES:
        remedy = f"holds {len(content)} bytes instead of {expected} records of {BYTES}; {REMEDY}"
        raise InputError("file", path, remedy)
    records = np.frombuffer(content, np.uint8).reshape(expected, BYTES)
    labels = records[:, 0].astype(np.int32)
    if labels.max() > 9:
        record = int(labels.argmax())
        raise InputError("file", path, f"record {record} has label {labels[record]}, not 0 to 9; {REMEDY}")
    return np.ascontiguousarray(records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), labels
