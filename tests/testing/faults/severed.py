"""A round trip through the host: the encoder gets no gradient."""

import tinygen.functional as F
from tests.testing.faults._sound import Config, Sound, spec, squared_error  # noqa: F401
from tinygen.autograd import tensor
from tinygen.backend import of
from tinygen.host import hookimpl


class Plugin(Sound):
    """Trains half of its network."""

    def loss(self, x):
        code = tensor(of(x.data).from_host(F.tanh(self.model.encoder(x)).numpy()))
        return squared_error(self.model.decoder(code), x)


@hookimpl
def tinygen_algorithms():
    return [spec("severed")]
