"""Images in folders, one for each class, written by Pillow from real digits and read again."""

import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from jaxlab import Study, datasets, load_study, space
from jaxlab.errors import InputError

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.fixture(scope="module")
def digits():
    data = datasets.digits()
    return (data.train.inputs[:60] * 15).astype(np.uint8), data.train.targets[:60]


def write(path, images, labels, suffix="png", **options):
    """Write each image into the folder of its class; the names sort in the order of the examples."""
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = path / NAMES[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(
            folder / f"{index:03}.{suffix}", **options
        )


def noise(n=24, height=6, width=9, channels=3):
    values = np.random.default_rng(0).integers(0, 256, (n, height, width, channels), dtype=np.uint8)
    return values, np.arange(n) % 3


def in_order(images, labels):
    """Images and class names in the order in which a folder holds them."""
    names = np.array(NAMES)[labels]
    order = np.lexsort([np.arange(len(names)), names])
    return images[order], names[order]


def test_a_folder_is_the_arrays_that_were_written(tmp_path, digits):
    write(tmp_path / "scans", *digits)
    (tmp_path / "scans" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "scans" / "one" / ".hidden").write_bytes(b"x")
    (tmp_path / "scans" / "one" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "scans" / "LICENSE.txt").write_text("free")
    data = datasets.from_folder(tmp_path / "scans")
    same = datasets.from_arrays(in_order(*digits), name="scans")
    assert data.class_names == tuple(sorted(NAMES))
    assert data.fingerprint() == same.fingerprint()
    assert data.input_shape == (8, 8, 1)
    assert data.scale == 1 / 255


def test_split_folders_are_the_splits(tmp_path, digits):
    images, labels = digits
    parts = {"train": slice(0, 40), "valid": slice(40, 50), "test": slice(50, 60)}
    for folder, part in parts.items():
        write(tmp_path / folder, images[part], labels[part])
    data = datasets.from_folder(tmp_path)
    for name, part in zip(("train", "validation", "test"), parts.values(), strict=True):
        wanted, names = in_order(images[part], labels[part])
        np.testing.assert_array_equal(getattr(data, name).inputs, wanted)
        assert [data.class_names[label] for label in getattr(data, name).targets] == names.tolist()
    shutil.move(tmp_path / "valid", tmp_path / "val")
    assert datasets.from_folder(tmp_path).fingerprint() == data.fingerprint()
    shutil.rmtree(tmp_path / "val")
    drawn = datasets.from_folder(tmp_path, validation_fraction=0.25)
    assert len(drawn.validation.targets) == 10
    np.testing.assert_array_equal(drawn.test.inputs, data.test.inputs)


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp", "tif", "gif", "jpg"])
def test_formats(tmp_path, suffix):
    images, labels = noise()
    images = np.repeat(np.repeat(images // 64 * 64, 8, axis=1), 8, axis=2)
    options = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}.get(suffix, {})
    write(tmp_path, images, labels, suffix, **options)
    data = datasets.from_folder(tmp_path)
    assert data.input_shape == (48, 72, 3)
    found = np.concatenate([data.train.inputs, data.validation.inputs, data.test.inputs]).astype(float)
    if suffix not in ("jpg", "gif"):
        assert {each.tobytes() for each in found.astype(np.uint8)} == {each.tobytes() for each in images}
    else:
        distance = [min(np.abs(each - image).mean() for image in images) for each in found]
        assert max(distance) < (5 if suffix == "jpg" else 40)


def test_colours_and_sizes(tmp_path):
    images, labels = noise()
    write(tmp_path, images, labels)
    grey = datasets.from_folder(tmp_path, color_mode="grayscale")
    assert grey.input_shape == (6, 9, 1)
    by_hand = images[0] @ [0.299, 0.587, 0.114]  # zero/000.png, ITU-R 601
    every = np.concatenate([grey.train.inputs, grey.validation.inputs, grey.test.inputs])
    assert min(np.abs(each[..., 0] - by_hand).max() for each in every) < 1
    assert datasets.from_folder(tmp_path, size=12).input_shape == (12, 12, 3)
    assert datasets.from_folder(tmp_path, size=(3, 5)).input_shape == (3, 5, 3)
    np.testing.assert_array_equal(
        datasets.from_folder(tmp_path, size=(6, 9)).train.inputs, datasets.from_folder(tmp_path).train.inputs
    )
    flat = np.full((6, 9, 1), 7, np.uint8)
    Image.fromarray(flat[:, :, 0]).save(tmp_path / "one" / "flat.png")
    data = datasets.from_folder(tmp_path, size=4)
    every = np.concatenate([data.train.inputs, data.validation.inputs, data.test.inputs])
    assert data.input_shape == (4, 4, 3)
    assert (every == 7).all(axis=(1, 2, 3)).sum() == 1


def test_transparency_is_dropped_and_a_turned_photo_is_upright(tmp_path):
    images, labels = noise(channels=4)
    write(tmp_path / "clear", images, labels)
    data = datasets.from_folder(tmp_path / "clear")
    every = np.concatenate([data.train.inputs, data.validation.inputs, data.test.inputs])
    assert {each.tobytes() for each in every} == {each.tobytes() for each in images[..., :3].copy()}
    images, labels = noise()
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned clockwise by 90 degrees
    write(tmp_path / "turned", images, labels, exif=turned)
    data = datasets.from_folder(tmp_path / "turned")
    every = np.concatenate([data.train.inputs, data.validation.inputs, data.test.inputs])
    assert {each.tobytes() for each in every} == {np.rot90(each, -1).tobytes() for each in images}


def test_the_same_folder_gives_the_same_data_in_any_order_of_creation(tmp_path):
    images, labels = noise()
    write(tmp_path / "a", images, labels)
    for index in reversed(range(len(images))):
        folder = tmp_path / "b" / NAMES[labels[index]]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / "a" / NAMES[labels[index]] / f"{index:03}.png", folder)
    data = datasets.from_folder(tmp_path / "a", name="same")
    assert datasets.from_folder(tmp_path / "b", name="same").fingerprint() == data.fingerprint()
    other = datasets.from_folder(tmp_path / "a", name="same", split_seed=1)
    assert not np.array_equal(other.test.inputs, data.test.inputs)


def test_given_names_order_the_classes(tmp_path):
    write(tmp_path, *noise())
    data = datasets.from_folder(tmp_path, class_names=["zero", "one", "two", "three"])
    assert (data.class_names, data.classes) == (("zero", "one", "two", "three"), 4)


def change(path, name, content=None):
    (path / name).parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        (path / name).mkdir()
    elif isinstance(content, bytes):
        (path / name).write_bytes(content)
    else:
        Image.fromarray(content).save(path / name)


GOOD = np.zeros((6, 9, 3), np.uint8)


@pytest.mark.parametrize(
    ("name", "content", "options", "says"),
    [
        ("one/text.png", b"not an image", {}, "one/text.png': is not an image that Pillow reads"),
        ("one/notes.txt", b"notes", {}, "one/notes.txt': is not an image that Pillow reads"),
        ("one/empty.png", b"", {}, "one/empty.png': is not an image that Pillow reads"),
        ("one/zz.png", GOOD[:5], {}, "zz.png': is 5×9 pixels (height × width), 001.png is 6×9; give size"),
        (
            "one/zz.png",
            np.zeros((6, 9), np.uint16),
            {},
            "zz.png': has more than 8 bits a channel (mode I;16)",
        ),
        ("loose.png", GOOD, {}, "loose.png': is not in the folder of a class"),
        ("one/deeper", None, {}, "one/deeper': is a folder inside the folder of a class"),
        ("four", None, {}, "four': has no images"),
        ("train/one/x.png", GOOD, {}, "one': is not a split; next to train"),
        (None, None, {"size": 0}, "size = 0: give height and width in pixels"),
        (None, None, {"size": (3, 4, 5)}, "size = (3, 4, 5): give height and width"),
        (None, None, {"size": "big"}, "size = 'big': give height and width"),
        (None, None, {"color_mode": "gray"}, "did you mean 'grayscale'?"),
        (None, None, {"class_names": ["zero", "one"]}, "'two': is not among the 2 class_names"),
        (None, None, {"validation_fraction": 2}, "validation_fraction = 2: give a fraction"),
        (None, None, {"name": 3}, "name = 3: give text"),
    ],
)
def test_bad_folder(tmp_path, name, content, options, says):
    write(tmp_path, *noise())
    if name:
        change(tmp_path, name, content)
    with pytest.raises(InputError) as error:
        datasets.from_folder(tmp_path, **options)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_truncated_image_is_named(tmp_path):
    write(tmp_path, *noise())
    whole = (tmp_path / "two" / "005.png").read_bytes()
    (tmp_path / "two" / "005.png").write_bytes(whole[:-60])
    with pytest.raises(InputError, match=r"two/005\.png': is not an image that Pillow reads \(.*truncated"):
        datasets.from_folder(tmp_path)


def test_no_folder_no_classes_no_pillow(tmp_path, monkeypatch):
    for path, says in (
        (tmp_path / "none", "no such folder"),
        (tmp_path, "has no folders"),
        (3, "give a path"),
    ):
        with pytest.raises(InputError, match=says):
            datasets.from_folder(path)
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match="has no folders"):
        datasets.from_folder(tmp_path)
    write(tmp_path / "train", *noise())
    (tmp_path / "val").mkdir()
    (tmp_path / "validation").mkdir()
    write(tmp_path / "val", *noise())
    with pytest.raises(InputError, match="is a second validation folder"):
        datasets.from_folder(tmp_path)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(InputError, match=r"needs Pillow: pip install -e '\.\[data\]' in a clone"):
        datasets.from_folder(tmp_path)


def test_a_folder_of_one_class(tmp_path):
    write(tmp_path, noise()[0], np.zeros(24, int))
    with pytest.raises(InputError, match="every example has this label"):
        datasets.from_folder(tmp_path)


def test_a_study_file_and_python_read_the_same_folder(tmp_path, digits, monkeypatch):
    """The path is relative to the study file, wherever the process was started."""
    write(tmp_path / "scans", *digits)
    (tmp_path / "study.toml").write_text(
        'epochs = 1\n[data]\nname = "folder"\npath = "scans"\nsize = 4\n'
        '[configuration]\nmodel = "mlp"\nfeatures = [3]\nbatch_size = 16\n'
    )
    monkeypatch.chdir("/")
    loaded = load_study(tmp_path / "study.toml")
    data = datasets.from_folder(tmp_path / "scans", size=4)
    assert loaded.data.fingerprint() == data.fingerprint()
    configuration = {"model": "mlp", "features": [3], "batch_size": 16}
    results = Study(data, space.grid(), 1, configuration).run()
    np.testing.assert_array_equal(loaded.run().train_loss, results.train_loss)
