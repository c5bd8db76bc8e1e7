"""A plugin for the tests of repair, compose and animate: algorithms whose results are told by a glance, and faults."""

from dataclasses import dataclass

from tinygen import backend, tensor
from tinygen.autograd import no_grad
from tinygen.errors import UsageError
from tinygen.host import AlgorithmSpec, Animator, Composer, Repairer, Step, Trainable, hookimpl


@dataclass(frozen=True)
class Config:
    """Options of all of them."""

    shade: float = 0.5
    """What is filled in, and how bright a film ends."""
    fault: str = ""
    """What goes wrong."""

    def __post_init__(self):
        if not 0 <= self.shade <= 1:
            raise UsageError(f"--shade must be from 0 to 1, got {self.shade}", "for instance --shade 0.5")


def spoilt(fault, result):
    """The result with its fault."""
    wrong = {
        "nothing": None,
        "an array": result.data,
        "a row": result[..., 0],
        "not finite": result / 0.0,
        "glare": result * 3,
    }
    return wrong.get(fault, result)


class Fill(Repairer):
    """Fills in one shade. Of a picture without a mask it makes the negative; with fault "random", random pixels."""

    def __init__(self, config, data, random):
        self.config = config

    def repair(self, image, mask, random):
        fault, shade = self.config.fault, self.config.shade
        if mask is None:
            return spoilt(fault, 1 - image)
        if fault == "random":
            shade = tensor(random.uniform(image.shape))
        if fault == "all":
            return image * 0 + shade
        if fault == "peep" and image.data[:, 0, 0].max() > 0:
            raise UsageError("the missing pixel can be seen", "hide it")
        return spoilt(fault, image * (1 - mask) + mask * shade)


class Beside(Composer):
    """The images side by side; with a mask, the second where it is 1 and the first where it is 0."""

    def __init__(self, config, data, random):
        self.config = config

    def compose(self, images, mask, random):
        if mask is not None:
            return images[0] * (1 - mask) + images[1] * mask
        xp = backend.current().xp
        return spoilt(self.config.fault, tensor(xp.concatenate([image.data for image in images], axis=-1)))


class Dawn(Animator):
    """Flat films that grow from black to the shade; each film has some random light of its own."""

    def __init__(self, config, data, random):
        self.config = config

    def animate(self, frames, n, random):
        xp = backend.current().xp
        light = xp.arange(frames, dtype="float32").reshape(1, -1, 1, 1, 1) * (self.config.shade / frames)
        films = light + 0.1 * random.uniform((n, 1, 3, 1, 1)) + xp.zeros((n, frames, 3, 6, 8), "float32")
        return spoilt(self.config.fault, tensor(films))


class Learner(Trainable, Fill, Beside, Dawn):
    """Learns one shade, on images of any size."""

    def __init__(self, config, data, random):
        self.config, self.learnt = config, tensor([0.0])

    def fit(self, batches):
        for images, _ in batches:
            with no_grad():
                self.learnt = images.mean().reshape(1)
            yield Step({"shade": self.learnt})


def _spec(name, factory, *verbs, **others):
    return AlgorithmSpec(
        name=name, family="toys", summary=f"{name}, for tests", factory=f"picture_plugin:{factory}",
        config="picture_plugin:Config", verbs=verbs, **others,
    )  # fmt: skip


@hookimpl
def tinygen_algorithms():
    return [
        _spec("fill", "Fill", "repair"),
        _spec("beside", "Beside", "compose"),
        _spec("dawn", "Dawn", "animate"),
        _spec("learner", "Learner", "train", "repair", "compose", "animate"),
        _spec("either", "Learner", "train", "repair", "compose", "animate", untrained=True),
    ]
