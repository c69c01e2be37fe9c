"""docs/data.md: its examples run, one after the other, on files as it describes them."""

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from jaxlab import datasets, load_study

PAGE = Path(__file__).parent.parent / "docs" / "data.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.S)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("page")
    rng = np.random.default_rng(0)
    for animal in ("cat", "dog", "bird"):
        (path / "pets" / animal).mkdir(parents=True)
        for index in range(40):
            image = Image.fromarray(rng.integers(0, 2, (16, 16, 3), np.uint8) * 255)
            image.save(path / "pets" / animal / f"{index}.png")
    area, rooms = rng.uniform(20, 200, 200), rng.integers(1, 7, 200)
    houses = pd.DataFrame({"area": area, "rooms": rooms, "price": 3000 * area + 20000 * rooms})
    houses.to_csv(path / "houses.csv", index=False)
    digits = datasets.load("digits")
    (images, labels), (test_images, test_labels) = digits.train, digits.test
    names = np.array([f"digit {label}" for label in range(10)])
    np.savez(
        path / "scans.npz",
        images=images[..., 0] * 15,
        diagnosis=names[labels],
        patient=np.arange(len(labels)) // 7,
        test_images=test_images[..., 0] * 15,
        test_diagnosis=names[test_labels],
    )
    (path / "study.toml").write_text(re.search(r"```toml\n(.*?)```", TEXT, flags=re.S)[1], encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def names(folder):
    found = {"__name__": "data_page"}
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.chdir(folder)
        warnings.simplefilter("error")
        for block in BLOCKS:
            exec(compile(block, str(PAGE), "exec"), found)
    return found


def test_the_folder_is_described_as_on_the_page(names):
    assert repr(names["pets"]) in TEXT
    assert names["pets"].class_names == ("bird", "cat", "dog")


def test_the_groups_are_apart_and_the_given_test_set_is_read(names):
    given, scans = names["given"], names["scans"]
    assert len(given.test.targets) == len(datasets.load("digits").test.targets)
    assert scans.class_names[:2] == ("digit 0", "digit 1")
    assert len(scans.train.targets) + len(scans.validation.targets) + len(scans.test.targets) == 1077


def test_prices_are_learned_in_their_units(names):
    results = names["results"]
    assert results.validation_mae.attrs["units"] == "€"
    assert results.validation_loss.attrs["units"] == "1"
    assert results.validation_mae[0, 0] > 50_000
    assert results.validation_loss[0, -1] < results.validation_loss[0, 0] < 10


def test_the_study_file_reads_the_same_table(names, folder):
    study = load_study(folder / "study.toml")
    assert study.data.scale == names["houses"].scale
    assert study.data.target_std == names["houses"].target_std
    np.testing.assert_array_equal(study.data.test.targets, names["houses"].test.targets)
