"""docs/custom.md: its examples run, one after the other, as a reader would type them."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest

from jaxlab import Study, datasets, space

PAGE = Path(__file__).parent.parent / "docs" / "custom.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.S)


@pytest.fixture(scope="module")
def names():
    found = {"__name__": "custom_page"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for block in BLOCKS:
            exec(compile(block, str(PAGE), "exec"), found)
    return found


def test_a_study_of_custom_parts_records_what_they_compute(names):
    results = names["results"]
    assert results.margin.values.tolist() == [0.5, 1.0, 0.5, 1.0]
    assert np.isfinite(results.train_loss).all()
    assert {"validation_brier", "validation_macro_f1", "test_recall_of_0", "largest_logit"} <= set(results)
    assert results.validation_brier.attrs["better"] == "lower"
    assert results.dead_fraction.layer.values.tolist() == ["hidden"]


def test_the_triple_fits_its_line(names):
    fits = names["fits"]
    assert fits.loss.values[1, -1] < 1e-3 < fits.loss.values[0, -1]


def test_the_schedule_is_a_factor(names):
    data, mlp = datasets.load("digits", subset=200), {"model": "mlp", "features": [4], "step_losses": True}
    scheduled = Study(data, space.grid(), 1, mlp | {"schedule": names["schedule"]}).run()
    constant = Study(data, space.grid(), 1, mlp).run()
    assert scheduled.step_loss[0, 1, 0] == constant.step_loss[0, 1, 0]
    assert scheduled.step_loss[0, 1, -1] > constant.step_loss[0, 1, -1]


def test_the_table_names_every_part_once():
    rows = re.findall(r"^\| \[`(\w+)`\]\(#([\w-]+)\)", PAGE.read_text(encoding="utf-8"), flags=re.M)
    parts = [part for part, _ in rows]
    assert sorted(set(parts)) == sorted(
        ["model", "optimizer", "schedule", "loss", "metrics", "augment", "diagnostics", "rules", "trial"]
    )
