"""one_shot: each method's equations against SciPy, loops and closed forms, and what is made of them."""

import itertools

import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

import tinygen
from tests.plugins.elsewhere import same_elsewhere
from tinygen import backend as library
from tinygen.data import ArrayImages, Batches, Dataset, DataSpec, Episodes, Support
from tinygen.data.omniglot import Runs
from tinygen.errors import DataError, UsageError
from tinygen.host import verbs_of, verifies
from tinygen.random import Stream
from tinygen.testing import close, gradcheck, host, tensors
from tinygen.testing.strategies import reals, seeds
from tinygen.testing.strict import counting
from tinygen_plugins.meta import one_shot
from tinygen_plugins.meta._characters import in_plane

WAY, D = 3, 4
features = reals((5, D), -3, 3)  # of a query
examples = reals((6, D), -3, 3)
LABELS = st.permutations([0, 0, 0, 1, 1, 2])


def place(array):
    return library.current().from_host(np.asarray(array))


def labels_tensor(labels):
    return tinygen.tensor(place(np.asarray(labels, np.int64)))


def means(f, labels):
    return np.array([np.mean([row for row, label in zip(f, labels) if label == k], axis=0) for k in range(WAY)])


# ---------------------------------------------------------------- prototypical networks


@verifies(one_shot.prototypes)
@given(examples, LABELS, st.permutations(range(6)))
def test_a_prototype_is_the_mean_of_its_class_in_any_order_and_however_often_each_example_counts(f, labels, order):
    (x,) = tensors((f,))
    expected, labels, order = means(f, labels), np.array(labels), list(order)
    close(one_shot.prototypes(x, labels_tensor(labels), WAY), expected, rtol=1e-9, atol=1e-12)
    close(one_shot.prototypes(x[order], labels_tensor(labels[order]), WAY), expected, rtol=1e-9, atol=1e-12)
    close(one_shot.prototypes(tinygen.cat([x, x]), labels_tensor([*labels, *labels]), WAY), expected, atol=1e-12)
    gradcheck(lambda z: one_shot.prototypes(z, labels_tensor(labels), WAY), [x])


@verifies(one_shot.prototypes)
@given(reals((4, D), 0.1, 3), reals((D,), 0.1, 3, layouts=False))
def test_no_other_point_is_nearer_to_a_class_in_any_bregman_divergence(f, other):
    """φ(z) − φ(c) − ∇φ(c)·(z − c), summed over the class, for φ = ‖z‖², Σ z log z and −Σ log z."""
    centre = host(one_shot.prototypes(tensors((f,))[0], labels_tensor([0] * 4), 1))[0]
    for phi, slope in (
        (lambda z: (z * z).sum(-1), lambda c: 2 * c),
        (lambda z: scipy.special.xlogy(z, z).sum(-1), lambda c: np.log(c) + 1),
        (lambda z: -np.log(z).sum(-1), lambda c: -1 / c),
    ):
        at_mean, at_other = ((phi(f) - phi(c) - (f - c) @ slope(c)).sum() for c in (centre, other))
        assert at_mean <= at_other + 1e-9


@verifies(one_shot.squared_distances, one_shot.log_nearness)
@given(features, reals((WAY, D), -3, 3))
def test_nearness_is_the_softmax_of_scipys_distances(f, c):
    z, centres = tensors((f, c))
    squares = cdist(f, c, "sqeuclidean")
    close(one_shot.squared_distances(z, centres), squares, rtol=1e-9, atol=1e-10)
    close(one_shot.log_nearness(z, centres), scipy.special.log_softmax(-squares, axis=1), rtol=1e-9, atol=1e-9)
    gradcheck(one_shot.log_nearness, [z, centres], order=2)


@verifies(one_shot.log_nearness)
@given(features, reals((WAY, D), -3, 3), seeds())
def test_nearness_is_a_linear_classifier_and_does_not_see_rigid_motions(f, c, seed):
    z, centres = tensors((f, c))
    here = one_shot.log_nearness(z, centres)
    close(here, scipy.special.log_softmax(f @ (2 * c).T - np.diag(c @ c.T), axis=1), rtol=1e-8, atol=1e-8)
    rotation = scipy.stats.ortho_group.rvs(D, random_state=seed % 2**32)
    moved = tensors((f @ rotation + 5, c @ rotation + 5))
    close(one_shot.log_nearness(*moved), here, rtol=1e-8, atol=1e-8)


@verifies(one_shot.episode_loss)
@given(features.map(lambda f: f[:, :WAY]), st.lists(st.integers(0, WAY - 1), min_size=5, max_size=5))
def test_the_loss_of_an_episode(a, labels):
    (log_p,) = tensors((scipy.special.log_softmax(a, axis=1),))
    expected = -np.mean([host(log_p)[i, label] for i, label in enumerate(labels)])
    close(one_shot.episode_loss(log_p, labels_tensor(labels)), np.array(expected), rtol=1e-9)


# ---------------------------------------------------------------- matching networks


@verifies(one_shot.cosine_scores)
@given(reals((5, D), 0.1, 3), reals((6, D), -3, -0.1), st.floats(0.05, 5))
def test_scores_are_scipys_cosines(f, e, temperature):
    z, x = tensors((f, e))
    expected = (1 - cdist(f, e, "cosine")) / temperature
    close(one_shot.cosine_scores(z, x, temperature), expected, rtol=1e-8, atol=1e-8)
    close(one_shot.cosine_scores(z * 3.0, x * 0.5, temperature), expected, rtol=1e-8, atol=1e-8)
    gradcheck(lambda a, b: one_shot.cosine_scores(a, b, temperature), [z, x])


@verifies(one_shot.attend)
@given(reals((5, 6), -4, 4), LABELS)
def test_attention_adds_up_by_class_to_one(s, labels):
    (scores,) = tensors((s,))
    expected = np.zeros((5, WAY))
    for i, row in enumerate(s):
        for score, label in zip(row, labels):
            expected[i, label] += np.exp(score) / np.exp(row).sum()
    p = one_shot.attend(scores, labels_tensor(labels), WAY)
    close(p, expected, rtol=1e-9)
    close(p.sum(1), np.ones(5), rtol=1e-12)
    gradcheck(lambda x: one_shot.attend(x, labels_tensor(labels), WAY), [scores])


@verifies(one_shot.cosine_scores, one_shot.attend)
@given(seeds())
def test_a_cold_softmax_is_the_nearest_neighbour(seed):
    random = np.random.default_rng(seed)
    f, e, labels = random.normal(size=(7, D)), random.normal(size=(6, D)), [0, 0, 1, 1, 2, 2]
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (f, e)]
    _, nearest = cKDTree(unit[1]).query(unit[0])
    scores = one_shot.cosine_scores(*tensors((f, e)), 1e-7)
    p = one_shot.attend(scores, labels_tensor(labels), WAY)
    assert host(p.argmax(1)).tolist() == [labels[i] for i in nearest]


@verifies(one_shot.attend, one_shot.log_nearness)
@given(features, reals((WAY, D), -3, 3))
def test_with_one_example_and_one_metric_both_networks_say_the_same(f, e):
    z, x = tensors((f, e))
    p = one_shot.attend(-one_shot.squared_distances(z, x), labels_tensor([0, 1, 2]), WAY)
    close(p, np.exp(host(one_shot.log_nearness(z, x))), rtol=1e-8, atol=1e-12)


# ---------------------------------------------------------------- the algorithm

SMALL = {"channels": 4, "way": 3, "queries": 2, "episodes": 20}
SPEC = DataSpec(name="blobs", channels=1, height=16, width=16, count=80, classes=tuple(map(str, range(10))))
every_method = pytest.mark.parametrize("method", one_shot.METHODS)


def blobs(seed=0, classes=10, each=8, noise=40):
    """Images whose class is where their light lies: a coarse random pattern, under noise."""
    random = np.random.default_rng(seed)
    patterns = random.integers(0, 2, (classes, 4, 4)).repeat(4, 1).repeat(4, 2) * 160
    pixels = patterns.repeat(each, 0)[:, None] + random.integers(0, noise, (classes * each, 1, 16, 16))
    return ArrayImages(pixels.astype(np.uint8), np.arange(classes).repeat(each))


def model(seed=0, **options):
    return one_shot.OneShot(one_shot.Config(**{**SMALL, **options}), SPEC, Stream(seed, "one_shot"))


def batches(images=None):
    return Batches(images or blobs(), 6, Stream(0, "batches"))


def test_the_spec_tells_the_verbs_of_the_class():
    from tinygen_plugins import meta

    (spec,) = [spec for spec in meta.tinygen_algorithms() if spec.name == "one_shot"]
    assert set(spec.verbs) == set(verbs_of(one_shot.OneShot))


@every_method
def test_an_update_reaches_every_parameter(method):
    learner = model(method=method)
    before = {**learner.embedding.state_dict(), **learner.method.state_dict()}
    figures = [next(learner.fit(batches())).metrics]
    for module in (learner.embedding, learner.method):
        for name, p in module.named_parameters():
            assert np.abs(p.grad.numpy()).max() > 0, name
            assert not np.array_equal(before[name], p.numpy()), name
    assert np.isfinite(figures[0]["loss"].item()) and 0 <= figures[0]["accuracy"].item() <= 1


def test_training_asks_for_the_query_of_an_episode_by_its_support():
    learner, again = model(moves=0.0), model(moves=0.0)
    episode = Episodes(blobs(), 3, 1, 2, Stream(0, "batches"))[0]
    f = host(again.embedding(tinygen.cat([episode.support, episode.query]))).astype(float)
    log_p = scipy.special.log_softmax(-cdist(f[3:], f[:3], "sqeuclidean"), axis=1)
    asked = episode.query_labels.numpy()
    figures = next(learner.fit(batches())).metrics
    close(figures["loss"].item(), np.array(-log_p[np.arange(6), asked].mean()), rtol=1e-3, atol=1e-6)
    close(figures["accuracy"].item(), np.array((log_p.argmax(1) == asked).mean()), rtol=1e-6)


@every_method
def test_the_loss_by_every_parameter_against_finite_differences(method):
    learner = model(method=method, channels=2)
    modules = (learner.embedding, learner.method)
    for p in itertools.chain.from_iterable(module.parameters() for module in modules):
        p.data = p.data.astype("float64")
    learner.embedding.eval()
    images = tensors((np.random.default_rng(0).uniform(size=(9, 1, 16, 16)),))[0].detach()
    labels = labels_tensor([0, 1, 2])

    def loss(*values):
        for (module, name), value in zip(names, values):
            *path, last = name.split(".")
            for part in path:
                module = getattr(module, part)
            object.__setattr__(module, last, value)
        f = learner.embedding(images) * 4.0
        return learner.method.loss(f[3:], labels_tensor([0, 0, 1, 1, 2, 2]), one_shot.Examples(f[:3], labels, WAY))

    names = [(module, name) for module in modules for name, _ in module.named_parameters()]
    gradcheck(loss, [p for module in modules for p in module.parameters()], rtol=1e-4)


@every_method
@given(seeds(), st.permutations(range(WAY)))
def test_other_names_of_the_classes_give_the_same_answers_under_these_names(method, seed, names):
    random = np.random.default_rng(seed)
    query, support = (tinygen.tensor(place(random.normal(size=(n, D)))) for n in (5, 6))
    judge = one_shot.METHODS[method](one_shot.Config(), D, Stream(seed, "m"))
    labels = np.array([0, 1, 2, 2, 1, 0])
    p = judge.probabilities(query, one_shot.Examples(support, labels_tensor(labels), WAY))
    renamed = judge.probabilities(query, one_shot.Examples(support, labels_tensor(np.array(names)[labels]), WAY))
    close(renamed[:, list(names)], p, rtol=1e-6, atol=1e-9)
    close(p.sum(1), np.ones(5), rtol=1e-5)


@every_method
def test_features_that_say_nothing_are_right_by_chance(method):
    random, learner, shares, way, rounds = np.random.default_rng(3), model(method=method), [], 5, 120
    learner.method = one_shot.METHODS[method](one_shot.Config(), D, Stream(0, "m"))
    for _ in range(rounds):
        query, support = (tinygen.tensor(place(random.normal(size=(n, D)))) for n in (20, way))
        given = one_shot.Examples(support, labels_tensor(np.arange(way)), way)
        shares.append(learner.accuracy(query, labels_tensor(np.arange(20) % way), given).item())
    assert abs(np.mean(shares) - 1 / way) < 4 * np.sqrt(0.2 * 0.8 / (20 * rounds))


@every_method
def test_it_learns_to_tell_classes_that_it_has_never_seen(method):
    learner = model(method=method, channels=8, way=8, lr=5e-3, moves=0.0)
    fit = learner.fit(batches(blobs(classes=40)))
    for _ in range(30):
        next(fit)
    figures = learner.evaluate(Dataset("blobs", {"test": blobs(9, classes=12, each=10)}, (1, 16, 16)), Stream(0, "e"))
    assert figures["accuracy_5_way_1_shot"] > 75 and figures["test_classes"] == 12
    assert figures["accuracy_5_way_5_shot"] > figures["accuracy_5_way_1_shot"] - 1
    assert "accuracy_20_way_1_shot" not in figures  # there are no twenty classes


def test_figures_are_those_of_the_nearest_mean():
    learner, test = model(), blobs(4, classes=6, each=10, noise=250)
    figures = learner.evaluate(Dataset("blobs", {"test": test}, (1, 16, 16)), Stream(0, "e"))
    episodes, shares = Episodes(test, 5, 5, 5, Stream(0, "e").child("5_way_5_shot")), []
    for number in range(20):
        episode = episodes[number]
        support, query = (host(learner.embed(part)).astype(float) for part in (episode.support, episode.query))
        answers = cdist(query, support.reshape(5, 5, -1).mean(1)).argmin(1)
        shares.append(100 * (answers == episode.query_labels.numpy()).mean())
    close(figures["accuracy_5_way_5_shot"], np.array(np.mean(shares)), rtol=1e-6)
    half = scipy.stats.t.interval(0.95, 19, 0, scipy.stats.sem(shares))[1]
    close(figures["interval_5_way_5_shot"], np.array(half), rtol=1e-5)


def test_the_runs_give_errors_beside_those_of_the_nearest_drawing():
    random = np.random.default_rng(0)
    drawings = random.uniform(size=(2, 3, 105, 105)) < np.linspace(0.01, 0.2, 3)[:, None, None]
    answers = np.array([[0, 1, 2], [2, 0, 1]])
    query = np.take_along_axis(drawings, answers[:, :, None, None], 1)
    runs = Runs(drawings, query, answers, 16)
    learner = model()
    figures = learner.evaluate(Dataset("runs", {"train": runs.examples, "test": runs}, (1, 16, 16)), Stream(0, "e"))
    assert figures["error_percent"] == figures["hausdorff_error_percent"] == 0  # the very drawings are asked for
    assert figures["runs"] == 2
    turned = Runs(drawings, query, (answers + 1) % 3, 16)
    figures = learner.evaluate(Dataset("runs", {"train": runs.examples, "test": turned}, (1, 16, 16)), Stream(0, "e"))
    assert figures["error_percent"] == figures["hausdorff_error_percent"] == 100


@every_method
def test_a_few_examples_make_a_classifier_and_change_no_weight(method):
    learner, images = model(method=method), blobs(5, classes=3, each=4)
    before = learner.embedding.state_dict()
    x, labels = (tinygen.tensor(place(part)) for part in (images.images(np.arange(12)), images.labels(np.arange(12))))
    classifier = learner.adapt(Support(x, labels, ("a", "b", "c")))
    p = host(classifier.probabilities(x[:5]))
    assert p.shape == (5, 3) and p.dtype == np.float32 and classifier.classes == ("a", "b", "c")
    close(p.sum(1), np.ones(5, np.float32), rtol=1e-5)
    close(classifier.probabilities(x[2:3]), p[2:3], rtol=1e-4, atol=1e-6)  # each image by itself
    for name, array in learner.embedding.state_dict().items():
        assert np.array_equal(array, before[name]), name
    with pytest.raises(UsageError, match="tells classes apart, the support has 1"):
        learner.adapt(Support(x[:2], labels[:2], ("a",)))


def test_figures_leave_out_what_there_are_too_few_images_or_classes_for():
    def figures(*sizes):
        few = ArrayImages(np.zeros((sum(sizes), 1, 16, 16), np.uint8), np.arange(len(sizes)).repeat(sizes))
        return set(model().evaluate(Dataset("few", {"test": few}, (1, 16, 16)), Stream(0, "e")))

    always = {"accuracy_5_way_1_shot", "interval_5_way_1_shot", "test_classes"}
    assert figures(*[8] * 6) == always  # five examples and five to ask for would be ten
    assert figures(*[10] * 10, *[4] * 12) == {*always, "accuracy_5_way_5_shot", "interval_5_way_5_shot"}
    with pytest.raises(DataError, match="5-way episodes with 6 images of each class need 5 such classes, got 4"):
        figures(*[10] * 4)


@given(st.integers(2, 6), st.sampled_from([1, 2, 30]), seeds())
def test_images_lie_in_the_plane_of_their_principal_components(n, d, seed):
    f = np.random.default_rng(seed).normal(size=(n, d))
    picture = host(in_plane(*tensors((f, np.ones((n, 1, 1, 1)))), 101))[0, 0]
    assert picture.shape == (101, 101) and 1 <= picture.sum() <= n
    if d > 1:
        components = np.linalg.svd(f - f.mean(0))[0][:, :2]
        spread = np.ptp(components, axis=0)
        places = np.rint(100 * (components - components.min(0)) / np.maximum(spread, 1e-12))[:, ::-1]
        turned = [{(u if a else 100 - u, v if b else 100 - v) for u, v in places} for a in (0, 1) for b in (0, 1)]
        shown = {tuple(place) for place in np.argwhere(picture)}
        if n > 2:  # of two images the second component is noise
            assert any(all(min(abs(u - i) + abs(v - j) for i, j in shown) <= 2 for u, v in each) for each in turned)


def test_few_channels_and_large_images_have_pictures_too():
    one = model(channels=1)
    assert one.embedding.features == 1
    assert one.illustrate(Dataset("blobs", {"train": blobs()}, (1, 16, 16)), Stream(0, "i"))["embedding"].ndim == 4
    features, images = tensors((np.eye(3, 5), np.ones((3, 1, 500, 300))))
    assert in_plane(features, images).shape == (1, 1, 1000, 1000)


def test_pictures_of_an_episode():
    learner = model()
    few, enough = blobs(1, classes=2, each=11), blobs(1, classes=3, each=11)
    for splits in ({"train": blobs()}, {"train": blobs(), "test": few}, {"train": blobs(), "test": enough}):
        drawn = learner.illustrate(Dataset("blobs", splits, (1, 16, 16)), Stream(0, "i"))
        assert drawn["answers"].shape[3] == 3 * 16 and (drawn["answers"].shape[2] - 1) % 16 == 0
        assert drawn["embedding"].shape == (1, 1, 480, 480)
        for picture in drawn.values():
            assert host(picture).min() >= 0 and host(picture).max() <= 1


def test_training_is_the_same_on_every_backend(backend):
    def two_updates():
        learner = model()
        fit = learner.fit(batches())
        next(fit)
        with counting() as counts:
            next(fit)
        assert counts.to_host == counts.synchronizations == 0
        return learner.embedding.state_dict()

    same_elsewhere(two_updates, backend, rtol=1e-3, atol=1e-5)


def test_data_and_options_that_do_not_fit_are_refused_before_training():
    for options, message in (
        ({"way": 1}, "way must be from 2 to 10000, got 1"), ({"moves": -1.0}, "moves must be from 0"),
        ({"method": "relation"}, "method must be one of prototypical, matching"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            one_shot.Config(**options)
    for data, message in (
        (DataSpec(name="plain", channels=1, height=28, width=28, count=9), "plain has none"),
        (DataSpec(name="tiny", channels=1, height=12, width=28, count=9, classes=("a", "b")), "tiny has 12 × 28"),
    ):
        with pytest.raises(UsageError, match=message):
            one_shot.OneShot(one_shot.Config(), data, Stream(0, "one_shot"))
    with pytest.raises(DataError, match="11-way episodes with 3 images of each class need 11 such classes, got 10"):
        model(way=11).fit(batches())
