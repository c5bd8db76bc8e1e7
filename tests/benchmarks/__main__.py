"""Time training steps, `python -m tests.benchmarks`, or single operations, `python -m tests.benchmarks operations`
(needs PyTorch: pip install -e '.[bench]').

Each library runs in a process of its own, in turns and with a pause between: in one process their thread pools spin
against each other and the ratio means nothing. A row gives the median time of a step in each and their ratio, as the
median over the rounds. "products" is the time that tinygen's step spends in matrix products and convolutions, "at
peak" what their floating-point operations would take at the rate of large products. Figures of this table go into
docs/performance.md with the date and the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

from tests.benchmarks import operations
from tests.benchmarks.models import CASES as MODELS
from tests.benchmarks.models import Library, Step
from tests.benchmarks.products import Products
from tests.benchmarks.steps import CASES as PLUGINS

CASES = (*PLUGINS, *MODELS)
LIBRARIES = ("tinygen", "torch")
WARM_UP, SECONDS, PAUSE, ROUNDS = 10, 4.0, 1.0, 5


def step_of(case: str, library: str) -> Step:
    return PLUGINS[case][library]() if case in PLUGINS else MODELS[case](Library(library))


def worker(case: str, library: str, threads: int) -> None:
    """Time steps for a few seconds and print the figures as JSON (in a process of its own)."""
    if library == "torch":
        import torch

        torch.set_num_threads(threads)
    if case == "operations":
        return operations.worker(library)
    step = step_of(case, library)
    for _ in range(WARM_UP):
        step()
    times, end = [], time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {"ms": statistics.median(times) * 1e3, "peak": peak}
    if library == "tinygen":
        with Products() as products:
            for _ in range(WARM_UP):
                step()
        found |= {"products": products.seconds / WARM_UP * 1e3, "flops": products.operations / WARM_UP}
    print(json.dumps(found))


def gemm_rate(threads: int) -> float:
    """Floating-point operations a second of large float32 products, the roofline."""
    code = (
        "import time, numpy as np; a = np.ones((2048, 2048), 'float32'); a @ a; t = time.perf_counter();"
        "[a @ a for _ in range(10)]; print(10 * 2 * 2048**3 / (time.perf_counter() - t))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=_environment(threads), capture_output=True, check=True)
    return float(done.stdout)


def _environment(threads: int) -> dict[str, str]:
    return {**os.environ, "OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}


def measure(case: str, library: str, threads: int) -> dict[str, float]:
    """One worker, after a pause in which the other's threads have gone to sleep."""
    time.sleep(PAUSE)
    command = [sys.executable, "-m", "tests.benchmarks", "--worker", case, library, "--threads", str(threads)]
    done = subprocess.run(command, env=_environment(threads), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def chain(length: int = 2000, rounds: int = 15) -> float:
    """µs an operation, forward and backward, in a chain of products and sums of 4-element arrays."""
    import numpy as np

    import tinygen

    x = tinygen.tensor(np.ones(4, np.float32), requires_grad=True)
    c = tinygen.tensor(np.ones(4, np.float32))
    seed, best = tinygen.ones(4), float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        y = x
        for i in range(length):
            y = y * c if i % 2 else y + c
        y.backward(seed)
        best = min(best, time.perf_counter() - start)
    return best / length * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=CASES, help=f"of {', '.join(CASES)}; or operations")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return worker(*arguments.worker, arguments.threads)
    if arguments.cases == ["operations"]:
        rounds = [
            {library: measure("operations", library, arguments.threads) for library in LIBRARIES}
            for _ in range(arguments.rounds)
        ]
        return print(operations.table(rounds))
    print(f"one operation on 4 elements, forward and backward: {chain():.2f} µs")
    rate = gemm_rate(arguments.threads)
    print(f"products of large matrices: {rate / 1e9:.0f} GFLOP/s on {arguments.threads} threads")
    columns = ("tinygen ms", "torch ms", "ratio", "products ms", "at peak ms", "tinygen MiB", "torch MiB")
    print(f"{'training step':16} " + " ".join(f"{name:>11}" for name in columns))
    ratios = []
    for case in arguments.cases:
        rounds = [
            {library: measure(case, library, arguments.threads) for library in LIBRARIES}
            for _ in range(arguments.rounds)
        ]
        ours, theirs = (statistics.median(r[library]["ms"] for r in rounds) for library in LIBRARIES)
        ratios.append(statistics.median(r["tinygen"]["ms"] / r["torch"]["ms"] for r in rounds))
        products = statistics.median(r["tinygen"]["products"] for r in rounds)
        roof = rounds[0]["tinygen"]["flops"] / rate * 1e3
        peaks = [max(r[library]["peak"] for r in rounds) for library in LIBRARIES]
        print(
            f"{case:16} {ours:11.2f} {theirs:11.2f} {ratios[-1]:11.2f} {products:11.2f} {roof:11.2f} "
            f"{peaks[0]:11.0f} {peaks[1]:11.0f}",
            flush=True,
        )
    print(f"geometric mean of the ratios {statistics.geometric_mean(ratios):.2f}, worst {max(ratios):.2f}")


if __name__ == "__main__":
    main()
