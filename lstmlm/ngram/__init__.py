"""N-grams with Kneser-Ney smoothing over the same token ids as the neural models: the yardstick.

- `model`: the arrays, and what they say of a text
- `estimation`: counts of a text, and the model that they make
- `directory`: an n-gram model on disk
- `arpa`: the text format that other n-gram toolkits read
"""

from lstmlm.ngram.arpa import arpa_lines
from lstmlm.ngram.directory import LoadedNGram, is_ngram, load_ngram, pack_ngram, read_ngram, save_ngram
from lstmlm.ngram.estimation import train_ngram
from lstmlm.ngram.model import Context, NGramModel

__all__ = [
    "Context",
    "LoadedNGram",
    "NGramModel",
    "arpa_lines",
    "is_ngram",
    "load_ngram",
    "pack_ngram",
    "read_ngram",
    "save_ngram",
    "train_ngram",
]
