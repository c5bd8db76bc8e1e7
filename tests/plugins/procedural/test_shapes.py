"""The data set of shapes: its figures against brute force and their areas, and the pictures made of them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import backend
from tinygen.data import DataRequest
from tinygen.errors import UsageError
from tinygen.testing import close, host
from tinygen.testing.strategies import seeds
from tinygen_plugins.procedural import _raster, shapes

from .reference import device

# ---------------------------------------------------------------- the figures


@pytest.mark.parametrize("width", [0.2, 0.5, 1.0])
def test_distances_of_disc_and_ring_are_those_to_their_circles(width):
    points = np.random.default_rng(0).uniform(-1.5, 1.5, (200, 2))
    circle = np.exp(2j * math.pi * np.arange(20_000) / 20_000)
    from_centre = np.abs(points[:, 0] + 1j * points[:, 1])
    outer, inner = (
        np.abs(points[:, 0, None] + 1j * points[:, 1, None] - r * circle).min(axis=1) for r in (1, 1 - width)
    )
    disc = np.where(from_centre < 1, -outer, outer)
    ring = np.minimum(outer, inner) * np.where((from_centre < 1) & (from_centre > 1 - width), -1, 1)
    close(shapes.disc_distance(device(points)), disc, rtol=0, atol=1e-3)
    close(shapes.ring_distance(device(points), width), ring, rtol=0, atol=1e-3)


AREAS = {
    "disc": math.pi,
    "square": 2.0,
    "triangle": 3 * math.sqrt(3) / 4,
    "star": 5 * 0.45 * math.sin(math.pi / 5),
    "ring": math.pi * (1 - 0.5**2),
    "cross": 4 * 0.64 * (math.sqrt(1 - 0.32**2) - 0.32) + 0.64**2,
}


@pytest.mark.parametrize("name", shapes.CLASSES)
def test_each_figure_has_its_area_and_just_fits_into_the_circle(name):
    xp = backend.NUMPY.xp
    size, radius = 400, 150
    points = (_raster.pixel_centres(xp, size, size) - size / 2) / radius
    distance = shapes.FIGURES[name](points)
    area = host(_raster.coverage(radius * distance, 0.0)).sum() / radius**2
    close(area, AREAS[name], rtol=2e-3)
    farthest = np.hypot(points[..., 0], points[..., 1])[distance < 0].max()
    assert 0.97 < farthest <= 1


# ---------------------------------------------------------------- the data set


def images(split="train", indices=range(60), **request):
    return shapes.shapes(DataRequest(**request)).splits[split].images(np.array(indices))


def test_the_data_set_tells_what_it_holds():
    data = shapes.shapes(DataRequest())
    assert data.shape == (3, 32, 32) and data.spec.count == 20_000
    assert data.classes == ("disc", "square", "triangle", "star", "ring", "cross")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 20_000, "valid": 2_000, "test": 2_000}
    assert shapes.shapes(DataRequest(size=20, grey=True)).shape == (1, 20, 20)


def test_labels_are_evenly_spread():
    labels = shapes.shapes(DataRequest()).splits["test"].labels(np.arange(600))
    assert labels.dtype == np.int64 and np.bincount(labels).tolist() == [100] * 6


@settings(max_examples=5)
@given(seed=seeds(), order=st.permutations(range(6)))
def test_an_image_depends_on_seed_split_and_index_alone(seed, order):
    first, again = images(indices=range(6), seed=seed), images(indices=order, seed=seed)
    assert first.dtype == np.float32 and first.min() >= 0 and first.max() <= 1
    assert np.array_equal(first[list(order)], again)
    for other in (images("valid", range(6), seed=seed), images(indices=range(6), seed=seed + 1)):
        assert all(not np.array_equal(a, b) for a, b in zip(first, other))


def test_images_are_the_same_picture_at_any_size():
    small, large = images(size=32), images(size=96)
    shrunk = large.reshape(60, 3, 32, 3, 32, 3).mean(axis=(3, 5))
    assert np.abs(small - shrunk).mean() < 0.01


def test_figures_stand_out_from_the_ground_and_keep_within_the_canvas():
    for image in images(indices=range(300), grey=True)[:, 0]:
        border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        assert np.ptp(border) < 0.16  # the soft ground alone: no figure reaches over the edge
        assert max(border.min() - image.min(), image.max() - border.max()) > 0.18


def test_the_figure_with_a_label_has_its_area():
    # Grey, large: all pixels beyond the middle between figure and ground.
    for index, image in enumerate(images(indices=range(60), grey=True, size=64)[:, 0]):
        border = np.median(np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]]))
        farthest = image.flat[np.abs(image - border).argmax()]
        inside = np.abs(image - farthest) < np.abs(image - border)
        rows, columns = np.nonzero(inside)
        radius = np.hypot(rows - rows.mean(), columns - columns.mean()).max() + 0.5
        close(inside.sum() / radius**2, AREAS[shapes.CLASSES[index % 6]], rtol=0.17)


def test_a_wrong_size_is_told_in_one_line_with_a_hint():
    with pytest.raises(UsageError) as caught:
        shapes.shapes(DataRequest(size=7))
    assert "shapes: size" in caught.value.message and caught.value.hint and "\n" not in str(caught.value)
