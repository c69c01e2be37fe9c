"""Handwritten digits embedded in the package: classification, or regression of a rotation angle."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np

from jaxlab import checks
from jaxlab.datasets.dataset import Dataset, Split
from jaxlab.datasets.draws import stratified_order, uniform

SIZES = {"train": 1077, "validation": 360, "test": 360}
SIDE = 16  # pixels of a rotated image
ZOOM = 1.5  # of rotated images: their 16 pixels cover 10.7 input pixels, so that a rotated digit keeps its corners


def digits(split_seed: Any = 0) -> Dataset:
    """1,797 handwritten digits, 8×8 grey levels from 0 to 16, embedded in the package.

    Source: Alpaydin & Kaynak 1998, *Optical Recognition of Handwritten Digits*, UCI Machine Learning
    Repository (doi 10.24432/C50P49), its test set, licence CC BY 4.0; the same values as scikit-learn's
    ``load_digits``.

    Splits 1,077/360/360 (60/20/20 %), stratified by class. The same writers occur in all three.
    Inputs uint8 [N, 8, 8, 1], seen by the network as value/16.

    Args:
        split_seed: seed of the random split.
    """
    images, labels = load_images()
    parts = _split_indices(labels, split_seed)
    splits = {name: Split(images[part][..., None], labels[part]) for name, part in parts.items()}
    return Dataset(name="digits", **splits, classes=10, scale=1 / 16)


def rotated_digits(
    max_angle: Any = 45.0, copies: Any = 4, split_seed: Any = 0, angle_seed: Any = 0
) -> Dataset:
    """`digits` rotated by random angles, for regression of the angle.

    The angle is uniform on [−max_angle, max_angle] degrees, positive counter-clockwise as displayed
    (rows run down). Base images are split as in `digits` *before* rotation, so no digit is in two splits.
    Predicting zero has MAE max_angle/2 = 22.5° and RMSE max_angle/√3 = 25.98°.

    An image is rotated about its centre, enlarged 1.5 times onto 16×16 pixels by bilinear interpolation (0
    outside), and rounded to grey levels from 0 to 255.

    Splits: copies × (1,077/360/360). Inputs uint8 [N, 16, 16, 1], seen by the network as value/255. Targets
    float32 [N, 1], in degrees.

    Args:
        max_angle: largest angle in degrees, in (0, 180].
        copies: number of copies of each base image, each with its own angle.
        split_seed: seed of the random split of base images.
        angle_seed: seed of the angles.

    Raises:
        InputError: a value is out of range.
    """
    max_angle = checks.number(
        "max_angle", max_angle, most=180, above=0, remedy="give a number of degrees above 0 and at most 180"
    )
    copies = checks.whole("copies", copies, 1)
    angle_seed = checks.whole("angle_seed", angle_seed, 0)
    images, labels = load_images()
    splits = {}
    for name, part in _split_indices(labels, split_seed).items():
        base = np.tile(part, copies)
        angles = (max_angle * (2 * uniform(angle_seed, name, len(base)) - 1)).astype(np.float32)
        turned = rotate(images[base] * (255 / 16), angles)
        splits[name] = Split(np.rint(turned).astype(np.uint8)[..., None], angles[:, None])
    return Dataset(name="rotated_digits", **splits, classes=None, scale=1 / 255, target_units="degree")


def rotate(images: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """Rotate square images [N, H, H] counter-clockwise by ``degrees`` [N] onto [N, 16, 16], bilinearly."""
    n, side, _ = images.shape
    offsets = (np.arange(SIDE) - (SIDE - 1) / 2) / ZOOM
    down, right = np.meshgrid(offsets, offsets, indexing="ij")
    angle = np.deg2rad(degrees.astype(np.float64))[:, None, None]
    # Source of each output pixel: its position rotated back, in pixels of the input padded by one zero per side.
    centre = (side - 1) / 2 + 1
    rows = np.clip(centre + np.cos(angle) * down + np.sin(angle) * right, 0, side + 1)
    columns = np.clip(centre - np.sin(angle) * down + np.cos(angle) * right, 0, side + 1)
    padded = np.pad(images.astype(np.float64), ((0, 0), (1, 2), (1, 2)))
    row, column = rows.astype(int), columns.astype(int)
    to_row, to_column = rows - row, columns - column
    example = np.arange(n)[:, None, None]
    upper = (1 - to_column) * padded[example, row, column] + to_column * padded[example, row, column + 1]
    lower = (1 - to_column) * padded[example, row + 1, column] + to_column * padded[
        example, row + 1, column + 1
    ]
    return (1 - to_row) * upper + to_row * lower


def load_images() -> tuple[np.ndarray, np.ndarray]:
    with (files("jaxlab.datasets") / "digits.npz").open("rb") as file, np.load(file) as arrays:
        return arrays["images"], arrays["labels"].astype(np.int32)


def _split_indices(labels: np.ndarray, split_seed: Any) -> dict[str, np.ndarray]:
    """Indices of the examples of each split."""
    order = stratified_order(checks.whole("split_seed", split_seed, 0), "split", labels)
    ends = np.cumsum(list(SIZES.values()))[:-1]
    return {name: np.sort(part) for name, part in zip(SIZES, np.split(order, ends), strict=True)}
