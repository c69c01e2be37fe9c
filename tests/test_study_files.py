"""Study files: TOML, changes from the command line, functions named by their file."""

import re

import numpy as np
import pytest

from jaxlab import load_study, verify
from jaxlab.datasets import load
from jaxlab.errors import InputError

FILE = """
name = "tiny"
epochs = 2
[data]
name = "digits"
subset = 100
[configuration]
features = [2]
batch_size = 50
[hyperparameters]
decay = 0.8
[space.grid]
learning_rate = [1e-3, 1e-2]
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(FILE)
    (tmp_path / "broken.py").write_text("def model(:")
    return path


def test_a_study_file_is_the_study(file):
    found = load_study(file)
    assert (found.name, found.epochs, len(found.job.trial_ids)) == ("tiny", 2, 2)
    assert found.groups[0].configuration["features"] == (2,)
    assert found.groups[0].hyperparameters["decay"].tolist() == [0.8, 0.8]


def test_changes_are_applied_to_a_study_file(file):
    changes = [
        "epochs=3",
        "hyperparameters.l2=1e-3",
        "configuration.activation=tanh",
        "space.grid.seed=[0,1]",
    ]
    found = load_study(file, changes)
    assert (found.epochs, len(found.job.trial_ids)) == (3, 4)
    assert found.groups[0].configuration["activation"] == "tanh"
    assert found.groups[0].hyperparameters["l2"].tolist() == [1e-3] * 4


def test_a_function_is_named_by_its_file(file):
    (file.parent / "mine.py").write_text(
        "import jax\nfrom jaxlab.models import CNN\n"
        "def model(c, h, rngs):\n    return CNN((8, 8, 1), 10, features=c.features, activation=act, rngs=rngs)\n"
        "def act(x):\n    return jax.nn.relu(x)\n"
    )
    found = load_study(file, ["configuration.model=mine.py:model"])
    assert found.run().train_loss.shape == (2, 3)
    for name, message in (
        ("other.py:model", "there is no file"),
        ("mine.py:nothing", "defines no function nothing"),
    ):
        with pytest.raises(InputError, match=message):
            load_study(file, [f"configuration.model={name}"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("epoch=3", "unknown key 'epoch' in tiny.toml; did you mean 'epochs'?"),
        ("epochs=abc", "epochs = 'abc': give a whole number"),
        ("epochs", "--set = 'epochs': write key=value"),
        ("configuration=3", "configuration = 3: make it a table"),
        ("name=..", "name = '..'"),
        ("data.name=3", "data.name = 3: give text"),
        ("configuration.model=broken.py:model", "broken.py cannot be imported: SyntaxError"),
        ("epochs.x=3", "epochs is no table of the study file"),
        ("data.name=digit", "digits"),
        ("data.colour=1", "colour"),
        ("name=a/b", "name = 'a/b'"),
        ("space.grid.learning_rate=[]", "space.grid.learning_rate = []"),
        ("space.grd.learning_rate=[1]", "grd"),
        ("pruning.own=other.py:rule", "pruning.own = 'other.py:rule': there is no file"),
        ("space.grid.model=['other.py:model']", "space.grid.model = 'other.py:model': there is no file"),
        (f"configuration.model={'m' * 5000}.py:model", "there is no file"),
        (f"configuration.features={'[' * 41}{']' * 41}", "configuration.features = '[[["),
        (f"configuration.features={'[' * 90_000}", "configuration.features = '[[["),
        (f"epochs={'9' * 5000}", "epochs = '9999"),
        (f"epochs=0x{'f' * 5000}", "epochs = 0xffff"),
    ],
)
def test_a_bad_change_is_one_line(file, change, message):
    with pytest.raises(InputError) as error:
        load_study(file, [change])
    assert message in str(error.value)


def test_a_study_file_that_is_missing_or_no_toml(tmp_path):
    with pytest.raises(InputError, match=r"study file = .*none.toml.*does not exist"):
        load_study(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("epochs = = 3")
    with pytest.raises(InputError, match="is not valid TOML"):
        load_study(tmp_path / "bad.toml")
    with pytest.raises(InputError, match="cannot be read"):
        load_study(tmp_path)
    for text in ("[" * 41 + "]" * 41, "[" * 90_000, "{a = " * 90_000, "9" * 5000):
        (tmp_path / "bad.toml").write_text(f"x = {text}")
        with pytest.raises(InputError, match="is not valid TOML"):
            load_study(tmp_path / "bad.toml")


def test_a_study_file_may_begin_with_the_mark_of_some_editors(file):
    file.write_text(file.read_text(), encoding="utf-8-sig")
    assert load_study(file).name == "tiny"


def test_a_file_that_ends_the_process_when_it_is_imported_is_one_line(file):
    (file.parent / "ends.py").write_text("import sys\nsys.exit(3)\n")
    with pytest.raises(InputError, match=r"ends.py cannot be imported: SystemExit\(3\)"):
        load_study(file, ["configuration.model=ends.py:model"])


def test_paths_of_the_data_are_relative_to_the_study_file(tmp_path, monkeypatch):
    images, labels = load("digits").test
    (tmp_path / "studies").mkdir()
    np.savez(tmp_path / "studies" / "mine.npz", x_train=images, y_train=labels)
    path = tmp_path / "studies" / "study.toml"
    path.write_text('[data]\nname = "npz"\npath = "mine.npz"\nscale = 0.0625\n')
    monkeypatch.chdir(tmp_path)
    for file in (path, "studies/study.toml"):
        found = load_study(file)
        assert found.data.name == "mine"
        assert len(found.data.train.targets) == 288
    absolute = load_study(path, [f"data.path={tmp_path / 'studies' / 'mine.npz'}"])
    assert absolute.data.fingerprint() == found.data.fingerprint()
    np.savez(tmp_path / "mine.npz", x_train=images[:100], y_train=labels[:100])
    assert len(load_study(path, ["data.path=../mine.npz"]).data.train.targets) == 80
    assert len(load_study(path).data.train.targets) == 288
    monkeypatch.chdir(tmp_path / "studies")
    assert load_study("study.toml").data.fingerprint() == found.data.fingerprint()
    with pytest.raises(InputError, match=re.escape(f"path = '{tmp_path}/studies/none.npz': no such file")):
        load_study(path, ["data.path=none.npz"])
    with pytest.raises(InputError, match=re.escape(f"{tmp_path}/studies/images")):
        load_study(path, ['data={name="cifar10", folder="images"}'])


def test_a_run_is_verified_from_another_folder(tmp_path, monkeypatch):
    images, labels = load("digits").test
    np.savez(tmp_path / "mine.npz", x_train=images, y_train=labels)
    path = tmp_path / "study.toml"
    path.write_text(
        'epochs = 1\n[data]\nname = "npz"\npath = "mine.npz"\nscale = 0.0625\n'
        '[configuration]\nmodel = "mlp"\nfeatures = [2]\n'
    )
    monkeypatch.chdir(tmp_path)
    load_study("study.toml").run("run")
    monkeypatch.chdir("/")
    assert verify(tmp_path / "run", 1).equal
