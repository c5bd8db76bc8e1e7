"""Style in one pass: losses and normalisations against NumPy and SciPy, the network's symmetries, and its training."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

import tinygen
from tests.plugins.elsewhere import same_elsewhere
from tinygen import backend as library
from tinygen.autograd import no_grad, tensor
from tinygen.data import ArrayImages, Batches, Dataset, DataSpec, write_image
from tinygen.errors import DataError, UsageError
from tinygen.host import verifies
from tinygen.random import Stream
from tinygen.testing import close, gradcheck, host, tensors
from tinygen.testing.strategies import reals, seeds
from tinygen.testing.strict import counting
from tinygen_plugins.style import fast_style, gatys

MAPS = reals((2, 3, 4, 5))
ROWS = reals((2, 3), 0.2, 3)
DATA = DataSpec(name="noise", channels=3, height=32, width=32, count=20)
SMALL = {"width": 2, "blocks": 1, "painting_size": 32}
TWO = ("stripes", "stripes")

pytestmark = pytest.mark.filterwarnings("ignore:.*random weights")


@pytest.fixture(autouse=True)
def _no_weights(monkeypatch, tmp_path):
    """Random weights for the loss network, also where trained ones are at hand."""
    for name in ("TINYGEN_DATA", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))


def model(**options):
    return fast_style.FastStyle(fast_style.Config(**{**SMALL, **options}), DATA, Stream(0, "fast"))


def pixels(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def photo(*shape, seed=0):
    return tensor(pixels(shape, seed) / np.float32(255))


def batches(channels=3, seed=0):
    return Batches(ArrayImages(pixels((20, channels, 32, 32), seed)), 2, Stream(seed, "batches"))


def double(network):
    for parameter in network.parameters():
        parameter.data = parameter.data.astype("float64")
    return network


# ---------------------------------------------------------------- equations: losses


@verifies(fast_style.feature_loss)
@given(MAPS, MAPS)
def test_the_content_loss_is_the_mean_square_of_each_picture(found, wanted):
    a, b = tensors((found, wanted))
    distances = [np.linalg.norm((x - y).ravel()) ** 2 / 60 for x, y in zip(found, wanted)]
    close(fast_style.feature_loss(a, b), np.array(distances), rtol=1e-9)
    close(fast_style.feature_loss(a, a), np.zeros(2))
    gradcheck(fast_style.feature_loss, [a, b], order=2)


@verifies(fast_style.gram)
@given(MAPS, seeds(), st.floats(0.1, 3))
def test_the_gram_matrix_is_that_of_gatys_by_its_size(maps, seed, scale):
    (x,) = tensors((maps,))
    found = fast_style.gram(x)
    by_positions = sum(np.einsum("na,nb->nab", maps[:, :, i, j], maps[:, :, i, j]) for i in range(4) for j in range(5))
    close(found, by_positions / 60, rtol=1e-9, atol=1e-12)
    for one, matrix in zip(x, host(found)):
        close(gatys.gram(one.flatten(1)) / 60, matrix, rtol=1e-9, atol=1e-12)  # 15a
        assert np.linalg.eigvalsh(matrix).min() > -1e-12
    order = np.random.default_rng(seed).permutation(20)
    (shuffled,) = tensors((maps.reshape(2, 3, 20)[:, :, order].reshape(maps.shape) * scale,))
    close(fast_style.gram(shuffled), host(found) * scale**2, rtol=1e-9, atol=1e-12)
    gradcheck(fast_style.gram, [x], order=2)


@verifies(fast_style.style_loss)
@given(reals((2, 4, 4)), reals((2, 4, 4)))
def test_the_style_loss_is_the_squared_frobenius_distance(found, wanted):
    a, b = tensors((found, wanted))
    close(fast_style.style_loss(a, b), np.linalg.norm(found - wanted, axis=(1, 2)) ** 2, rtol=1e-9)
    close(fast_style.style_loss(a, a), np.zeros(2))
    gradcheck(fast_style.style_loss, [a, b], order=2)


@verifies(fast_style.total_variation)
@given(MAPS, st.floats(-2, 2))
def test_total_variation_sums_squared_steps_and_is_zero_for_one_colour_only(image, constant):
    (x,) = tensors((image,))
    expected = sum(np.square(np.diff(image, axis=axis)).sum((1, 2, 3)) for axis in (2, 3)) / 60
    close(fast_style.total_variation(x), expected, rtol=1e-9)
    close(fast_style.total_variation(0 * x + constant), np.zeros(2))
    gradcheck(fast_style.total_variation, [x], order=2)


@verifies(fast_style.steady_loss)
@given(MAPS, st.floats(0.01, 1))
def test_the_steady_loss_is_the_variance_of_what_flickers(image, sigma):
    a, b = tensors((image, image + sigma * np.sign(image - image.mean())))
    close(fast_style.steady_loss(a, b), np.full(2, sigma**2), rtol=1e-6)
    close(fast_style.steady_loss(a, a), np.zeros(2))
    gradcheck(fast_style.steady_loss, [a, b], order=2)


@verifies(fast_style.total_loss)
@given(ROWS, st.floats(0, 9), st.floats(0, 9), st.floats(0, 9))
def test_the_total_is_the_weighted_sum(parts, content, style, tv):
    config = fast_style.Config(content=content, style=style, tv=tv)
    inputs = tensors((parts[:, 0], parts[:, 1], parts[:, 2]))  # (n,) each
    close(fast_style.total_loss(*inputs, config), parts @ np.array([content, style, tv]), rtol=1e-9)


# ---------------------------------------------------------------- equations: normalisation


@verifies(fast_style.instance_norm)
@given(MAPS, ROWS, ROWS)
def test_instance_norm_gives_each_map_its_deviation_and_mean(x, gamma, beta):
    given_x, g, b = tensors((x, gamma, beta))
    y = host(fast_style.instance_norm(given_x, g, b))
    shrunk = np.sqrt(x.var((2, 3)) / (x.var((2, 3)) + 1e-5))  # what ε takes away
    close(y.mean((2, 3)), beta, rtol=1e-9)
    close(y.std((2, 3)), gamma * shrunk, rtol=1e-9)
    z = scipy.stats.zscore(x.reshape(6, 20), axis=1).reshape(x.shape)
    close(y, z * (gamma * shrunk)[..., None, None] + beta[..., None, None], rtol=1e-8, atol=1e-9)
    gradcheck(fast_style.instance_norm, [given_x, g, b], order=2)


@verifies(fast_style.instance_norm)
@given(MAPS, st.floats(1, 3), st.floats(-3, 3))
def test_contrast_and_brightness_do_not_show_and_pictures_do_not_see_each_other(x, scale, shift):
    given_x, ones, zeros = tensors((x, np.ones((2, 3)), np.zeros((2, 3))))
    y = host(fast_style.instance_norm(given_x, ones, zeros))
    close(fast_style.instance_norm(given_x * scale + shift, ones, zeros), y, rtol=1e-4, atol=1e-5)  # up to ε
    close(fast_style.instance_norm(-given_x, ones, zeros), -y, rtol=1e-9)
    close(fast_style.instance_norm(given_x[:1], ones[:1], zeros[:1]), y[:1], rtol=1e-12)
    alone = tinygen.functional.batch_norm(given_x[1:], None, None, training=True)  # a batch of one
    close(alone, y[1:], rtol=1e-9, atol=1e-12)
    close(tinygen.functional.group_norm(given_x, 3), y, rtol=1e-9, atol=1e-12)  # a group a channel
    close(fast_style.instance_norm(0 * given_x + shift, ones, ones * 0.5), np.full(x.shape, 0.5), atol=1e-9)


@verifies(fast_style.adain)
@given(reals((2, 3, 6, 5)), reals((2, 3, 4, 7), 0, 1))
def test_adain_takes_the_moments_of_the_other(x, y):
    a, b = tensors((x, y))
    found = host(fast_style.adain(a, b))
    close(found.mean((2, 3)), y.mean((2, 3)), rtol=1e-9)
    close(found.std((2, 3)), y.std((2, 3)), rtol=1e-4)  # up to ε
    close(fast_style.adain(a, a), x, rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- the network


@given(st.integers(16, 27), st.integers(16, 27))
def test_a_painting_is_as_large_as_its_photograph(h, w):
    y = host(*model().stylize(photo(3, h, w), []))
    assert y.shape == (3, h, w) and y.dtype == np.float32 and 0 <= y.min() <= y.max() <= 1


@given(seeds(), st.sampled_from([(4, 0), (0, -4), (8, 4), (-4, -8)]))
def test_what_moves_by_four_pixels_is_painted_as_before(seed, move):
    """Something small on a plain ground, wide enough for the means over the picture to stay."""
    network = double(fast_style.TransformNetwork(1, 2, 1, Stream(seed, "n")))
    x = np.full((1, 3, 88, 88), 0.3)
    x[:, :, 40:48, 40:48] = np.random.default_rng(seed).uniform(size=(3, 8, 8))
    with no_grad():
        at_rest, after = (host(network(*tensors((each, np.ones((1, 1)))))) for each in (x, np.roll(x, move, (2, 3))))
    assert at_rest.std() > 1e-3
    close(after, np.roll(at_rest, move, (2, 3)), rtol=1e-8)


def test_blocks_whose_weights_are_zero_are_not_there():
    with_blocks = fast_style.TransformNetwork(1, 2, 3, Stream(0, "n"))
    without = fast_style.TransformNetwork(1, 2, 0, Stream(1, "n"))
    for block in with_blocks.blocks:
        block.second.conv.weight.data *= 0
    without.load_state_dict({k: a for k, a in with_blocks.state_dict().items() if not k.startswith("blocks.")})
    x, mix = photo(2, 3, 16, 20), tinygen.ones(2, 1)
    with no_grad():
        close(with_blocks(x, mix), host(without(x, mix)), rtol=1e-6, atol=1e-7)
        with_blocks.blocks[0].second.conv.weight.data += Stream(0, "w").normal((8, 8, 3, 3))
        assert np.abs(host(with_blocks(x, mix)) - host(without(x, mix))).max() > 1e-4


@given(seeds(), st.floats(0, 1))
def test_a_style_is_its_own_scales_and_shifts_and_a_mixture_theirs(seed, share):
    """A network of two styles against one of a single style that holds the mixture of the parameters."""
    random = np.random.default_rng(seed)
    both, single = (double(fast_style.TransformNetwork(styles, 2, 1, Stream(seed, "n"))) for styles in (2, 1))
    for parameter in both.parameters():
        if parameter.ndim == 2:  # γ and β
            parameter.data = library.current().from_host(random.uniform(0.5, 1.5, parameter.shape))
    weights, own = np.array([[share, 1 - share]]), ("gamma", "beta")
    single.load_state_dict({k: weights @ a if k.endswith(own) else a for k, a in both.state_dict().items()})
    x, one, mix = tensors((random.uniform(size=(1, 3, 16, 16)), np.ones((1, 1)), weights))
    with no_grad():
        close(both(x, mix), host(single(x, one)), rtol=1e-8)


@given(st.integers(-8, 8), st.integers(-8, 8))
def test_a_move_shows_what_was_in_sight(dy, dx):
    x = np.arange(3 * 20 * 24, dtype="float64").reshape(1, 3, 20, 24)
    seen = host(fast_style.moved(*tensors((x,)), dy, dx))
    assert seen.shape == (1, 3, 20 - abs(dy), 24 - abs(dx))
    i, j = np.indices((20, 24)) + np.array([dy, dx])[:, None, None]  # what each place shows now
    inside = (i >= 0) & (i < 20) & (j >= 0) & (j < 24)
    assert np.array_equal(seen[0].reshape(3, -1), x[0, :, i[inside], j[inside]].T)


# ---------------------------------------------------------------- the algorithm


def test_every_parameter_gets_a_gradient_and_moves():
    fast = model(painting=TWO, batch_size=8)
    before, fit = fast.network.state_dict(), fast.fit(Batches(ArrayImages(pixels((20, 3, 32, 32))), 8, Stream(0, "b")))
    step = next(fit)
    assert set(step.metrics) == {"loss", "content", "style", "tv", "steady"}
    for name, parameter in fast.network.named_parameters():
        assert (np.abs(parameter.grad.numpy()) > 0).any(1 if parameter.ndim == 2 else None).all(), name
        assert not np.array_equal(before[name], parameter.numpy()), f"{name} did not move"


def test_losses_are_relative_and_zero_at_the_photograph_and_at_the_painting():
    fast = model()
    judge = fast.loss_network()
    painting = fast_style.stripes(32, fast.random.child("painting 0")).unsqueeze(0)
    x, y, mix = photo(1, 3, 32, 32), photo(1, 3, 32, 32, seed=1), tinygen.ones(1, 1)
    content, style = judge.losses(x, x, mix)
    assert content.item() == 0 and style.item() > 0.01
    content, style = judge.losses(painting, x, mix)
    assert content.item() > 0.01 and abs(style.item()) < 1e-9
    content, style = judge.losses(y, x, mix)
    of_x, of_y = (host(judge.features(image, ["fire3"])["fire3"]).astype(float) for image in (x, y))
    close(content.item(), np.array(((of_y - of_x) ** 2).sum() / (of_x**2).sum()), rtol=1e-4)
    ratios = []
    for layer in ("relu1", "fire3", "fire5", "fire7"):
        maps = (host(judge.features(image, [layer])[layer])[0].astype(float) for image in (painting, y))
        a, g = (np.einsum("cij,dij->cd", each, each) / each.size for each in maps)
        ratios.append(((g - a) ** 2).sum() / (a**2).sum())
    close(style.item(), np.array(np.mean(ratios)), rtol=1e-4)
    y.requires_grad_(True)
    judge.losses(y, x, mix)[1].sum().backward()
    assert np.abs(y.grad.numpy()).max() > 0
    assert all(parameter.grad is None for parameter in judge.features.parameters())  # it stays as it is


def test_each_picture_is_held_against_its_own_style():
    fast = model(painting=TWO)
    judge = fast.loss_network()
    paintings = tinygen.stack([fast_style.stripes(32, fast.random.child(f"painting {k}")) for k in (0, 1)])
    own = tensor([[1.0, 0.0], [0.0, 1.0]])
    close(judge.losses(paintings, paintings, own)[1], np.zeros(2, "float32"), atol=1e-9)
    apart = host(judge.losses(paintings, paintings, 1 - own)[1])
    assert np.isfinite(apart).all() and apart.min() > 1e-3


def test_a_step_is_the_one_of_the_equations():
    options = {"content": 2.0, "style": 3.0, "tv": 5.0, "steady": 7.0}
    figures = {name: v.item() for name, v in next(model(**options).fit(batches())).metrics.items()}
    fast, x, mix = model(**options), next(batches()).images, tinygen.ones(2, 1)
    with no_grad():
        y, random = fast.paint(x, mix), fast.random
        content, style = (host(loss).mean() for loss in fast.loss_network().losses(y, x, mix))
        dy, dx = (int(step) for step in Stream(random.seed, f"{random.name}/moves").integers(-8, 9, (2,)))
        rows, columns = slice(max(dy, 0), 32 + min(dy, 0)), slice(max(dx, 0), 32 + min(dx, 0))
        copy = host(x)[:1, :, rows, columns]
        noise = host(random.child("noise").normal(copy.shape))
        again = fast.paint(tensor(copy + np.float32(0.02) * noise), mix[:1])
    steady = np.square(host(again) - host(y)[:1, :, rows, columns]).mean()
    variation = sum(np.square(np.diff(host(y), axis=axis)).sum() for axis in (2, 3)) / host(y).size
    for name, value in (("content", content), ("style", style), ("tv", variation), ("steady", steady)):
        close(figures[name], np.array(value), rtol=1e-3, what=name)
    close(figures["loss"], np.array(2 * content + 3 * style + 5 * variation + 7 * steady), rtol=1e-3)
    assert set(next(model(steady=0.0).fit(batches())).metrics) == {"loss", "content", "style", "tv"}


def test_the_losses_and_the_rate_fall():
    fast = model(width=3, lr=1e-2, steps=15, steady=0.0)
    losses = [step.metrics["loss"].item() for _, step in zip(range(15), fast.fit(batches()))]
    assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])
    for k, rate in ((0, 1e-2), (15, 1e-3), (30, 1e-3)):
        close(fast.schedule.rate(k), np.array(rate), rtol=1e-9)


def test_training_is_the_same_on_every_backend(backend):
    def a_step():
        """Its gradients, 1 the largest element of each; Adam's first steps are their signs, whatever their size."""
        fast = model(painting=TWO)
        fit = fast.fit(batches())
        figures = next(fit).metrics  # it puts the epoch in order, on the host
        gradients = {name: host(p.grad) for name, p in fast.network.named_parameters()}
        with counting() as counts:
            next(fit)
        assert counts.to_host == counts.synchronizations == 0  # nothing else waits for a device
        return {name: g / np.abs(g).max() for name, g in gradients.items()} | {"loss": host(figures["loss"])}

    same_elsewhere(a_step, backend, rtol=1e-3, atol=1e-3)


def test_grey_pictures_are_coloured_ones():
    spec = DataSpec(name="grey", channels=1, height=32, width=32, count=20)
    fast = fast_style.FastStyle(fast_style.Config(**SMALL), spec, Stream(0, "fast"))
    assert np.isfinite(next(fast.fit(batches(channels=1))).metrics["loss"].item())
    assert np.array_equal(*(host(*fast.stylize(photo(1, 20, 20).expand(c, 20, 20), [])) for c in (1, 3)))


def test_paintings_call_for_the_styles_that_look_like_them(tmp_path):
    files = []
    for name, colour in (("red", [0.9, 0.1, 0.1]), ("blue", [0.1, 0.1, 0.9])):
        files.append(str(tmp_path / f"{name}.png"))
        write_image(files[-1], np.full((40, 50, 3), colour, "float32").transpose(2, 0, 1))
    fast = model(painting=(*files, "stripes"))
    fast.fit(batches())
    red, blue = (tensor(c).reshape(3, 1, 1).expand(3, 33, 33) for c in ([1.0, 0.0, 0.0], [0.0, 0.0, 1.0]))
    close(fast.called([red]), np.array([[1, 0, 0]], "float32"))
    close(fast.called([blue, red]), np.array([[0.5, 0.5, 0]], "float32"))
    close(fast.called([]), np.full((1, 3), 1 / 3, "float32"), rtol=1e-6)
    for layer in fast.network.down:  # untrained styles are alike
        layer.gamma.data = Stream(0, "gamma").uniform(layer.gamma.shape)
    x = photo(3, 24, 24)
    (first,), (second,) = fast.stylize(x, [red]), fast.stylize(x, [blue])
    close(fast.paint(x.unsqueeze(0), tensor([[1.0, 0.0, 0.0]]))[0], host(first), rtol=1e-6)
    assert np.abs(host(first) - host(second)).max() > 1e-3


def test_the_colours_of_the_photograph_can_be_kept():
    x = 0.4 + 0.2 * photo(3, 64, 64)
    kept = host(*model(keep_colour=True).stylize(x, []))
    close(kept.mean((1, 2)), host(x).mean((1, 2)), rtol=1e-3)
    close(kept.std((1, 2)), host(x).std((1, 2)), rtol=0.1)


def test_evaluate_tells_the_losses_and_the_flicker():
    fast = model(painting=TWO)
    sets = {name: ArrayImages(pixels((3, 3, 32, 32), seed)) for seed, name in enumerate(("train", "test"))}
    figures = fast.evaluate(Dataset("noise", sets, (3, 32, 32)), Stream(0, "e"))
    judge, rows, moves, noise = fast.loss_network(), [], Stream(0, "e/moves"), Stream(0, "e")
    for one in photo(3, 3, 32, 32, seed=1).split(1):
        for mix in (tensor([[1.0, 0.0]]), tensor([[0.0, 1.0]])):
            y = fast.paint(one, mix)
            dy, dx = (int(v) for v in moves.integers(-8, 9, (2,)))
            copy, before = fast_style.moved(one, dy, dx), host(fast_style.moved(y, dy, dx))
            again = host(fast.paint(copy + 0.02 * tensor(noise.normal(copy.shape)), mix))
            losses = [loss.item() for loss in judge.losses(y, one, mix)]
            rows.append([*losses, 255 * np.sqrt(np.square(again - before).mean())])
    for name, value in zip(("content", "style", "flicker"), np.mean(rows, 0)):
        close(figures[name], np.array(value), rtol=1e-3, what=name)
    total = sum(getattr(fast.config, name) * figures[name] for name in ("content", "style", "tv"))
    close(figures["loss"], np.array(total), rtol=1e-4)
    elsewhere = fast.evaluate(Dataset("other", {"train": sets["test"]}, (3, 32, 32)), Stream(0, "e"))
    assert elsewhere == figures and figures["test_images"] == 3


def test_files_that_are_missing_are_told_before_training(tmp_path):
    none = str(tmp_path / "none.npz")
    for options in ({"painting": (none,)}, {"weights": none}):
        with pytest.raises(DataError, match="no such file"):
            model(**options).fit(batches())
        next(model(**options).stylize(photo(3, 20, 20), []))  # a trained one needs no file


def test_files_are_found_from_another_folder_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = fast_style.Config(painting=("stripes", "p.png"), weights="w.npz")
    assert config.painting == ("stripes", str(tmp_path / "p.png")) and config.weights == str(tmp_path / "w.npz")
    assert fast_style.Config().weights == "" and fast_style.Config(weights="random").weights == "random"


@pytest.mark.parametrize(("name", "size", "shape"), [("p.png", 40, (3, 40, 60)), ("p.png", 80, (3, 60, 90))])
def test_a_painting_is_brought_to_its_size(tmp_path, name, size, shape):
    write_image(tmp_path / "p.png", np.linspace(0, 1, 3 * 60 * 90, dtype="float32").reshape(3, 60, 90))
    painting = host(fast_style.read_painting(str(tmp_path / name), size, Stream(0, "p")))
    assert painting.shape == shape and painting.dtype == np.float32 and abs(painting.mean() - 0.5) < 0.01
    drawn = host(fast_style.read_painting("stripes", size, Stream(0, "p")))
    assert drawn.shape == (3, size, size) and drawn.std() > 0.1 and 0 <= drawn.min() <= drawn.max() <= 1


def test_options_and_pictures_that_do_not_fit_are_refused():
    for options, message in (
        ({"painting": ()}, "there is no painting"),
        ({"batch_size": 0}, "batch_size must be from 1"),
        ({"style": -1.0}, "style must be from 0"),
        ({"painting_size": 8}, "painting_size must be from 32"),
        ({"network": "vgg"}, "network must be one of squeezenet1_1, vgg16, vgg19, got vgg"),
    ):
        with pytest.raises(UsageError, match=message):
            fast_style.Config(**options)
    tiny = DataSpec(name="tiny", channels=3, height=28, width=32, count=20)
    with pytest.raises(UsageError, match="images need 32 × 32 pixels, tiny has 28 × 32"):
        fast_style.FastStyle(fast_style.Config(), tiny, Stream(0, "fast"))
    with pytest.raises(UsageError, match=r"pictures need 16 pixels each way, got \(15, 40\)"):
        next(model().stylize(photo(3, 15, 40), []))
