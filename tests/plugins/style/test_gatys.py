"""Style transfer on pixels: its equations against loops, SciPy and finite differences, and the descent as promised."""

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen
from tests.plugins.elsewhere import same_elsewhere
from tinygen import backend as library
from tinygen.autograd import no_grad, tensor
from tinygen.errors import UsageError
from tinygen.host import verbs_of, verifies
from tinygen.random import Stream
from tinygen.testing import close, gradcheck, host, tensors
from tinygen.testing.strategies import of_shapes, reals, seeds
from tinygen_plugins.style import gatys

N, M = 3, 5
maps = reals((N, M), -2, 2)
symmetric = reals((N, N), -4, 4).map(lambda a: a + a.T)


def place(array):
    return library.current().from_host(np.asarray(array))


def away_from_kinks(array):
    return np.where(np.abs(array) < 0.05, 0.3, array)


# ---------------------------------------------------------------- content and style


@verifies(gatys.content_loss)
@given(of_shapes((1, N, 2, 2), (1, N, 2, 2)))
def test_the_content_loss_is_half_the_squared_distance(pair):
    features, photo = tensors(pair)
    close(
        gatys.content_loss(features, photo), np.array(np.linalg.norm((pair[0] - pair[1]).ravel()) ** 2 / 2), atol=1e-12
    )
    gradcheck(lambda f: gatys.content_loss(f, photo.detach()), [features], order=2)


@verifies(gatys.content_loss)
@given(maps, st.integers(0, N * M - 1), st.floats(0.01, 3))
def test_the_content_loss_is_0_for_equal_features_alone(f, place_of, step):
    other = f.copy()
    other.flat[place_of] += step
    a, b = tensors((f, other))
    assert gatys.content_loss(a, a).item() == 0
    close(gatys.content_loss(a, b), np.array(step**2 / 2), rtol=1e-9)


@verifies(gatys.gram)
@given(maps, st.permutations(range(M)), st.floats(-3, 3))
def test_the_gram_matrix(f, order, factor):
    """14a: symmetric, positive semidefinite, of no greater rank than there are filters or places; blind to the order
    of the places; quadratic."""
    g = host(gatys.gram(tensors((f,))[0]))
    by_hand = [[math.fsum(a * b for a, b in zip(row, other)) for other in f] for row in f]
    close(g, np.array(by_hand), rtol=1e-9, atol=1e-12)
    assert np.array_equal(g, g.T)
    assert scipy.linalg.eigvalsh(g).min() > -1e-9 * max(1, np.trace(g))
    few = host(gatys.gram(tensors((f[:, :2],))[0]))
    assert np.linalg.matrix_rank(few, tol=1e-8 * max(1, np.trace(few))) <= 2
    close(gatys.gram(tensors((f[:, order],))[0]), g, rtol=1e-9, atol=1e-12)
    close(gatys.gram(tensors((factor * f,))[0]), factor**2 * g, rtol=1e-9, atol=1e-12)


@verifies(gatys.layer_loss)
@given(maps, symmetric)
def test_a_layer_s_loss_is_the_mean_squared_difference_of_the_gram_matrices(f, a):
    features, painting = tensors((f, a))
    expected = np.mean((np.einsum("ik,jk->ij", f, f) / M - a / M) ** 2) / 4  # 1 / (4 N² M²), said differently
    close(gatys.layer_loss(features, painting), np.array(expected), rtol=1e-9, atol=1e-12)
    gradcheck(lambda x: gatys.layer_loss(x, painting.detach()), [features], order=2)


@verifies(gatys.layer_loss, gatys.gram)
@given(maps, st.permutations(range(M)), st.integers(1, 4))
def test_the_style_is_the_same_in_another_order_and_repeated(f, order, times):
    """14c and 14d: a picture's own style is 0 off, however its places are shuffled; repeated side by side it is as far
    from another style, whose Gram matrix is brought to as many places."""
    features = tensors((f,))[0]
    shuffled, repeated = tensors((f[:, order], np.tile(f, times)))
    own = gatys.gram(features)
    assert abs(gatys.layer_loss(shuffled, own).item()) < 1e-20 * max(1.0, np.abs(f).max()) ** 4 + 1e-24
    other = own * 0.5 + 1.0
    expected = gatys.layer_loss(features, other).item()
    close(gatys.layer_loss(repeated, other * float(times)), np.array(expected), rtol=1e-9)


@verifies(gatys.layer_gradient)
@given(maps.map(away_from_kinks), symmetric)
def test_the_slope_is_that_of_the_loss_and_0_where_the_rectifier_is(x, a):
    """14b by central differences through the rectifier, 14d, and what the tape gives."""
    activations, painting = tensors((x, a))
    slope = host(gatys.layer_gradient(activations, painting))

    def loss(values):
        f = np.maximum(values, 0)
        return ((f @ f.T - a) ** 2).sum() / (4 * N**2 * M**2)

    differences, h = np.zeros_like(x), 1e-5
    for index in np.ndindex(*x.shape):
        step = np.zeros_like(x)
        step[index] = h
        differences[index] = (loss(x + step) - loss(x - step)) / (2 * h)
    close(slope, differences, rtol=1e-6, atol=1e-8)
    assert (slope[x < 0] == 0).all()
    tape = tinygen.grad(gatys.layer_loss(tinygen.functional.relu(activations), painting.detach()), activations)
    close(slope, host(tape), rtol=1e-9, atol=1e-12)


@verifies(gatys.style_loss, gatys.total_loss)
@given(reals((4,), 0, 5), reals((4,), 0, 5), st.floats(0, 3), st.floats(0, 3))
def test_the_losses_are_weighed_sums(losses, weights, alpha, beta):
    layers = tensors((losses,))[0]
    style = gatys.style_loss(list(layers), [float(w) for w in weights])
    close(style, np.array(np.dot(losses, weights)), rtol=1e-9, atol=1e-12)
    close(tinygen.grad(style, layers), weights, rtol=1e-9)
    content = tensors((np.array(0.75),))[0]
    total = gatys.total_loss(content, style.detach(), alpha, beta)
    close(total, np.array(0.75 * alpha + beta * np.dot(losses, weights)), rtol=1e-9, atol=1e-12)


@verifies(gatys.total_variation)
@given(reals((1, 2, 4, 3), -1, 1))
def test_the_total_variation_is_the_mean_square_of_differences(image):
    squares = sum((scipy.ndimage.correlate1d(image, [0, -1, 1], axis, mode="nearest") ** 2).sum() for axis in (2, 3))
    x = tensors((image,))[0]
    close(gatys.total_variation(x), np.array(squares / 12), rtol=1e-9, atol=1e-12)
    gradcheck(gatys.total_variation, [x], order=2)
    assert gatys.total_variation(x * 0 + 0.3).item() == 0
    assert (squares > 0) == (np.ptp(image, axis=(2, 3)).max() > 0)


# ---------------------------------------------------------------- colours


@verifies(gatys.match_colours)
@given(seeds())
def test_the_painting_gets_the_photograph_s_mean_and_covariance(seed):
    random = np.random.default_rng(seed)
    painting = 0.5 + 0.1 * np.tensordot(random.normal(size=(3, 3)), random.normal(size=(3, 8, 9)), 1)
    photo = 0.4 + 0.1 * np.tensordot(random.normal(size=(3, 3)), random.normal(size=(3, 7, 6)), 1)
    s, c = np.cov(painting.reshape(3, -1), bias=True), np.cov(photo.reshape(3, -1), bias=True)
    if min(np.linalg.eigvalsh(s).min(), np.linalg.eigvalsh(c).min()) < 1e-5:
        return  # nearly grey: held off the inverse, so only nearly right
    matched = host(gatys.match_colours(place(painting), place(photo)))
    close(np.cov(matched.reshape(3, -1), bias=True), c, rtol=1e-6, atol=1e-9)
    close(matched.mean((1, 2)), photo.mean((1, 2)), rtol=1e-9)
    by_roots = scipy.linalg.sqrtm(c) @ np.linalg.inv(scipy.linalg.sqrtm(s))
    expected = np.tensordot(by_roots, painting - painting.mean((1, 2), keepdims=True), 1)
    close(matched, expected + photo.mean((1, 2), keepdims=True), rtol=1e-6, atol=1e-8)


@verifies(gatys.match_colours, gatys.match_luminance)
@given(seeds())
def test_a_grey_or_flat_painting_stays_finite(seed):
    photo = np.random.default_rng(seed).uniform(size=(3, 5, 4)).astype("float32")
    for painting in (np.full((3, 4, 4), 0.5, np.float32), np.repeat(photo[:1], 3, axis=0)):
        matched = host(gatys.match_colours(place(painting), place(photo)))
        assert np.isfinite(matched).all() and matched.dtype == np.float32
        close(matched.mean((1, 2)), photo.mean((1, 2)), rtol=1e-4)
    flat = host(gatys.match_luminance(place(np.full((1, 4, 4), 0.5, np.float32)), place(photo[:1])))
    close(flat, np.full((1, 4, 4), photo[0].mean()), rtol=1e-4)


@verifies(gatys.match_luminance)
@given(reals((1, 4, 5), 0, 1), reals((1, 3, 6), 0, 1))
def test_the_painting_s_light_gets_the_photograph_s_mean_and_deviation(painting, photo):
    if painting.std() < 1e-2:
        return
    matched = host(gatys.match_luminance(place(painting), place(photo)))
    close(matched.mean(), np.array(photo.mean()), rtol=1e-9, atol=1e-12)
    close(matched.std(), np.array(photo.std()), rtol=1e-9, atol=1e-12)
    if photo.std() > 1e-2:
        close(np.corrcoef(matched.ravel(), painting.ravel())[0, 1], np.array(1.0), rtol=1e-9)


YIQ = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])


@verifies(gatys.with_luminance)
@given(reals((3, 2, 3), 0, 1), reals((1, 2, 3), 0, 1))
def test_a_new_luminance_leaves_i_and_q(photo, luminance):
    result = host(gatys.with_luminance(place(photo), place(luminance)))
    y, i, q = np.tensordot(YIQ, result, 1)
    _, i_before, q_before = np.tensordot(YIQ, photo, 1)
    close(y, luminance[0], rtol=1e-9, atol=1e-12)
    close(i, i_before, rtol=1e-9, atol=1e-9)
    close(q, q_before, rtol=1e-9, atol=1e-9)


# ---------------------------------------------------------------- the descent


TINY = {"weights": "random", "steps": 8, "content_layers": ("fire2",), "style_layers": ("relu1", "fire2")}


def made(**options):
    return gatys.Gatys(gatys.Config(**{**TINY, **options}), None, Stream(0, "gatys"))


def picture(seed, *size, channels=3):
    coarse = np.random.default_rng(seed).uniform(0.1, 0.9, (channels, 5, 5))
    large = scipy.ndimage.zoom(coarse, (1, size[0] / 5, size[1] / 5), order=1)
    return tensor(np.clip(large, 0, 1).astype("float32"))


@pytest.fixture(autouse=True)
def _pictures(backend):
    """The photograph and two paintings, on the backend of the test."""
    global PHOTO, PAINTING, OTHER
    PHOTO, PAINTING, OTHER = (picture(seed, *size) for seed, size in enumerate([(32, 36), (40, 34), (33, 33)]))


def losses_of(algorithm, image, painting=None):
    """Content and style loss of an image at the photograph's own size."""
    style = gatys._as_large((PAINTING if painting is None else painting).data, PHOTO.shape[1:], 1.0)
    with no_grad():
        targets = algorithm.targets(PHOTO.data, [style])
        return tuple(loss.item() for loss in algorithm.losses(image, targets))


def test_the_spec_tells_the_verbs_of_the_class():
    from tinygen_plugins import style

    (spec,) = [spec for spec in style.tinygen_algorithms() if spec.name == "gatys"]
    assert set(spec.verbs) == set(verbs_of(gatys.Gatys)) == {"stylize"}


@pytest.mark.parametrize("options", [{}, {"optimizer": "adam", "lr": 0.03}, {"pooling": "max", "start": "noise"}])
def test_the_picture_gets_better_and_the_network_stays(options):
    """14e, and the losses that are descended: they fall from step to step of the whole."""
    algorithm = made(steps=25, **options)
    before = algorithm.network.state_dict()
    pictures = list(algorithm.stylize(PHOTO, [PAINTING]))
    assert len(pictures) == algorithm.stages(PHOTO) == 25
    assert all(np.array_equal(before[name], array) for name, array in algorithm.network.state_dict().items())
    assert all(p.grad is None for p in algorithm.network.parameters())
    for x in pictures:
        assert x.shape == PHOTO.shape and x.dtype == np.float32 and not x.requires_grad
        assert host(x).min() >= 0 and host(x).max() <= 1
    first, last = (losses_of(algorithm, x)[1] for x in (pictures[0], pictures[-1]))
    assert last < 0.6 * first
    assert not np.array_equal(host(pictures[0]), host(pictures[-1]))


def test_the_losses_are_relative_to_seeing_nothing():
    algorithm = made()
    content, style = losses_of(algorithm, PHOTO)
    assert content == 0 and style > 0.01
    painting = picture(1, *PHOTO.shape[1:])
    assert losses_of(algorithm, painting, painting)[1] < 1e-8  # 14c
    targets = algorithm.targets(PHOTO.data, [painting.data])
    for parameter in algorithm.network.parameters():
        parameter.data *= 0.0
    with no_grad():
        content, style = algorithm.losses(PHOTO, targets)
    close(np.array([content.item(), style.item()]), np.ones(2), rtol=1e-4)


def test_strength_weighs_the_style_against_the_content():
    figures = []
    for strength in (0.01, 1.0, 100.0):
        algorithm = made(strength=strength, steps=25)
        *_, last = algorithm.stylize(PHOTO, [PAINTING])
        figures.append(losses_of(algorithm, last))
    (c0, s0), (c1, s1), (c2, s2) = figures
    assert c0 < c1 < c2 and s0 > s1 > s2
    *_, untouched = made(strength=0.0, variation=0.0).stylize(PHOTO, [PAINTING])
    close(untouched, host(PHOTO), atol=1e-6)


@settings(max_examples=5, deadline=None)
@given(st.floats(0.1, 0.9))
def test_a_blend_of_paintings_is_the_mean_of_their_gram_matrices(share):
    algorithm = made(blend=(2 * share, 2 * (1 - share)))
    paintings = [PAINTING.data, OTHER.data]
    blended = algorithm.targets(PHOTO.data, paintings).style
    made_of_one = [made().targets(PHOTO.data, [painting]).style for painting in paintings]
    for layer, matrix in blended.items():
        one, other = (host(each[layer]).astype(float) for each in made_of_one)
        close(matrix, share * one + (1 - share) * other, rtol=1e-4, atol=1e-4 * np.abs(one).max())


def test_a_painting_of_any_size_is_brought_to_as_many_pixels():
    for scale in (1.0, 2.0):
        h, w = gatys._as_large(place(np.zeros((3, 400, 100), np.float32)), (64, 100), scale).shape[1:]
        assert abs(h / w - 4) < 0.1 and abs(h * w / 6400 / scale**2 - 1) < 0.03


def test_large_pictures_are_painted_from_coarse_to_fine():
    algorithm = made(steps=2, scales=2)
    photo = picture(0, 66, 80)
    assert algorithm.sizes(66, 80) == [(33, 40), (66, 80)]
    pictures = [host(x) for x in algorithm.stylize(photo, [PAINTING])]
    assert len(pictures) == algorithm.stages(photo) == 4 and {x.shape for x in pictures} == {(3, 66, 80)}
    usual = made()
    assert usual.sizes(300, 512) == [(300, 512)] and usual.sizes(512, 768) == [(256, 384), (512, 768)]
    assert len(usual.sizes(2048, 1536)) == 3 and made(scales=8).sizes(32, 4096) == [(32, 4096)]


@pytest.mark.parametrize("how", ["luminance", "histogram"])
def test_colours_are_kept(how):
    algorithm = made(keep_colour=how, steps=15, strength=10.0)
    photo = tensor(host(picture(0, 32, 36)) * np.array([0.3, 0.5, 0.4], np.float32)[:, None, None] + np.float32(0.3))
    *_, last = algorithm.stylize(photo, [PAINTING])
    result = host(last)
    assert np.abs(result - host(photo)).max() > 0.02
    if how == "luminance":
        inside = ((result > 0) & (result < 1)).all(0)
        assert inside.mean() > 0.5
        change = np.tensordot(YIQ, (result - host(photo)).astype(float), 1)[1:, inside]
        close(change, np.zeros_like(change), atol=1e-5)
    else:
        *_, plain = made(steps=15, strength=10.0).stylize(photo, [PAINTING])
        off = [np.abs(host(x).mean((1, 2)) - host(photo).mean((1, 2))).max() for x in (last, plain)]
        assert off[0] < off[1]


def test_grey_pictures_are_painted_in_colour():
    *_, last = made().stylize(picture(0, 32, 32, channels=1), [picture(1, 32, 32, channels=1), PAINTING])
    assert last.shape == (3, 32, 32) and np.abs(host(last)[0] - host(last)[1]).max() > 1e-4


def test_the_beginning_is_told():
    for start, first in (("content", PHOTO), ("noise", None), ("style", None)):
        algorithm = made(start=start)
        image = algorithm.first(PHOTO.data, [PAINTING.data])
        assert image.shape == PHOTO.shape
        if first is not None:
            assert np.array_equal(host(image), host(first))
    noise = [host(made(start="noise").first(PHOTO.data, [])) for _ in range(2)]
    assert np.array_equal(*noise) and noise[0].min() >= 0 and noise[0].max() < 1


def test_it_is_the_same_on_every_backend_and_in_every_run(backend):
    def painted():
        photo, painting = tensor(host(PHOTO)), tensor(host(PAINTING))
        *_, last = made(steps=4, keep_colour="histogram", optimizer="adam").stylize(photo, [painting])
        assert last.backend is library.current()
        return {"picture": host(last)}

    same_elsewhere(painted, backend, rtol=1e-4, atol=1e-4)
    assert np.array_equal(painted()["picture"], painted()["picture"])


def test_what_cannot_be_painted_is_refused_in_one_line():
    for options, content, style, message in (
        ({}, PHOTO, [], "a painting is needed"),
        ({"blend": (1.0, 2.0)}, PHOTO, [PAINTING], "blend has 2 shares for 1 paintings"),
        ({}, PHOTO[:, :20], [PAINTING], "32 pixels each way, got 20 × 36"),
        ({}, PHOTO, [PAINTING[:, :, :31]], "32 pixels each way, got 40 × 31"),
    ):
        with pytest.raises(UsageError, match=message) as refused:
            next(iter(made(**options).stylize(content, style)))
        assert refused.value.hint
    with pytest.raises(UsageError, match='there is no layer "relu4_2"'):
        made(content_layers=("relu4_2",))


def test_options_are_checked():
    for options, message in (
        ({"strength": -1.0}, "strength must be from 0.0"),
        ({"steps": 0}, "steps must be from 1"),
        ({"keep_colour": "yes"}, "keep_colour must be one of no, luminance, histogram"),
        ({"start": "photo"}, "start must be one of"),
        ({"network": "vgg"}, "network must be one of"),
        ({"pooling": "mean"}, "pooling must be one of"),
        ({"optimizer": "sgd"}, "optimizer must be one of"),
        ({"blend": (1.0, -1.0)}, "blend must be shares"),
        ({"blend": (0.0,)}, "blend must be shares"),
        ({"scales": 9}, "scales must be from 0 to 8"),
    ):
        with pytest.raises(UsageError, match=message):
            gatys.Config(**options)
