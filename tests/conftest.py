"""Settings of the whole suite. Linear algebra gets one thread: pytest-xdist has a process for each core already."""

import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

from hypothesis import HealthCheck, settings  # noqa: E402 - the threads must be set first

pytest_plugins = ["pytester"]

# The backend fixture holds for all examples of a test alike, hence the suppressed check. Examples are derandomized so
# that the suite says the same on every machine; `HYPOTHESIS_PROFILE=explore` draws new ones.
settings.register_profile(
    "tinygen", max_examples=25, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
settings.register_profile("explore", parent=settings.get_profile("tinygen"), max_examples=500, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "tinygen"))
