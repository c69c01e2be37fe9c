"""Fashion-MNIST from its IDX files: splits, missing and broken files; downloads into the cache."""

import functools
import gzip
import hashlib
import http.server
import io
import logging
import sys
import threading
from pathlib import Path

import numpy as np
import pooch
import pytest
from test_datasets_cifar10 import RECORDS, make_batches, pack

from jaxlab import datasets
from jaxlab.datasets import published
from jaxlab.errors import InputError

DEBIAN = published.DEBIAN
needs_debian = pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs Debian's dataset-fashion-mnist")


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """No data set is installed, and the cache is an empty folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(published, "DEBIAN", tmp_path / "not-installed")
    return tmp_path / "cache" / "jaxlab"


@pytest.fixture
def serve():
    """Serves a folder on this machine's loopback; gives its address and the list of requested paths."""
    servers = []

    def start(folder):
        requested = []

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_):
                requested.append(self.path)

        handler = functools.partial(Handler, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}", requested

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def idx(values):
    return np.array([0x0800 + values.ndim, *values.shape], ">i4").tobytes() + values.tobytes()


@pytest.fixture
def small_fashion(tmp_path, monkeypatch):
    """Four small IDX files in place of the published ones, uncompressed in one folder and compressed in another."""
    rng = np.random.default_rng(0)
    sizes = {"train": 50, "t10k": 10}
    plain, compressed = tmp_path / "plain", tmp_path / "compressed"
    plain.mkdir()
    compressed.mkdir()
    arrays, facts = {}, {}
    for part, n in sizes.items():
        arrays[f"{part}-images-idx3-ubyte"] = rng.integers(0, 256, (n, 28, 28), np.uint8)
        arrays[f"{part}-labels-idx1-ubyte"] = np.arange(n, dtype=np.uint8) % 10
    for name, array in arrays.items():
        content = idx(array)
        (plain / name).write_bytes(content)
        (compressed / f"{name}.gz").write_bytes(gzip.compress(content))
        facts[name] = (array.shape, hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(published, "FASHION_MNIST", facts)
    monkeypatch.setattr(published, "FASHION_MNIST_VALIDATION", 8)
    return plain, compressed, arrays


@needs_debian
def test_published_fashion_mnist():
    data = datasets.fashion_mnist(folder=DEBIAN)
    assert [len(split.targets) for split in (data.train, data.validation, data.test)] == [
        50_000,
        10_000,
        10_000,
    ]
    assert (data.input_shape, data.classes, data.train.inputs.dtype) == ((28, 28, 1), 10, np.uint8)
    counts = np.bincount(data.train.targets) + np.bincount(data.validation.targets)
    np.testing.assert_array_equal(counts, 6000)
    np.testing.assert_array_equal(np.bincount(data.test.targets), 1000)
    np.testing.assert_array_equal(data.train.targets[:5], [9, 0, 0, 3, 0])
    # The training set's published mean and deviation, .2860 and .3530 of the full range.
    pixels = np.concatenate([data.train.inputs, data.validation.inputs])
    counts = np.bincount(pixels.ravel(), minlength=256)
    mean = (counts * np.arange(256)).sum() / counts.sum()
    assert mean / 255 == pytest.approx(0.2860, abs=5e-5)
    deviation = np.sqrt((counts * (np.arange(256) - mean) ** 2).sum() / counts.sum())
    assert deviation / 255 == pytest.approx(0.3530, abs=5e-5)
    assert float(data.prepare(np.array(255, np.uint8))) == pytest.approx(1)


@pytest.mark.parametrize("form", [0, 1], ids=["plain", "compressed"])
def test_fashion_mnist_splits(small_fashion, form):
    data = datasets.load("fashion_mnist", folder=str(small_fashion[form]))
    arrays = small_fashion[2]
    np.testing.assert_array_equal(data.train.inputs[..., 0], arrays["train-images-idx3-ubyte"][:42])
    np.testing.assert_array_equal(data.validation.inputs[..., 0], arrays["train-images-idx3-ubyte"][42:])
    np.testing.assert_array_equal(data.test.inputs[..., 0], arrays["t10k-images-idx3-ubyte"])
    np.testing.assert_array_equal(data.train.targets, np.arange(42) % 10)
    np.testing.assert_array_equal(data.validation.targets, np.arange(42, 50) % 10)
    np.testing.assert_array_equal(data.test.targets, np.arange(10))


def flipped(content, at):
    content = bytearray(content)
    content[at] ^= 1
    return bytes(content)


@pytest.mark.parametrize(
    ("ending", "damage", "says"),
    [
        ("", lambda c: c[:-100], "bytes instead of"),
        ("", lambda c: c + b"x", "bytes instead of"),
        ("", lambda c: b"", "does not begin like an IDX file of 3 axes"),
        ("", lambda c: flipped(c, 3), "does not begin like an IDX file of 3 axes"),
        ("", lambda c: flipped(c, 5000), "SHA-256 differs"),
        (".gz", lambda c: gzip.compress(c)[:-500], "truncated"),
        (".gz", lambda c: gzip.compress(c)[:5], "truncated"),
        (".gz", lambda c: flipped(gzip.compress(c), -6), "not a valid gzip file"),
        (".gz", lambda c: b"<html>moved</html>", "not a valid gzip file"),
        (".gz", lambda c: c[:10] + flipped(gzip.compress(c), 4000)[10:], "not a valid gzip file"),
    ],
)
def test_broken_fashion_mnist(small_fashion, ending, damage, says):
    folder = small_fashion[0]
    good = (folder / "train-images-idx3-ubyte").read_bytes()
    (folder / "train-images-idx3-ubyte").unlink()
    broken = folder / f"train-images-idx3-ubyte{ending}"
    broken.write_bytes(damage(good))
    with pytest.raises(InputError) as error:
        datasets.fashion_mnist(folder)
    assert error.value.value == str(broken)
    assert says in str(error.value)
    assert "fresh copy" in str(error.value)
    assert "\n" not in str(error.value)
    assert broken.exists()


def test_unreadable_file(small_fashion, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied\)"):
        datasets.fashion_mnist(small_fashion[0])


def test_missing_fashion_mnist(small_fashion, empty_cache):
    (small_fashion[0] / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match=r"contains neither t10k-labels-idx1-ubyte nor .*\.gz; put it there"):
        datasets.fashion_mnist(small_fashion[0])
    with pytest.raises(
        InputError, match=r"train-images-idx3-ubyte\.gz was not found; give folder, set download"
    ):
        datasets.fashion_mnist()


def test_fashion_mnist_is_downloaded_once(small_fashion, empty_cache, serve):
    url, requested = serve(small_fashion[1])
    given = datasets.fashion_mnist(small_fashion[0]).fingerprint()
    said, logger = io.StringIO(), pooch.get_logger()
    level, handler = logger.level, logging.StreamHandler(said)
    logger.addHandler(handler)
    assert datasets.fashion_mnist(download=True, url=url + "/").fingerprint() == given
    assert sorted(requested) == sorted(f"/{name}.gz" for name in small_fashion[2])
    assert datasets.fashion_mnist(download=True, url=url).fingerprint() == given
    assert datasets.fashion_mnist().fingerprint() == given  # from the cache
    assert len(requested) == 4
    logger.removeHandler(handler)
    assert said.getvalue() == ""
    assert logger.level == level


def test_a_broken_download_is_not_kept(small_fashion, empty_cache, serve):
    _, folder, arrays = small_fashion
    name = "train-labels-idx1-ubyte"
    good = (folder / f"{name}.gz").read_bytes()
    (folder / f"{name}.gz").write_bytes(gzip.compress(idx(arrays[name][::-1])))
    url, _ = serve(folder)
    with pytest.raises(InputError, match="SHA-256 differs"):
        datasets.fashion_mnist(download=True, url=url)
    assert [path.name for path in empty_cache.iterdir()] == ["train-images-idx3-ubyte.gz"]
    (folder / f"{name}.gz").write_bytes(good)
    datasets.fashion_mnist(download=True, url=url)


@pytest.mark.parametrize("function", [datasets.fashion_mnist, datasets.cifar10])
def test_failed_download(function, empty_cache, serve, tmp_path):
    url, _ = serve(tmp_path)
    for address in (f"{url}/nothing.gz", "http://127.0.0.1:1/x.tar.gz", "nonsense"):
        with pytest.raises(InputError, match="download failed") as error:
            function(download=True, url=address)
        assert error.value.field == "url"
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("function", [datasets.fashion_mnist, datasets.cifar10])
def test_without_pooch(function, empty_cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(InputError, match=r"pip install -e '\.\[data\]' in a clone"):
        function(download=True)
    with pytest.raises(InputError, match="was not found"):
        function()


def test_cifar10_download_is_checked_and_kept(tmp_path, empty_cache, serve, monkeypatch):
    monkeypatch.setattr(published, "CIFAR10_RECORDS", RECORDS)
    make_batches(tmp_path / "cifar")
    archive = pack(tmp_path / "cifar", tmp_path / "cifar-10-binary.tar.gz")
    url, requested = serve(tmp_path)
    url += "/cifar-10-binary.tar.gz"
    with pytest.raises(InputError, match="MD5 differs"):
        datasets.cifar10(download=True, url=url)
    assert list(empty_cache.iterdir()) == []
    monkeypatch.setattr(published, "CIFAR10_MD5", hashlib.md5(archive.read_bytes()).hexdigest())
    data = datasets.cifar10(download=True, url=url)
    assert data.fingerprint() == datasets.cifar10(tmp_path / "cifar").fingerprint()
    assert datasets.cifar10(download=True, url=url).fingerprint() == data.fingerprint()
    assert datasets.cifar10().fingerprint() == data.fingerprint()
    assert len(requested) == 2
