"""``run.json`` may come from anywhere: whatever is wrong in it is one line, and nothing is done with it."""

import copy
import hashlib
import json
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from small import digits, grid
from small import study as tiny

from jaxlab import InputError, load_model, read_results, verify
from jaxlab.engine import EpochRecord
from jaxlab.store import FORMAT, Records, RecordWriter, RunFolder, build_results
from jaxlab.store.description import decoded
from jaxlab.trial import Variable


def label(*fields):
    return json.loads(json.dumps(Variable(*fields)))


COORDINATES = {
    "trial_id": ["a", "b", "c"],
    "learning_rate": [0.1, 1e-3, None],
    "seed": [0, 1, 2**32 - 1],
    "features": [[4], [4], [4, 8]],
    "threshold": [float("inf"), float("inf"), 10**30],
}
GROUP = {
    "configuration": {
        "features": [4],
        "threshold": 0.5,
        "precision": "float32",
        "schedule": None,
        "model": {"function": "mine.model"},
    },
    "trials": [0, 2],
    "variables": {
        "first_bad_step": label("first bad step", "step"),
        "dead": label("dead units", "1", ("layer",), "of all", "lower"),
    },
    "coordinates": {"layer": ["conv_0", "conv_1"]},
    "width": 2,
    "fingerprint": "f",
    "nondeterministic": "",
}
DESCRIPTION = {
    "format": FORMAT,
    "study_hash": "h",
    "specification": {
        "name": "study",
        "data": {
            "fingerprint": "f",
            "name": "digits",
            "input_shape": [8, 8, 1],
            "outputs": 10,
            "scale": 1.0,
            "shift": 0.0,
        },
        "epochs": 2,
        "data_seed": 0,
        "trial": None,
        "rules": [],
        "keep": "none",
        "deterministic": False,
        "configuration": {"features": [4]},
        "hyperparameters": {"momentum": 0.9},
    },
    "source": {"folder": "/\udcff", "table": {"space": {"grid": {"seed": [0, 1]}}}},
    "environment": {
        "versions": {"jax": "0.10"},
        "platform": "cpu",
        "device_kind": "cpu",
        "processor": "p",
        "flags": "",
        "devices": 2,
    },
    "cohorts": [2, 1],
    "coordinates": COORDINATES,
    "coordinates_digest": hashlib.sha256(json.dumps(COORDINATES).encode()).hexdigest(),
    "groups": [GROUP, GROUP | {"trials": [1], "width": None, "fingerprint": None, "nondeterministic": None}],
    "times": {"compile_seconds": 1.5, "programs": 4},
    "changes": ["jax is newer"],
}
WRONG = [
    None,
    True,
    0,
    -1,
    1.5,
    10**30,
    10**400,
    float("nan"),
    "x",
    [],
    {},
    [[]],
    [None],
    {"x": 1},
    {"x": {}},
]


def variants(value):
    """A description with each of its parts replaced by every wrong thing, taken away, or doubled."""
    for key, part in list(value.items() if isinstance(value, dict) else enumerate(value)):
        for wrong in WRONG:
            yield (
                {**value, key: wrong} if isinstance(value, dict) else [*value[:key], wrong, *value[key + 1 :]]
            )
        if isinstance(value, dict):
            yield {name: each for name, each in value.items() if name != key}
        else:
            yield value[:key] + value[key + 1 :]
            yield [*value, part]
        if isinstance(part, (dict, list)):
            for inner in variants(part):
                yield (
                    {**value, key: inner}
                    if isinstance(value, dict)
                    else [*value[:key], inner, *value[key + 1 :]]
                )


def record_of(trials):
    values = {"first_bad_step": np.full((len(trials), 3), -1), "dead": np.zeros((len(trials), 3, 2))}
    return EpochRecord(np.array(trials), np.arange(3), values)


RECORDS = Records([(0, record_of([0, 2])), (1, record_of([1]))])


def description_of(value):
    return decoded(json.dumps(value).encode(), Path("run.json"))


def test_a_description_is_read_as_it_was_written(tmp_path):
    folder = RunFolder(tmp_path)
    folder.rewrite(description_of(DESCRIPTION))
    assert json.loads((tmp_path / "run.json").read_text()) == DESCRIPTION
    assert folder.describe() == description_of(DESCRIPTION)
    results = build_results(folder.describe(), RECORDS)
    assert results.outcome.values.tolist() == ["completed"] * 3
    assert results.learning_rate.values[:2].tolist() == [0.1, 1e-3]


def test_numbers_and_names_that_few_formats_hold_come_back(tmp_path):
    """An infinite configuration value, an integer of 100 bits, and a folder whose name is not UTF-8."""
    found = description_of(json.loads(description_of(DESCRIPTION).encoded()))
    assert found.coordinates["threshold"] == [float("inf"), float("inf"), 10**30]
    assert found.source.folder == "/\udcff"


def run_of(path, description=DESCRIPTION):
    """An unfinished run that has recorded everything."""
    folder = RunFolder(path)
    folder.make()
    (path / "run.json").write_text(json.dumps(description))
    writer = RecordWriter(folder.records_path)
    for each in RECORDS.epochs:
        writer.add(*each)
    writer.flush()
    return folder


def test_whatever_is_wrong_in_a_description_is_one_line_or_harmless(tmp_path):
    refused, passed = [], []
    for wrong in variants(DESCRIPTION):
        try:
            description_of(wrong)
            passed.append(wrong)
        except InputError as error:
            refused.append(str(error))
    assert len(refused) > 1500
    assert len(passed) < 600
    assert not any("\n" in line or len(line) > 400 for line in refused)
    folder = run_of(tmp_path)
    for each in passed[::4]:
        (folder.path / "run.json").write_text(json.dumps(each))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of records that do not fit
            assert read_results(tmp_path).sizes["trial"] == 3


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("study_hash", 1, "study_hash: Expected `str`, got `int`"),
        ("specification.epochs", "2", "specification.epochs: Expected `int`, got `str`"),
        ("specification.epochs", 2.0, "specification.epochs: Expected `int`, got `float`"),
        ("specification.epochs", True, "specification.epochs: Expected `int`, got `bool`"),
        ("specification.epochs", 0, "specification.epochs: 0 is not a whole number >= 1"),
        ("specification.data.input_shape", [8, "8"], "specification.data.input_shape[1]: Expected `int`"),
        ("specification.data.input_shape", [8, 0], "specification.data.input_shape[1]: 0 is not a whole"),
        ("specification.data.scale", float("nan"), "specification.data.scale: nan is not a finite number"),
        (
            "specification.data.class_names",
            ["a"],
            "specification.data.class_names has 1 entries for 10 outputs",
        ),
        ("specification.data.class_names", [1] * 10, "specification.data.class_names[0]: Expected `str`"),
        (
            "specification.data.target_mean",
            [0.0] * 10,
            "specification.data.target_std does not match target_mean",
        ),
        (
            "specification.data.target_std",
            [0.0] * 10,
            "specification.data.target_std does not match target_mean",
        ),
        (
            "specification.data.target_mean",
            [1.0],
            "specification.data.target_mean has 1 entries for 10 outputs",
        ),
        (
            "specification.data.target_mean",
            [float("nan")] * 10,
            "specification.data.target_mean[0]: nan is not a finite number",
        ),
        (
            "specification.data.scale",
            [1.0, float("inf")],
            "specification.data.scale[1]: inf is not a finite number",
        ),
        (
            "specification.data.shift",
            [1.0, 2.0],
            "specification.data.shift has 2 entries, not one for each channel",
        ),
        (
            "specification.data",
            DESCRIPTION["specification"]["data"]
            | {"target_mean": [0.0] * 10, "target_std": [1.0] * 9 + [0.0]},
            "specification.data.target_std does not match target_mean, or is not > 0",
        ),
        ("specification.rules", {}, "specification.rules: Expected `array`, got `object`"),
        ("specification.configuration", [], "specification.configuration: Expected `object`, got `array`"),
        ("source", [], "source: Expected `object | null`, got `array`"),
        ("source", {"folder": "/"}, "source: Object missing required field `table`"),
        ("environment.devices", None, "environment.devices: Expected `int`, got `null`"),
        ("environment.devices", -1, "environment.devices: -1 is not a whole number >= 1"),
        ("environment.versions", {"jax": 1}, "environment.versions[...]: Expected `str`, got `int`"),
        ("cohorts", [3, 1], "cohorts, a list of 2, do not add up to 3 trials"),
        ("coordinates.seed", 0, "coordinates[...]: Expected `array`, got `int`"),
        ("coordinates.seed", [0, 1, 2], "the settings do not match the trial_ids"),
        ("coordinates.trial_id", ["a", "b", "b"], "it has no trials, or a trial_id twice"),
        ("coordinates.seed", [0, 1], "coordinates['seed'] does not have one value for each trial"),
        ("groups.1.width", "x", "groups[1].width: Expected `int | null`, got `str`"),
        ("groups.1.width", 0, "groups[1].width: 0 is not a whole number >= 1"),
        ("groups.0.trials", [0, 1], "its groups do not partition its trials"),
        ("groups.0.trials", [0, "2"], "groups[0].trials[1]: Expected `int`, got `str`"),
        ("groups.0.configuration", [1, 2], "groups[0].configuration: Expected `object`, got `array`"),
        (
            "groups.0.configuration.features",
            [{}],
            "groups[0].configuration['features'] is a table of 0, not a value",
        ),
        ("groups.0.variables.dead", "dead", "groups[0].variables[...]: Expected `array`, got `str`"),
        ("groups.0.variables.dead", ["x", 1], "groups[0].variables[...][1]: Expected `str`, got `int`"),
        (
            "groups.0.variables.dead",
            label("x", "1", ("epoch",)),
            "groups[0].variables['dead'] has an axis twice",
        ),
        ("groups.0.coordinates.layer", [1, 2], "groups[0].coordinates[...][0]: Expected `str`, got `int`"),
        ("times.programs", "4", "times[...]: Expected `int | float`, got `str`"),
        ("times.programs", float("inf"), "times['programs']: inf is not a finite number"),
        ("changes", "x", "changes: Expected `array`, got `str`"),
    ],
)
def test_the_line_names_the_field_and_what_is_wrong(path, value, words):
    wrong = copy.deepcopy(DESCRIPTION)
    *outer, last = path.split(".")
    part = wrong
    for name in outer:
        part = part[int(name) if isinstance(part, list) else name]
    part[last] = value
    with pytest.raises(InputError) as caught:
        description_of(wrong)
    assert f"is damaged: {words}" in str(caught.value)
    assert str(caught.value).endswith("; train the study again in another folder")


@pytest.mark.parametrize("missing", [name for name in DESCRIPTION if name != "coordinates_digest"])
def test_a_missing_field_is_named(missing):
    with pytest.raises(InputError, match=f"is damaged: Object missing required field `{missing}`"):
        description_of({name: value for name, value in DESCRIPTION.items() if name != missing})


@pytest.mark.parametrize(
    ("its", "words"),
    [
        (
            {"format": 4, "name": "study", "epochs": 2, "trials": ["a"]},
            f"is in format 4, this jaxlab reads {FORMAT}",
        ),
        ({"format": FORMAT + 1}, f"is in format {FORMAT + 1}, this jaxlab reads {FORMAT}"),
        ({"format": [[]] * 99}, f"is in format a list of 99, this jaxlab reads {FORMAT}"),
        (
            {"name": "somebody's package", "version": "1.0"},
            "is damaged: Object missing required field `format`",
        ),
        ([1, 2], "is damaged: Expected `object`, got `array`"),
        ("text", "is damaged: Expected `object`, got `str`"),
    ],
)
def test_a_run_of_another_format_and_a_foreign_file_are_one_line(tmp_path, its, words):
    (tmp_path / "run.json").write_text(json.dumps(its))
    for use in (read_results, verify, lambda run: load_model(run, 0), tiny(grid(seed=[0]), 1, digits()).run):
        with pytest.raises(InputError) as caught:
            use(tmp_path)
        assert str(caught.value).startswith(f"run = {str(tmp_path / 'run.json')!r}: {words}")
        assert str(caught.value).endswith("train the study again in another folder")
        assert "\n" not in str(caught.value)


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        "[" * 200_000 + "]" * 200_000,
        '{"a":' * 200_000 + "1" + "}" * 200_000,
        f'{{"format": {FORMAT}, "study_hash": {"9" * 5000}}}',
        json.dumps(DESCRIPTION | {"source": {"folder": "/", "table": {"a": nested(500)}}}),
        json.dumps(DESCRIPTION)[:-30],
        "\x00",
        "\ud800",
        "",
    ],
    ids=["brackets", "closed brackets", "tables", "digits", "source", "cut", "zero", "no text", "empty"],
)
def test_text_that_is_no_description_is_one_line(tmp_path, text):
    (tmp_path / "run.json").write_bytes(text.encode(errors="surrogatepass"))
    for use in (read_results, verify, lambda run: load_model(run, 0)):
        with pytest.raises(InputError, match=r"run = .*run\.json': is damaged"):
            use(tmp_path)


@pytest.fixture(scope="module")
def many_epochs(tmp_path_factory):
    """An unfinished run that says that it has a hundred million epochs, and has recorded the first and the last."""
    specification = DESCRIPTION["specification"] | {"epochs": 10**8}
    description = DESCRIPTION | {"specification": specification}
    folder = run_of(tmp_path_factory.mktemp("many"), description)
    writer = RecordWriter(folder.records_path)
    writer.add(0, record_of([0])._replace(epochs=np.arange(10**8 - 2, 10**8 + 1)))
    writer.flush()
    return folder.path


@pytest.mark.parametrize("epochs", [10**12, 10**30])
def test_epochs_that_no_memory_holds_are_one_line(tmp_path, epochs):
    specification = DESCRIPTION["specification"] | {"epochs": epochs}
    run = run_of(tmp_path, DESCRIPTION | {"specification": specification})
    with pytest.raises(InputError, match=f"epochs = {epochs}: is too many for the results of 3 trials"):
        read_results(run.path)


def test_many_epochs_are_no_reason_to_take_memory(many_epochs, free_memory):
    free_memory(10**9)
    tracemalloc.start()
    with pytest.raises(
        InputError, match=r"epochs = 100000000: is too many for the results of 3 trials: it takes"
    ):
        read_results(many_epochs)
    with pytest.raises(InputError, match=r"out = .*holds another study"):
        tiny(grid(seed=[0, 1]), 2, digits()).run(many_epochs)
    assert tracemalloc.get_traced_memory()[1] < 10**8
    tracemalloc.stop()
