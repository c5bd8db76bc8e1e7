"""PyTorch as the oracle, where it is installed (`pip install -e '.[bench]'`): its state_dicts load unchanged, and
outputs, gradients, running statistics and ten optimizer steps agree to 1e-6 in float64."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch, the oracle of these tests, comes with the extra bench")

import safetensors.numpy  # noqa: E402
import safetensors.torch  # noqa: E402

import tinygen  # noqa: E402
from tinygen import nn, optim  # noqa: E402
from tinygen.random import Stream  # noqa: E402

IMAGE, WORDS = (4, 6, 8, 8), (5, 3, 8)
# name of the layer, its arguments, the shape of its input
LAYERS = [
    ("Linear", (8, 5), {}, WORDS),
    ("Conv2d", (6, 4, 3), {"stride": 2, "padding": 1}, IMAGE),
    ("Conv2d", (6, 4, (2, 3)), {"dilation": 2, "groups": 2, "bias": False}, IMAGE),
    ("Conv2d", (6, 4, 3), {"padding": 2, "padding_mode": "circular"}, IMAGE),
    ("ConvTranspose2d", (6, 4, 4), {"stride": 2, "padding": 1}, IMAGE),
    ("ConvTranspose2d", (6, 4, 3), {"stride": 3, "output_padding": 2, "groups": 2}, IMAGE),
    ("BatchNorm1d", (8,), {}, (6, 8)),
    ("BatchNorm2d", (6,), {}, IMAGE),
    ("InstanceNorm2d", (6,), {"affine": True}, IMAGE),
    ("LayerNorm", (8,), {}, WORDS),
    ("GroupNorm", (3, 6), {}, IMAGE),
    ("MaxPool2d", (3,), {"stride": 2, "padding": 1}, IMAGE),
    ("AvgPool2d", (2,), {}, IMAGE),
    ("AdaptiveAvgPool2d", ((3, 5),), {}, IMAGE),
    ("Upsample", (), {"scale_factor": 2, "mode": "bilinear"}, IMAGE),
    ("PixelShuffle", (1,), {}, IMAGE),
    ("GELU", (), {}, WORDS),
    ("SiLU", (), {}, WORDS),
    ("ELU", (), {}, WORDS),
    ("RNN", (8, 5), {"num_layers": 2}, WORDS),
    ("LSTM", (8, 5), {"num_layers": 2, "bidirectional": True, "batch_first": True}, WORDS),
    ("GRU", (8, 5), {"bias": False}, WORDS),
    ("TransformerEncoderLayer", (8, 2, 16, 0.0), {"batch_first": True, "norm_first": True}, WORDS),
    ("TransformerEncoderLayer", (8, 2, 16, 0.0), {"activation": "gelu"}, WORDS),
]
OPTIMIZERS = [
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-2}),
    ("Adam", {"lr": 1e-2}),
    ("AdamW", {"lr": 1e-2}),
    ("RMSprop", {"lr": 1e-2, "momentum": 0.5, "centered": True}),
    ("Adagrad", {"lr": 1e-1}),
    ("LBFGS", {"lr": 1.0, "max_iter": 4, "line_search_fn": "strong_wolfe"}),
]


@pytest.fixture(autouse=True)
def _on_numpy():
    """PyTorch's numbers are on the host."""
    with tinygen.backend.using("numpy"):
        yield


def made(name, arguments, options):
    """The layer of ours, in float64."""
    kind = getattr(nn, name)
    try:
        layer = kind(*arguments, **options)
    except TypeError:
        layer = kind(*arguments, **options, random=Stream(0, name))
    for held in (*layer.parameters(), *layer.buffers()):
        if held.dtype.kind == "f":
            held.data = held.data.astype("float64")
    return layer


def loaded(name, arguments, options, folder):
    """(PyTorch's layer, ours with its state_dict, which went through a safetensors file)."""
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(*arguments, **options).double()
    with torch.no_grad():
        for p in theirs.parameters():
            p += 0.1 * torch.randn_like(p)  # no norm stays at 1 and 0
    ours = made(name, arguments, options)
    safetensors.torch.save_file(theirs.state_dict(), folder / "layer.safetensors")
    ours.load_state_dict(safetensors.numpy.load_file(folder / "layer.safetensors"))
    return theirs, ours


def first(result):
    return result[0] if isinstance(result, tuple) else result


def agree(name, ours, theirs):
    np.testing.assert_allclose(ours.numpy(), theirs.detach().numpy(), rtol=1e-6, atol=1e-8, err_msg=name)


def state_agrees(ours, theirs):
    expected = theirs.state_dict()
    state = ours.state_dict()
    assert list(state) == list(expected)
    for name, value in state.items():
        np.testing.assert_allclose(value, expected[name].numpy(), rtol=1e-6, atol=1e-8, err_msg=name)


@pytest.mark.parametrize(
    ("name", "arguments", "options", "shape"), LAYERS, ids=[f"{layer[0]} {layer[2]}" for layer in LAYERS]
)
def test_layer(name, arguments, options, shape, tmp_path):
    theirs, ours = loaded(name, arguments, options, tmp_path)
    random = np.random.default_rng(0)
    for _ in range(2):  # running statistics move twice
        x = random.standard_normal(shape)
        tx, ox = torch.tensor(x, requires_grad=True), tinygen.tensor(x, requires_grad=True)
        ty, oy = first(theirs(tx)), first(ours(ox))
        agree("output", oy, ty)
        weights = random.standard_normal(tuple(ty.shape))
        theirs.zero_grad()
        ours.zero_grad()
        (ty * torch.tensor(weights)).sum().backward()
        (oy * tinygen.tensor(weights)).sum().backward()
        agree("the input's gradient", ox.grad, tx.grad)
        for (key, p), q in zip(ours.named_parameters(), theirs.parameters()):
            agree(f"the gradient of {key}", p.grad, q.grad)
        state_agrees(ours, theirs)
    theirs.eval()
    agree("output in evaluation", first(ours.eval()(ox)), first(theirs(tx)))


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=[name for name, _ in OPTIMIZERS])
def test_ten_steps(name, options, tmp_path):
    theirs, ours = loaded("Linear", (8, 5), {}, tmp_path)
    x, y = np.random.default_rng(1).standard_normal((2, 20, 8))
    y = y[:, :5]
    of_theirs = getattr(torch.optim, name)(theirs.parameters(), **options)
    of_ours = getattr(optim, name)(ours.parameters(), **options)

    def closure(optimizer, layer, tensor):
        def evaluate():
            optimizer.zero_grad()
            loss = ((layer(tensor(x)).tanh() - tensor(y)) ** 2).mean()
            loss.backward()
            return loss

        return evaluate

    of_theirs_closure = closure(of_theirs, theirs, torch.tensor)
    of_ours_closure = closure(of_ours, ours, tinygen.tensor)
    for _ in range(10):
        if name == "LBFGS":
            of_theirs.step(of_theirs_closure)
            of_ours.step(of_ours_closure)
        else:
            of_theirs_closure()
            of_theirs.step()
            of_ours_closure()
            of_ours.step()
        state_agrees(ours, theirs)
