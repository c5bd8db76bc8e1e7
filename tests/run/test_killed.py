"""Killed at any moment, a run leaves its last whole checkpoint, and goes on from there bit for bit."""

import subprocess
import sys
import textwrap
from pathlib import Path

from tests.run.test_loop import assert_same, figures, make
from tinygen.run import Every, train

KILLED_AGAIN_AND_AGAIN = """
    # Fork a child that trains, kill it at a random moment, look at what it left, go on from there; at last in peace.
    import os, random, signal, sys, time
    from pathlib import Path
    from tests.run.test_loop import make, resumed
    from tinygen.run import Every, checkpoint, train
    from tinygen.run.report import MetricsLog

    folder, every, moments = Path(sys.argv[1]), Every(log=2, sample=7, checkpoint=1), random.Random(int(sys.argv[2]))
    train(make(folder), 1, every)
    seen = [1]
    for turn in range(10):
        child = os.fork()
        if not child:
            try:
                train(resumed(folder), 10_000, every)
            finally:
                os._exit(1)
        give_up = time.monotonic() + 20
        while turn % 2 and checkpoint.read(folder).step == seen[-1] and time.monotonic() < give_up:
            time.sleep(0.001)  # every other child gets to its steps; the others are killed as early as may be
        time.sleep(moments.uniform(0.0, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        seen.append(checkpoint.read(folder).step)
        MetricsLog(folder / "metrics.jsonl").rows()
    assert seen == sorted(seen) and len(set(seen)) > 5
    train(resumed(folder), seen[-1] + 5, every)
    print(seen[-1] + 5)
"""


def run_python(code, *arguments):
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)], capture_output=True, text=True, cwd=root
    )


def test_killed_at_any_moment_the_last_whole_checkpoint_stays(tmp_path):
    done = run_python(KILLED_AGAIN_AND_AGAIN, tmp_path / "killed", 1)
    assert done.returncode == 0, done.stderr
    steps = int(done.stdout)
    train(make(tmp_path / "straight"), steps, Every(log=2, sample=0, checkpoint=1))
    assert_same(tmp_path / "killed", tmp_path / "straight")
    assert figures(tmp_path / "killed") == figures(tmp_path / "straight")
