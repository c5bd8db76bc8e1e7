"""Losses against sums over their elements, and their modules against the functions."""

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen
from tinygen import functional as F
from tinygen import nn
from tinygen.autograd import gradcheck
from tinygen.backend import current
from tinygen.testing import Row, check, close
from tinygen.testing.operations import row_test, tensors
from tinygen.testing.strategies import of_shapes, reals, shapes

LEVEL = (0.1, 0.9)
REDUCTIONS = {"mean": np.mean, "sum": np.sum, "none": np.copy}


def each(term):
    """A loss of elements, one after the other."""

    def reference(*arrays):
        same = np.broadcast_arrays(*arrays)
        return np.array([term(*map(float, values)) for values in zip(*(a.ravel() for a in same))]).reshape(
            same[0].shape
        )

    return reference


def mean(term):
    return lambda *arrays: np.mean(each(term)(*arrays))


def huber(x, t, delta=1.0):
    d = abs(x - t)
    return d * d / 2 if d <= delta else delta * (d - delta / 2)


def bce(x, t, w=1.0):
    return -w * (t * math.log(x) + (1 - t) * math.log(1 - x))


def bce_of_logit(x, t, w, p):
    q = 1 / (1 + math.exp(-x))
    return -w * (p * t * math.log(q) + (1 - t) * math.log(1 - q))


def gaussian(x, t, v):
    return -scipy.stats.norm.logpdf(t, x, math.sqrt(v))


HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
PAIR = of_shapes((3, 4), (3, 4))
ROWS = [
    Row("l1_loss", F.l1_loss, mean(lambda x, t: abs(x - t)), PAIR),
    Row("huber_loss", F.huber_loss, mean(huber), PAIR),
    Row("huber_loss 0.4", lambda x, t: F.huber_loss(x, t, delta=0.4, reduction="none"),
        each(lambda x, t: huber(x, t, 0.4)), PAIR),
    Row("kl_div", lambda x, t: F.kl_div(x, t, reduction="none"), lambda x, t: scipy.special.rel_entr(t, np.exp(x)),
        st.tuples(reals((3, 4)), reals((3, 4), *LEVEL))),
    Row("kl_div of log-probabilities", lambda x, t: F.kl_div(x, t, log_target=True, reduction="batchmean"),
        lambda x, t: scipy.special.rel_entr(np.exp(t), np.exp(x)).sum() / len(x), PAIR, empty=0),
    Row("gaussian_nll_loss", lambda x, t, v: F.gaussian_nll_loss(x, t, v, full=True), mean(gaussian),
        st.tuples(reals((3, 4)), reals((3, 4)), reals((3, 4), 0.2))),
    Row("gaussian_nll_loss, a variance a row", lambda x, t, v: F.gaussian_nll_loss(x, t, v, reduction="none"),
        lambda x, t, v: each(gaussian)(x, t, v[:, None]) - HALF_LOG_2PI,
        st.tuples(reals((3, 4)), reals((3, 4)), reals((3,), 0.2))),
    Row("gaussian_nll_loss, a variance a column", F.gaussian_nll_loss,
        lambda x, t, v: np.mean(each(gaussian)(x, t, v)) - HALF_LOG_2PI,
        st.tuples(reals((3, 4)), reals((3, 4)), reals((1, 4), 0.2)), empty=0),
    Row("gaussian_nll_loss, a number", lambda x, t: F.gaussian_nll_loss(x, t, 0.5, full=True),
        mean(lambda x, t: gaussian(x, t, 0.5)), PAIR),
    Row("binary_cross_entropy, weighted", F.binary_cross_entropy, mean(bce),
        st.tuples(reals((3, 4), *LEVEL), reals((3, 4), *LEVEL), reals((4,)))),
    Row("binary_cross_entropy_with_logits, weighted",
        lambda x, t, w, p: F.binary_cross_entropy_with_logits(x, t, w, pos_weight=p),
        mean(bce_of_logit), st.tuples(reals((3, 4)), reals((3, 4), *LEVEL), reals((3, 1)), reals((4,), 0.2)), empty=0),
]  # fmt: skip
test_operation = row_test(ROWS)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@settings(max_examples=8)
@given(shapes(0, 3), st.data())
def test_reductions(reduction, shape, data):
    """Every elementwise loss has the three; all of one shape, whatever it is."""
    x, t = data.draw(of_shapes(shape, shape, low=0.1, high=0.9))
    for name, function, term in (
        ("mse_loss", F.mse_loss, lambda x, t: (x - t) ** 2),
        ("l1_loss", F.l1_loss, lambda x, t: abs(x - t)),
        ("huber_loss", F.huber_loss, huber),
        ("kl_div", F.kl_div, lambda x, t: t * (math.log(t) - x)),
        ("gaussian_nll_loss", lambda x, t, **o: F.gaussian_nll_loss(x, t, 1.0, full=True, **o),
         lambda x, t: gaussian(x, t, 1.0)),
        ("bce", F.binary_cross_entropy, bce),
        ("bce with logits", F.binary_cross_entropy_with_logits, lambda x, t: bce_of_logit(x, t, 1.0, 1.0)),
    ):  # fmt: skip
        whole = REDUCTIONS[reduction]
        row = Row(
            f"{name} {reduction}",
            lambda x, t, function=function: function(x, t, reduction=reduction),
            lambda x, t, term=term, whole=whole: whole(each(term)(x, t)),
            st.nothing(),
            order=1,
        )
        check(row, (x, t))


# ---------------------------------------------------------------- singular points


def test_kinks():
    x, t = tensors((np.array([1.0, 3.0, -2.0, 0.5]), np.array([1.0, 2.0, -1.0, 2.5])))
    close(tinygen.grad(F.l1_loss(x, t, reduction="sum"), x), np.array([0.0, 1, -1, -1]))
    loss = F.huber_loss(x, t, reduction="none")
    close(loss, np.array([0.0, 0.5, 0.5, 1.5]))
    (g,) = tinygen.grad(loss.sum(), [x], create_graph=True)
    close(g, np.array([0.0, 1, -1, -1]))
    close(tinygen.grad(g.sum(), x), np.array([1.0, 1, 1, 0]))


def test_divergence_from_what_never_happens():
    """At t = 0 the term is 0 and its gradient −x; the terms of a batch sum up to the divergence."""
    x, t = tensors((np.log([[0.2, 0.8], [0.5, 0.5]]), np.array([[0.0, 1.0], [0.5, 0.5]])))
    loss = F.kl_div(x, t, reduction="batchmean")
    close(loss, np.array(-np.log(0.8) / 2))
    g = tinygen.grad(loss, t, create_graph=True)
    close(g[0, 0], -x.numpy()[0, 0] / 2)
    assert np.isfinite(tinygen.grad(g.sum(), t).numpy()).all()


def test_a_small_variance_counts_as_eps_and_learns_to_grow():
    x, t, v = tensors((np.array([1.0, 1.0]), np.array([2.0, 1.0]), np.array([0.0, 1e-4])))
    loss = F.gaussian_nll_loss(x, t, v, eps=0.01, reduction="none")
    close(loss, np.array([0.5 * (np.log(0.01) + 100), 0.5 * np.log(0.01)]))
    close(tinygen.grad(loss.sum(), v), np.array([0.5 * (100 - 100 / 0.01), 50.0]), 1e-9)


@given(reals((3, 4), -30.0, 30.0), reals((3, 4), 0.0, 1.0))
def test_the_two_cross_entropies_of_bits_agree(x, t):
    one, other = F.binary_cross_entropy_with_logits(*tensors((x, t))), F.binary_cross_entropy(
        *tensors((scipy.special.expit(x), t)))  # fmt: skip
    close(one, other.numpy(), 1e-4)
    ones = tensors((np.ones(4),))[0]
    close(F.binary_cross_entropy_with_logits(*tensors((x, t)), pos_weight=ones), one.numpy(), 1e-12)


def test_weights_and_positives_far_out():
    """Finite where σ(x) rounds to 0 or 1."""
    x, t, p = (tinygen.tensor(v) for v in ([-1e4, 1e4, 1e4], [1.0, 0.0, 1.0], [2.0, 3.0, 4.0]))
    x.requires_grad_()
    loss = F.binary_cross_entropy_with_logits(x, t, pos_weight=p, reduction="none")
    close(loss, np.array([2e4, 1e4, 0], np.float32))
    close(tinygen.grad(loss.sum(), x), np.array([-2, 1, 0], np.float32))


# ---------------------------------------------------------------- modules

WEIGHT = np.array([0.5, 2.0, 1.0])
MODULES = {
    "mse": (lambda **o: nn.MSELoss(**o), F.mse_loss, "real"),
    "l1": (lambda **o: nn.L1Loss(**o), F.l1_loss, "real"),
    "huber": (lambda **o: nn.HuberLoss(delta=0.3, **o), lambda x, t, **o: F.huber_loss(x, t, delta=0.3, **o), "real"),
    "bce": (lambda **o: nn.BCELoss(tinygen.tensor(WEIGHT), **o),
            lambda x, t, **o: F.binary_cross_entropy(x, t, tinygen.tensor(WEIGHT), **o), "real"),
    "bce with logits": (
        lambda **o: nn.BCEWithLogitsLoss(tinygen.tensor(WEIGHT), pos_weight=tinygen.tensor(2 * WEIGHT), **o),
        lambda x, t, **o: F.binary_cross_entropy_with_logits(
            x, t, tinygen.tensor(WEIGHT), pos_weight=tinygen.tensor(2 * WEIGHT), **o), "real"),
    "kl": (lambda **o: nn.KLDivLoss(log_target=True, **o), lambda x, t, **o: F.kl_div(x, t, log_target=True, **o),
           "real"),
    "gaussian": (lambda **o: (lambda x, t: nn.GaussianNLLLoss(full=True, eps=0.4, **o)(x, t, 0.2)),
                 lambda x, t, **o: F.gaussian_nll_loss(x, t, 0.2, full=True, eps=0.4, **o), "real"),
    "nll": (lambda **o: nn.NLLLoss(tinygen.tensor(WEIGHT), ignore_index=1, **o),
            lambda x, t, **o: F.nll_loss(x, t, tinygen.tensor(WEIGHT), ignore_index=1, **o), "class"),
    "cross_entropy": (
        lambda **o: nn.CrossEntropyLoss(tinygen.tensor(WEIGHT), ignore_index=1, label_smoothing=0.2, **o),
        lambda x, t, **o: F.cross_entropy(x, t, tinygen.tensor(WEIGHT), ignore_index=1, label_smoothing=0.2, **o),
        "class"),
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
@given(x=reals((4, 3), *LEVEL), t=reals((4, 3), *LEVEL), reduction=st.sampled_from(sorted(REDUCTIONS)))
def test_modules_pass_their_options_on(name, x, t, reduction):
    module, function, kind = MODULES[name]
    target = tinygen.tensor(t if kind == "real" else np.array([0, 2, 1, 2]))
    expected = function(tinygen.tensor(x), target, reduction=reduction)
    close(module(reduction=reduction)(tinygen.tensor(x), target), expected.numpy(), 1e-14)


def test_a_modules_weights_are_its_state():
    module = nn.BCEWithLogitsLoss(pos_weight=tinygen.tensor(WEIGHT))
    assert list(module.state_dict()) == ["pos_weight"] and not list(module.parameters())
    assert list(nn.CrossEntropyLoss(tinygen.tensor(WEIGHT)).state_dict()) == ["weight"]
    assert repr(nn.HuberLoss()) == "HuberLoss(reduction='mean', delta=1.0)"


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: F.l1_loss(x, x[0]), r"l1_loss: input \(2, 3\) and target \(3,\) differ"),
        (lambda x: F.huber_loss(x, x, delta=0), "huber_loss: delta must be > 0, got 0"),
        (lambda x: F.kl_div(x, x, reduction="batch"), 'kl_div: reduction must be "mean", "sum" or "none", got'),
        (lambda x: F.kl_div(x.sum(), x.sum(), reduction="batchmean"), '"batchmean" needs a batch dimension'),
        (lambda x: F.mse_loss(x, x, reduction="batchmean"), "mse_loss: reduction must be"),
        (lambda x: F.gaussian_nll_loss(x, x, x[0]), r"var must be \(2, 3\) as input, or with 1 .*, got \(3,\)"),
        (lambda x: F.gaussian_nll_loss(x, x, x[:1, :1]), r"var must be \(2, 3\)"),
        (lambda x: F.gaussian_nll_loss(x[:1], x[:1], x), r"var must be \(1, 3\) as input|must broadcast"),
        (lambda x: F.gaussian_nll_loss(x, x, -x).item(), "gaussian_nll_loss: var must be ≥ 0, got -1.0"),
        (lambda x: F.gaussian_nll_loss(x, x, x, eps=0), "eps must be > 0, got 0"),
        (lambda x: F.binary_cross_entropy(x, x, x[:, :2]), r"weight must broadcast to input \(2, 3\), got \(2, 2\)"),
        (lambda x: F.binary_cross_entropy(2 * x, x).item(), r"input must hold probabilities, in \[0, 1\], got 2.0"),
        (lambda x: F.binary_cross_entropy(-x, x).item(), r"in \[0, 1\], got -1.0"),
        (
            lambda x: F.binary_cross_entropy_with_logits(x, x, pos_weight=x.reshape(1, 2, 3)),
            "pos_weight must broadcast",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(tinygen.ones(2, 3))


def test_a_probability_that_is_nan_is_left_to_the_search_for_nan():
    assert np.isnan(F.binary_cross_entropy(tinygen.tensor([0.5, np.nan]), tinygen.tensor([0.0, 1.0])).item())


def test_options_are_named():
    x = tinygen.ones(2, 3)
    for function in (F.l1_loss, F.huber_loss, F.kl_div):
        with pytest.raises(TypeError, match="positional"):
            function(x, x, "sum")


def test_nothing_waits_for_a_device():
    if current().name != "strict":
        return
    from tinygen.testing.strict import counting

    x = tinygen.full((2, 3), 0.5)
    with counting() as counts:
        for function in (F.l1_loss, F.huber_loss, F.kl_div, F.binary_cross_entropy):
            function(x, x)
        F.gaussian_nll_loss(x, x, x)
    assert counts.to_host == counts.synchronizations == 0


def test_third_order():
    x, t = tensors((np.linspace(0.2, 0.7, 6).reshape(2, 3), np.linspace(0.9, 0.3, 6).reshape(2, 3)))
    gradcheck(lambda x, t: F.gaussian_nll_loss(x, t, x * x + 0.1), [x, t], order=3)
    gradcheck(lambda x, t: F.kl_div(F.log_softmax(x, 1), F.softmax(t, 1)), [x, t], order=3)
    gradcheck(lambda x, t: F.binary_cross_entropy_with_logits(x, t, x, pos_weight=t), [x, t], order=3)
