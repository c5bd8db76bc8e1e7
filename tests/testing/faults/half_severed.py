"""One of two ways from the parameters to the loss is cut."""

from tests.testing.faults._sound import Config, Sound, spec, squared_error  # noqa: F401
from tinygen.host import hookimpl


class Plugin(Sound):
    """Has a penalty that does not teach."""

    def update(self, x):
        y = self.model(x)
        loss = squared_error(y, x) + 0.5 * (y * y.detach()).mean()
        self.optimizer.zero_grad()
        loss.backward()  # here
        self.optimizer.step()
        return {"loss": loss}


@hookimpl
def tinygen_algorithms():
    return [spec("half_severed")]
