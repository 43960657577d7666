"""The n-gram model against its definition counted token by token, and what must hold of every distribution."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from lstmlm.errors import DataError
from lstmlm.ngram import NGramModel, estimation, train_ngram
from lstmlm.ngram import model as ngram_model
from lstmlm.token_store import Ids

EOS, V = 0, 12


def text(length: int, seed: int, vocabulary: int = V) -> Ids:
    """Segments of some ten tokens, frequent tokens first, often repeating what came before."""
    random = np.random.default_rng(seed)
    ids = np.minimum(random.geometric(0.25, length), vocabulary - 1)
    ids[random.random(length) < 0.1] = EOS
    for begin in random.integers(20, length, length // 20):
        ids[begin : begin + 5] = ids[begin - 20 : begin - 15][: length - begin]
    ids[-1] = EOS
    return ids.astype(np.uint16)


class Definition:
    """The equations of the module's docstring, by dictionaries."""

    def __init__(self, texts: list[Ids], order: int) -> None:
        segments = [[V, *map(int, part), EOS] for ids in texts for part in self.split(ids)]
        occurs = [Counter(tuple(s[i : i + n]) for s in segments for i in range(len(s) - n + 1)) for n in range(1, order + 1)]
        self.counts = list(occurs)
        for n in range(1, order):
            before = Counter(gram[1:] for gram in occurs[n])
            self.counts[n - 1] = Counter(
                {gram: occurs[n - 1][gram] if gram[0] == V else before[gram] for gram in occurs[n - 1]}
            )
        del self.counts[0][(V,)]
        self.followers = [defaultdict(list) for _ in range(order)]
        for n, counts in enumerate(self.counts):
            for gram in counts:
                self.followers[n][gram[:-1]].append(gram)
        self.discounts = [self.discount(counts) for counts in self.counts]

    @staticmethod
    def split(ids: Ids) -> list[Ids]:
        return [part[:-1] for part in np.split(ids, np.flatnonzero(ids == EOS) + 1) if len(part)]

    @staticmethod
    def discount(counts: Counter[tuple[int, ...]]) -> list[float]:
        n = Counter(counts.values())
        if not all(n[i] for i in (1, 2, 3, 4)):
            return [0, 0.5, 1.0, 1.5]
        y = n[1] / (n[1] + 2 * n[2])
        found = [0, 1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], 3 - 4 * y * n[4] / n[3]]
        return found if all(0 < d <= i for i, d in enumerate(found[1:], 1)) else [0, 0.5, 1.0, 1.5]

    def probability(self, context: tuple[int, ...], token: int) -> float:
        return self.interpolated(context[-(len(self.counts) - 1) :] if len(self.counts) > 1 else (), token)

    def interpolated(self, context: tuple[int, ...], token: int) -> float:
        lower = self.interpolated(context[1:], token) if context else 1 / V
        followers = self.followers[len(context)].get(context)
        if not followers:
            return lower
        counts, discount = self.counts[len(context)], self.discounts[len(context)]
        total = sum(counts[gram] for gram in followers)
        taken = sum(discount[min(counts[gram], 3)] for gram in followers)
        count = counts.get((*context, token), 0)
        return (count - discount[min(count, 3)]) / total + taken / total * lower


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("length", [60, 3000])
def test_probabilities_are_those_of_the_definition(order: int, length: int) -> None:
    texts = [text(length, 1), text(length // 2, 2)]
    model, definition = train_ngram(texts, vocabulary_size=V, eos=EOS, order=order), Definition(texts, order)
    context, read = model.start, (V,)
    for token in map(int, text(200, 3)):
        found = model.probabilities(context)
        wanted = [definition.probability(read, following) for following in range(V)]
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
        assert math.fsum(found) == pytest.approx(1, abs=1e-6)
        context, read = model.advance(context, token), (V,) if token == EOS else (*read, token)


@pytest.fixture(scope="module")
def model() -> NGramModel:
    return train_ngram([text(3000, 1)], vocabulary_size=V, eos=EOS, order=4)


def test_discounts_take_what_the_counts_of_counts_say() -> None:
    counts = np.repeat([1, 2, 3, 4, 9], [40, 20, 10, 5, 3])
    share = 40 / (40 + 2 * 20)
    wanted = [0, 1 - 2 * share * 20 / 40, 2 - 3 * share * 10 / 20, 3 - 4 * share * 5 / 10]
    assert estimation._discounts(counts) == pytest.approx(wanted)
    assert list(estimation._discounts(np.array([7, 8]))) == [0, 0.5, 1, 1.5]


def test_a_discount_of_nothing_is_not_used() -> None:
    """Else what never followed a context whose every continuation came three times would be impossible."""
    counts = np.repeat([1, 2, 3, 4], [60, 10, 8, 8])
    assert list(estimation._discounts(counts)) == [0, 0.5, 1, 1.5]


def test_a_text_scores_what_its_tokens_do_one_by_one(model: NGramModel) -> None:
    ids = text(500, 5)
    context, nats = model.start, []
    for token in map(int, ids):
        nats.append(-math.log(model.probabilities(context)[token]))
        context = model.advance(context, token)
    np.testing.assert_allclose(model.score(ids), nats, rtol=1e-6)


def test_candidates_are_the_likeliest(model: NGramModel) -> None:
    context = model.advance(model.start, 2)
    probabilities_V = model.probabilities(context)
    found = model.likeliest(context, 5)
    assert [share for _, share in found] == sorted(probabilities_V, reverse=True)[:5]
    assert all(probabilities_V[token] == share for token, share in found)
    assert len(model.likeliest(context, 100)) == V


@pytest.mark.parametrize("tokens", [1, 2, 7, 100])
def test_parts_do_not_change_the_figure(model: NGramModel, tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = text(500, 5)
    whole = model.score(ids)
    monkeypatch.setattr(ngram_model, "_TOKENS_AT_ONCE", tokens)
    assert (model.score(ids) == whole).all()
    again = train_ngram([text(3000, 1)], vocabulary_size=V, eos=EOS, order=4)
    assert (again.score(ids) == whole).all()


def test_nothing_is_looked_ahead(model: NGramModel) -> None:
    ids = text(500, 5)
    changed = ids.copy()
    changed[250:] = (changed[250:] + 1) % V
    assert (model.score(ids)[:250] == model.score(changed)[:250]).all()


def test_a_segment_forgets_the_one_before(model: NGramModel) -> None:
    ids = text(500, 5)
    cut = int(np.flatnonzero(ids == EOS)[10]) + 1
    assert (model.score(ids)[cut:] == model.score(ids[cut:])).all()


def test_tokens_never_read_keep_a_share() -> None:
    model = train_ngram([np.array([1, 2, 1, 3, EOS], np.uint16)], vocabulary_size=V, eos=EOS, order=3)
    assert (model.probabilities(model.start) > 0).all()
    assert np.isfinite(model.score(np.array([9, 9, 9], np.uint16))).all()


def test_a_text_shorter_than_the_order_can_be_learned() -> None:
    """It has no n-gram of the highest orders, and need not end with `<eos>`."""
    model = train_ngram([np.array([1, 2], np.uint16)], vocabulary_size=V, eos=EOS, order=5)
    context, nats = model.start, []
    for token in (1, 2, 3, 4, 1):
        nats.append(-math.log(model.probabilities(context)[token]))
        context = model.advance(context, token)
    np.testing.assert_allclose(model.score(np.array([1, 2, 3, 4, 1], np.uint16)), nats, rtol=1e-6)


def test_an_empty_text_is_scored_and_cannot_be_learned(model: NGramModel) -> None:
    nothing = np.array([], np.uint16)
    assert len(model.score(nothing)) == 0
    with pytest.raises(DataError, match="empty"):
        train_ngram([nothing], vocabulary_size=V, eos=EOS)
