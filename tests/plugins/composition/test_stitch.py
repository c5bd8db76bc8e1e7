"""Stitching: photographs cut from one scene under known maps, joined again, and what cannot be joined."""

import numpy as np
import pytest

from tinygen import backend
from tinygen.data.transforms import warp
from tinygen.errors import UsageError
from tinygen.random import Stream
from tinygen.testing import close, host
from tinygen_plugins.composition import _register, stitch

from .reference import cloudy, device, projected, tensors

SCENE = cloudy(7, (3, 170, 330))
SIZE = (150, 160)


def view(left, top, degrees=0.0, zoom=1.0, tilt=(0.0, 0.0), scene=SCENE):
    """A photograph of the scene, turned about its middle, and the map from the scene to it."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    centre = np.array([left + SIZE[1] / 2, top + SIZE[0] / 2])
    move = np.array([[1, 0, -centre[0]], [0, 1, -centre[1]], [0, 0, 1]])
    turn = np.array([[zoom * cosine, -zoom * sine, 0], [zoom * sine, zoom * cosine, 0], [*tilt, 1]])
    back = np.array([[1, 0, SIZE[1] / 2], [0, 1, SIZE[0] / 2], [0, 0, 1]])
    homography = back @ turn @ move
    return warp(scene, homography, SIZE), homography


LEFT = view(10, 10)
MIDDLE = view(80, 8, 3.0, 1.04, (3e-4, 1e-4))
RIGHT = view(155, 10, -2.0)


def make(**options):
    return stitch.Stitch(stitch.Config(**options), None, Stream(0))


def compose(images, **options):
    return make(**options).compose(tensors(*images), None, Stream(0)).numpy()


@pytest.mark.parametrize("wrong", [0.0, 0.4])
def test_two_photographs_are_registered_to_less_than_half_a_pixel_though_many_matches_are_wrong(wrong, monkeypatch):
    described = [_register.describe_photograph(tensors(image)[0].data, 300) for image, _ in (LEFT, MIDDLE)]
    true = MIDDLE[1] @ np.linalg.inv(LEFT[1])
    find = _register.ratio_matches

    def spoil(first, second, ratio):
        pairs = find(first, second, ratio)
        chance = np.random.default_rng(0)
        spoilt = chance.random(len(pairs)) < wrong
        pairs[spoilt, 1] = chance.integers(0, len(second), spoilt.sum())
        return pairs

    monkeypatch.setattr(_register, "ratio_matches", spoil)
    match = _register.match_photographs(*described, SIZE, Stream(0, "", backend.NUMPY))
    x, y = np.meshgrid(np.linspace(75, 155, 9), np.linspace(5, 145, 9))  # what both show
    shared = np.stack([x, y], axis=-1).reshape(-1, 2)
    error = np.linalg.norm(projected(match.homography, shared) - projected(true, shared), axis=1)
    assert match.believed and error.mean() < 0.25 and error.max() < 0.5


@pytest.mark.parametrize("seam", ["cut", "feather"])
def test_two_photographs_become_the_scene_they_were_cut_from(seam):
    picture = compose([LEFT[0], 0.85 * view(80, 8, 3.0)[0]], seam=seam)
    assert picture.shape[0] == 3 and picture.shape[2] > 215 and picture.shape[1] > 125
    assert picture.min() >= 0 and picture.max() <= 1
    # The left one is seen as it is: its corner (0, 0) is the scene's (10, 10), up to the rows that were cropped.
    errors = []
    for top in range(8, 16):
        for left in range(8, 14):
            scene = SCENE[:, top : top + picture.shape[1], left : left + picture.shape[2]]
            if scene.shape == picture.shape:
                factor = (scene * picture).sum() / (scene * scene).sum()
                errors.append(np.abs(picture / factor - scene).mean())
    assert min(errors) < 0.02


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_three_photographs_in_any_order_are_seen_as_the_middle_one_sees_them(order):
    views = [LEFT, view(80, 8), RIGHT]
    photographs = tensors(*(views[k][0] for k in order))
    homographies = make()._arrange([image.data for image in photographs], Stream(0))
    assert np.array_equal(homographies[order.index(1)], np.eye(3))
    grid = np.stack(np.meshgrid(np.linspace(20, 140, 5), np.linspace(20, 130, 5)), axis=-1).reshape(-1, 2)
    for k, found in zip(order, homographies):
        true = views[1][1] @ np.linalg.inv(views[k][1])
        assert np.linalg.norm(projected(found, grid) - projected(true, grid), axis=1).max() < 1.0
    picture = compose([views[k][0] for k in order])
    assert picture.shape[1] > 120 and picture.shape[2] > 285


def test_a_photograph_two_steps_from_the_middle_gets_there_by_both():
    views = [view(left, 10) for left in (5, 55, 105, 160)]
    homographies = make()._arrange([image.data for image in tensors(*(image for image, _ in views))], Stream(0))
    middle = next(k for k, homography in enumerate(homographies) if np.array_equal(homography, np.eye(3)))
    assert middle in (1, 2)
    corner = np.array([[30.0, 40.0], [130.0, 120.0]])
    for (_, own), found in zip(views, homographies):
        true = views[middle][1] @ np.linalg.inv(own)
        assert np.linalg.norm(projected(found, corner) - projected(true, corner), axis=1).max() < 1.0


def test_no_empty_corner_is_left_unless_wanted():
    photographs = [LEFT[0] + 0.1, MIDDLE[0] * 0.9 + 0.1]
    whole, cut = (compose(photographs, crop=crop) for crop in (False, True))
    assert whole.shape[1] * whole.shape[2] > cut.shape[1] * cut.shape[2]
    assert (whole.max(axis=0) == 0).any() and not (cut.max(axis=0) == 0).any()


@pytest.mark.parametrize("seam", ["cut", "feather"])
def test_nothing_of_the_void_around_photographs_gets_into_the_picture(seam):
    covered = np.zeros((2, 40, 60), bool)
    covered[0, 5:35, 3:40], covered[1, 8:38, 20:57] = True, True
    layers = 0.5 * np.repeat(covered[:, None], 3, axis=1)
    picture, region = make(seam=seam)._join(tensors(layers)[0].data, device(covered))
    assert np.array_equal(host(region), covered.any(axis=0))
    close(picture, 0.5 * np.repeat(covered.any(axis=0)[None], 3, axis=0).astype("float32"), atol=1e-6)


def test_gains_make_the_overlap_of_two_exposures_even():
    even, uneven = [], []
    for gain, steps in ((True, even), (False, uneven)):
        stitcher = make(gain=gain)
        photographs = [image.data for image in tensors(LEFT[0], 0.7 * view(80, 10)[0])]
        layers, covered = stitcher._lay_out(photographs, stitcher._arrange(photographs, Stream(0)))
        xp = backend.of(layers).xp
        both = covered[0] & covered[1]
        steps.append(float(xp.sum(xp.abs(layers[0] - layers[1]) * both) / xp.sum(both)))
    assert even[0] < 0.05 * uneven[0] + 0.02


def test_a_backend_makes_no_difference():
    picture = compose([LEFT[0], MIDDLE[0]])
    with backend.using("numpy"):
        close(picture, compose([LEFT[0], MIDDLE[0]]), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([LEFT[0]], ("2 or more images", "1")),
        ([LEFT[0], cloudy(99, (3, 100, 100))], ("image 2", "does not overlap", "agree")),
        ([LEFT[0], np.full((3, 100, 100), 0.5)], ("image 2", "0 of 0")),
        ([LEFT[0], LEFT[0][:, :20]], ("image 2", "40×40", "160×20")),
        ([LEFT[0], MIDDLE[0], cloudy(99, (3, 100, 100))], ("image 3", "does not overlap")),
    ],
)
def test_what_cannot_be_joined_is_told_in_one_line_with_a_hint(images, words):
    with pytest.raises(UsageError) as caught:
        compose(images)
    assert all(word in caught.value.message for word in ("stitch", *words))
    assert caught.value.hint and "\n" not in str(caught.value)


def test_a_mask_and_wrong_options_are_refused_in_one_line_with_a_hint():
    with pytest.raises(UsageError, match="stitch: takes no mask"):
        make().compose(tensors(LEFT[0], MIDDLE[0]), tensors(np.ones(SIZE))[0], Stream(0))
    for options, words in (({"seam": "glue"}, ("seam", "feather", "glue")), ({"corners": 3}, ("corners", "20", "3"))):
        with pytest.raises(UsageError) as caught:
            stitch.Config(**options)
        assert all(word in caught.value.message for word in ("stitch", *words)) and caught.value.hint
