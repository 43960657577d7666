from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from lstmlm.batches import UNSCORED, Batches, Window

corpora = some.builds(
    lambda count, batch_size, window, seed, vary: Batches(
        np.arange(count, dtype="<u2"), batch_size=batch_size, window=window, eos=count, seed=seed, vary_window=vary
    ),
    some.integers(1, 200),
    some.integers(1, 12),
    some.integers(1, 40),
    some.integers(0, 1000),
    some.booleans(),
)
"""Over ids that all differ: 0 to N - 1, so that an id names its place; `<eos>` is N."""


def epoch(batches: Batches, number: int) -> list[Window]:
    first = number * batches.windows_per_epoch
    return [batches.at(step) for step in range(first, first + batches.windows_per_epoch)]


def joined(windows: list[Window]) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs, and the ids that are read: the targets, with those that are not scored put back (they are inputs next)."""
    inputs_TB, targets_TB = (torch.cat(parts) for parts in zip(*((w.inputs_TB, w.targets_TB) for w in windows), strict=True))
    read_TB = torch.cat([inputs_TB[1:], targets_TB[-1:]])
    assert ((targets_TB == read_TB) | (targets_TB == UNSCORED)).all()
    assert (targets_TB[1:] != UNSCORED).all()
    return inputs_TB, read_TB


def size(batches: Batches) -> int:
    return int(batches._eos)


@settings(max_examples=60, deadline=None)
@given(corpora, some.integers(0, 5))
def test_an_epoch_has_every_id_once_but_for_the_remainder(batches: Batches, number: int) -> None:
    _, targets_TB = joined(epoch(batches, number))
    count = size(batches)
    places = targets_TB.flatten().tolist()
    assert len(set(places)) == len(places)
    assert set(places) <= set(range(count))
    assert count - len(places) == count % batches.batch_size


@settings(max_examples=60, deadline=None)
@given(corpora, some.integers(0, 5))
def test_streams_are_contiguous_and_inputs_are_the_targets_before(batches: Batches, number: int) -> None:
    windows = epoch(batches, number)
    inputs_TB, targets_TB = joined(windows)
    assert (inputs_TB[0] == size(batches)).all(), "an epoch begins with <eos> in every stream"
    assert torch.equal(inputs_TB[1:], targets_TB[:-1])
    assert torch.equal((targets_TB[:-1] + 1) % size(batches), targets_TB[1:])
    assert [window.starts_epoch for window in windows] == [True] + [False] * (len(windows) - 1)
    assert all(window.inputs_TB.shape == window.targets_TB.shape for window in windows)
    slack = 2 * batches._jitter
    lengths = [len(window.targets_TB) for window in windows]
    assert all(batches.window - slack <= length <= batches.window + slack for length in lengths[:-1])
    assert 1 <= lengths[-1] <= batches.window + slack
    assert inputs_TB.dtype == targets_TB.dtype == torch.int64


@settings(max_examples=30, deadline=None)
@given(corpora, some.lists(some.integers(0, 10_000), min_size=1, max_size=5))
def test_a_window_is_a_function_of_seed_and_step_alone(batches: Batches, steps: list[int]) -> None:
    """Asked for in any order, by any object."""
    wanted = [batches.at(step) for step in steps]
    again = Batches(
        batches._ids,
        batch_size=batches.batch_size,
        window=batches.window,
        eos=size(batches),
        seed=batches._seed,
        vary_window=batches._jitter > 0,
    )
    for step, window in sorted(zip(steps, wanted, strict=True), key=lambda pair: pair[0]):
        found = again.at(step)
        assert torch.equal(found.inputs_TB, window.inputs_TB)
        assert torch.equal(found.targets_TB, window.targets_TB)
        assert found.starts_epoch == window.starts_epoch


def firsts(seed: int, epochs: int, count: int = 10_007) -> list[int]:
    """The first id of each epoch."""
    batches = Batches(np.arange(count), batch_size=4, window=50, eos=count, seed=seed)  # type: ignore[arg-type]
    return [int(batches.at(number * batches.windows_per_epoch).inputs_TB[1, 0]) for number in range(epochs)]


def test_every_epoch_begins_elsewhere_and_the_first_at_the_beginning() -> None:
    mine, others = firsts(seed=1, epochs=12), firsts(seed=2, epochs=12)
    assert mine[0] == others[0] == 0
    assert len(set(mine)) == 12
    assert not set(mine[1:]) & set(others[1:])
    assert min(mine[1:]) < 10_007 / 2 < max(mine[1:])  # anywhere in the circle


def test_what_an_epoch_leaves_out_another_has() -> None:
    batches = Batches(np.arange(103, dtype="<u2"), batch_size=10, window=5, eos=103, seed=3)
    left_out = [set(range(103)) - set(joined(epoch(batches, number))[1].flatten().tolist()) for number in range(6)]
    assert all(len(ids) == 3 for ids in left_out)
    assert not set.intersection(*left_out)


@pytest.mark.parametrize(
    ("count", "batch_size", "window", "shape"),
    [(1, 16, 64, (1, 1)), (5, 16, 64, (5, 1)), (100, 16, 64, (64, 1)), (130, 16, 64, (64, 2)), (1000, 3, 64, (64, 3))],
)
def test_a_small_corpus_has_fewer_and_shorter_streams(
    count: int, batch_size: int, window: int, shape: tuple[int, int]
) -> None:
    batches = Batches(np.arange(count, dtype="<u2"), batch_size=batch_size, window=window, eos=count, seed=1)
    assert tuple(batches.at(0).targets_TB.shape) == shape


def test_the_beginning_of_a_stream_is_scored_where_a_text_begins() -> None:
    ids = np.array([7, 8, 9, 0, 5, 6, 7, 0], dtype="<u2")  # two documents, <eos> is 0
    window = Batches(ids, batch_size=2, window=3, eos=0, seed=1).at(0)
    assert window.inputs_TB.T.tolist() == [[0, 7, 8], [0, 5, 6]]
    assert window.targets_TB.T.tolist() == [[7, 8, 9], [5, 6, 7]]
    window = Batches(ids[1:], batch_size=2, window=3, eos=0, seed=1).at(0)  # the second stream begins inside a text
    assert window.inputs_TB.T.tolist() == [[0, 8, 9], [0, 5, 6]]
    assert window.targets_TB.T.tolist() == [[8, 9, 0], [5, 6, 7]]
    window = Batches(ids, batch_size=4, window=2, eos=0, seed=1).at(0)
    assert window.targets_TB.T.tolist() == [[7, 8], [UNSCORED, 0], [5, 6], [UNSCORED, 0]]


@pytest.mark.parametrize("dtype", ["<u2", "<u4"])
def test_ids_at_the_upper_end_of_their_type_survive(dtype: str) -> None:
    highest = np.iinfo(dtype).max
    ids = np.full(12, highest, dtype=dtype)
    window = Batches(ids, batch_size=2, window=3, eos=0, seed=1).at(1)
    assert (window.targets_TB == int(highest)).all()


def test_the_state_is_reset_once_an_epoch() -> None:
    batches = Batches(np.arange(50, dtype="<u2"), batch_size=2, window=10, eos=50, seed=1)
    starts = [step for step in range(12) if batches.at(step).starts_epoch]
    assert {later - earlier for earlier, later in pairwise(starts)} == {batches.windows_per_epoch} == {3}


def lengths(number: int, seed: int = 1, window: int = 40) -> list[int]:
    batches = Batches(np.arange(40_000, dtype="<u2"), batch_size=4, window=window, eos=40_000, seed=seed, vary_window=True)
    return [len(part.targets_TB) for part in epoch(batches, number)]


def test_windows_vary_around_their_length_and_differ_in_every_epoch() -> None:
    """At most 10 of 40 to either side of each border, so 20 to 60 long, and 40 on the average."""
    found = [lengths(number) for number in range(3)]
    assert all(sum(parts) == 10_000 and len(parts) == 250 for parts in found)
    assert min(map(min, found)) >= 20
    assert max(map(max, found)) <= 60
    assert max(map(max, found)) - min(map(min, found)) > 20
    assert found[0] != found[1] != found[2] != lengths(2, seed=2)


def test_a_window_too_short_to_vary_is_constant() -> None:
    assert set(lengths(1, window=3)[:-1]) == {3}
