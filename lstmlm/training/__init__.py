"""Training: `train(...)` is a generator of events; it never prints.

- `options`: everything a run is a function of
- `course`: begins a run, or continues one
- `warm_start`: a trained model to begin with
- `preparation`: sources -> tokenizer, ids on disk, `run.json`
- `fitting`: settings for a text, a time and a machine; `probing`: what the machine affords
- `trainer`: the course of steps, validations and checkpoints; what to do about numbers that are not finite
- `learner`: one update of the weights
- `candidates`: what a sampled softmax samples
- `optimization`: learning rate schedules, optimizers; `averaging`: the mean of the last weights
- `validation`: the score on held-out text, within a budget
- `standing`: what a checkpoint remembers besides the model
- `events`: what is yielded
"""

from lstmlm.training.course import train
from lstmlm.training.options import FITTED, RunOptions, absolute_sources

__all__ = ["FITTED", "RunOptions", "absolute_sources", "train"]
