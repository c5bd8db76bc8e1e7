"""Every layer of `tinygen.nn` at once: nothing waits for a device, every parameter learns, float32 stays, a state goes
round. A layer that is missing from the table fails the last test."""

import inspect

import numpy as np
import pytest

import tinygen
from tinygen import nn
from tinygen.random import Stream

RANDOM = Stream(0, "layers")
IMAGE, WORDS, PAIRS = (2, 4, 6, 6), (5, 3, 8), (6, 8)
LOGITS, CLASSES = (6, 5), ("classes", 5, (6,))
# name of the layer, its arguments, the shapes of its inputs; ("classes", k, shape) are whole numbers below k,
# ("within", shape) numbers in (0, 1), ("both", shape) the two states of an LSTM
LAYERS = [
    *[(name, {}, [IMAGE]) for name in (
        "ELU", "Flatten", "GELU", "Identity", "LeakyReLU", "LogSigmoid", "ReLU", "SiLU", "Sigmoid", "Softplus", "Tanh",
    )],
    *[(name, {"dim": 1}, [IMAGE]) for name in ("LogSoftmax", "Softmax")],
    ("Linear", {"in_features": 8, "out_features": 5}, [WORDS]),
    ("Embedding", {"num_embeddings": 5, "embedding_dim": 3}, [CLASSES]),
    ("Conv2d", {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "padding": 1, "groups": 2}, [IMAGE]),
    ("Conv2d", {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "padding": 2, "padding_mode": "circular"},
     [IMAGE]),
    ("ConvTranspose2d", {"in_channels": 4, "out_channels": 6, "kernel_size": 4, "stride": 2, "padding": 1}, [IMAGE]),
    ("BatchNorm1d", {"num_features": 8}, [PAIRS]),
    ("BatchNorm2d", {"num_features": 4, "momentum": None}, [IMAGE]),
    ("InstanceNorm1d", {"num_features": 3, "affine": True}, [WORDS]),
    ("InstanceNorm2d", {"num_features": 4, "affine": True, "track_running_stats": True}, [IMAGE]),
    ("LayerNorm", {"normalized_shape": 8}, [WORDS]),
    ("GroupNorm", {"num_groups": 2, "num_channels": 4}, [IMAGE]),
    ("MaxPool2d", {"kernel_size": 3, "stride": 2, "padding": 1}, [IMAGE]),
    ("AvgPool2d", {"kernel_size": 2}, [IMAGE]),
    ("AdaptiveAvgPool2d", {"output_size": 3}, [IMAGE]),
    ("Upsample", {"scale_factor": 2, "mode": "bilinear"}, [IMAGE]),
    ("PixelShuffle", {"upscale_factor": 2}, [IMAGE]),
    ("PixelUnshuffle", {"downscale_factor": 2}, [IMAGE]),
    ("Unfold", {"kernel_size": 2}, [IMAGE]),
    ("Fold", {"output_size": (3, 3), "kernel_size": 2}, [(2, 8, 4)]),
    ("Unflatten", {"dim": 1, "unflattened_size": (2, 2)}, [IMAGE]),
    *[(f"{kind}Pad2d", {"padding": 2}, [IMAGE]) for kind in ("Circular", "Reflection", "Replication", "Zero")],
    ("Dropout", {"p": 0.5}, [IMAGE]),
    *[(name, {"input_size": 8, "hidden_size": 5, "bidirectional": True}, [WORDS]) for name in ("RNN", "LSTM", "GRU")],
    *[(name, {"input_size": 8, "hidden_size": 5}, [PAIRS, (6, 5)]) for name in ("RNNCell", "GRUCell")],
    ("LSTMCell", {"input_size": 8, "hidden_size": 5}, [PAIRS, ("both", (6, 5))]),
    ("MultiheadAttention", {"embed_dim": 8, "num_heads": 2}, [WORDS, WORDS, WORDS]),
    ("TransformerEncoderLayer", {"d_model": 8, "nhead": 2, "dim_feedforward": 16}, [WORDS]),
    *[(name, {}, [PAIRS, PAIRS]) for name in ("BCEWithLogitsLoss", "HuberLoss", "L1Loss", "MSELoss")],
    ("BCELoss", {}, [("within", PAIRS), ("within", PAIRS)]),
    ("KLDivLoss", {}, [PAIRS, ("within", PAIRS)]),
    ("GaussianNLLLoss", {}, [PAIRS, PAIRS, ("within", PAIRS)]),
    ("CrossEntropyLoss", {"label_smoothing": 0.1}, [LOGITS, CLASSES]),
    ("NLLLoss", {}, [LOGITS, CLASSES]),
]  # fmt: skip
MASKED = ("Dropout", "TransformerEncoderLayer")  # random masks are drawn on the host and brought to the device
NO_LAYERS = {"Buffer", "Module", "ModuleDict", "ModuleList", "Parameter", "Sequential"}  # what holds layers and tensors
table = pytest.mark.parametrize(("name", "options", "shapes"), LAYERS, ids=[layer[0] for layer in LAYERS])


def built(name, options):
    kind = getattr(nn, name)
    needs = "random" in inspect.signature(kind).parameters
    return kind(**options, **({"random": RANDOM.child(name)} if needs else {}))


def drawn(shapes):
    """Inputs of a layer; the first requires a gradient, if it has real numbers."""
    random, inputs = np.random.default_rng(0), []
    for shape in shapes:
        if shape[0] == "classes":
            inputs.append(tinygen.tensor(random.integers(0, shape[1], shape[2])))
        elif shape[0] == "within":
            numbers = random.uniform(0.1, 0.9, shape[1]).astype("float32")
            inputs.append(tinygen.tensor(numbers, requires_grad=not inputs))
        elif shape[0] == "both":
            inputs.append(tuple(tinygen.tensor(random.standard_normal(shape[1]).astype("float32")) for _ in "hc"))
        else:
            inputs.append(tinygen.tensor(random.standard_normal(shape).astype("float32"), requires_grad=not inputs))
    return inputs


def results(value):
    """The tensors that a layer returns, one after the other."""
    if isinstance(value, tuple):
        return [y for item in value for y in results(item)]
    return [value] if value is not None else []


def weighted(outputs):
    """A number that all elements of the outputs go into, each in its own way."""
    return sum((y * (tinygen.arange(1.0, y.numel() + 1).reshape(y.shape) / y.numel())).sum() for y in outputs)


@table
def test_forward_and_backward_wait_for_nothing(name, options, shapes, backend):
    """No transfer and no synchronisation on the way, second derivatives included: the strict backend counts."""
    if backend.name != "strict":
        return
    from tinygen.testing.strict import counting

    layer, inputs = built(name, options), drawn(shapes)
    wanted = [x for x in (inputs[0], *layer.parameters()) if x.requires_grad]
    with counting() as counts:
        outputs = results(layer(*inputs))
        gradients = tinygen.grad(weighted([y for y in outputs if y.requires_grad]), wanted, create_graph=True)
        squares = [(g * g).sum() for g in gradients if g is not None and g.requires_grad]
        if squares:
            sum(squares).backward()
    assert (counts.to_host, counts.synchronizations) == (0, 0)
    assert counts.from_host == 0 or name in MASKED


@table
def test_every_parameter_and_the_input_get_a_gradient(name, options, shapes):
    layer, inputs = built(name, options), drawn(shapes)
    outputs = results(layer(*inputs))
    assert all(y.dtype == np.float32 for y in outputs)
    weighted(outputs).backward()
    learnt = [*layer.named_parameters(), *[("the input", x) for x in inputs[:1] if x.requires_grad]]
    for which, p in learnt:
        assert p.grad is not None, f"{name}: {which} gets no gradient"
        assert p.grad.dtype == np.float32 and np.isfinite(p.grad.numpy()).all(), which
        assert np.abs(p.grad.numpy()).max() > 0, f"{name}: the gradient of {which} is 0"


@table
def test_a_state_goes_round(name, options, shapes):
    layer, other, inputs = built(name, options), built(name, options), drawn(shapes)
    for p in layer.parameters():
        p.data = p.data + 0.1
    layer(*inputs)  # running statistics move
    other.load_state_dict(layer.state_dict())
    for key, value in other.state_dict().items():
        np.testing.assert_array_equal(value, layer.state_dict()[key])
    for y, expected in zip(results(other.eval()(*inputs)), results(layer.eval()(*inputs))):
        np.testing.assert_array_equal(y.numpy(), expected.numpy())


def test_the_table_is_complete():
    layers = {name for name in nn.__all__ if isinstance(getattr(nn, name), type)} - NO_LAYERS
    assert {layer[0] for layer in LAYERS} == layers
