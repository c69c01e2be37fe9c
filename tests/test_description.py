"""``run.json`` may come from anywhere: whatever is wrong in it is one line, and nothing is done with it."""

import copy
import json
import tracemalloc
import warnings

import numpy as np
import pytest
from small import digits, grid
from small import study as tiny

from jaxlab import InputError, load_model, read_results, verify
from jaxlab.engine import Piece
from jaxlab.store import FORMAT, Log, Recorded, RunFolder, build_results, digest_of
from jaxlab.store.description import checked
from jaxlab.trial import Variable


def label(*fields):
    return json.loads(json.dumps(Variable(*fields)))


COORDINATES = {
    "trial_id": ["a", "b", "c"],
    "learning_rate": [0.1, 1e-3, float("nan")],
    "seed": [0, 1, 2**32 - 1],
    "features": [[4], [4], [4, 8]],
}
GROUP = {
    "configuration": {"features": [4], "precision": "float32", "schedule": None},
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
    "name": "study",
    "study_hash": "h",
    "epochs": 2,
    "specification": {
        "name": "study",
        "data": {"name": "digits", "fingerprint": "f", "input_shape": [8, 8, 1], "outputs": 10},
        "epochs": 2,
        "rules": [],
    },
    "source": {"folder": "/", "table": {"space": {"grid": {"seed": [0, 1]}}}},
    "environment": {
        "versions": {"jax": "0.10"},
        "platform": "cpu",
        "device_kind": "cpu",
        "processor": "p",
        "flags": "",
        "devices": 2,
        "width": [2, 1],
    },
    "cohorts": [2, 1],
    "coordinates": COORDINATES,
    "coordinates_digest": digest_of(COORDINATES),
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


def piece(trials):
    record = {"first_bad_step": np.full((len(trials), 3), -1), "dead": np.zeros((len(trials), 3, 2))}
    return Piece(np.array(trials), np.arange(3), record)


RECORDED = Recorded([(0, piece([0, 2])), (1, piece([1]))], [])


def test_a_description_is_taken_as_it_was_written(tmp_path):
    folder = RunFolder(tmp_path)
    folder.rewrite(DESCRIPTION)
    found = folder.describe()
    assert json.dumps(found) == json.dumps(DESCRIPTION)
    results = build_results(found, RECORDED)
    assert results.outcome.values.tolist() == ["completed"] * 3
    assert results.learning_rate.values[:2].tolist() == [0.1, 1e-3]


def test_a_part_that_stays_is_not_encoded_again(tmp_path, monkeypatch):
    folder, encoded = RunFolder(tmp_path), []
    folder.rewrite(DESCRIPTION)
    dumps = json.dumps
    monkeypatch.setattr("json.dumps", lambda value: encoded.append(value) or dumps(value))
    folder.rewrite(DESCRIPTION | {"times": {"compile_seconds": 2.5}})
    assert encoded == ["times", {"compile_seconds": 2.5}]
    assert folder.describe()["times"] == {"compile_seconds": 2.5}
    assert folder.describe()["cohorts"] == [2, 1]


def run_of(path, description=DESCRIPTION):
    """An unfinished run that has recorded everything."""
    folder = RunFolder(path)
    folder.make()
    folder.rewrite(description)
    log = Log(folder.pieces_path)
    for each in RECORDED.pieces:
        log.add(*each)
    log.flush()
    return folder


def test_whatever_is_wrong_in_a_description_is_one_line_or_harmless(tmp_path):
    refused, passed = [], []
    for wrong in variants(DESCRIPTION):
        try:
            checked(wrong, tmp_path)
            passed.append(wrong)
        except InputError as error:
            refused.append(str(error))
    assert len(refused) > 1500
    assert len(passed) < 600
    assert not any("\n" in line or len(line) > 400 for line in refused)
    folder = run_of(tmp_path)
    for each in passed[::4]:
        folder.rewrite(each)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of records that do not fit
            assert read_results(tmp_path).sizes["trial"] == 3


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("epochs", 0, "epochs is 0, not a whole number >= 1"),
        ("epochs", 10**8, "epochs is 100000000, and 2 in the specification"),
        ("groups.1.width", "x", "groups[1].width is 'x', not a whole number >= 1"),
        ("groups.0.trials", [0, 1], "its groups do not partition its trials"),
        ("groups.0.configuration", [1, 2], "groups[0].configuration is a list of 2, not a table"),
        ("groups.0.variables.dead", ["dead"], "groups[0].variables['dead'] is a list of 1, not a label"),
        ("cohorts", [3, 1], "cohorts, a list of 2, do not add up to 3 trials"),
        ("coordinates.seed", [0, 1, 2], "the settings do not match the trial_ids"),
        ("coordinates.trial_id", ["a", "b", "b"], "it has no trials, or a trial_id twice"),
        ("coordinates.seed", [0, 1], "coordinates['seed'] does not have one value for each trial"),
        ("environment.versions", {"jax": 1}, "environment.versions['jax'] is 1, not text"),
        ("times.programs", float("inf"), "times['programs'] is inf, not a number"),
        ("source", {"folder": "/"}, "source has no table"),
        ("changes", "x", "changes is 'x', not a list"),
    ],
)
def test_the_line_says_what_is_wrong(tmp_path, path, value, words):
    wrong = copy.deepcopy(DESCRIPTION)
    *outer, last = path.split(".")
    part = wrong
    for name in outer:
        part = part[int(name) if isinstance(part, list) else name]
    part[last] = value
    with pytest.raises(InputError) as caught:
        checked(wrong, tmp_path)
    assert f"is damaged: {words}" in str(caught.value)
    assert str(caught.value).endswith("; train the study again elsewhere")


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
        f'{{"format": {FORMAT}, "epochs": {"9" * 5000}}}',
        json.dumps(DESCRIPTION | {"source": {"folder": "/", "table": {"a": nested(500)}}}),
        json.dumps(DESCRIPTION)[:-30],
        "\x00",
        "\ud800",
    ],
    ids=["brackets", "closed brackets", "tables", "digits", "source", "cut", "zero", "no text"],
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
    description = DESCRIPTION | {"epochs": 10**8, "specification": specification}
    folder = run_of(tmp_path_factory.mktemp("many"), description)
    log = Log(folder.pieces_path)
    log.add(0, piece([0])._replace(epochs=np.arange(10**8 - 2, 10**8 + 1)))
    log.flush()
    return folder.path


@pytest.mark.parametrize("epochs", [10**12, 10**30])
def test_epochs_that_no_memory_holds_are_one_line(tmp_path, epochs):
    specification = DESCRIPTION["specification"] | {"epochs": epochs}
    run = run_of(tmp_path, DESCRIPTION | {"epochs": epochs, "specification": specification})
    with pytest.raises(InputError, match=f"epochs = {epochs}: is too many for the results of 3 trials"):
        read_results(run.path)


def test_many_epochs_are_no_reason_to_take_memory(many_epochs, monkeypatch):
    monkeypatch.setattr("jaxlab.store.files.free_on_host", lambda: 10**9)
    tracemalloc.start()
    with pytest.raises(
        InputError, match=r"epochs = 100000000: is too many for the results of 3 trials: it takes"
    ):
        read_results(many_epochs)
    with pytest.raises(InputError, match=r"out = .*holds another study"):
        tiny(grid(seed=[0, 1]), 2, digits()).run(many_epochs)
    assert tracemalloc.get_traced_memory()[1] < 10**8
    tracemalloc.stop()
