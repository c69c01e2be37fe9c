"""CIFAR-10 from its binary files and archive: splits, layout, missing and broken files."""

import gzip
import io
import tarfile

import numpy as np
import pytest

from jaxlab import datasets
from jaxlab.datasets import published
from jaxlab.errors import InputError

RECORDS = 20
BATCHES = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]


def make_batches(folder):
    """Six small batch files; gives their images as planes [6, 20, 3, 32, 32] and labels [6, 20]."""
    rng = np.random.default_rng(1)
    planes = rng.integers(0, 256, (6, RECORDS, 3, 32, 32), np.uint8)
    labels = rng.integers(0, 10, (6, RECORDS), np.uint8)
    folder.mkdir()
    for name, images, targets in zip(BATCHES, planes, labels, strict=True):
        records = [bytes([target]) + image.tobytes() for image, target in zip(images, targets, strict=True)]
        (folder / name).write_bytes(b"".join(records))
    return planes, labels


def pack(folder, archive, inner="cifar-10-batches-bin"):
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted(folder.iterdir()):
            content = path.read_bytes()
            info = tarfile.TarInfo(f"{inner}/{path.name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return archive


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """A folder of small batches, their planes and labels."""
    monkeypatch.setattr(published, "CIFAR10_RECORDS", RECORDS)
    return tmp_path / "cifar", *make_batches(tmp_path / "cifar")


@pytest.mark.parametrize("form", ["files", "subfolder", "archive"])
def test_cifar10(cifar, tmp_path, form):
    folder, planes, labels = cifar
    place = tmp_path / "place"
    place.mkdir()
    if form == "files":
        place = folder
    elif form == "subfolder":
        folder.rename(place / "cifar-10-batches-bin")
    else:
        pack(folder, place / "cifar-10-binary.tar.gz")
    data = datasets.load("cifar10", folder=place)
    assert (data.name, data.input_shape, data.classes) == ("cifar10", (32, 32, 3), 10)
    images = np.moveaxis(planes, 2, -1).reshape(-1, 32, 32, 3)
    bounds = {"train": (0, 90), "validation": (90, 100), "test": (100, 120)}
    for name, (start, stop) in bounds.items():
        split = getattr(data, name)
        np.testing.assert_array_equal(split.inputs, images[start:stop])
        np.testing.assert_array_equal(split.targets, labels.ravel()[start:stop])


def test_files_of_the_published_size(tmp_path):
    """Black images of class 0, except for the first and the last record of each file."""
    for number, name in enumerate(BATCHES):
        with (tmp_path / name).open("wb") as file:
            file.write(bytes([number]))
            file.truncate(10_000 * 3073)
            file.seek(9_999 * 3073)
            file.write(bytes([9, 2 + number]))
    data = datasets.load("cifar10", folder=tmp_path)
    assert [len(split.targets) for split in (data.train, data.validation, data.test)] == [
        45_000,
        5_000,
        10_000,
    ]
    places = [0, 9_999, 10_000, 19_999, 40_000]
    assert data.train.targets[places].tolist() == [0, 9, 1, 9, 4]
    assert data.train.inputs[places, 0, 0].tolist() == [[0, 0, 0], [2, 0, 0], [0, 0, 0], [3, 0, 0], [0, 0, 0]]
    assert data.validation.targets[[0, -1]].tolist() == [0, 9]
    assert data.test.targets[[0, 1, -1]].tolist() == [5, 0, 9]
    assert data.test.inputs[-1, 0, 0].tolist() == [7, 0, 0]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda c: c[:-1], "bytes instead of 20 records of 3073"),
        (lambda c: c[:-3073], "bytes instead of 20 records"),
        (lambda c: b"", "holds 0 bytes"),
        (lambda c: c[: 2 * 3073] + b"\x0a" + c[2 * 3073 + 1 :], "record 2 has label 10, not 0 to 9"),
    ],
)
@pytest.mark.parametrize("archived", [False, True])
def test_broken_cifar10(cifar, tmp_path, damage, says, archived):
    folder = cifar[0]
    broken = folder / "data_batch_3.bin"
    broken.write_bytes(damage(broken.read_bytes()))
    if archived:
        place = tmp_path / "place"
        place.mkdir()
        pack(folder, place / "cifar-10-binary.tar.gz")
        folder = place
    with pytest.raises(InputError) as error:
        datasets.cifar10(folder)
    assert says in str(error.value)
    assert error.value.value.endswith("data_batch_3.bin")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda c: c[: len(c) // 2], ": truncated"),
        (lambda c: b"<html>", "not a valid gzip file"),
        (lambda c: c[:30000] + bytes(100) + c[30100:], "not a valid gzip file"),
        (lambda c: gzip.compress(b"<html>" * 100), "not a complete tar archive"),
        (lambda c: gzip.compress(gzip.decompress(c)[:100_000]), "not a complete tar archive"),
    ],
)
def test_broken_cifar10_archive(cifar, tmp_path, damage, says):
    archive = pack(cifar[0], tmp_path / "cifar-10-binary.tar.gz")
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(InputError) as error:
        datasets.cifar10(tmp_path)
    assert says in str(error.value)
    assert error.value.value == str(archive)
    assert "\n" not in str(error.value)


def test_missing_cifar10(cifar, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = cifar[0]
    (folder / "data_batch_2.bin").unlink()
    with pytest.raises(InputError, match=r"data_batch_2\.bin is missing"):
        datasets.cifar10(folder)
    pack(folder, tmp_path / "cifar-10-binary.tar.gz")
    with pytest.raises(InputError, match=r"data_batch_2\.bin' not found"):
        datasets.cifar10(tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match=r"neither data_batch_1\.bin nor cifar-10-binary\.tar\.gz; put one"):
        datasets.cifar10(empty)
    with pytest.raises(InputError, match="was not found; give folder, or set download=True"):
        datasets.cifar10()
