"""The key-value cache: forks share, copy at most one piece, and never disturb each other."""

import pytest
import torch
from small import SMALL

from gptoss_lab.cache import PIECE_LENGTH, KVCache, Pass


def extend(cache: KVCache, n: int, value: float) -> None:
    """n positions in which every key is `value` and every value its negative."""
    keys = torch.full((1, n, SMALL.n_kv_heads, SMALL.d_head), value)
    with Pass([cache], n) as forward_pass:
        for layer in range(SMALL.n_layers):
            forward_pass.extend(layer, keys, -keys)


def contents(cache: KVCache) -> list[float]:
    """The one number at each position, the same in every layer, head and dimension."""
    columns = []
    for layer in range(SMALL.n_layers):
        keys, values = cache.read(layer)
        assert torch.equal(keys, -values)
        assert (keys == keys[:, :1, :1]).all()
        columns.append(keys[:, 0, 0].tolist())
    assert all(column == columns[0] for column in columns)
    return columns[0]


def test_positions_come_back_across_pieces() -> None:
    cache = KVCache(SMALL)
    assert contents(cache) == []
    for n, value in ((1, 1.0), (PIECE_LENGTH, 2.0), (3, 3.0), (2 * PIECE_LENGTH, 4.0)):
        extend(cache, n, value)
    assert contents(cache) == [1.0] + PIECE_LENGTH * [2.0] + 3 * [3.0] + 2 * PIECE_LENGTH * [4.0]
    assert cache.length == 3 * PIECE_LENGTH + 4


@pytest.mark.parametrize("length", [1, PIECE_LENGTH - 1, PIECE_LENGTH, PIECE_LENGTH + 1, 3 * PIECE_LENGTH])
@pytest.mark.parametrize("child_first", [True, False])
def test_forks_go_separate_ways(length: int, child_first: bool) -> None:
    parent = KVCache(SMALL)
    extend(parent, length, 1.0)
    child = parent.fork()
    grandchild = child.fork()
    for cache, value in ((child, 2.0), (parent, 3.0)) if child_first else ((parent, 3.0), (child, 2.0)):
        extend(cache, 5, value)
    extend(grandchild, PIECE_LENGTH, 4.0)
    assert contents(parent) == length * [1.0] + 5 * [3.0]
    assert contents(child) == length * [1.0] + 5 * [2.0]
    assert contents(grandchild) == length * [1.0] + PIECE_LENGTH * [4.0]


def test_a_fork_copies_nothing_and_growing_it_at_most_one_piece() -> None:
    parent = KVCache(SMALL)
    extend(parent, 10 * PIECE_LENGTH + 7, 1.0)
    child = parent.fork()
    assert child.addresses == parent.addresses
    extend(parent, 1, 2.0)
    extend(child, 1, 3.0)
    assert child.addresses[:-1] == parent.addresses[:-1]
    assert child.addresses[-1] != parent.addresses[-1]


def test_going_on_alone_copies_nothing() -> None:
    cache = KVCache(SMALL)
    extend(cache, 3, 1.0)
    before = cache.addresses
    extend(cache, 3, 2.0)
    assert cache.addresses == before


def test_rewinding_does_not_disturb_a_fork() -> None:
    parent = KVCache(SMALL)
    extend(parent, PIECE_LENGTH + 9, 1.0)
    child = parent.fork()
    for length in (PIECE_LENGTH + 4, PIECE_LENGTH, 5, 0):
        parent.rewind(length)
        extend(parent, 2, 2.0)
        assert contents(parent) == length * [1.0] + 2 * [2.0]
        assert contents(child) == (PIECE_LENGTH + 9) * [1.0]


def test_a_pass_that_fails_leaves_the_cache_as_it_was() -> None:
    cache = KVCache(SMALL)
    extend(cache, 9, 1.0)
    with pytest.raises(KeyboardInterrupt), Pass([cache], 4):
        raise KeyboardInterrupt
    assert contents(cache) == 9 * [1.0]
    extend(cache, 2, 2.0)
    assert contents(cache) == 9 * [1.0] + 2 * [2.0]


def test_rewinding_beyond_what_is_held_is_refused() -> None:
    cache = KVCache(SMALL)
    extend(cache, 9, 1.0)
    for length in (10, -1):
        with pytest.raises(ValueError, match=f"cannot rewind to {length} positions: the cache holds 9"):
            cache.rewind(length)


def test_it_knows_which_ids_it_holds_forks_and_rewinds_included() -> None:
    def read(cache: KVCache, ids: list[int]) -> None:
        with Pass([cache], len(ids)) as forward_pass:
            forward_pass.note(torch.tensor([ids]))

    parent = KVCache(SMALL)
    assert parent.tokens.tolist() == []
    read(parent, list(range(PIECE_LENGTH + 5)))
    child = parent.fork()
    read(parent, [7, 8])
    read(child, [9])
    assert parent.tokens.tolist() == [*range(PIECE_LENGTH + 5), 7, 8]
    assert child.tokens.tolist() == [*range(PIECE_LENGTH + 5), 9]
    parent.rewind(3)
    read(parent, [1])
    assert parent.tokens.tolist() == [0, 1, 2, 1]
