"""Training: `train(...)` is a generator of events; it never prints.

- `options`: everything a run is a function of
- `course`: begins a run, or continues one
- `preparation`: sources -> tokenizer, ids on disk, `run.json`
- `trainer`: steps, validation, checkpoints, numbers that are not finite
- `standing`: what a checkpoint remembers besides the model
- `optimization`: learning rate schedules, optimizers
- `events`: what is yielded
"""

from lstmlm.training.course import train
from lstmlm.training.options import RunOptions, absolute_sources

__all__ = ["RunOptions", "absolute_sources", "train"]
