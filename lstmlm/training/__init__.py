"""Training: `train(...)` is a generator of events; it never prints.

preparation     sources -> run directory, tokenizer, ids on disk
optimization    learning rate schedules, optimizers
loop            steps, validation, checkpoints, numbers that are not finite
events          what is yielded
"""

from lstmlm.training.course import train
from lstmlm.training.preparation import RunOptions, absolute_sources

__all__ = ["RunOptions", "absolute_sources", "train"]
