"""Memory for a trained model: distributions that follow the text they read.

- `cache`: what followed in similar states, the neural cache
- `dynamic`: weights that go on learning, dynamic evaluation
- `mixture`: several distributions in one
- `directory`: what was tuned for a model, in its directory
- `rows`: all of it over whole texts, for a report
- `reading`: the same, token by token
"""

from lstmlm.adaptation.directory import Adaptation, has_adaptation, load_adaptation, save_adaptation
from lstmlm.adaptation.reading import AdaptedModel, Standing

__all__ = ["Adaptation", "AdaptedModel", "Standing", "has_adaptation", "load_adaptation", "save_adaptation"]
