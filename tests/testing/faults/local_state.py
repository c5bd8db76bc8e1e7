"""What must survive an update is a variable of `fit`."""

from tests.testing.faults._sound import Config, Sound, spec, squared_error  # noqa: F401
from tinygen.host import Step, hookimpl


class Plugin(Sound):
    """Forgets how far it is."""

    def fit(self, batches):
        factor = 1.0
        for images, _ in batches:
            factor *= 0.5
            yield Step(self.update(images.flatten(1) * factor))


@hookimpl
def tinygen_algorithms():
    return [spec("local_state")]
