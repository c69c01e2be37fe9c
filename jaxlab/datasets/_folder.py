"""Data sets from folders of images, one folder for each class."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from jaxlab import checks
from jaxlab.datasets._arrays import from_arrays
from jaxlab.datasets.dataset import Dataset, sizes
from jaxlab.errors import InputError, how_to_install

_SPLITS = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
}
# Written by file managers.
_IGNORED = ("thumbs.db", "desktop.ini")
_GREY, _COLOUR = (
    ("1", "L", "LA", "La"),
    ("RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "CMYK", "YCbCr", "HSV", "LAB"),
)


def from_folder(
    path: Any,
    *,
    size: Any = None,
    color_mode: Any = "auto",
    class_names: Any = None,
    validation_fraction: Any = 0.1,
    test_fraction: Any = 0.1,
    split_seed: Any = 0,
    stratify: Any = None,
    name: Any = None,
) -> Dataset:
    """Load images (PNG, JPEG and all others that Pillow reads) from a folder with one folder for each class::

        pets/cat/1.jpg                   or, with given splits, pets/train/cat/1.jpg
        pets/cat/2.jpg                                          pets/test/cat/2.jpg
        pets/dog/1.jpg                                          pets/test/dog/1.jpg

    The folders are the class names, numbered in sorted order, and files are read in sorted order. If there is a folder
    ``train``, its neighbours may be ``validation`` (or ``val``, ``valid``) and ``test``; missing splits are drawn from
    it. Names that begin with a dot are ignored. Inputs are uint8 [N, height, width, channels], seen by the network as
    value/255; an image is turned as its EXIF tag says.

    Args:
        path: path of the folder.
        size: height and width to resize to, bilinearly; one number for both. By default all images must have the same
            size.
        color_mode: "grayscale" (1 channel), "rgb" (3 channels), or "auto": grayscale if all images are. Transparency is
            dropped.
        class_names: order of the classes in place of the sorted one; every folder must be among them.
        validation_fraction, test_fraction, split_seed, stratify: how missing splits are drawn, see `from_arrays`.
        name: name of the data set; by default that of the folder.

    Raises:
        InputError: Pillow is missing; there is no such folder, or it has another structure; a file is not an image, has
            16 bits, or another size; or `from_arrays` raises it.
    """
    path = checks.path("path", path)
    size = _checked_size(size)
    checks.one_of("color_mode", color_mode, ("auto", "grayscale", "rgb"))
    name = path.absolute().name if name is None else name
    pillow = _import_pillow(path)
    files = _files(path, pillow.registered_extensions())
    images = _read_all(pillow, [file for split in files.values() for file, _ in split], size, color_mode)
    pairs, begin = {}, 0
    for split, labelled in files.items():
        end = begin + len(labelled)
        pairs[split] = (images[begin:end], np.array([label for _, label in labelled]))
        begin = end
    return from_arrays(
        **pairs,
        class_names=class_names,
        channels="last",
        scale=1 / 255,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        split_seed=split_seed,
        stratify=stratify,
        name=name,
    )


def _checked_size(size: Any) -> tuple[int, int] | None:
    size = checks.python(size)
    if size is None:
        return None
    remedy = "give height and width in pixels, or one number for both"
    both = size if isinstance(size, list | tuple) else [size, size]
    if len(both) != 2:
        raise InputError("size", size, remedy)
    height, width = (checks.whole("size", each, 1, remedy=remedy) for each in both)
    return height, width


def _files(path: Path, extensions: Collection[str]) -> dict[str, list[tuple[Path, str]]]:
    """The files of each split in sorted order, each with its class."""
    if not path.is_dir():
        raise InputError("path", str(path), "no such folder; give a folder with one folder for each class")
    entries = list(_visible(path))
    folders = [each for each in entries if each.is_dir()]
    if not folders:
        raise InputError("path", str(path), "has no folders; give one folder for each class")
    if "train" not in [each.name for each in folders]:
        return {"train": _of_classes(path, extensions)}
    splits: dict[str, list[tuple[Path, str]]] = {}
    for folder in folders:
        split = _SPLITS.get(folder.name)
        if split is None or split in splits:
            what = "is a second validation folder" if split else "is not a split"
            remedy = f"{what}; next to train there may be validation and test (rename train if it is a class)"
            raise InputError("path", str(folder), remedy)
        splits[split] = _of_classes(folder, extensions)
    return splits


def _of_classes(path: Path, extensions: Collection[str]) -> list[tuple[Path, str]]:
    """The files in the class folders of a folder, each with its class; files next to them that are no images stay."""
    found = []
    for folder in _visible(path):
        if not folder.is_dir():
            if folder.suffix.lower() in extensions:
                raise InputError("path", str(folder), "is not in the folder of a class; move or remove it")
            continue
        files = list(_visible(folder))
        for file in files:
            if not file.is_file():
                raise InputError(
                    "path", str(file), "is a folder inside the folder of a class; move its images up"
                )
        if not files:
            raise InputError("path", str(folder), "has no images; add some, or remove it")
        found += [(file, folder.name) for file in files]
    if not found:
        raise InputError("path", str(path), "has no folders; give one folder for each class")
    return found


def _visible(path: Path) -> Iterator[Path]:
    """The content of a folder in sorted order, without hidden files."""
    try:
        entries = list(path.iterdir())
    except OSError as error:
        raise InputError("path", str(path), f"cannot be read ({error.strerror})") from None
    for each in sorted(entries, key=lambda entry: entry.name):
        if not each.name.startswith(".") and each.name.lower() not in _IGNORED:
            yield each


def _read_all(
    pillow: ModuleType, files: Sequence[Path], size: tuple[int, int] | None, color_mode: str
) -> np.ndarray:
    """The images of all files, uint8 [N, height, width, channels]."""
    images: list[np.ndarray] = []
    for file in files:
        image = _read(pillow, file, size, color_mode)
        if images and image.shape[:2] != images[0].shape[:2]:
            found, first = sizes(image.shape[:2]), sizes(images[0].shape[:2])
            remedy = (
                f"is {found} pixels (height × width), {files[0].name} is {first}; give size to resize all"
            )
            raise InputError("path", str(file), remedy)
        images.append(image)
    channels = max(image.shape[2] for image in images)
    found = np.empty((len(images), *images[0].shape[:2], channels), np.uint8)
    for index, image in enumerate(images):
        found[index] = image  # one channel becomes three equal ones
    return found


def _read(pillow: ModuleType, file: Path, size: tuple[int, int] | None, color_mode: str) -> np.ndarray:
    """One image, uint8 [height, width, channels]; with "auto", 1 channel if it is grey."""
    try:
        with pillow.open(file) as opened:
            mode = opened.mode
            if mode in _GREY or mode in _COLOUR:
                grey = color_mode == "grayscale" or (color_mode == "auto" and mode in _GREY)
                image = _upright(opened).convert("L" if grey else "RGB")
                if size is not None and image.size != size[::-1]:
                    image = image.resize(size[::-1], pillow.Resampling.BILINEAR)
                array = np.asarray(image)
                return array[:, :, None] if grey else array
    except Exception as error:  # a decoder may raise anything for a broken file
        reason = " ".join(str(error).split())
        raise InputError(
            "path", str(file), f"is not an image that Pillow reads ({reason}); remove it"
        ) from None
    remedy = f"has more than 8 bits a channel (mode {mode}); convert it to 8 bits, or use from_arrays"
    raise InputError("path", str(file), remedy)


def _upright(image: Any) -> Any:
    """The image turned as its EXIF tag says."""
    from PIL import ImageOps

    return ImageOps.exif_transpose(image)


def _import_pillow(path: Path) -> ModuleType:
    try:
        from PIL import Image
    except ImportError:
        raise InputError("path", str(path), f"needs Pillow: {how_to_install('data')}") from None
    return Image
