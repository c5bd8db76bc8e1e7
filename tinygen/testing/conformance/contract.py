"""Contract: what the host promises the command line on behalf of a plugin."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import partial
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

import tinygen.functional as F
from tinygen.autograd import Tensor, no_grad, tensor
from tinygen.backend import current
from tinygen.data import Dataset, Support
from tinygen.errors import TinygenError
from tinygen.host import Sampler, verbs_of
from tinygen.host.providers import describe
from tinygen.run import capture, draw
from tinygen.run.pictures import draw_films, require_pictures
from tinygen.testing.conformance.kit import check, unknown_expectations
from tinygen.testing.conformance.subject import Absent, Finding, Noise, Subject, few, steps
from tinygen.testing.conformance.where import at, first_line

ODD_SHAPE, ODD_COUNT = (3, 13, 17), 40  # data that few plugins were written for
FRAMES, FILMS = 8, 2
MORE_STEPS = 100  # updates after which pictures must not be blank any more
EVALUATED = 30  # images of each class and split that `evaluate` gets


# ---------------------------------------------------------------- what the spec says


@check(
    "contract.loads",
    "the class and the Config that the spec names can be imported",
    mend="let `factory` and `config` in the spec be module:name of what is there; the message names the line at fault",
)
def loads(subject: Subject) -> None:
    assert callable(subject.factory) and subject.config_kind
    unknown = unknown_expectations(subject.spec)
    if unknown:
        raise Finding(f"Checks.expected names {unknown[0]}, and there is no such check")


@check(
    "contract.verbs",
    "the verbs in the spec are those that the class inherits",
    mend="write in `verbs` one verb for each capability that the class inherits, and no other",
    needs=("contract.loads",),
    each_backend=True,
)
def verbs(subject: Subject) -> None:
    told, done = set(subject.spec.verbs), set(verbs_of(subject.factory))
    if told != done:
        parts = [f"the class does not {verb}" for verb in sorted(told - done)]
        parts += [f"the spec does not tell of {verb}" for verb in sorted(done - told)]
        raise Finding("; ".join(parts))


@check(
    "contract.config",
    "the Config is a frozen dataclass, and every field has a default",
    mend="write @dataclass(frozen=True) above the Config and give each field a value that does well",
    needs=("contract.loads",),
    each_backend=True,
)
def config(subject: Subject) -> None:
    kind = subject.config_kind
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise Finding(f"{subject.spec.config} is no dataclass")
    if not kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise Finding(f"{kind.__name__} is not frozen: what a run was made with could change")
    kind()


@check(
    "contract.builds",
    "it is built from its Config, the data it is for, and a random stream",
    mend="take (config, data, random) in __init__ and refuse only what cannot work",
    needs=("contract.config",),
    each_backend=True,
)
def builds(subject: Subject) -> None:
    subject.build()


@check(
    "contract.bad-options",
    "a number that makes no sense is refused by a TinygenError, in one line, before training",
    mend="call tinygen.host.check_range in the Config's __post_init__ for the field that is named",
    needs=("contract.config",),
)
def bad_options(subject: Subject) -> None:
    hints, taken = get_type_hints(subject.config_kind), []
    for field in dataclasses.fields(subject.config_kind):
        for value in _senseless(hints[field.name]):
            error = _refusal(partial(_built, subject, {**subject.options, field.name: value}))
            if error is None:
                taken.append(f"{field.name} = {value}")
            elif not isinstance(error, TinygenError):
                raise Finding(f"{field.name} = {value}: {describe(error, subject.place_of(error))}")
            elif "\n" in error.message:
                raise Finding(f"{field.name} = {value} is refused in more than one line")
    if taken:
        raise Finding(f"it is built with {', '.join(taken)}")


def _senseless(annotation: Any) -> list[Any]:
    """Numbers that no option can mean; every kind of option but numbers is judged by the command line."""
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return [math.nan] if float in kinds else [-(10**12)] if int in kinds else []


def _built(subject: Subject, values: Mapping[str, Any]) -> None:
    Subject(subject.registry, subject.name, values).build()


def _refusal(action: Callable[[], object]) -> BaseException | None:
    """What an action raises; None where it goes through."""
    try:
        action()
    except Exception as error:
        return error
    return None


# ---------------------------------------------------------------- what the verbs give


@check(
    "contract.fit",
    "fit is a generator that yields Step with figures that are finite, and state that can be saved",
    mend="yield Step({name: number}) after each update; build optimizers and streams in __init__",
    needs=("contract.builds",),
    verbs=("train",),
    each_backend=True,
)
def fit(subject: Subject) -> None:
    run = subject.run()
    run.checked()
    figures = steps(run, 3)
    if not figures[0]:
        raise Finding("a step has no figures: nobody sees how training goes")
    for number, step in enumerate(figures, 1):
        for name, value in step.items():
            if not math.isfinite(value):
                raise Finding(f"{name} is {value} at step {number}")


@check(
    "contract.other-data",
    "data of another shape is learnt from, or refused by a TinygenError in one line before training",
    mend="look at the DataSpec in __init__ and raise UsageError, with a hint, for shapes that do not fit",
    needs=("contract.fit",),
    verbs=("train",),
)
def other_data(subject: Subject) -> None:
    frames = subject.data.frames
    shape = (frames, *ODD_SHAPE) if frames else ODD_SHAPE
    splits = {name: Noise(ODD_COUNT, shape, 2) for name in ("train", "valid", "test")}
    data = Dataset("noise", splits, ODD_SHAPE, ("a", "b"), frames)
    said = f"colour {'clips' if frames else 'images'} of {ODD_SHAPE[1]} × {ODD_SHAPE[2]}"
    try:
        run = subject.run(data=data)
        run.fit()
    except TinygenError as refusal:
        if "\n" in refusal.message:
            raise Finding(f"{said} are refused in more than one line") from refusal
        return
    error = _refusal(lambda: steps(run, 1))
    if error is not None:
        raise Finding(f"{said} are taken, and then training breaks: {describe(error, subject.place_of(error))}")
    if isinstance(run.algorithm, Sampler):
        draw(run.algorithm, 1, subject.stream("sample"))


@check(
    "contract.sample",
    "samples are float32 images (n, c, h, w) in [0, 1], and not blank",
    mend="bring the result into [0, 1], as (x + 1) / 2 does for tanh, and return n images",
    needs=("contract.verbs", "contract.builds", "contract.fit"),
    verbs=("sample",),
    each_backend=True,
)
def sample(subject: Subject) -> None:
    images = draw(subject.trained, 3, subject.stream("sample"))
    _require_pictures("sample", images)
    if images.max() == images.min() and subject.can_train:  # it may be too early
        run = subject.run()
        steps(run, MORE_STEPS)
        images = draw(run.algorithm, 3, subject.stream("sample"))
    if images.max() == images.min():
        raise Finding(f"sample: every pixel of 3 images is {images.mean():.3f}: the pictures are blank")


@check(
    "contract.animate",
    "films are float32 (n, t, c, h, w) in [0, 1], as many and as long as asked for",
    mend="return n films of so many frames, in [0, 1]",
    needs=("contract.verbs", "contract.builds", "contract.fit"),
    verbs=("animate",),
)
def animate(subject: Subject) -> None:
    _require_pictures("animate", draw_films(subject.trained, FRAMES, FILMS, subject.stream("animate")))


@check(
    "contract.repair",
    "a repaired picture has the shape given, is finite, and keeps every known pixel bit for bit",
    mend="fill in where the mask is 1, F.where(mask, filled, image), and leave the rest; take mask=None for noise",
    needs=("contract.verbs", "contract.builds", "contract.fit"),
    verbs=("repair",),
)
def repair(subject: Subject) -> None:
    image = subject.pictures(1)[0].detach()
    hole = np.zeros(image.shape[1:], np.float32)
    hole[::3, ::2] = 1
    mask = tensor(current().from_host(hole))
    damaged = Tensor(image.data * current().from_host(1 - hole))
    before, refused = damaged.numpy(), []
    for given, what in ((mask, "with a mask"), (None, "without a mask")):
        place = f"repair {what}"
        try:
            result = subject.trained.repair(damaged, given, subject.stream("repair"))
        except TinygenError:  # it fills holes and takes out no noise, or the other way round: it may say so
            refused.append(place)
            continue
        pictures = require_pictures(place, result, tuple(image.shape), "return a picture of the shape given")
        if not np.array_equal(damaged.numpy(), before):
            raise Finding(f"{place} wrote into the picture that it was given")
        if given is mask and not np.array_equal(np.where(hole == 1, 0, pictures), np.where(hole == 1, 0, before)):
            raise Finding(f"{place} changed known pixels")
    if len(refused) == 2:
        raise Absent(f"it refuses a picture of the data {image.shape}, with a mask and without")


@check(
    "contract.compose",
    "a composed picture is float32 (c, h, w) in [0, 1], and the pictures given stay as they were",
    mend="clamp the result to [0, 1], and compute into new tensors",
    needs=("contract.verbs", "contract.builds", "contract.fit"),
    verbs=("compose",),
)
def compose(subject: Subject) -> None:
    pictures = [Tensor(picture.data.copy()) for picture in subject.pictures(2)]
    before = [picture.numpy() for picture in pictures]

    def call() -> Tensor:
        return subject.trained.compose(pictures, None, subject.stream("compose"))

    try:
        result = call()
    except TinygenError as error:  # two random pictures may have nothing in common
        raise Absent(f"it refuses two pictures of the data: {error.message}") from error
    _require_pictures("compose", require_pictures("compose", result, ("c", "h", "w"), "return a picture"))
    _require_unwritten(subject, "compose", pictures, before, call)


@check(
    "contract.stylize",
    "every stylized picture has the content's shape and lies in [0, 1]; the pictures given stay as they were",
    mend="yield pictures (c, h, w) clamped to [0, 1]",
    needs=("contract.verbs", "contract.builds", "contract.fit"),
    verbs=("stylize",),
)
def stylize(subject: Subject) -> None:
    content, style = (F.cat([picture] * (3 // len(picture))) for picture in _enlarged(subject))  # in colour
    before = [content.numpy(), style.numpy()]
    for count, result in enumerate(subject.trained.stylize(content, [style]), 1):
        pictures = require_pictures("stylize", result, tuple(content.shape), "yield pictures of the content's shape")
        _require_pictures("stylize", pictures)
        if count == 2:
            break
    _require_unwritten(subject, "stylize", [content, style], before, lambda: None)


@check(
    "contract.evaluate",
    "figures are numbers by name",
    mend="return a dict of numbers, none of which is NaN",
    needs=("contract.verbs", "contract.builds", "contract.fit"),
    verbs=("evaluate",),
)
def evaluate(subject: Subject) -> None:
    count = EVALUATED * max(1, len(subject.data.classes))
    figures = subject.trained.evaluate(few(subject.data, count), subject.stream("evaluate"))
    if not figures:
        raise Finding("evaluate gives no figures")
    for name, value in figures.items():
        if math.isnan(float(value)):
            raise Finding(f"evaluate: {name} is not a number")


@check(
    "contract.adapt",
    "adapting gives a copy that samples, or tells classes apart, and leaves the model as it was",
    mend="copy what is adapted (`load_state_dict(state_dict())` into a fresh network) before the first step",
    needs=("contract.verbs", "contract.builds", "contract.fit"),
    verbs=("adapt",),
)
def adapt(subject: Subject) -> None:
    way = getattr(subject.config, "way", 3)
    names = tuple(f"class {number}" for number in range(way))
    images = subject.pictures(2 * way)
    labels = tensor(current().from_host(np.arange(2 * way) % way))
    model = subject.trained
    before = {name: array.copy() for name, array in capture(model)[0].items()}
    adapted = model.adapt(Support(images, labels, names))
    for name, array in capture(model)[0].items():
        if not np.array_equal(before[name], array):
            raise Finding(f"adapt changed {name} of the model itself")
    if isinstance(adapted, Sampler):
        _require_pictures("the adapted copy: sample", draw(adapted, 2, subject.stream("sample")))
    elif hasattr(adapted, "probabilities"):
        with no_grad():
            p = adapted.probabilities(images).numpy()
        if p.shape != (2 * way, way) or not np.allclose(p.sum(1), 1, atol=1e-4):
            raise Finding(f"probabilities gives {p.shape}, or sums that are not 1; expected ({2 * way}, {way})")
    else:
        raise Finding(f"adapt gives a {type(adapted).__name__} that neither samples nor has `probabilities`")


def _enlarged(subject: Subject) -> Tensor:
    """Two pictures of the data, twice as large: a network that looks at pictures needs some pixels."""
    return F.interpolate(subject.pictures(2), scale_factor=2)


def _require_pictures(what: str, pictures: np.ndarray) -> None:
    if pictures.dtype != np.float32:
        raise Finding(f"{what} gives {pictures.dtype}, expected float32")
    low, high = float(pictures.min()), float(pictures.max())
    if low < 0 or high > 1:
        raise Finding(f"{what} gives values from {low:.3g} to {high:.3g}, outside [0, 1]")


def _require_unwritten(
    subject: Subject, what: str, given: list[Tensor], before: list[np.ndarray], call: Callable[[], Any]
) -> None:
    """Raise Finding where a picture that a verb was given is not what it was; `call` repeats it, to find the line."""

    def written() -> bool:
        return any(not np.array_equal(picture.numpy(), copy) for picture, copy in zip(given, before))

    if written():
        for picture, copy in zip(given, before):
            picture.data = current().from_host(copy)
        raise Finding(f"{what} wrote into a picture that it was given{at(first_line(call, written, subject.folder))}")
