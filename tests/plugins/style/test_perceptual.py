"""The networks that see: SciPy on random weights, published figures on the trained ones, and the files of weights."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen
from tinygen import backend as library
from tinygen.autograd import no_grad, tensor
from tinygen.data import data_folders, read_image
from tinygen.errors import DataError, UsageError
from tinygen.random import Stream
from tinygen.testing import close, host
from tinygen.testing.strategies import seeds
from tinygen_plugins.style._perceptual import NETWORKS, VGG, SqueezeNet, load_perceptual

# ---------------------------------------------------------------- an independent reference


def convolved(x, weight, bias, stride=1, padding=0):
    """Cross-correlation of (c, h, w) by SciPy."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    planes = [sum(scipy.signal.correlate2d(a, k, "valid") for a, k in zip(x, kernels)) for kernels in weight]
    return np.stack(planes)[:, ::stride, ::stride] + bias[:, None, None]


def pooled(x, size, of):
    """Windows of this size, every second one, those that hang over the edge cut off: ceil_mode."""
    rows, columns = (range(0, max(side - size + 2, 1), 2) for side in x.shape[1:])
    return np.stack([[of(x[:, i : i + size, j : j + size], axis=(1, 2)) for j in columns] for i in rows]).transpose(
        2, 0, 1
    )


def rectified(x):
    return np.maximum(x, 0)


def squeezenet_by_scipy(weights, image, of=np.max):
    """fire2 and fire4 of SqueezeNet as Iandola et al. drew it, on one image (3, h, w)."""

    def layer(x, name, **options):
        return rectified(convolved(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **options))

    def fire(x, name):
        x = layer(x, f"{name}.squeeze")
        return np.concatenate([layer(x, f"{name}.expand1x1"), layer(x, f"{name}.expand3x3", padding=1)])

    x = image[::-1] * 255 - np.array([104, 117, 123])[:, None, None]
    maps = {"relu1": layer(x, "features.0", stride=2)}
    maps["fire2"] = fire(pooled(maps["relu1"], 3, of), "features.3")
    maps["fire4"] = fire(pooled(fire(maps["fire2"], "features.4"), 3, of), "features.6")
    return maps


def vgg_by_scipy(weights, image, of=np.max):
    """relu1_1 and relu2_1 of VGG; its third convolution is features.5, behind two and a pooling."""
    x = (image - np.array([0.485, 0.456, 0.406])[:, None, None]) / np.array([0.229, 0.224, 0.225])[:, None, None]
    maps = {}
    for name, index in (("relu1_1", 0), ("relu1_2", 2), ("relu2_1", 5)):
        x = rectified(convolved(x, weights[f"features.{index}.weight"], weights[f"features.{index}.bias"], padding=1))
        maps[name] = x
        if name == "relu1_2":
            x = pooled(x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2], 2, of)
    return maps


POOLINGS = {"max": np.max, "average": np.mean}


@settings(max_examples=6)
@given(seeds(), st.integers(16, 23), st.integers(16, 23), st.sampled_from(sorted(POOLINGS)))
def test_squeezenet_s_maps_are_what_scipy_makes_of_them(seed, h, w, pooling):
    network = SqueezeNet(Stream(seed), pooling)
    image = np.random.default_rng(seed).uniform(size=(3, h, w)).astype("float32")
    expected = squeezenet_by_scipy(network.state_dict(), image.astype(float), POOLINGS[pooling])
    with no_grad():
        maps = network.features(tensor(image[None]), list(expected))
    assert list(maps) == list(expected)
    for layer, want in expected.items():
        got = host(maps[layer])[0]
        close(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())
        assert got.dtype == np.float32


@settings(max_examples=3)
@given(seeds(), st.integers(6, 9), st.sampled_from(sorted(POOLINGS)))
def test_vgg_s_maps_are_what_scipy_makes_of_them(seed, h, pooling):
    network = VGG("vgg16", Stream(seed), pooling)
    image = np.random.default_rng(seed).uniform(size=(3, h, 7)).astype("float32")
    expected = vgg_by_scipy(network.state_dict(), image.astype(float), POOLINGS[pooling])
    with no_grad():
        maps = network.features(tensor(image[None]), list(expected))
    for layer, want in expected.items():
        close(host(maps[layer])[0], want, rtol=1e-4, atol=1e-4 * np.abs(want).max())


# ---------------------------------------------------------------- the trained weights

CROPS = {
    "kodim20": (270, 142, 895, 0.2250, 1.66574),
    "kodim19": (142, 270, 716, 0.3127, 1.69748),
}  # x, y, top-1, p, mean
DATA = Path(os.environ.get("TINYGEN_DATA") or "nowhere")
PHOTOS = DATA / "images" / "kodak"


@pytest.mark.skipif(
    not (PHOTOS.is_dir() and any((Path(f) / "squeezenet1_1").is_dir() for f in data_folders())),
    reason="TINYGEN_DATA has no squeezenet1_1/ and images/kodak/",
)
@pytest.mark.parametrize("photo", CROPS)
def test_trained_squeezenet_sees_what_it_is_known_to_see(photo):
    x, y, top, probability, mean = CROPS[photo]
    crop = tensor(read_image(PHOTOS / f"{photo}.png")[None, :, y : y + 227, x : x + 227])
    network = load_perceptual("squeezenet1_1", "", Stream(0))
    with no_grad():
        scores = host(network(crop))[0].astype(float)
        features = host(network.features(crop, ["fire9"])["fire9"])
    shares = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    assert features.shape == (1, 512, 14, 14) and scores.argmax() == top
    close(shares.max(), np.array(probability), rtol=1e-3)
    close(features.mean(dtype=float), np.array(mean), rtol=1e-5)


# ---------------------------------------------------------------- what it promises


@pytest.fixture
def _no_data(monkeypatch, tmp_path):
    monkeypatch.setenv("TINYGEN_DATA", str(tmp_path / "empty"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))


def test_names_and_shapes_are_torchvision_s():
    state = {name: array.shape for name, array in SqueezeNet(Stream(0)).state_dict().items()}
    assert len(state) == 52 and sum(np.prod(shape) for shape in state.values()) == 1_235_496
    assert state["features.0.weight"] == (64, 3, 3, 3) and state["features.12.expand3x3.weight"] == (256, 64, 3, 3)
    assert state["classifier.1.weight"] == (1000, 512, 1, 1)
    vgg = {name: array.shape for name, array in VGG("vgg19", Stream(0)).state_dict().items()}
    assert sum(np.prod(shape) for shape in vgg.values()) == 20_024_384  # the convolutions of VGG-19
    assert vgg["features.34.weight"] == (512, 512, 3, 3) and len(vgg) == 32
    assert sum(a.size for a in VGG("vgg16", Stream(0)).state_dict().values()) == 14_714_688


@pytest.mark.usefixtures("_no_data")
def test_the_gradient_reaches_the_picture_and_no_parameter():
    with pytest.warns(UserWarning, match="random weights"):
        network = load_perceptual("squeezenet1_1", "", Stream(0))
    image = tinygen.tensor(np.random.default_rng(0).uniform(size=(1, 3, 32, 33)).astype("float32"), requires_grad=True)
    before = network.state_dict()
    network.features(image, ["fire5"])["fire5"].sum().backward()
    assert np.abs(host(image.grad)).max() > 0 and image.grad.dtype == np.float32
    assert all(p.grad is None and not p.requires_grad for p in network.parameters())
    assert all(np.array_equal(before[name], array) for name, array in network.state_dict().items())


def test_only_what_is_asked_for_is_computed_in_any_order():
    network = SqueezeNet(Stream(0))
    image = tensor(np.full((2, 3, 15, 15), 0.5, np.float32))  # too small for the third pooling
    maps = network.features(image, ["fire3", "relu1", "fire3"])
    assert {name: m.shape for name, m in maps.items()} == {"relu1": (2, 64, 7, 7), "fire3": (2, 128, 3, 3)}
    with pytest.raises(UsageError, match='there is no layer "fire1"'):
        network.features(image, ["fire1"])


@pytest.mark.usefixtures("_no_data")
def test_random_weights_keep_the_size_of_the_maps_and_are_told_in_one_line():
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        network = load_perceptual("squeezenet1_1", "", Stream(3))
    assert len(told) == 1 and "\n" not in str(told[0].message)
    assert "no squeezenet1_1/squeezenet1_1_imagenet.npz in the data folders" in str(told[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # those that are asked for are no news
        again = load_perceptual("squeezenet1_1", "random", Stream(3))
    assert np.array_equal(again.state_dict()["features.0.weight"], network.state_dict()["features.0.weight"])
    image = tensor(np.random.default_rng(0).uniform(size=(1, 3, 64, 64)).astype("float32"))
    maps = network.features(image, ["relu1", "fire8"])
    first, deep = (np.sqrt((host(maps[layer]).astype(float) ** 2).mean()) for layer in ("relu1", "fire8"))
    assert 0.2 < deep / first < 5


def weights_of(network):
    return {name: np.ascontiguousarray(array + np.float32(1)) for name, array in network.state_dict().items()}


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_weights_are_read_by_name(tmp_path, suffix):
    path, weights = tmp_path / f"w{suffix}", weights_of(SqueezeNet(Stream(1)))
    np.savez(path, **weights) if suffix == ".npz" else safetensors.numpy.save_file(weights, path)
    loaded = load_perceptual("squeezenet1_1", str(path), Stream(0)).state_dict()
    assert all(np.array_equal(loaded[name], array) for name, array in weights.items())


def test_the_data_folders_are_searched_and_a_classifier_may_be_missing(tmp_path, monkeypatch):
    weights = {k: v for k, v in weights_of(SqueezeNet(Stream(1))).items() if k.startswith("features.")}
    (tmp_path / "squeezenet1_1").mkdir()
    np.savez(tmp_path / "squeezenet1_1" / "squeezenet1_1_imagenet.npz", **weights)
    monkeypatch.setenv("TINYGEN_DATA", str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_perceptual("squeezenet1_1", "", Stream(0))
    assert np.array_equal(loaded.state_dict()["features.0.bias"], weights["features.0.bias"])
    assert loaded.features.mean.backend is library.current()


def test_weights_that_do_not_fit_are_refused_in_one_line(tmp_path):
    good = weights_of(SqueezeNet(Stream(1)))
    narrow = good["features.3.squeeze.weight"][:8]
    cases = {
        "features.3.squeeze.weight is (8, 64, 1, 1) float32, it must be (16, 64, 1, 1)": {
            **good, "features.3.squeeze.weight": narrow,
        },
        "features.12.squeeze.bias (64,) is missing": {k: v for k, v in good.items() if k != "features.12.squeeze.bias"},
        "features.13.bias is not expected, and 1 more": {**good, "features.13.bias": narrow, "extra": narrow},
        "features.0.bias is (64,) int64": {**good, "features.0.bias": np.zeros(64, int)},
    }  # fmt: skip
    for said, weights in cases.items():
        np.savez(tmp_path / "w.npz", **weights)
        with pytest.raises(DataError) as refused:
            load_perceptual("squeezenet1_1", str(tmp_path / "w.npz"), Stream(0))
        assert said in str(refused.value) and "w.npz" in str(refused.value) and "\n" not in str(refused.value)


def test_a_file_or_a_network_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"none\.npz: there is no such file"):
        load_perceptual("squeezenet1_1", str(tmp_path / "none.npz"), Stream(0))
    with pytest.raises(UsageError, match='there is no network "vgg"'):
        load_perceptual("vgg", "", Stream(0))
    assert NETWORKS == ("squeezenet1_1", "vgg16", "vgg19")
