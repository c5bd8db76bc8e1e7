"""The Neural Turing Machine: its equations against SciPy, loops and the Fourier transform, and copying set by hand."""

import math

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cosine
from scipy.stats import entropy

import tinygen
from tinygen import backend as library
from tinygen.host import verifies
from tinygen.random import Stream
from tinygen.testing import assert_matches, close, gradcheck, host, tensors
from tinygen.testing.strategies import of_shapes, reals, seeds
from tinygen_plugins.meta import ntm

N, M = 5, 3  # locations, and numbers in each; sequences n = 2, heads H = 2


def weightings(seed, *shape):
    return np.random.default_rng(seed).dirichlet(np.ones(shape[-1]), shape[:-1])


def one_hot(place, size=N):
    return np.eye(size)[place]


# ---------------------------------------------------------------- equations


@verifies(ntm.weighting)
@given(reals((2, N), -30, 30))
def test_a_weighting_is_a_distribution(logits):
    (x,) = tensors((logits,))
    w = host(ntm.weighting(x))
    close(w, scipy.special.softmax(logits, -1), rtol=1e-9)
    assert w.min() >= 0 and w.max() <= 1 and np.allclose(w.sum(-1), 1, rtol=0, atol=1e-12)


@verifies(ntm.read)
def test_reading_is_a_weighted_sum_of_locations():
    def by_loops(memory, w):
        return np.array([[sum(w[b, h, i] * memory[b, i] for i in range(N)) for h in range(2)] for b in range(2)])

    assert_matches(ntm.read, by_loops, of_shapes((2, N, M), (2, 2, N)))


@verifies(ntm.erase)
def test_erasing_takes_a_share_of_each_number_for_each_head():
    def by_loops(memory, w, e):
        memory = memory.copy()
        for b, i, m, h in np.ndindex(2, N, M, 2):
            memory[b, i, m] -= memory[b, i, m] * w[b, h, i] * e[b, h, m]
        return memory

    assert_matches(ntm.erase, by_loops, of_shapes((2, N, M), (2, 2, N), (2, 2, M)))


@verifies(ntm.add)
def test_adding_puts_each_head_s_vector_where_it_looks():
    def by_loops(memory, w, a):
        return memory + sum(np.stack([np.outer(w[b, h], a[b, h]) for b in range(2)]) for h in range(2))

    assert_matches(ntm.add, by_loops, of_shapes((2, N, M), (2, 2, N), (2, 2, M)))


@verifies(ntm.read, ntm.erase, ntm.add)
@given(seeds(), st.integers(0, N - 1))
def test_what_is_written_at_one_location_is_read_there_and_all_others_stay(seed, place):
    random = np.random.default_rng(seed)
    memory, a = (random.normal(size=shape) for shape in ((1, N, M), (1, 1, M)))
    m, w, one, zero, added = tensors((memory, one_hot([[place]]), np.ones((1, 1, M)), np.zeros((1, 1, M)), a))
    after = ntm.add(ntm.erase(m, w, one), w, added)
    close(ntm.read(after, w), a, rtol=1e-12, atol=1e-12)
    others = np.arange(N) != place
    assert np.array_equal(host(after)[:, others], memory[:, others])
    assert np.array_equal(host(ntm.add(ntm.erase(m, w, zero), w, zero)), memory)  # e = a = 0 does nothing


@verifies(ntm.erase, ntm.add)
@given(seeds())
def test_the_order_of_heads_does_not_matter(seed):
    random = np.random.default_rng(seed)
    memory, e, a = random.normal(size=(2, N, M)), random.random((2, 2, M)), random.normal(size=(2, 2, M))
    w = weightings(seed, 2, 2, N)
    for equation, vector in ((ntm.erase, e), (ntm.add, a)):
        m, x, y, x1, y1 = tensors((memory, w, vector, w[:, ::-1].copy(), vector[:, ::-1].copy()))
        close(equation(m, x, y), host(equation(m, x1, y1)), rtol=1e-12, atol=1e-12)


@verifies(ntm.content_weighting)
@given(reals((2, 2, 1), 0, 20), reals((2, 2, N), -1, 1), st.permutations(range(N)))
def test_content_weightings(beta, similarity, order):
    b, k, zero, moved = tensors((beta, similarity, 0 * beta, similarity[..., order]))
    w = host(ntm.content_weighting(b, k))
    close(w, scipy.special.softmax(beta * similarity, -1), rtol=1e-9)
    close(ntm.content_weighting(b, moved), w[..., order], rtol=1e-12)
    close(ntm.content_weighting(zero, k), np.full((2, 2, N), 1 / N), rtol=1e-12)
    gradcheck(ntm.content_weighting, [b, k])


@verifies(ntm.cosine_similarity)
def test_the_similarity_is_the_cosine():
    def by_scipy(k, memory):
        return np.array([[[1 - cosine(k[b, h], memory[b, i]) for i in range(N)] for h in (0, 1)] for b in (0, 1)])

    assert_matches(ntm.cosine_similarity, by_scipy, of_shapes((2, 2, M), (2, N, M), low=0.3, high=2))
    assert_matches(ntm.cosine_similarity, by_scipy, of_shapes((2, 2, M), (2, N, M), low=-2, high=-0.3))


@verifies(ntm.cosine_similarity, ntm.content_weighting)
@given(seeds(), st.floats(1e-3, 1e3), st.permutations(range(N)))
def test_looking_up_does_not_see_lengths_and_follows_the_order_of_locations(seed, scale, order):
    random = np.random.default_rng(seed)
    k, memory = random.normal(size=(1, 2, M)), random.normal(size=(1, N, M))
    first, longer, m, moved = tensors((k, scale * k, memory, memory[:, order]))
    similarity = host(ntm.cosine_similarity(first, m))
    close(ntm.cosine_similarity(longer, m), similarity, rtol=1e-9, atol=1e-9)
    close(ntm.cosine_similarity(first, moved), similarity[..., order], rtol=1e-9, atol=1e-9)
    (nothing,) = tensors((0 * memory,))
    assert np.array_equal(host(ntm.cosine_similarity(first, nothing)), np.zeros((1, 2, N)))


@verifies(ntm.interpolate)
def test_interpolation():
    def by_loops(g, w_c, w):
        return np.array([[g[b, h, 0] * w_c[b, h] + w[b, h] - g[b, h, 0] * w[b, h] for h in (0, 1)] for b in (0, 1)])

    assert_matches(ntm.interpolate, by_loops, of_shapes((2, 2, 1), (2, 2, N), (2, 2, N), low=0.01, high=0.99))
    one, zero, a, b = tensors((np.ones((1, 1, 1)), np.zeros((1, 1, 1)), weightings(0, 1, 1, N), weightings(1, 1, 1, N)))
    assert np.array_equal(host(ntm.interpolate(one, a, b)), host(a))  # g = 1 looks up
    assert np.array_equal(host(ntm.interpolate(zero, a, b)), host(b))  # g = 0 goes on


@verifies(ntm.shift)
@given(seeds(), st.integers(3, 9))
def test_a_shift_is_a_circular_convolution(seed, size):
    w, s = weightings(seed, 2, 2, size), weightings(seed + 1, 2, 2, 3)
    kernel = np.zeros((2, 2, size))
    for place, offset in enumerate((-1, 0, 1)):
        kernel[..., offset % size] += s[..., place]
    expected = np.fft.ifft(np.fft.fft(w) * np.fft.fft(kernel)).real
    x, y = tensors((w, s))
    close(ntm.shift(x, y), expected, rtol=1e-9, atol=1e-12)
    close(host(ntm.shift(x, y)).sum(-1), np.ones((2, 2)), rtol=1e-12)
    gradcheck(ntm.shift, [x, y])


@verifies(ntm.shift)
@given(st.integers(0, N - 1), st.sampled_from([-1, 0, 1]))
def test_plus_one_moves_to_the_next_location_and_from_the_last_to_the_first(place, offset):
    w, s = tensors((one_hot([[place]]), one_hot([[offset + 1]], 3)))
    assert np.array_equal(host(ntm.shift(w, s)), one_hot([[(place + offset) % N]]))
    assert np.array_equal(host(ntm.shift(w, s)), np.roll(one_hot([[place]]), offset, -1))


@verifies(ntm.sharpen)
@given(seeds(), st.floats(1, 8))
def test_sharpening(seed, power):
    w, gamma = weightings(seed, 2, 2, N), np.full((2, 2, 1), power)
    x, g, more, one = tensors((w, gamma, gamma + 0.5, np.ones((2, 2, 1))))
    sharp = host(ntm.sharpen(x, g))
    close(sharp, w**power / (w**power).sum(-1, keepdims=True), rtol=1e-7, atol=1e-12)
    close(ntm.sharpen(x, one), w, rtol=1e-9, atol=1e-12)
    assert (entropy(sharp, axis=-1) <= entropy(w, axis=-1) + 1e-9).all()
    assert (entropy(host(ntm.sharpen(x, more)), axis=-1) <= entropy(sharp, axis=-1) + 1e-9).all()
    gradcheck(ntm.sharpen, tensors((w * 0.9 + 0.1 / N, gamma)))


@verifies(ntm.sharpen)
@given(st.integers(0, N - 1), st.sampled_from(["float32", "float64"]))
def test_sharpening_far_comes_to_the_largest_and_zeros_do_no_harm(place, dtype):
    w = np.full((1, 1, N), 0.15)
    w[..., place] = 0.4
    x, hard, gamma = tensors((w, one_hot([[place]]), np.full((1, 1, 1), 60.0)), dtype)
    close(ntm.sharpen(x, gamma), one_hot([[place]]), atol=1e-6)
    for power in (gamma, gamma * 0 + 1):
        sharp = ntm.sharpen(hard, power)
        close(sharp, one_hot([[place]]), atol=1e-12)
        for gradient in tinygen.grad((sharp * sharp).sum(), [hard, power]):
            assert np.isfinite(host(gradient)).all()


@verifies(ntm.nats_a_sequence)
@given(seeds(), st.integers(1, 6), st.integers(1, 4))
def test_the_loss_adds_up_bits_and_averages_sequences(seed, length, n):
    random = np.random.default_rng(seed)
    logits, bits = random.normal(size=(length, n, 8)) * 5, (random.random((length, n, 8)) < 0.5).astype(float)
    each = -(bits * scipy.special.log_expit(logits) + (1 - bits) * scipy.special.log_expit(-logits)).sum((0, 2))
    y, x, guess = tensors((logits, bits, 0 * logits))
    close(ntm.nats_a_sequence(y, x), np.array(each.mean()), rtol=1e-9)
    close(ntm.nats_a_sequence(guess, x), np.array(8 * length * math.log(2)), rtol=1e-12)
    gradcheck(lambda y: ntm.nats_a_sequence(y, x.detach()), [y])


# ---------------------------------------------------------------- the tasks


def draw_bits(seed, *shape):
    return (np.random.default_rng(seed).random(shape) < 0.5).astype("float32")


def place(array):
    return library.current().from_host(np.asarray(array))


@given(seeds(), st.integers(1, 4), st.integers(1, 3))
def test_the_copy_task(seed, length, n):
    bits = draw_bits(seed, length, n, 2)
    inputs, targets = map(host, ntm.copy_task(place(bits)))
    assert inputs.shape == (2 * length + 1, n, 3) and inputs.dtype == np.float32
    assert np.array_equal(inputs[:length, :, :2], bits) and np.array_equal(targets, bits)
    rest = inputs.copy()
    rest[:length, :, :2] = 0
    assert rest.sum() == n and (rest[length, :, 2] == 1).all()  # the mark alone


@given(seeds(), st.integers(1, 4), st.integers(1, 3), st.integers(3, 5))
def test_the_repeat_copy_task(seed, length, repeats, most):
    bits = draw_bits(seed, length, 2, 2)
    inputs, targets = map(host, ntm.repeat_task(place(bits), repeats, most))
    assert len(inputs) == length + 1 + len(targets) and len(targets) == length * repeats + 1
    assert np.array_equal(inputs[:length, :, :2], bits) and (inputs[length, :, 2] == 1).all()
    known = np.arange(1, most + 1)
    close(inputs[length, :, 3], np.full(2, (repeats - known.mean()) / known.std()), rtol=1e-6, atol=1e-6)
    for again in range(repeats):
        assert np.array_equal(targets[again * length : (again + 1) * length, :, :2], bits)
    assert (targets[-1] == [0, 0, 1]).all() and not targets[:-1, :, 2].any()


@given(seeds(), st.integers(2, 5), st.integers(1, 3))
def test_the_recall_task(seed, count, rows):
    items, n = draw_bits(seed, count, 3, rows, 4), 3
    asked = np.random.default_rng(seed).integers(0, count - 1, n)
    inputs, targets = map(host, ntm.recall_task(place(items), place(asked)))
    for b in range(n):
        steps = []
        for item in items[:, b]:
            steps += [[0, 0, 0, 0, 1, 0], *([*row, 0, 0] for row in item)]
        steps += [[0, 0, 0, 0, 0, 1], *([*row, 0, 0] for row in items[asked[b], b]), [0, 0, 0, 0, 0, 1]]
        steps += [[0] * 6] * rows
        assert np.array_equal(inputs[:, b], np.array(steps))
        assert np.array_equal(targets[:, b], items[asked[b] + 1, b])


# ---------------------------------------------------------------- the machine

BIG = 1000.0  # saturates every gate


def set_to_copy(machine, bits, start):
    """Give an LSTM machine weights by which it copies: its first unit remembers that the mark has been seen, the others
    hold a row of bits. The writing head walks at each step, the reading one after the mark, one location behind."""
    p, (size, width), d = dict(machine.named_parameters()), machine.shape, bits + 1
    values = {name: np.zeros(q.shape, "float32") for name, q in p.items()}
    gates, into, bias = (values[f"controller.{name}"] for name in ("weight_ih", "weight_hh", "bias_ih"))
    assert not into.any()
    bias[:d] = bias[3 * d :] = BIG  # input and output gates are open
    bias[d : 2 * d], bias[d] = -BIG, BIG  # all is forgotten at once, but for the mark
    gates[2 * d, bits] = BIG
    gates[2 * d + 1 + np.arange(bits), np.arange(bits)] = BIG
    for head in (0, 1):  # one that reads, one that writes; k has `width` numbers, and β follows, which is not needed
        k, g, back, stay, forth, gamma = head * (width + 6) + np.array([0, *range(width + 1, width + 6)])
        values["address.bias"][[k, g, gamma]] = 1, -BIG, -BIG  # g = 0, γ = 1
        values["address.bias"][back] = -BIG
        values["address.bias"][[stay, forth]] = (0.4 * BIG, 0) if head == 0 else (0, BIG)
        values["address.weight"][forth, 0] = BIG if head == 0 else 0
    values["write.bias"][:width] = 0.4 * BIG  # e = 1 until the mark, and then 0
    values["write.weight"][:width, 0] = -BIG
    values["write.weight"][width + np.arange(bits), 1 + np.arange(bits)] = BIG  # a is the row of bits
    values["output.weight"][np.arange(bits), d + np.arange(bits)] = BIG
    values["output.bias"][:] = -BIG / 2
    values["start"][[0, 1], [(start - 2) % size, (start - 1) % size]] = BIG
    machine.load_state_dict(values)


@verifies(ntm.shift, ntm.interpolate, ntm.read, ntm.erase, ntm.add)
@given(seeds(), st.integers(3, 7), st.integers(1, 15), st.integers(1, 3))
def test_weights_set_by_hand_copy_every_length_that_the_memory_holds(seed, size, length, bits):
    """And no longer one: location i mod N then holds the last row that was written there, and gives it for both."""
    config = ntm.Config(controller="lstm", hidden=bits + 1, locations=size, width=bits + 1, bits=bits)
    machine = ntm.Machine(config, bits + 1, bits, Stream(0, "m"))
    set_to_copy(machine, bits, seed % size)
    rows = draw_bits(seed, length, 2, bits)
    inputs, _ = ntm.copy_task(place(rows))
    trace = machine(inputs, length)
    last = [max(j for j in range(i % size, length, size)) for i in range(length)]
    close(scipy.special.expit(host(trace.logits)), rows[last], atol=1e-6)
    assert length > size or last == list(range(length))
    steps = np.arange(2 * length + 1)
    reading, writing = host(trace.weightings)[:, 0].argmax(-1).T
    assert np.array_equal(writing, (seed + steps) % size)
    assert np.array_equal(reading, (seed - 2 + np.maximum(0, steps - length + 1)) % size)


def tiny(**options):
    return ntm.Config(**{"hidden": 5, "locations": 6, "width": 3, "bits": 2, "longest": 3, "batch_size": 4, **options})


def unrolled(p, heads, x):
    """The logits of a machine with a feed-forward controller on one sequence (t, i), a head at a time."""
    sigmoid, softmax, softplus = scipy.special.expit, scipy.special.softmax, lambda x: np.logaddexp(0, x)
    w, r, logits = softmax(p["start"], -1), p["first_read"], []
    width = len(r) // heads
    memory = np.full((w.shape[1], width), ntm.MEMORY)
    for x_t in x:
        h = np.tanh(p["controller.weight"] @ np.concatenate([x_t, r]) + p["controller.bias"])
        asked = (p["address.weight"] @ h + p["address.bias"]).reshape(2 * heads, width + 6)
        for j, (*k, beta, g, back, stay, forth, gamma) in enumerate(asked):
            found = softmax(softplus(beta) * np.array([1 - cosine(k, row) for row in memory]))
            there = sigmoid(g) * found + (1 - sigmoid(g)) * w[j]
            moved = sum(s * np.roll(there, o) for o, s in zip((-1, 0, 1), softmax([back, stay, forth])))
            w[j] = moved ** (1 + softplus(gamma)) / (moved ** (1 + softplus(gamma))).sum()
        e, a = (p["write.weight"] @ h + p["write.bias"]).reshape(2, heads, width)
        for j in range(heads):
            memory = memory * (1 - np.outer(w[heads + j], sigmoid(e[j])))
        memory = memory + sum(np.outer(w[heads + j], np.tanh(a[j])) for j in range(heads))
        r = np.concatenate([w[j] @ memory for j in range(heads)])
        logits.append(p["output.weight"] @ np.concatenate([h, r]) + p["output.bias"])
    return np.array(logits)


@verifies(ntm.weighting, ntm.content_weighting, ntm.sharpen)
@given(seeds(), st.integers(1, 2))
def test_the_machine_is_its_equations_one_after_the_other(seed, heads):
    """It looks up in the memory of the step before, and reads what it has just written."""
    random, machine = np.random.default_rng(seed), ntm.Machine(tiny(heads=heads), 3, 2, Stream(0, "m"))
    for parameter in machine.parameters():
        parameter.data = place(random.normal(size=parameter.shape))
    x = random.normal(size=(4, 2, 3))
    expected = [unrolled({name: q.numpy() for name, q in machine.named_parameters()}, heads, x[:, b]) for b in (0, 1)]
    close(machine(tinygen.Tensor(place(x)), 4).logits, np.stack(expected, 1), rtol=1e-7, atol=1e-9)


KINDS = [{"controller": "lstm"}, {"controller": "feedforward"}, {"controller": "lstm", "heads": 2}]


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_the_loss_by_every_parameter_against_finite_differences(options):
    machine = ntm.Machine(tiny(**options), 3, 2, Stream(0, "m"))
    random = np.random.default_rng(0)
    for parameter in machine.parameters():
        parameter.data = place(random.normal(size=parameter.shape) * 0.5)
    bits = draw_bits(0, 3, 2, 2).astype("float64")
    task = ntm.copy_task(place(bits))
    names, parameters = zip(*machine.named_parameters())

    def loss(*values):
        for name, value in zip(names, values):
            *path, last = name.split(".")
            module = machine
            for part in path:
                module = getattr(module, part)
            object.__setattr__(module, last, value)
        return ntm.nats_a_sequence(machine(task.inputs, 3).logits, task.targets)

    gradcheck(loss, list(parameters), rtol=1e-4)
    for name, gradient in zip(names, tinygen.grad(loss(*parameters), list(parameters))):
        assert np.abs(host(gradient)).max() > 0, f"{name} gets no gradient"


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_sequences_of_a_batch_do_not_see_each_other_and_the_future_is_not_seen(options):
    machine = ntm.Machine(tiny(**options), 3, 2, Stream(0, "m"))
    x = np.random.default_rng(0).normal(size=(4, 3, 3)).astype("float32")
    whole = host(machine(tinygen.Tensor(place(x)), 4).logits)
    close(machine(tinygen.Tensor(place(x[:, ::-1].copy())), 4).logits, whole[:, ::-1], rtol=1e-5, atol=1e-6)
    close(machine(tinygen.Tensor(place(x[:3])), 3).logits, whole[:3], rtol=1e-5, atol=1e-6)
    close(machine(tinygen.Tensor(place(x)), 2).logits, whole[2:], rtol=1e-5, atol=1e-6)


def test_the_default_machine_has_as_many_parameters_as_its_parts():
    machine = ntm.Machine(ntm.Config(), 9, 8, Stream(0, "m"))
    controller, address, write, output = (9 + 20) * 100 + 100, 2 * 26 * 101, 40 * 101, 8 * 121
    assert sum(p.numpy().size for p in machine.parameters()) == controller + address + write + output + 2 * 128 + 20
