"""Time training steps and single operations: `python -m tests.benchmarks` (needs PyTorch: pip install -e '.[bench]').

Each library runs in a process of its own, in turns and with a pause between: in one process their thread pools spin
against each other and the ratio means nothing. A row gives the median time of a step in each and their ratio, as the
median over the rounds. Figures of this table go into docs/performance.md with the date and the machine.
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

from tests.benchmarks.steps import CASES

WARM_UP, SECONDS, PAUSE, ROUNDS = 10, 4.0, 1.0, 5


def worker(case: str, library: str, threads: int) -> None:
    """Time steps for a few seconds and print {"ms": median, "peak": MiB} (in a process of its own)."""
    if library == "torch":
        import torch

        torch.set_num_threads(threads)
    step = CASES[case][library]()
    for _ in range(WARM_UP):
        step()
    times, end = [], time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"ms": statistics.median(times) * 1e3, "peak": peak}))


def measure(case: str, library: str, threads: int) -> dict[str, float]:
    """One worker, after a pause in which the other's threads have gone to sleep."""
    time.sleep(PAUSE)
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "tests.benchmarks", "--worker", case, library, "--threads", str(threads)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
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
    parser.add_argument("cases", nargs="*", default=list(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return worker(*arguments.worker, arguments.threads)
    print(f"one operation on 4 elements, forward and backward: {chain():.2f} µs")
    print(
        f"{'training step':16} {'tinygen ms':>12} {'torch ms':>12} {'ratio':>7} {'tinygen MiB':>12} {'torch MiB':>12}"
    )
    for case in arguments.cases:
        rounds = [
            {library: measure(case, library, arguments.threads) for library in CASES[case]}
            for _ in range(arguments.rounds)
        ]
        ours, theirs = (statistics.median(r[library]["ms"] for r in rounds) for library in ("tinygen", "torch"))
        ratio = statistics.median(r["tinygen"]["ms"] / r["torch"]["ms"] for r in rounds)
        peaks = [max(r[library]["peak"] for r in rounds) for library in ("tinygen", "torch")]
        print(f"{case:16} {ours:12.2f} {theirs:12.2f} {ratio:7.2f} {peaks[0]:12.0f} {peaks[1]:12.0f}")


if __name__ == "__main__":
    main()
