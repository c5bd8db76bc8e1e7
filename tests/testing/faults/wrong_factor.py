"""An operation of its own whose rule has the factor 3 in place of 2."""

from tests.testing.faults._sound import Config, Sound, spec, squared_error  # noqa: F401
from tinygen.autograd import Function
from tinygen.host import hookimpl


class Square(Function):
    saves_inputs = (0,)

    def forward(self, x):
        return x * x

    def backward(self, gy):
        (x,) = self.saved
        return 3 * x * gy


class Plugin(Sound):
    """Learns by a wrong rule."""

    def update(self, x):
        loss = Square()(self.model(x) - x).mean()
        self.optimizer.zero_grad()
        loss.backward()  # here
        self.optimizer.step()
        return {"loss": loss}


@hookimpl
def tinygen_algorithms():
    return [spec("wrong_factor")]
