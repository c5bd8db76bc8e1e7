"""What one_shot has from `_pairs` and `_characters`: equations against SciPy, loops and closed forms."""

import numpy as np
import scipy.ndimage
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import cKDTree

import tinygen
from tinygen import backend as library
from tinygen.host import verifies
from tinygen.testing import close, gradcheck, host, tensors
from tinygen.testing.strategies import reals, seeds
from tinygen_plugins.meta import _characters as characters
from tinygen_plugins.meta import _pairs as pairs

D = 4
features = reals((5, D), -3, 3)  # of a query
examples = reals((6, D), -3, 3)


def place(array):
    return library.current().from_host(np.asarray(array))


# ---------------------------------------------------------------- pairs


@verifies(pairs.siamese_logits)
@given(features, examples, reals((D,), -2, 2), reals((1,), -1, 1))
def test_siamese_logits_by_loops_are_symmetric_and_b_for_a_pair_of_one(f, e, alpha, b):
    h1, h2, a, shift = tensors((f, e, alpha, b))
    expected = [[sum(w * abs(u - v) for w, u, v in zip(alpha, x, y)) + b[0] for y in e] for x in f]
    close(pairs.siamese_logits(h1, h2, a, shift), np.array(expected), rtol=1e-9, atol=1e-9)
    close(pairs.siamese_logits(h2, h1, a, shift), np.array(expected).T, rtol=1e-9, atol=1e-9)
    close(np.diag(host(pairs.siamese_logits(h1, h1, a, shift))), np.full(5, b[0]), rtol=1e-12)


def evened(losses, same):
    """The plain mean where pairs are repeated until both kinds are equally many."""
    yes, no = losses[same == 1], losses[same == 0]
    return np.mean(np.concatenate([np.repeat(yes, len(no)), np.repeat(no, len(yes))]))


of_pairs = st.lists(st.sampled_from([0.0, 1.0]), min_size=12, max_size=12).filter(lambda y: 0 < sum(y) < 12)


@verifies(pairs.siamese_loss)
@given(reals((3, 4), -9, 9), of_pairs)
def test_the_siamese_loss_is_the_cross_entropy_of_as_many_pairs_of_each_kind(a, y):
    same = np.array(y).reshape(3, 4)
    losses = -np.where(same == 1, scipy.special.log_expit(a), scipy.special.log_expit(-a))
    logits, target = tensors((a, same))
    close(pairs.siamese_loss(logits, target.detach()), np.array(evened(losses, same)), rtol=1e-9)
    gradcheck(lambda x: pairs.siamese_loss(x, target.detach()), [logits])


@verifies(pairs.contrastive_loss)
@given(reals((3, 4), 0.05, 4), of_pairs, st.floats(0.5, 3))
def test_the_contrastive_loss_pulls_one_class_together_and_others_apart_up_to_the_margin(d, y, margin):
    same = np.array(y).reshape(3, 4)
    losses = np.where(same == 1, d**2 / 2, np.where(d < margin, (margin - d) ** 2 / 2, 0))
    distances, target = tensors((d, same))
    loss = pairs.contrastive_loss(distances, target.detach(), margin)
    close(loss, np.array(evened(losses, same)), rtol=1e-9)
    slope = host(tinygen.grad(loss, distances))
    assert (slope[same == 1] > 0).all()
    assert (slope[(same == 0) & (d > margin)] == 0).all() and (slope[(same == 0) & (d < margin - 1e-9)] < 0).all()


# ---------------------------------------------------------------- characters


@verifies(characters.move)
@given(seeds(), st.floats(-0.5, 0.5), st.floats(-0.3, 0.3), st.floats(0.7, 1.4))
def test_moved_images_are_scipys(seed, theta, k, s):
    random, n = np.random.default_rng(seed), 9
    image, t = random.uniform(size=(n, n)), random.uniform(-0.3, 0.3, 2)
    rotation = np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])
    a = s * rotation @ np.array([[1, k], [0, 1]])
    # pixel i lies at (2 i + 1)/n − 1; SciPy counts rows first
    offset = (a @ np.full(2, 1 / n - 1) + t + 1) * n / 2 - 0.5
    expected = scipy.ndimage.affine_transform(image, a[::-1, ::-1], offset[::-1], order=1, mode="grid-constant")
    (x,) = tensors((image[None, None],))
    parts = (place(np.array(part)) for part in ([theta], [k], [s], [t]))
    close(characters.move(x, *parts), expected[None, None], rtol=1e-7, atol=1e-9)


@verifies(characters.modified_hausdorff)
@given(seeds(), st.integers(1, 9), st.integers(1, 9))
def test_the_modified_hausdorff_distance_by_trees(seed, n, m):
    random = np.random.default_rng(seed)
    a, b = random.normal(size=(n, 2)), random.normal(size=(m, 2))
    expected = max(cKDTree(b).query(a)[0].mean(), cKDTree(a).query(b)[0].mean())
    close(characters.modified_hausdorff(place(a), place(b)), np.array(expected), rtol=1e-6)
    close(characters.modified_hausdorff(place(b), place(a)), np.array(expected), rtol=1e-6)
    close(characters.modified_hausdorff(place(a), place(a)), np.array(0.0), atol=1e-6)
