"""What maml and reptile share: the learners task by task against NumPy and SciPy, their losses, and the sinusoids."""

import numpy as np
import scipy.ndimage
import scipy.signal
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen.autograd import tensor
from tinygen.host import verifies
from tinygen.random import Stream
from tinygen.testing import close, host, tensors
from tinygen.testing.strategies import seeds
from tinygen_plugins.meta import _learners, _tasks


def regression(seed, t=2, n=4, hidden=3):
    """A float64 network's parameters, and two sets of examples of t tasks."""
    random = np.random.default_rng(seed)
    shapes = [(1, hidden), (1, hidden), (hidden, hidden), (1, hidden), (hidden, 1), (1, 1)]
    return [random.normal(size=shape) for shape in shapes], random.normal(size=(4, t, n, 1))


def perceptron(theta, x):
    """(n, 1) to (n, 1), by NumPy."""
    w1, b1, w2, b2, w3, b3 = theta
    return np.maximum(np.maximum(x @ w1 + b1, 0) @ w2 + b2, 0) @ w3 + b3


# ---------------------------------------------------------------- equations


@verifies(_learners.squared_error, _learners.cross_entropy)
@given(seeds(), st.integers(1, 3), st.integers(1, 4))
def test_losses_are_a_number_for_each_task(seed, t, n):
    random = np.random.default_rng(seed)
    y, target, logits = random.normal(size=(t, n, 1)), random.normal(size=(t, n, 1)), 5 * random.normal(size=(t, n, 3))
    labels = random.integers(0, 3, (t, n))
    a, b, c = tensors((y, target, logits))
    close(_learners.squared_error(a, b), np.array([np.mean((p - q) ** 2) for p, q in zip(y, target)]), rtol=1e-10)
    right = [[scipy.special.log_softmax(row)[k] for row, k in zip(*task)] for task in zip(logits, labels)]
    close(_learners.cross_entropy(c, tensor(labels)), -np.mean(right, 1), rtol=1e-9, atol=1e-12)


@verifies(_tasks.sinusoid)
@given(seeds())
def test_sinusoids_are_drawn_by_the_paper_s_laws(seed):
    tasks = _tasks.sinusoids(200, 3, 2, Stream(seed, "s"))
    assert tasks.x.shape == tasks.y.shape == (200, 3, 1) and tasks.query_y.shape == (200, 2, 1)
    x, y = (
        np.concatenate([host(a), host(b)], 1)[:, :, 0] for a, b in ((tasks.x, tasks.query_x), (tasks.y, tasks.query_y))
    )
    assert x.dtype == y.dtype == np.float32
    found = []  # A sin(x − φ) = a sin x + b cos x with A = |(a, b)|, φ = atan2(−b, a)
    for xs, ys in zip(x, y):
        (a, b), *_ = np.linalg.lstsq(np.stack([np.sin(xs), np.cos(xs)], 1), ys, rcond=None)
        close(a * np.sin(xs) + b * np.cos(xs), ys.astype(float), rtol=1e-3, atol=1e-3)
        found.append((np.hypot(a, b), np.arctan2(-b, a)))
    amplitude, phase = np.array(found).T
    for drawn, (low, high) in ((amplitude, (0.1, 5)), (phase, (0, np.pi)), (x.ravel(), (-5, 5))):
        assert drawn.min() > low - 0.01 and drawn.max() < high + 0.01
        assert scipy.stats.kstest(drawn, "uniform", (low, high - low)).pvalue > 1e-6


@verifies(_tasks.distort)
@settings(max_examples=20)
@given(seeds(), st.floats(0, 0.3), st.sampled_from([1, -1]))
def test_images_are_moved_by_their_own_map(seed, d, sign):
    """Against SciPy's bilinear interpolation at A p + b, p from −1 to 1 between the image's edges."""
    random = np.random.default_rng(seed)
    images, maps = random.uniform(size=(3, 1, 6, 5)), random.uniform(-d, d, (3, 2, 3))
    maps = (maps + np.eye(2, 3)) * [sign, 1, 1]
    moved = host(_tasks.distort(*tensors((images, maps))))
    rows, columns = np.meshgrid((2 * np.arange(6) + 1) / 6 - 1, (2 * np.arange(5) + 1) / 5 - 1, indexing="ij")
    for image, (a, b), found in zip(images, maps, moved):
        x, y = (row[0] * columns + row[1] * rows + row[2] for row in (a, b))
        places = np.stack([(y + 1) * 3 - 0.5, (x + 1) * 2.5 - 0.5]) + 1
        close(found[0], scipy.ndimage.map_coordinates(np.pad(image[0], 1), places, order=1), rtol=1e-8, atol=1e-9)


def test_a_task_is_mirrored_as_a_whole_and_its_images_are_moved_one_by_one():
    x, y = (
        tensor(np.random.default_rng(0).uniform(size=(8, 3, 1, 6, 6)).astype("float32")),
        tensor(np.zeros((8, 3), int)),
    )
    tasks = _tasks.Tasks(x, y, x, y)
    still, mirrored = _tasks.distorted(tasks, 0.0, Stream(0, "d")), 0
    for before, support, query in zip(host(x), host(still.x), host(still.query_x)):
        turned = np.abs(support - before).max() > 0.1
        mirrored += turned
        close(support, before[..., ::-1] if turned else before, rtol=1e-4, atol=1e-5)
        close(query, support)
    assert 0 < mirrored < 8
    moved = _tasks.distorted(tasks, 0.2, Stream(0, "d"))
    assert moved.x.dtype == np.float32 and np.abs(host(moved.x) - host(moved.query_x)).max() > 0.1
    empty = _tasks.distorted(tasks._replace(query_x=x[:, :0]), 0.2, Stream(0, "d"))
    assert empty.query_x.shape == (8, 0, 1, 6, 6)


# ---------------------------------------------------------------- the learners


@settings(max_examples=10)
@given(seeds())
def test_the_regressor_is_a_perceptron_for_each_task(seed):
    arrays, (x, *_) = regression(seed)
    theta = [np.stack([a, 2 * a]) for a in arrays]
    y = _learners.Regressor(3, Stream(0, "r"))(tensors(theta), tensor(x))
    close(y, np.stack([perceptron([a[i] for a in theta], x[i]) for i in range(2)]), rtol=1e-9)


def convolutions(theta, images):
    """(n, c, h, w) to logits (n, way), by SciPy."""
    *layers, weight, bias = theta
    for kernel, gamma, beta in zip(layers[0::3], layers[1::3], layers[2::3]):
        padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
        maps = np.array(
            [
                [sum(map(lambda a, k: scipy.signal.correlate2d(a, k, "valid"), x, o))[::2, ::2] for o in kernel]
                for x in padded
            ]
        )
        mean, std = maps.mean((0, 2, 3), keepdims=True), np.sqrt(maps.var((0, 2, 3), keepdims=True) + 1e-5)
        images = np.maximum((maps - mean) / std * gamma[:, None, None] + beta[:, None, None], 0)
    return images.reshape(len(images), -1) @ weight + bias


def two_tasks(seed=0, n=4, side=9):
    """A float64 classifier, its parameters for two tasks, and their images."""
    learner, random = _learners.Classifier((1, side, side), 2, 3, Stream(seed, "c")), np.random.default_rng(seed)
    theta = [random.normal(size=(2, *p.shape)) for p in learner.parameters()]
    return learner, theta, random.uniform(size=(2, n, 1, side, side))


def test_the_classifier_is_a_network_for_each_task():
    learner, theta, x = two_tasks()
    logits = learner(tensors(theta), tensor(x))
    close(logits, np.stack([convolutions([p[i] for p in theta], x[i]) for i in range(2)]), rtol=1e-6, atol=1e-8)


def test_an_image_that_is_told_alone_sees_the_support_only():
    learner, theta, x = two_tasks(n=6)
    support, query, parameters = tensor(x[:, :2]), x[:, 2:].copy(), tensors(theta)
    alone = host(_learners.predict(learner, parameters, support, tensor(query), False))
    for i in range(2):
        for j in range(4):
            both = np.concatenate([x[i, :2], query[i, j : j + 1]])
            close(alone[i, j], convolutions([p[i] for p in theta], both)[-1], rtol=1e-6, atol=1e-8)
    together = host(_learners.predict(learner, parameters, support, tensor(query), True))
    close(together[0], convolutions([p[0] for p in theta], query[0]), rtol=1e-6, atol=1e-8)
    query[:, 1] = 0
    close(_learners.predict(learner, parameters, support, tensor(query), False)[:, 0], alone[:, 0], rtol=1e-9)
    changed = host(_learners.predict(learner, parameters, support, tensor(query), True))
    assert np.abs(changed[:, 0] - together[:, 0]).max() > 1e-3
