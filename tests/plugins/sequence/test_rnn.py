"""The simple recurrent network: its equations against SciPy and closed forms, time's two directions, and its films."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, log_expit, xlog1py, xlogy

import tinygen
from tests.plugins.elsewhere import same_elsewhere
from tests.plugins.sequence.films import DATA, SHAPE, batches, clips, data_set, in_double, with_parameters
from tinygen.errors import UsageError
from tinygen.host import verbs_of, verifies
from tinygen.random import Stream
from tinygen.testing import close, gradcheck, host, tensors
from tinygen.testing.strategies import of_shapes, reals, seeds, shapes
from tinygen_plugins.sequence import rnn

SMALL = rnn.Config(batch_size=4, hidden=5, channels=2, seen=3, free=2)


def model(config=SMALL, seed=0, double=False):
    made = rnn.RNN(config, DATA, Stream(seed, "rnn"))
    if double:
        in_double(made.network)
    return made


# ---------------------------------------------------------------- equations


@verifies(rnn.hidden_state)
@given(of_shapes((3, 4), (3, 4), (4, 4)))
def test_a_state_is_the_hyperbolic_tangent_of_two_sums(arrays):
    seen, h, w = arrays
    expected = [[math.tanh(seen[n, i] + sum(w[i, j] * h[n, j] for j in range(4))) for i in range(4)] for n in range(3)]
    close(rnn.hidden_state(*tensors(arrays)), np.array(expected), rtol=1e-9)
    gradcheck(rnn.hidden_state, tensors(arrays), order=2)


@verifies(rnn.hidden_state)
@given(of_shapes((1, 3), (3, 3), low=-1.5, high=1.5), st.integers(1, 5))
def test_what_the_first_state_does_to_the_last_is_bounded_by_the_weights_to_the_power_of_time(arrays, steps):
    """‖∂h_T/∂h_0‖ ≤ ‖W‖^T, as no slope of tanh is above 1."""
    h, w = tensors(arrays)
    rows = []
    for i in range(3):
        last = h
        for _ in range(steps):
            last = rnn.hidden_state(0 * h.detach() + 0.1, last, w)
        rows.append(host(tinygen.grad(last[0, i], h))[0])
    jacobian = np.stack(rows)
    assert np.linalg.norm(jacobian, 2) <= np.linalg.norm(arrays[1], 2) ** steps * (1 + 1e-9)


@verifies(rnn.hidden_state)
@given(of_shapes((2, 3), (3, 3)), st.integers(1, 5))
def test_near_zero_the_network_is_linear_and_time_a_matrix_power(arrays, steps):
    start, w = arrays
    (h, weight) = tensors((1e-7 * start, w))
    for _ in range(steps):
        h = rnn.hidden_state(0 * h, h, weight)
    close(h * 1e7, start @ np.linalg.matrix_power(w.T, steps), rtol=1e-6, atol=1e-9)


@verifies(rnn.nats_a_frame)
@given(st.data(), shapes(5, 5, max_side=3))
def test_the_loss_is_minus_the_log_probability_of_a_frame(data, shape):
    logits, frames = data.draw(reals(shape, -20, 20)), data.draw(reals(shape, 0, 1))
    expected = -(frames * log_expit(logits) + (1 - frames) * log_expit(-logits)).sum((2, 3, 4)).mean()
    close(rnn.nats_a_frame(*tensors((logits, frames))), np.array(expected), rtol=1e-9)
    gradcheck(lambda y: rnn.nats_a_frame(y, *tensors((frames,))), tensors((logits,)), order=2)


@verifies(rnn.nats_a_frame)
@given(seeds())
def test_who_knows_nothing_pays_a_bit_a_pixel_and_who_knows_all_the_entropy_of_greys(seed):
    frames = np.random.default_rng(seed).random((2, 3, 1, 64, 64))
    y, x, black = tensors((0 * frames, frames, np.round(frames)))
    close(rnn.nats_a_frame(y, x), np.array(2839.1), rtol=1e-4)  # 4096 log 2
    close(rnn.nats_a_frame(1000 * (2 * black - 1), black), np.array(0.0), atol=1e-9)
    best = -(xlogy(frames, frames) + xlog1py(1 - frames, -frames)).sum() / 6
    (known,) = tensors((np.log(frames) - np.log1p(-frames),))
    close(rnn.nats_a_frame(known, x), np.array(best), rtol=1e-9)


# ---------------------------------------------------------------- time


def test_backpropagation_through_five_frames_is_the_slope_of_the_loss():
    made = model(double=True)
    frames = tensors((clips(2),), requires_grad=False)[0]

    def loss():
        return rnn.nats_a_frame(made.network.unroll(frames[:3], made.rest(frames), free=2), frames[1:])

    gradcheck(with_parameters(loss, made.network), list(made.network.parameters()), rtol=1e-4)


def gradients(made, frames, free, truncate):
    loss = rnn.nats_a_frame(made.network.unroll(frames[: 5 - free], made.rest(frames), free, truncate), frames[1:])
    return [host(g) for g in tinygen.grad(loss, list(made.network.parameters()))]


@pytest.mark.parametrize("free", [0, 2])
def test_a_cut_after_all_frames_cuts_nothing_and_one_before_does(free):
    made, (frames,) = model(double=True), tensors((clips(2),), requires_grad=False)
    full = gradients(made, frames, free, 0)
    for found, expected in zip(gradients(made, frames, free, 5), full):
        assert np.array_equal(found, expected)
    recur = [name for name, _ in made.network.named_parameters()].index("recur.weight")
    for truncate in (1, 2, 4):
        found = gradients(made, frames, free, truncate)[recur]
        assert np.abs(found - full[recur]).max() > 1e-3 * np.abs(full[recur]).max()


def test_cut_at_every_frame_the_gradient_is_that_of_single_steps():
    """∂L/∂W_h = Σ_t (∂L_t/∂h_t ⊙ (1 − h_t²)) h_{t−1}ᵀ: h_{t−1} is a constant."""
    made, (frames,) = model(double=True), tensors((clips(2),), requires_grad=False)
    net = made.network
    recur = [name for name, _ in net.named_parameters()].index("recur.weight")
    h, w, expected = np.zeros((2, 5)), net.recur.weight.numpy(), 0.0
    for t in range(5):
        before, h = h, np.tanh(host(net.look(frames[t])) + h @ w.T)
        (state,) = tensors((h,))
        loss = rnn.nats_a_frame(net.show(state).unsqueeze(0), frames[t + 1 : t + 2]) / 5
        expected = expected + (host(tinygen.grad(loss, state)) * (1 - h * h)).T @ before
    close(gradients(made, frames, 0, 1)[recur], expected, rtol=1e-9)


@settings(max_examples=20)
@given(st.integers(0, 4), st.integers(0, 2), seeds())
def test_what_comes_later_changes_nothing_before(place, free, seed):
    made, frames = model(double=True), clips(2, 5)
    changed = frames.copy()
    changed[place] = np.random.default_rng(seed).uniform(size=changed[place].shape)
    y, other = (host(made.network.unroll(x, made.rest(x), free)) for x in tensors((frames, changed)))
    assert y.shape == (5 + free, 2, *SHAPE)
    close(other[:place], y[:place], rtol=1e-12)
    assert (np.abs(other[place:] - y[place:]).max((1, 2, 3, 4)) > 0).all()


@settings(max_examples=16)
@given(st.integers(1, 4), st.integers(1, 4))
def test_to_read_one_s_own_predictions_is_to_be_forced_by_them(given_frames, free):
    made = model(double=True)
    (frames,) = tensors((clips(2, given_frames),))
    y = made.network.unroll(frames, made.rest(frames), free)
    (film,) = tensors((np.concatenate([host(frames), expit(host(y))[given_frames - 1 : -1]]),))
    close(made.network.unroll(film, made.rest(film)), host(y), rtol=1e-9, atol=1e-12)


@given(st.permutations(range(3)))
def test_clips_do_not_see_each_other(order):
    made, frames = model(double=True), clips(3)
    whole, mixed, alone = (
        host(made.network.unroll(x, made.rest(x), 2)) for x in tensors((frames, frames[:, order], frames[:, 1:2]))
    )
    close(mixed, whole[:, order], rtol=1e-9)
    close(alone, whole[:, 1:2], rtol=1e-9)


# ---------------------------------------------------------------- the algorithm


def test_the_spec_tells_the_verbs_of_the_class():
    from tinygen_plugins import sequence

    specs = {spec.name: spec for spec in sequence.tinygen_algorithms()}
    assert set(specs["rnn"].verbs) == set(verbs_of(rnn.RNN)) and rnn.RNN.films


def test_a_step_reaches_every_parameter_and_forgets_the_step_before():
    states = []
    for left_over in (False, True):
        made = model()
        before = made.network.state_dict()
        for parameter in made.network.parameters():
            parameter.grad = tinygen.full(parameter.shape, 100.0) if left_over else None
        step = next(made.fit(batches()))
        assert set(step.metrics) == {"nats_a_frame"} and step.metrics["nats_a_frame"].shape == ()
        for name, parameter in made.network.named_parameters():
            assert np.abs(parameter.grad.numpy()).max() > 0, f"{name} gets no gradient"
            assert not np.array_equal(before[name], parameter.numpy()) and parameter.dtype == "float32", name
        states.append(made.network.state_dict())
    for name, array in states[0].items():
        assert np.array_equal(array, states[1][name]), name


@pytest.mark.parametrize("free", [0, 1, 4])
def test_a_step_s_loss_is_that_of_every_frame_but_the_first(free):
    made, film = model(dataclasses.replace(SMALL, free=free)), next(batches()).images.transpose(0, 1)
    logits = host(made.network.unroll(film[: 5 - free], made.rest(film), free)).astype(float)
    loss = next(made.fit(batches())).metrics["nats_a_frame"]
    x = host(film)[1:].astype(float)
    expected = -(x * log_expit(logits) + (1 - x) * log_expit(-logits)).sum((2, 3, 4)).mean()
    close(loss, np.array(expected, "f4"), rtol=1e-5)


def test_training_is_the_same_on_every_backend(backend):
    def two_steps():
        made, data = model(), batches()
        fit = made.fit(data)
        next(fit), next(fit)
        return made.network.state_dict()

    same_elsewhere(two_steps, backend, rtol=1e-5, atol=1e-6)


def test_the_rate_falls_in_a_straight_line():
    made = model(dataclasses.replace(SMALL, steps=10, lr=0.5))
    fit, rates = made.fit(batches()), []
    for _ in range(4):
        rates.append(made.optimizer.lr)
        next(fit)
    np.testing.assert_allclose(rates, [0.5, 0.45, 0.4, 0.35], rtol=1e-12)


def test_long_gradients_are_shortened():
    moved = []
    for clip in (1e-3, 1e9):
        made = model(dataclasses.replace(SMALL, clip=clip))
        next(made.fit(batches()))
        moved.append(math.sqrt(sum((p.grad.numpy() ** 2).sum() for p in made.network.parameters())))
    assert moved[0] == pytest.approx(1e-3, rel=1e-3) and moved[1] > 1


@settings(max_examples=12)
@given(seeds(), st.integers(1, 9), st.integers(1, 6))
def test_films_begin_with_the_data_and_go_on(seed, frames, n):
    made, data = model(), batches()
    next(made.fit(data))
    film = host(made.animate(frames, n, Stream(seed, "a")))
    assert film.shape == (n, frames, *SHAPE) and film.dtype == np.float32
    assert film.min() >= 0 and film.max() <= 1
    assert np.array_equal(film, host(made.animate(frames, n, Stream(seed, "a"))))
    starts = host(next(batches()).images)[:, :3][:, :frames]
    which = [next(i for i, s in enumerate(starts) if np.array_equal(s, f[: s.shape[0]])) for f in film]
    assert len(set(which[:4])) == min(n, 4) and which[4:] == which[: max(0, n - 4)]
    if frames > 3:
        (seen,) = tensors((starts[which[0]][:, None],), "float32")
        y = made.network.unroll(seen, made.rest(seen), frames - 4)
        close(film[0, 3:], expit(host(y))[2:, 0], rtol=1e-4, atol=1e-5)


def test_seeds_differ_and_beginnings_stay_those_of_the_first_step():
    made, data = model(), batches()
    fit = made.fit(data)
    next(fit)
    first = host(made.beginnings.frames)
    next(fit)
    assert np.array_equal(first, host(made.beginnings.frames)) and first.shape == (3, 4, *SHAPE)
    films = [host(made.animate(6, 4, Stream(seed, "a"))) for seed in range(4)]
    assert any(not np.array_equal(films[0], film) for film in films[1:])


def test_it_learns_a_film_and_its_end_without_help():
    """A bar that moves to the right by two pixels a frame, from where it will: after a while films go on so."""
    places = np.arange(8)
    film = np.zeros((8, 6, *SHAPE), np.float32)
    for i in places:
        for t in range(6):
            film[i, t, :, :, (2 * (i + t)) % 16] = 1.0

    class Bars:
        def __len__(self):
            return 8

        def images(self, indices):
            return film[indices]

        def labels(self, indices):
            return None

    data = tinygen.data.Batches(Bars(), 8, Stream(0, "b"))
    made = model(rnn.Config(steps=250, batch_size=8, hidden=24, channels=8, seen=3, free=2, lr=1e-2))
    fit = made.fit(data)
    first = next(fit).metrics["nats_a_frame"].item()
    for _ in range(249):
        last = next(fit).metrics["nats_a_frame"].item()
    assert last < 0.1 * first
    films = host(made.animate(6, 8, Stream(0, "a")))
    for shown in films:
        true = next(f for f in film if np.array_equal(f[:3], shown[:3]))
        assert np.abs(shown - true).mean() < 0.05


def test_evaluate_measures_all_test_clips_ahead_and_frame_by_frame():
    made, data = model(), data_set(test=70)
    figures = made.evaluate(data, Stream(0, "e"))
    x = data.split("test").pixels.swapaxes(0, 1).astype(float)
    (frames,) = tensors((x,), "float32")
    ahead = host(made.network.unroll(frames[:3], made.rest(frames), 2))[2:].astype(float)
    each = host(made.network.unroll(frames[:-1], made.rest(frames)))[2:].astype(float)
    for name, y in (("nats_a_frame", ahead), ("nats_next_frame", each)):
        expected = -(x[3:] * log_expit(y) + (1 - x[3:]) * log_expit(-y)).sum((2, 3, 4)).mean()
        close(figures[name], np.array(expected), rtol=1e-5)
    assert (figures["frames"], figures["test_clips"]) == (3, 70)


@pytest.mark.parametrize(
    ("options", "changed", "message"),
    [
        ({}, {"frames": 3}, "clips must have 4 frames or more for these options, data films has 3"),
        ({"free": 5}, {}, "clips must have 7 frames or more"),
        ({}, {"height": 12}, "sides that are multiples of 8, got 12 × 16"),
    ],
)
def test_clips_that_do_not_fit_are_refused(options, changed, message):
    with pytest.raises(UsageError, match=message) as caught:
        rnn.RNN(dataclasses.replace(SMALL, **options), dataclasses.replace(DATA, **changed), Stream(0))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seen": 0}, "seen must be from 1"), ({"free": -1}, "free must be from 0"), ({"lr": 0.0}, "lr must be from"),
        ({"hidden": 0}, "hidden must be from 1"), ({"truncate": -1}, "truncate must be from 0"),
        ({"clip": 0.0}, "clip must be from"), ({"channels": 0}, "channels must be from 1"),
    ],
)  # fmt: skip
def test_options_are_checked(options, message):
    with pytest.raises(UsageError, match=message):
        rnn.Config(**options)
