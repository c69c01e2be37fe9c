"""Fashion-MNIST, read from its IDX files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from jaxlab import checks
from jaxlab.datasets import published
from jaxlab.datasets.dataset import Dataset, Split
from jaxlab.datasets.downloads import cache_folder, fetch, find, read
from jaxlab.errors import InputError

URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
REMEDY = "replace it with a fresh copy of the published file"

#: What the garments are, in the order of their labels.
CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


def fashion_mnist(folder: Any = None, download: Any = False, url: Any = URL) -> Dataset:
    """Fashion-MNIST: 28×28 grey images of ten kinds of clothing (Xiao, Rasul & Vollgraf 2017; MIT licence).

    Splits 50,000/10,000/10,000: validation is the last 10,000 of the published training set, test the
    published one. Inputs uint8 [N, 28, 28, 1], seen by the network as value/255.

    Args:
        folder: the only folder to search for the four IDX files (``train-images-idx3-ubyte`` and so on, with or
            without ``.gz``). By default the folder of Debian's package ``dataset-fashion-mnist``, then the cache.
        download: download missing files into the cache (needs pooch). Has no effect with ``folder``.
        url: address of a folder with the files. Downloads are checked against the SHA-256 of their content.

    Raises:
        InputError: a file, which the error names, is missing, truncated, corrupt, or not the published one.
    """
    folder = None if folder is None else checks.path("folder", folder)
    download, url = checks.flag("download", download), checks.text("url", url)
    arrays = {name: _load(name, folder, download, url) for name in published.FASHION_MNIST}
    inputs = arrays["train-images-idx3-ubyte"][..., None]
    targets = arrays["train-labels-idx1-ubyte"].astype(np.int32)
    test = Split(
        arrays["t10k-images-idx3-ubyte"][..., None], arrays["t10k-labels-idx1-ubyte"].astype(np.int32)
    )
    validation = published.FASHION_MNIST_VALIDATION
    return Dataset(
        name="fashion_mnist",
        train=Split(inputs[:-validation], targets[:-validation]),
        validation=Split(inputs[-validation:], targets[-validation:]),
        test=test,
        classes=10,
        scale=1 / 255,
        class_names=CLASSES,
    )


def _load(name: str, folder: Path | None, download: bool, url: str) -> np.ndarray:
    cache = cache_folder()
    folders = [folder] if folder is not None else [published.DEBIAN, *([cache] if cache else [])]
    path = find(folders, [name, f"{name}.gz"])
    if path is not None:
        return _read_idx(path, name)
    if folder is not None:
        remedy = f"contains neither {name} nor {name}.gz; put it there, or omit folder"
        raise InputError("folder", str(folder), remedy)
    if not download:
        remedy = "give folder, set download=True, or apt install dataset-fashion-mnist"
        raise InputError("folder", None, f"{name}.gz was not found; {remedy}")
    return _read_idx(fetch(f"{url.rstrip('/')}/{name}.gz", lambda path: _read_idx(path, name)), name)


def _read_idx(path: Path, name: str) -> np.ndarray:
    """Read an IDX file: big-endian int32 magic 0x0800 + axes, one int32 size per axis, then uint8 values."""
    shape, sha256 = published.FASHION_MNIST[name]
    content = read(path, REMEDY)
    header = np.array([0x0800 + len(shape), *shape], ">i4").tobytes()
    if content[:4] != header[:4]:
        raise InputError("file", str(path), f"does not begin like an IDX file of {len(shape)} axes; {REMEDY}")
    expected = len(header) + int(np.prod(shape))
    if len(content) != expected:
        raise InputError("file", str(path), f"holds {len(content)} bytes instead of {expected}; {REMEDY}")
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InputError("file", str(path), f"not the published file (SHA-256 differs); {REMEDY}")
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape)
