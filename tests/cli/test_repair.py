"""`tinygen repair`: what is taken as missing, what is known and stays, how near the result is, and what is refused."""

import math
import os

import numpy as np
import pytest
from PIL import ExifTags, Image
from scipy.ndimage import gaussian_filter

from tests.cli.pictures import draw, look, noise, tinygen, train_learner

HALF = 128  # the byte of the shade 0.5


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train_learner(tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture(autouse=True)
def _on_each_backend_in_a_folder_of_its_own(backend, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def square(h=12, w=14):
    """Where the tests break their pictures: (h, w) of booleans."""
    missing = np.zeros((h, w), bool)
    missing[2:5, 3:7] = True
    return missing


def mask(missing, path="mask.png"):
    return draw(path, 255 * missing)


# ---------------------------------------------------------------- what is missing


@pytest.mark.parametrize("shape", [(12, 14), (12, 14, 3)])
def test_a_mask_tells_what_is_missing_and_the_rest_stays(shape):
    picture, missing = noise(*shape), square()
    done = tinygen("repair", "fill", draw("broken.png", picture), "--mask", mask(missing), "-o", "fixed.png")
    assert (done.code, done.out, done.err) == (0, "fixed.png\n", "")
    mode, fixed = look("fixed.png")
    assert mode == ("L" if len(shape) == 2 else "RGB")  # grey stays grey
    assert (fixed[missing] == HALF).all() and (fixed[~missing] == picture[~missing]).all()
    assert sorted(os.listdir()) == ["broken.png", "fixed.png", "mask.png"]


@pytest.mark.parametrize(
    "paint",
    [
        lambda m: m * 255,  # white on black
        lambda m: m * 128,  # just light enough
        lambda m: 127 * ~m + 200 * m,  # on dark grey
        lambda m: np.stack([255 * m, 0 * m, 0 * m], -1),  # in red
        lambda m: np.stack([255 * m, 0 * m, 0 * m, 255 * m], -1),  # in red on nothing
        lambda m: np.stack([255 + 0 * m, 255 * m], -1),  # white, which is seen where it is opaque
    ],
)
def test_a_mask_may_be_painted_in_many_ways(paint):
    picture, missing = noise(12, 14, 3), square()
    tinygen("repair", "fill", draw("a.png", picture), "--mask", draw("m.png", paint(missing)), "-o", "b.png")
    np.testing.assert_array_equal((look("b.png")[1] != picture).any(-1), missing)


@pytest.mark.parametrize("colour", ["#ff00ff", "#f0f", "magenta", "rgb(255, 0, 255)"])
def test_a_colour_tells_what_is_missing(colour):
    picture, missing = noise(12, 14, 3), square()
    picture[missing] = (255, 0, 255)
    picture[0, 0] = (254, 0, 255)  # nearly
    done = tinygen("repair", "fill", draw("a.png", picture), "--mask-colour", colour, "-o", "b.png", "--json")
    assert done.document["missing"] == 12
    fixed = look("b.png")[1]
    assert (fixed[missing] == HALF).all() and (fixed[~missing] == picture[~missing]).all()


def test_a_colour_in_a_grey_picture_is_a_grey():
    picture, missing = noise(12, 14), square()
    picture[missing] = 0
    assert tinygen("repair", "fill", draw("a.png", picture), "--mask-color", "black", "-o", "b.png").code == 0
    assert look("b.png")[0] == "L" and (look("b.png")[1][missing] == HALF).all()


@pytest.mark.parametrize("shape", [(12, 14, 2), (12, 14, 4)])
@pytest.mark.parametrize("alpha", [0, 254])
def test_what_is_not_wholly_opaque_is_missing(shape, alpha):
    picture, missing = noise(*shape), square()
    picture[..., -1] = np.where(missing, alpha, 255)
    done = tinygen("repair", "fill", draw("a.png", picture), "-o", "b.png")
    assert done.err == "tinygen: a.png: 12 transparent pixels are taken as missing\n"
    mode, fixed = look("b.png")
    colours = picture[..., :-1].reshape(fixed.shape)
    assert mode == ("L" if shape[-1] == 2 else "RGB")
    assert (fixed[missing] == HALF).all() and (fixed[~missing] == colours[~missing]).all()


def test_beside_a_mask_transparency_is_laid_on_white():
    picture = noise(12, 14, 4)
    picture[..., 3] = 255
    picture[0, 0] = (9, 9, 9, 0)
    done = tinygen("repair", "fill", draw("a.png", picture), "--mask", mask(square()), "-o", "b.png")
    assert done.err == "tinygen: a.png: what is transparent is laid on white\n"
    assert (look("b.png")[1][0, 0] == 255).all()


def test_without_a_mask_every_pixel_is_noisy():
    picture = noise(12, 14)
    done = tinygen("repair", "fill", draw("a.png", picture), "--json")
    assert done.document == {
        "name": "fill", "image": "a.png", "out": "a-repaired.png", "seed": 0, "missing": 0, "damaged": None,
        "metrics": {},
    }  # fmt: skip
    np.testing.assert_array_equal(look("a-repaired.png")[1], 255 - picture.astype(int))


def test_what_lies_where_pixels_are_missing_is_hidden_from_the_algorithm():
    missing = np.zeros((12, 14), bool)
    missing[0, 0] = True
    words = ("--mask", mask(missing), "--fault", "peep", "-o", "b.png")
    assert tinygen("repair", "fill", draw("a.png", noise(12, 14, 3)), *words).code == 0


# ---------------------------------------------------------------- at random, and how near


def test_random_damage_is_repaired_measured_and_kept():
    picture = noise(20, 25, 3)
    done = tinygen("repair", "fill", draw("photo.png", picture), "--missing", 0.8, "-o", "fixed.png", "--json")
    document = done.document
    assert (document["out"], document["damaged"], document["missing"]) == ("fixed.png", "photo-damaged.png", 400)
    assert done.err == "tinygen: the damaged picture is photo-damaged.png\n"

    mode, damaged = look("photo-damaged.png")
    missing = damaged[..., 3] == 0
    assert mode == "RGBA" and missing.sum() == 400 and (damaged[missing] == 0).all()
    assert (damaged[~missing][:, :3] == picture[~missing]).all()
    fixed = look("fixed.png")[1]
    assert (fixed[missing] == HALF).all() and (fixed[~missing] == picture[~missing]).all()

    error = np.where(missing[..., None], 0.5, picture / 255) - picture / 255
    assert document["metrics"]["psnr"] == pytest.approx(-10 * math.log10((error**2).mean()), rel=1e-5)
    blurred = [gaussian_filter(p, 1.5, axes=(0, 1), truncate=3.5)[5:-5, 5:-5] for p in moments(picture / 255, error)]
    assert document["metrics"]["ssim"] == pytest.approx(similarity(*blurred), rel=1e-4)


def moments(x, error):
    y = x + error
    return x, y, x * x, y * y, x * y


def similarity(mu, nu, xx, yy, xy):
    a, b = 1e-4, 9e-4
    return np.mean((2 * mu * nu + a) * (2 * (xy - mu * nu) + b) / ((mu**2 + nu**2 + a) * (xx + yy - mu**2 - nu**2 + b)))


def test_a_damaged_picture_can_be_repaired_as_it_is():
    draw("photo.png", noise(12, 14))
    tinygen("repair", "fill", "photo.png", "--missing", 0.3)
    assert sorted(os.listdir()) == ["photo-damaged.png", "photo-repaired.png", "photo.png"]
    assert tinygen("repair", "fill", "photo-damaged.png", "-o", "again.png").code == 0
    np.testing.assert_array_equal(look("again.png")[1], look("photo-repaired.png")[1])


def test_a_seed_decides_what_is_missing_and_what_is_drawn():
    draw("a.png", noise(12, 14))
    for out, seed in (("1.png", 1), ("2.png", 1), ("3.png", 2)):
        tinygen("repair", "fill", "a.png", "--missing", 0.5, "--seed", seed, "-o", out, "--fault", "random")
    first, same, other = (look(f"{k}.png")[1] for k in (1, 2, 3))
    assert (first == same).all() and (first != other).any()
    damage = [look(f"a-damaged{k}.png")[1] for k in ("", "-2", "-3")]
    assert (damage[0] == damage[1]).all() and (damage[0] != damage[2]).any()


@pytest.mark.parametrize(("part", "count"), [(0.5, 4), (0.001, 1), (0.9, 8)])
def test_at_least_one_pixel_is_lost(part, count):
    draw("a.png", noise(3, 3))
    assert tinygen("repair", "fill", "a.png", "--missing", part, "--json").document["missing"] == count


def test_the_truth_measures_any_repair():
    picture = noise(12, 14, 3)
    broken = np.where(square()[..., None], 7, picture)
    words = (draw("broken.png", broken), "--mask", mask(square()), "--truth", draw("whole.png", picture))
    done = tinygen("repair", "fill", *words, "-o", "fixed.png")
    path, psnr, ssim = done.out.splitlines()
    error = np.where(square()[..., None], 0.5, picture / 255) - picture / 255
    assert path == "fixed.png" and psnr == f"psnr  {-10 * math.log10((error**2).mean()):.6g}"
    assert ssim.startswith("ssim  0.")
    assert tinygen("repair", "fill", *words, "--json").document["metrics"].keys() == {"psnr", "ssim"}


def test_a_truth_takes_the_channels_of_the_picture_and_small_ones_have_no_ssim():
    draw("a.png", noise(5, 5))
    draw("truth.png", np.repeat(noise(5, 5)[..., None], 3, axis=2))
    done = tinygen("repair", "fill", "a.png", "--mask", mask(square(5, 5)), "--truth", "truth.png", "--json")
    assert done.document["metrics"].keys() == {"psnr"} and done.document["metrics"]["psnr"] > 5


def test_what_is_measured_is_what_is_written():
    picture = noise(12, 14)
    glaring = np.minimum(3 * (255 - picture.astype(int)), 255)  # thrice the negative
    words = (draw("a.png", picture), "--fault", "glare", "--truth", draw("truth.png", glaring), "-o", "b.png")
    assert tinygen("repair", "fill", *words, "--json").document["metrics"]["psnr"] > 100
    np.testing.assert_array_equal(look("b.png")[1], glaring)


# ---------------------------------------------------------------- pictures of all kinds


def test_deep_palette_and_turned_pictures_are_read():
    missing = square()
    mask(missing)
    deep = noise(12, 14).astype(np.uint16) * 257
    Image.fromarray(deep).save("deep.png")
    Image.fromarray(noise(12, 14, 3)).quantize(16).save("palette.png")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned clockwise by a quarter
    Image.fromarray(np.rot90(noise(12, 14))).save("turned.png", exif=exif)
    for name, mode in (("deep", "L"), ("palette", "RGB"), ("turned", "L")):
        assert tinygen("repair", "fill", f"{name}.png", "--mask", "mask.png").code == 0
        found, fixed = look(f"{name}-repaired.png")
        assert (found, fixed.shape[:2]) == (mode, (12, 14)) and (fixed[missing] == HALF).all()
    np.testing.assert_array_equal(look("deep-repaired.png")[1][~missing], noise(12, 14)[~missing])
    np.testing.assert_array_equal(look("turned-repaired.png")[1][~missing], noise(12, 14)[~missing])


def test_nothing_is_overwritten_unasked():
    os.mkdir("photos")
    draw("photos/a.png", noise(8, 8))
    outs = [tinygen("repair", "fill", "photos/a.png").out for _ in range(3)]
    assert outs == ["a-repaired.png\n", "a-repaired-2.png\n", "a-repaired-3.png\n"]


def test_a_run_repairs_and_so_does_what_needs_no_training(trained):
    draw("a.png", noise(8, 8))
    assert tinygen("repair", trained, "a.png", "-o", "b.png").code == 0
    assert tinygen("repair", "either", "a.png", "-o", "c.png", "--shade", 0.2).code == 0
    tinygen("repair", "learner", "a.png").refused(2, "learner has to be trained first")
    tinygen("repair", trained, "a.png", "--shade", 0.2).refused(2, "unknown option --shade")


def test_help_has_an_example_and_the_options_of_the_algorithm():
    text = tinygen("repair", "--help").out
    assert "example: tinygen repair least_squares broken.png --mask mask.png -o fixed.png" in text
    assert "--shade float" in tinygen("repair", "fill", "a.png", "--help").out


# ---------------------------------------------------------------- what is refused


@pytest.fixture
def _pictures():
    """A picture and masks that do not suit it."""
    draw("a.png", noise(12, 14, 3))
    draw("clear.png", np.zeros((12, 14, 4)))
    draw("small.png", 255 * square(9, 9))
    draw("all.png", np.full((12, 14), 255))
    draw("none.png", np.ones((12, 14)))
    draw("grey.png", np.full((12, 14), 127))
    with open("text.png", "w") as file:
        file.write("no picture")
    os.mkdir("folder.png")


@pytest.mark.usefixtures("_pictures")
@pytest.mark.parametrize(
    ("code", "words", "said"),
    [
        (2, ("fill",), ["required: IMAGE", "tinygen repair --help"]),
        (2, (), ["required: NAME_OR_RUN, IMAGE"]),
        (2, ("fil", "a.png"), ['there is no algorithm "fil"', '"fill"']),
        (2, ("stripes", "a.png"), ["stripes has no verb repair", "it has sample"]),
        (2, ("fill", "a.png", "--shad", "3"), ["unknown option --shad", '"--shade"']),
        (2, ("fill", "a.png", "--shade", "3"), ["--shade must be from 0 to 1, got 3"]),
        (2, ("fill", "--shade", "0.3", "a.png"), ["0.3: there is no such file", "before the options", "NAME_OR_RUN"]),
        (2, ("fill", "a.png", "--seed", "-1"), ["--seed must be at least 0"]),
        (1, ("fill", "nowhere.png"), ["nowhere.png: there is no such file", "name an image file"]),
        (1, ("fill", "folder.png"), ["folder.png: is a folder"]),
        (1, ("fill", "text.png"), ["text.png: not an image", "PNG"]),
        (1, ("nowhere/run", "a.png"), ["nowhere/run: there is no run"]),
        # masks
        (1, ("fill", "a.png", "--mask", "m.png"), ["m.png: there is no such file"]),
        (1, ("fill", "a.png", "--mask", "text.png"), ["text.png: not an image"]),
        (1, ("fill", "a.png", "--mask", "small.png"), ["small.png", "14 × 12 pixels, got 9 × 9", "one size"]),
        (1, ("fill", "a.png", "--mask", "all.png"), ["a.png: every pixel is missing by all.png", "leave some"]),
        (1, ("fill", "a.png", "--mask", "none.png"), ["none.png: marks no pixel", "at 0.0039 of", "paint white"]),
        (1, ("fill", "a.png", "--mask", "grey.png"), ["grey.png: marks no pixel", "at 0.5 of"]),
        (1, ("fill", "clear.png"), ["clear.png: every pixel is missing by its transparency"]),
        (2, ("fill", "a.png", "--mask", "all.png", "--missing", "0.5"), ["--missing", "not allowed with", "--mask"]),
        (2, ("fill", "a.png", "--mask-colour", "pinkish"), ['there is no colour "pinkish"', "'#ff00ff' in quotes"]),
        (2, ("fill", "a.png", "--mask-colour"), ["expected one argument"]),
        (1, ("fill", "a.png", "--mask-colour", "#ff00ff"), ["a.png: no pixel has the colour #ff00ff", "nearest is #"]),
        (1, ("fill", "grey.png", "--mask-colour", "white"), ["no pixel has the colour white", "nearest is #7f7f7f"]),
        (1, ("fill", "grey.png", "--mask-colour", "#7f7f7f"), ["every pixel is missing by --mask-colour #7f7f7f"]),
        (2, ("fill", "a.png", "--missing", "0"), ["--missing must lie between 0 and 1, got 0"]),
        (2, ("fill", "a.png", "--missing", "80"), ["between 0 and 1, got 80", "--missing 0.8"]),
        (2, ("fill", "a.png", "--missing", "nan"), ["between 0 and 1, got nan"]),
        (2, ("fill", "a.png", "--missing", "most"), ["invalid float value: 'most'"]),
        (1, ("fill", "a.png", "--missing", "0.999"), ["every pixel is missing by --missing 0.999"]),
        # truths
        (2, ("fill", "a.png", "--missing", "0.5", "--truth", "a.png"), ["--truth beside --missing", "leave --truth"]),
        (1, ("fill", "a.png", "--truth", "no.png"), ["no.png: there is no such file"]),
        (1, ("fill", "a.png", "--truth", "small.png"), ["small.png", "14 × 12 pixels, got 9 × 9"]),
        # outputs
        (1, ("fill", "a.png", "-o", "x.txt"), ["x.txt", "no image format"]),
        (1, ("fill", "a.png", "-o", "no/x.png"), ["no/x.png: there is no folder"]),
        (1, ("fill", "a.png", "-o", "folder.png"), ["folder.png: is a folder"]),
        # plugins
        (3, ("fill", "a.png", "--fault", "nothing"), ["fill: repair must give a Tensor (3, 12, 14), got NoneType"]),
        (3, ("fill", "a.png", "--fault", "an array"), ["must give a Tensor (3, 12, 14), got ", "rray"]),
        (3, ("fill", "a.png", "--fault", "a row"), ["must give a Tensor (3, 12, 14), got (3, 12)"]),
        (1, ("fill", "a.png", "--fault", "not finite"), ["fill: repair gave numbers that are not finite"]),
    ],
)
def test_what_cannot_be_meant_is_refused(code, words, said):
    before = sorted(os.listdir())
    tinygen("repair", *words).refused(code, *said)
    assert sorted(os.listdir()) == before


def test_known_pixels_that_a_plugin_changed_are_its_fault():
    draw("a.png", noise(12, 14))
    words = ("--mask", mask(square()), "--fault", "all", "-o", "b.png")
    tinygen("repair", "fill", "a.png", *words).refused(
        3, "give known pixels back as they are, it changed", "(1 - mask)"
    )
    assert not os.path.exists("b.png")
