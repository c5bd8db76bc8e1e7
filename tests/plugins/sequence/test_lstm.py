"""The LSTM encoder and its decoders: the cell and the losses against SciPy, time's direction, and the films."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, log_expit

import tinygen
from tests.plugins.elsewhere import same_elsewhere
from tests.plugins.sequence.films import DATA, SHAPE, batches, clips, data_set, in_double, with_parameters
from tinygen import backend as library
from tinygen import nn
from tinygen.errors import UsageError
from tinygen.host import verbs_of, verifies
from tinygen.random import Stream
from tinygen.testing import close, gradcheck, host, tensors
from tinygen.testing.strategies import reals, seeds, shapes
from tinygen_plugins.sequence import lstm

SMALL = lstm.Config(batch_size=4, hidden=5, channels=2, seen=3)
MODELS = [
    SMALL,
    dataclasses.replace(SMALL, conditional=True),
    dataclasses.replace(SMALL, model="future", percepts="pixels"),
    dataclasses.replace(SMALL, model="autoencoder", percepts="pixels", conditional=True),
]
every_model = pytest.mark.parametrize(
    "config", MODELS, ids=["composite", "conditional", "future of pixels", "autoencoder"]
)


def model(config=SMALL, seed=0, double=False):
    made = lstm.LSTM(config, DATA, Stream(seed, "lstm"))
    if double:
        in_double(made.encoder, made.decoders)
    return made


def layer(d=3, i=2, seed=0):
    made = nn.LSTM(i, d, random=Stream(seed))
    in_double(made)
    return made


# ---------------------------------------------------------------- the cell


@verifies(lstm.remember)
@settings(max_examples=40)
@given(seeds(), st.integers(1, 4), st.booleans())
def test_a_cell_is_what_its_gates_let_through(seed, steps, rested):
    random, cells = np.random.default_rng(seed), layer(seed=seed)
    x, h, c = random.normal(size=(steps, 2, 2)), random.normal(size=(1, 2, 3)), random.normal(size=(1, 2, 3))
    if rested:
        h, c = 0 * h, 0 * c
    outputs, after = lstm.remember(cells, *tensors((x,)), None if rested else tuple(tensors((h, c))))
    h, c = h[0], c[0]
    w_x, w_h = cells.weight_ih_l0.numpy(), cells.weight_hh_l0.numpy()
    bias, expected = cells.bias_ih_l0.numpy() + cells.bias_hh_l0.numpy(), []
    for t in range(steps):
        i, f, g, o = np.split(x[t] @ w_x.T + h @ w_h.T + bias, 4, axis=1)
        c = expit(f) * c + expit(i) * np.tanh(g)
        h = expit(o) * np.tanh(c)
        expected.append(h)
    close(outputs, np.stack(expected), rtol=1e-9)
    for found, true in zip(after, (h, c)):
        close(found, true[None], rtol=1e-9)


@verifies(lstm.remember)
@given(seeds())
def test_an_open_forget_gate_and_a_shut_input_gate_keep_a_cell_for_a_hundred_steps(seed):
    cells, random = layer(seed=seed), np.random.default_rng(seed)
    bias = np.zeros(12)
    bias[:3], bias[3:6] = -60, 60  # i = 0, f = 1
    cells.bias_ih_l0.data = library.current().from_host(bias)
    x, h, c = random.normal(size=(100, 2, 2)), random.normal(size=(1, 2, 3)), random.normal(size=(1, 2, 3))
    _, (_, after) = lstm.remember(cells, *tensors((x,)), tuple(tensors((h, c))))
    close(after, c, rtol=1e-12, atol=1e-12)


@verifies(lstm.remember)
def test_backpropagation_through_five_steps_is_the_slope():
    cells = layer()
    random = np.random.default_rng(0)
    x, h, c, weight = tensors([random.normal(size=size) for size in [(5, 2, 2), *[(1, 2, 3)] * 3]])

    def objective(x, h, c):
        outputs, (h, c) = lstm.remember(cells, x, (h, c))
        return outputs.sum() + (h * c * weight).sum()

    gradcheck(objective, [x, h, c], order=2, rtol=1e-4)


@given(st.integers(1, 9), st.integers(1, 9))
def test_a_layer_has_four_gates_of_weights(d, i):
    """4 d (d + i + 1), where the two biases, of which only the sum matters, count once."""
    count = sum(math.prod(p.shape) for p in nn.LSTM(i, d, random=Stream(0)).parameters())
    assert count - 4 * d == 4 * d * (d + i + 1)


# ---------------------------------------------------------------- the losses


@verifies(lstm.nats_a_frame)
@given(st.data(), shapes(5, 5, max_side=3))
def test_the_loss_is_minus_the_log_probability_of_a_frame(data, shape):
    logits, frames = data.draw(reals(shape, -20, 20)), data.draw(reals(shape, 0, 1))
    expected = -(frames * log_expit(logits) + (1 - frames) * log_expit(-logits)).sum((2, 3, 4)).mean()
    close(lstm.nats_a_frame(*tensors((logits, frames))), np.array(expected), rtol=1e-9)
    gradcheck(lambda y: lstm.nats_a_frame(y, *tensors((frames,))), tensors((logits,)), order=2)


@verifies(lstm.nats_a_frame)
@given(seeds())
def test_who_knows_nothing_pays_a_bit_a_pixel(seed):
    frames = np.random.default_rng(seed).random((2, 3, 1, 64, 64))
    y, x = tensors((0 * frames, frames))
    close(lstm.nats_a_frame(y, x), np.array(2839.1), rtol=1e-4)  # 4096 log 2


@verifies(lstm.composite_loss)
@settings(max_examples=20)
@given(seeds())
def test_the_composite_model_pays_for_the_past_backwards_and_for_the_future(seed):
    made, x = model(double=True), clips(seed=seed)
    (frames,) = tensors((x,))
    state, loss = made.encoder(frames[:3]), lstm.composite_loss(made.losses(frames[:3], frames[3:]))
    expected = 0.0
    for name, truth in (("past", x[[2, 1, 0]]), ("future", x[3:])):
        y = host(made.decoders[name](state, 3))
        expected -= (truth * log_expit(y) + (1 - truth) * log_expit(-y)).sum((2, 3, 4)).mean()
    close(loss, np.array(expected), rtol=1e-9)


@verifies(lstm.composite_loss)
@every_model
def test_the_loss_by_every_parameter_against_finite_differences(config):
    made, (frames,) = model(config, double=True), tensors((clips(2, 5),), requires_grad=False)

    def loss():
        return lstm.composite_loss(made.losses(frames[:3], frames[3:]))

    modules = made.encoder, made.decoders
    gradcheck(with_parameters(loss, *modules), [p for m in modules for p in m.parameters()], rtol=1e-4)


# ---------------------------------------------------------------- time


@settings(max_examples=15)
@given(st.integers(0, 3), seeds())
def test_a_conditional_decoder_sees_no_frame_before_it_has_been_asked_for_it(place, seed):
    made, truth = model(MODELS[1], double=True), clips(2, 4)
    changed = truth.copy()
    changed[place] = np.random.default_rng(seed).uniform(size=changed[place].shape)
    (frames,) = tensors((clips(2),))
    y, other = (host(made.decoders["future"](made.encoder(frames), 4, *tensors((each,)))) for each in (truth, changed))
    close(other[: place + 1], y[: place + 1], rtol=1e-12)
    assert (np.abs(other[place + 1 :] - y[place + 1 :]).max((1, 2, 3, 4)) > 0).all()


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_to_be_forced_by_one_s_own_predictions_is_to_run_free(frames):
    made, (seen,) = model(MODELS[1], double=True), tensors((clips(2),))
    state = made.encoder(seen)
    y = host(made.decoders["future"](state, frames))
    close(made.decoders["future"](state, frames, *tensors((expit(y),))), y, rtol=1e-9, atol=1e-12)


def test_any_other_decoder_sees_no_frame_at_all():
    made, (seen, truth) = model(double=True), tensors((clips(2), clips(2, seed=3)))
    state = made.encoder(seen)
    assert np.array_equal(host(made.decoders["past"](state, 6, truth)), host(made.decoders["past"](state, 6)))
    close(made.decoders["past"](state, 3), host(made.decoders["past"](state, 6))[:3], rtol=1e-12)


@every_model
def test_clips_do_not_see_each_other(config):
    made, frames, order = model(config, double=True), clips(3), [2, 0, 1]

    def logits(x):
        (seen,) = tensors((x,))
        return [host(decoder(made.encoder(seen), 3)) for decoder in made.decoders.values()]

    for whole, mixed, alone in zip(logits(frames), logits(frames[:, order]), logits(frames[:, 1:2])):
        close(mixed, whole[:, order], rtol=1e-9)
        close(alone, whole[:, 1:2], rtol=1e-9)


# ---------------------------------------------------------------- the algorithm


def test_the_spec_tells_the_verbs_of_the_class():
    from tinygen_plugins import sequence

    specs = {spec.name: spec for spec in sequence.tinygen_algorithms()}
    assert set(specs["lstm"].verbs) == set(verbs_of(lstm.LSTM)) and lstm.LSTM.films


@every_model
def test_a_step_reaches_every_parameter_and_forgets_the_step_before(config):
    states = []
    for left_over in (False, True):
        made = model(config)
        modules = {"encoder": made.encoder, "decoders": made.decoders}
        before = {key: module.state_dict() for key, module in modules.items()}
        for module in modules.values():
            for parameter in module.parameters():
                parameter.grad = tinygen.full(parameter.shape, 100.0) if left_over else None
        step = next(made.fit(batches()))
        assert set(step.metrics) == {f"nats_{name}" for name in made.decoders}
        for key, module in modules.items():
            for name, parameter in module.named_parameters():
                assert np.abs(parameter.grad.numpy()).max() > 0, f"{key}.{name} gets no gradient"
                assert not np.array_equal(before[key][name], parameter.numpy()), f"{key}.{name}"
                assert parameter.dtype == "float32"
        states.append(made.encoder.state_dict() | made.decoders.state_dict())
    for name, array in states[0].items():
        assert np.array_equal(array, states[1][name]), name


def test_training_is_the_same_on_every_backend(backend):
    def two_steps():
        made = model(MODELS[1])
        fit = made.fit(batches())
        next(fit), next(fit)
        return made.encoder.state_dict() | made.decoders.state_dict()

    same_elsewhere(two_steps, backend, rtol=1e-5, atol=1e-6)


def test_the_rate_falls_in_a_straight_line_and_long_gradients_are_shortened():
    made = model(dataclasses.replace(SMALL, steps=10, lr=0.5, clip=1e-3))
    fit, rates = made.fit(batches()), []
    for _ in range(3):
        rates.append(made.optimizer.lr)
        next(fit)
    np.testing.assert_allclose(rates, [0.5, 0.45, 0.4], rtol=1e-12)
    parameters = [*made.encoder.parameters(), *made.decoders.parameters()]
    assert math.sqrt(sum((p.grad.numpy() ** 2).sum() for p in parameters)) == pytest.approx(1e-3, rel=1e-3)


@every_model
@pytest.mark.parametrize("frames", [2, 3, 7])
def test_films_begin_with_the_data_and_go_on(config, frames):
    made = model(config)
    next(made.fit(batches()))
    film = host(made.animate(frames, 5, Stream(3, "a")))
    assert film.shape == (5, frames, *SHAPE) and film.dtype == np.float32
    assert film.min() >= 0 and film.max() <= 1
    assert np.array_equal(film, host(made.animate(frames, 5, Stream(3, "a"))))
    others = [host(made.animate(frames, 5, Stream(seed, "a"))) for seed in range(4)]
    assert any(not np.array_equal(film, other) for other in others)
    seen = made.beginnings.draw(5, Stream(3, "a"))
    if config.model == "autoencoder":
        y = host(made.decoders["past"](made.encoder(seen), frames))
        close(film[:, ::-1].swapaxes(0, 1), expit(y), rtol=1e-4, atol=1e-5)
        return
    first = min(frames, 3)
    assert np.array_equal(film[:, :first], host(seen).swapaxes(0, 1)[:, :first])
    if frames > 3:
        y = host(made.decoders["future"](made.encoder(seen), frames - 3))
        close(film[:, 3:].swapaxes(0, 1), expit(y), rtol=1e-4, atol=1e-5)


def test_it_learns_to_give_a_film_back_and_how_it_goes_on():
    """A bar that moves to the right by two pixels a frame, from where it will."""
    film = np.zeros((8, 6, *SHAPE), np.float32)
    for i in range(8):
        for t in range(6):
            film[i, t, :, :, (2 * (i + t)) % 16] = 1.0
    (frames,) = tensors((film.swapaxes(0, 1),), "float32", requires_grad=False)
    made = model(lstm.Config(steps=200, hidden=24, channels=8, seen=3, lr=1e-2))

    class Same:
        images = frames.transpose(0, 1)

    fit, nats = made.fit(iter(lambda: Same, None)), []
    for _ in range(200):
        nats.append({name: value.item() for name, value in next(fit).metrics.items()})
    for name in ("nats_past", "nats_future"):
        assert nats[-1][name] < 0.2 * nats[0][name], name
    for shown in host(made.animate(6, 8, Stream(0, "a"))):
        true = next(f for f in film if np.array_equal(f[:3], shown[:3]))
        assert np.abs(shown - true).mean() < 0.05


@every_model
def test_evaluate_measures_all_test_clips_without_help(config):
    made, data = model(config), data_set(test=70)
    figures = made.evaluate(data, Stream(0, "e"))
    x = data.split("test").pixels.swapaxes(0, 1).astype(float)
    (frames,) = tensors((x,), "float32")
    state = made.encoder(frames[:3])
    assert set(figures) == {"test_clips", *(f"nats_{name}" for name in made.decoders)} and figures["test_clips"] == 70
    for name, truth in (("past", x[[2, 1, 0]]), ("future", x[3:])):
        if name in made.decoders:
            y = host(made.decoders[name](state, 3)).astype(float)
            expected = -(truth * log_expit(y) + (1 - truth) * log_expit(-y)).sum((2, 3, 4)).mean()
            close(figures[f"nats_{name}"], np.array(expected), rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "changed", "message"),
    [
        ({"seen": 6}, {}, "clips must have 7 frames or more for these options, data films has 6"),
        ({}, {"width": 20}, "sides that are multiples of 8, got 8 × 20"),
    ],
)
def test_clips_that_do_not_fit_are_refused(options, changed, message):
    data = dataclasses.replace(DATA, **changed)
    with pytest.raises(UsageError, match=message) as caught:
        lstm.LSTM(dataclasses.replace(SMALL, **options), data, Stream(0))
    assert caught.value.hint
    if changed:
        lstm.LSTM(dataclasses.replace(SMALL, percepts="pixels"), data, Stream(0))  # pixels come in any number


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seen": 0}, "seen must be from 1"), ({"lr": 2.0}, "lr must be from"), ({"hidden": 0}, "hidden must be from"),
        ({"model": "both"}, "model must be one of composite, future, autoencoder"),
        ({"percepts": "eyes"}, "percepts must be one of convolution, pixels"), ({"clip": 0.0}, "clip must be from"),
    ],
)  # fmt: skip
def test_options_are_checked(options, message):
    with pytest.raises(UsageError, match=message):
        lstm.Config(**options)
