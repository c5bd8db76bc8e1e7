"""Training runs: the loop that drives an algorithm, its checkpoints, and what it tells on the way.

Read `loop` first; `checkpoint` is the file, `state` finds what goes into it, `report` is the figures and the
progress, `pictures` the samples.
"""

from tinygen.run.checkpoint import Checkpoint, Origin, load_algorithm
from tinygen.run.loop import Every, Run, train
from tinygen.run.pictures import draw
from tinygen.run.report import Report
from tinygen.run.state import capture, restore

__all__ = ["Checkpoint", "Every", "Origin", "Report", "Run", "capture", "draw", "load_algorithm", "restore", "train"]
