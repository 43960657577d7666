"""The words of the text itself beside those of the model: what was written once is offered when it is begun again.

A cache of words (Kuhn & De Mori 1990, "A cache-based natural language model for speech recognition"). What a model remembers
of tokens does not do this: a new name is several of them, and each would have to become likely. Of a share s for the text's
words, w gets s c(w), with c(w) how often w is among them; so after some of a word was typed,

    p(w | text, typed) is proportional to (1 - s) p(typed | text) p_model(w | text, typed) + s c(w).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from functools import lru_cache

from lstmlm.completion import Candidate, Completion

_SHARE = 0.05
_REMEMBERED = 20_000
"""Characters of the text, up to where a word is typed, whose words count."""
_WORD = re.compile(r"[^\W_]+(?:['.\u2019\u2010-][^\W_]+)*")


def with_own_words(
    completion: Completion, typed: str, spelled: float, *, k: int, any_case: bool, banned: Collection[str]
) -> Completion:
    """The mixture. `typed` is the word being typed, and `spelled` p(it is begun so | text before it) by the model.

    An own word that is not among the model's candidates counts as if the model gave it nothing, which is less than it does.
    """
    own = _counted(completion.text[: len(completion.text) - len(typed)][-_REMEMBERED:])
    fitting = {
        word: number / own.total()
        for word, number in own.items()
        if word.startswith(typed) or (any_case and word.lower().startswith(typed))
    }
    begun = (1 - _SHARE) * spelled + _SHARE * math.fsum(fitting.values())
    if not begun:
        return completion
    model = (1 - _SHARE) * spelled / begun
    found = {candidate.word: model * candidate.probability for candidate in completion.candidates}
    for word, share in fitting.items():
        if word not in banned:
            found[word] = found.get(word, 0.0) + _SHARE * share / begun
    best = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))[:k]
    return replace(
        completion,
        candidates=[Candidate(word, probability, len(typed), word) for word, probability in best],
        other_probability=max(0.0, 1.0 - math.fsum(probability for _, probability in best)),
        mass_bound=model * completion.mass_bound,
        exact=False,
    )


@lru_cache(4)
def _counted(text: str) -> Counter[str]:
    return Counter(_WORD.findall(text))
