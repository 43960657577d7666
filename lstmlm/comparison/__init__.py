"""Two or more models on the same text: which predicts it better, by how much, and how sure that is.

- `comparing`: scores the text, and makes the report of it as data
- `paired`: the statistics of paired differences
- `learning`: how training runs got there
"""

from lstmlm.comparison.comparing import compare

__all__ = ["compare"]
