"""An operation of its own whose rule is written on arrays, and cannot be differentiated again."""

from tests.testing.faults._sound import Config, Sound, spec, squared_error  # noqa: F401
from tinygen.autograd import Function, Tensor
from tinygen.host import hookimpl


class Square(Function):
    saves_inputs = (0,)

    def forward(self, x):
        return x * x

    def backward(self, gy):
        (x,) = self.saved
        return Tensor(2 * x.data * gy.data)


class Plugin(Sound):
    """Learns by a rule of first order."""

    def update(self, x):
        loss = Square()(self.model(x) - x).mean()
        self.optimizer.zero_grad()
        loss.backward()  # here
        self.optimizer.step()
        return {"loss": loss}


@hookimpl
def tinygen_algorithms():
    return [spec("first_order_only")]
