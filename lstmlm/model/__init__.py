"""The network: `cells` (the equations), `inputs`, `recurrent`, `outputs`, `language_model`, `stepping`.

A tensor's name ends in its shape: T time, B batch (streams), V vocabulary, E embedding, H hidden, L layers, G gates x H.
"""

from lstmlm.model.cells import State
from lstmlm.model.language_model import LanguageModel
from lstmlm.model.recurrent import RecurrentStack
from lstmlm.model.stepping import Stepper

__all__ = ["LanguageModel", "RecurrentStack", "State", "Stepper"]
