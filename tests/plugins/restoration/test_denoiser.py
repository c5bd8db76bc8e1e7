"""Residual denoising: the loss by hand, the noise's law, Noise2Noise by normal equations, and pictures of any size."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen
from tests.plugins.elsewhere import same_elsewhere
from tinygen.autograd import tensor
from tinygen.data import ArrayImages, Batches, Dataset, DataSpec
from tinygen.errors import UsageError
from tinygen.host import verbs_of, verifies
from tinygen.random import Stream
from tinygen.testing import close, gradcheck, host, tensors
from tinygen.testing.strategies import reals, seeds
from tinygen_plugins.restoration import denoiser, tinygen_algorithms

from .reference import device

IMAGES = reals((2, 1, 3, 4))
SMALL = {"depth": 3, "width": 4, "batch_size": 6}
DATA = DataSpec(name="noise", channels=3, height=8, width=6, count=40)


def model(seed=0, **options):
    return denoiser.Denoiser(denoiser.Config(**{**SMALL, **options}), DATA, Stream(seed, "denoiser"))


def batches(seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 3, 8, 6)).astype(np.uint8)
    return Batches(ArrayImages(pixels), 6, Stream(seed, "batches"))


def psnr(x, y):
    return -10 * math.log10(np.square(x.astype(float) - y).mean())


# ---------------------------------------------------------------- equations


@verifies(denoiser.residual_loss)
@given(IMAGES, IMAGES, IMAGES)
def test_the_loss_is_half_the_squared_distance_from_the_noise_an_image(residual, y, x):
    inputs = tensors((residual, y, x))
    distances = [np.linalg.norm((r - (b - a)).ravel()) for r, b, a in zip(residual, y, x)]
    close(denoiser.residual_loss(*inputs), np.array(np.mean(np.square(distances)) / 2), rtol=1e-9)
    gradcheck(denoiser.residual_loss, inputs, order=2)


@verifies(denoiser.without_noise)
@given(IMAGES, IMAGES)
def test_what_is_found_is_taken_away(y, v):
    close(denoiser.without_noise(*tensors((y + v, v))), y, rtol=1e-12, atol=1e-12)
    close(denoiser.without_noise(*tensors((y, 0 * v))), y, rtol=0)  # R ≡ 0 gives y


@verifies(denoiser.noisy)
@given(seeds(), st.floats(0.01, 1))
def test_the_noise_is_white_and_normal(seed, sigma):
    x = tinygen.full((2, 1, 30, 30), 0.5)
    levels = tensor(device(np.array([sigma, 2 * sigma], "float32").reshape(2, 1, 1, 1)))
    noise = host(denoiser.noisy(x, levels, Stream(seed, "v"))).astype(float) - 0.5
    for v, scale in zip(noise, (sigma, 2 * sigma)):
        assert scipy.stats.kstest(v.ravel() / scale, "norm").pvalue > 1e-6
        assert abs(np.corrcoef(v[0, :, 1:].ravel(), v[0, :, :-1].ravel())[0, 1]) < 5 / 29


@verifies(denoiser.learning_rate)
@given(st.integers(1, 1000), st.data())
def test_the_rate_falls_evenly_to_a_hundredth_and_stays(steps, data):
    k = data.draw(st.integers(0, 2 * steps))
    expected = np.interp(k, [0, steps], [0, -2])  # a straight line of the logarithm
    close(np.array(math.log10(denoiser.learning_rate(k, steps))), np.array(expected), rtol=1e-9)


@verifies(denoiser.residual_loss)
@given(seeds(), st.integers(2, 4))
@settings(max_examples=30)
def test_noisy_targets_have_the_same_minimiser_as_clean_ones_in_linear_regression(seed, d):
    """Noise2Noise: R(y) = W y. The gradient by W in the mean over the second noise, here its two opposite values, is
    that of clean targets, so that both vanish at the solution of the same normal equations; the losses differ."""
    random = np.random.default_rng(seed)
    x, v, other = random.normal(size=(3, 12, d))
    y = x + v
    solution = np.linalg.lstsq(y, v, rcond=None)[0]  # of min ‖y W − (y − x)‖
    (w,) = tensors((solution,))
    shaped = [a.reshape(12, 1, 1, d) for a in (y, x, x + other, x - other)]
    given_y, clean, first, second = tensors(shaped, requires_grad=False)

    def loss(target, weight):
        residual = (given_y.reshape(12, d) @ weight).reshape(12, 1, 1, d)
        return denoiser.residual_loss(residual, given_y, target)

    close(tinygen.grad(loss(clean, w), w), np.zeros((d, d)), rtol=0, atol=1e-8)
    noisy_loss = (loss(first, w) + loss(second, w)) / 2
    close(tinygen.grad(noisy_loss, w), np.zeros((d, d)), rtol=0, atol=1e-8)
    more = np.square(other).sum() / 2 / 12  # the loss that noisy targets leave in any case
    close(noisy_loss, np.array(loss(clean, w).item() + more), rtol=1e-9)
    moved = w + 0.1
    assert loss(clean, moved).item() > loss(clean, w).item()
    (by_noisy,) = [np.linalg.solve(y.T @ y, y.T @ (2 * y - (x + other) - (x - other)) / 2)]  # XᵀX W = Xᵀ(y − y')
    close(by_noisy, solution, rtol=1e-6, atol=1e-8)


# ---------------------------------------------------------------- the algorithm


def test_the_spec_tells_the_verbs_of_the_class():
    (spec,) = [spec for spec in tinygen_algorithms() if spec.name == "denoiser"]
    assert set(spec.verbs) == set(verbs_of(denoiser.Denoiser))


@pytest.mark.parametrize("target", ["clean", "noisy"])
def test_every_parameter_gets_a_gradient_and_moves(target):
    net, data = model(target=target), batches()
    before = net.network.state_dict()
    step = next(net.fit(data))
    assert set(step.metrics) == {"loss", "psnr"} and np.isfinite(step.metrics["psnr"].item())
    for name, parameter in net.network.named_parameters():
        assert np.abs(parameter.grad.numpy()).max() > 0, f"{name} gets no gradient"
        assert not np.array_equal(before[name], parameter.numpy()), f"{name} did not move"


def test_a_step_is_the_one_of_the_equations():
    """The loss that is told, made again from the streams: colour images as three grey ones, a level for each."""
    net = model(sigma_low=10.0, sigma_high=40.0)
    stream = Stream(0, "denoiser").child("noise")
    x = host(next(batches()).images).reshape(18, 1, 8, 6)
    sigma = host(stream.uniform((18, 1, 1, 1), 10 / 255, 40 / 255))
    assert len(np.unique(sigma)) > 10
    v = sigma * host(stream.normal(x.shape))
    residual = host(net.network(tensor(device(x + v))))
    net = model(sigma_low=10.0, sigma_high=40.0)
    metrics = next(net.fit(batches())).metrics
    close(metrics["loss"].item(), np.array(np.square(residual - v).sum() / 36), rtol=1e-4)
    close(metrics["psnr"].item(), np.array(psnr(v, residual)), rtol=1e-4)


def test_the_target_of_noise2noise_has_noise_of_its_own(monkeypatch):
    seen = []
    loss = denoiser.residual_loss
    monkeypatch.setattr(denoiser, "residual_loss", lambda r, y, x: seen.append((host(y), host(x))) or loss(r, y, x))
    next(model(target="noisy", sigma_low=50.0).fit(batches()))
    (y, target), x = seen[0], host(next(batches()).images).reshape(18, 1, 8, 6)
    first, second = (y - x).ravel(), (target - x).ravel()
    assert abs(first.std() - 52 / 255) < 0.03 and abs(second.std() - 52 / 255) < 0.03
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.2


@given(seeds(), st.integers(1, 17), st.integers(1, 13), st.sampled_from([1, 3]))
@settings(max_examples=12)
def test_pictures_of_any_size_keep_their_shape_and_each_channel_goes_alone(seed, height, width, channels):
    net = model()
    image = np.random.default_rng(seed).random((channels, height, width)).astype("float32")
    found = host(net.repair(tensor(device(image)), None, Stream(seed)))
    assert found.shape == image.shape and found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 1
    for c in range(channels):
        alone = host(net.repair(tensor(device(image[c : c + 1])), None, Stream(seed)))
        close(alone[0], found[c], rtol=1e-4, atol=1e-5)


def test_each_convolution_sees_one_pixel_further():
    net = model(depth=4)
    image = np.full((1, 15, 15), 0.5, "float32")
    dot = image.copy()
    dot[0, 7, 7] = 0.9
    for parameter in net.network.parameters():
        parameter.data = abs(parameter.data)  # so that nothing cancels
    net.network.eval()
    change = np.abs(host(net.network(tensor(device(dot[None])))) - host(net.network(tensor(device(image[None])))))[0, 0]
    rows, columns = np.nonzero(change > 1e-9)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (3, 11, 3, 11)


def test_a_network_that_finds_nothing_leaves_the_noise_s_own_psnr():
    """20 log₁₀(255/25) = 20.17 dB, and the same after."""
    net = model()
    for parameter in list(net.network.parameters())[-2:]:
        parameter.data = parameter.data * 0
    pixels = np.full((60, 3, 40, 30), 128, np.uint8)
    figures = net.evaluate(Dataset("noise", {"test": ArrayImages(pixels)}, (3, 40, 30)), Stream(0, "e"))
    close(figures["psnr_noisy"], np.array(20 * math.log10(255 / 25)), rtol=0, atol=0.03)
    close(figures["psnr_denoised"], np.array(figures["psnr_noisy"]), rtol=0, atol=1e-2)
    assert figures["test_images"] == 60


def test_evaluate_takes_unseen_images_only():
    images = ArrayImages(np.full((4, 3, 8, 6), 99, np.uint8))
    few = {"train": images}
    assert model().evaluate(Dataset("others", few, (3, 8, 6)), Stream(0))["test_images"] == 4
    with pytest.raises(tinygen.errors.DataError, match="no split test"):
        model().evaluate(Dataset(DATA.name, few, (3, 8, 6)), Stream(0))


def test_noise_is_learnt_away_and_evaluation_changes_nothing():
    """Grey surfaces under noise: half a minute's training finds most of it; blind to its level."""
    levels = np.random.default_rng(0).integers(40, 216, (64, 1, 1, 1)).astype(np.uint8)
    pixels = levels * np.ones((1, 1, 12, 12), np.uint8)
    spec = DataSpec(name="flat", channels=1, height=12, width=12, count=64)
    net = denoiser.Denoiser(denoiser.Config(steps=120, depth=4, width=8, lr=5e-3), spec, Stream(0, "d"))
    fit = net.fit(Batches(ArrayImages(pixels), 16, Stream(0, "b")))
    for _ in range(120):
        next(fit)
    close(net.optimizer.lr, np.array(5e-5), rtol=1e-6)
    state = net.network.state_dict()
    figures = net.evaluate(Dataset("flat", {"test": ArrayImages(pixels)}, (1, 12, 12)), Stream(0, "e"))
    assert figures["psnr_denoised"] > figures["psnr_noisy"] + 4
    assert all(np.array_equal(a, state[name]) for name, a in net.network.state_dict().items())
    assert net.network.training


def test_training_is_the_same_on_every_backend(backend):
    def two_steps():
        net = model()
        fit = net.fit(batches())
        next(fit), next(fit)
        return net.network.state_dict()

    same_elsewhere(two_steps, backend, rtol=1e-4, atol=1e-5)


def test_holes_and_odd_options_are_refused():
    with pytest.raises(UsageError, match="cannot fill missing ones") as caught:
        model().repair(tinygen.ones(1, 4, 5), tinygen.zeros(4, 5), Stream(0))
    assert caught.value.hint and "\n" not in str(caught.value)
    for options, message in (
        ({"depth": 1}, "depth must be from 2"),
        ({"sigma_low": 30, "sigma_high": 20}, "sigma_high must be from 30"),
        ({"target": "cleam"}, "target must be one of clean, noisy"),
        ({"lr": 0}, "lr must be from"),
    ):
        with pytest.raises(UsageError, match=message):
            denoiser.Config(**options)
