"""All layers at once for a few tokens: the same as one operation after another, with one thread and two."""

from collections.abc import Iterator
from types import SimpleNamespace

import numba
import numpy as np
import pytest
import torch
from small import SHAPES
from torch import Tensor

from gptoss_lab import weights as weights_module
from gptoss_lab.hooks import HookPoint, observer
from gptoss_lab.model import Transformer
from gptoss_lab.ops import few_tokens, numba_ops


@pytest.fixture(autouse=True, params=[1, 2], ids=["one thread", "two threads"])
def n_threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Runs a test with one thread and with two. All work, however small, is split."""
    if request.param > numba.config.NUMBA_NUM_THREADS:
        pytest.skip("numba was started with one thread (NUMBA_NUM_THREADS); a machine with two cores runs this")
    before = numba_ops.threads()
    numba_ops.set_threads(request.param)
    with pytest.MonkeyPatch.context() as patch:
        for bound in ("steps.WORTH_SHARING", "sharing.WORTH_CUTTING", "threads.WORTH_WAKING_A_THREAD"):
            patch.setattr(f"gptoss_lab.ops.{bound}", 1)
        yield request.param
    numba_ops.set_threads(before)


def two_ways(shape: str, *, packed: bool = True) -> tuple[Transformer, Transformer]:
    """A model that takes the quick way, and one that does not."""
    config = SHAPES[shape]
    weights = weights_module.random(config, seed=1, packed=packed)
    quick, plain = Transformer(config, weights), Transformer(config, weights)
    plain._at_once = None
    return quick, plain


def near(actual: Tensor, expected: Tensor) -> None:
    assert actual.dtype == expected.dtype
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=3e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("packed", [True, False])
def test_logits_are_those_of_one_operation_after_another(shape: str, packed: bool) -> None:
    quick, plain = two_ways(shape, packed=packed)
    for batch in (1, 2, 3):
        ids = torch.randint(quick.config.d_vocab, (batch, 80))
        caches = [[model.new_cache() for _ in range(batch)] for model in (quick, plain)]
        at = 0
        for n in (59, 1, 1, 2, 1, 5, 4, 1):  # with a piece's end within
            found, expected = (
                model(ids[:, at : at + n], cache) for model, cache in zip((quick, plain), caches, strict=True)
            )
            near(found, expected)
            at += n


@pytest.mark.parametrize("n_before", [10, 64, 130])
def test_forks_look_at_what_they_share_together(n_before: int) -> None:
    quick, plain = two_ways("six heads, three to a key-value head")
    ids = torch.randint(quick.config.d_vocab, (5, n_before + 9))
    trunks = [model.new_cache() for model in (quick, plain)]
    for model, trunk in zip((quick, plain), trunks, strict=True):
        model(ids[0, :n_before], trunk)
    forks = [[trunk.fork() for _ in range(5)] for trunk in trunks]
    at = n_before
    for n in (1, 1, 3, 1):
        given = ids[:, at : at + n]
        near(quick(given, forks[0]), plain(given, forks[1]))
        at += n


def test_keys_are_shared_as_far_as_pieces_are_the_same() -> None:
    def shared(tables: list[list[int]], start: int) -> int:
        context = SimpleNamespace(tables=np.array(tables), start=start, piece_length=64)
        return few_tokens._n_shared(context)  # type: ignore[arg-type]

    assert shared([[1, 2, 3], [1, 2, 4]], 150) == 128
    assert shared([[1, 2], [3, 2]], 100) == 0
    assert shared([[1, 2], [1, 2]], 100) == 100


@pytest.mark.parametrize("sink", [-90.0, 0.0, 90.0])
def test_shares_are_blended_however_much_the_sinks_take(sink: float) -> None:
    quick, plain = two_ways("top 2")
    for model in (quick, plain):
        for layer in model.weights.layers:
            layer.sinks.fill_(sink)
    trunks = [model.new_cache() for model in (quick, plain)]
    for model, trunk in zip((quick, plain), trunks, strict=True):
        model(list(range(70)), trunk)
    forks = [[trunk.fork(), trunk.fork()] for trunk in trunks]
    near(quick([[5], [6]], forks[0]), plain([[5], [6]], forks[1]))


def test_a_fork_goes_its_own_way() -> None:
    quick, plain = two_ways("top 2")
    trunks = quick.new_cache(), plain.new_cache()
    for model, trunk in zip((quick, plain), trunks, strict=True):
        model(list(range(10)), trunk)
    branches = [trunk.fork() for trunk in trunks]
    for token in (7, 8):
        quick([token + 1], trunks[0])
        near(quick([token], branches[0]), plain([token], branches[1]))


@pytest.mark.parametrize("batch, pos", [(1, 1), (1, 4), (3, 2)])
def test_the_last_positions_alone(batch: int, pos: int) -> None:
    quick, plain = two_ways("odd heads, wide experts")
    ids = torch.randint(quick.config.d_vocab, (batch, pos))
    expected = plain(ids)
    near(quick(ids, last_only=True), expected[:, -1:])
    near(quick(ids), expected)


def test_what_comes_after_the_layers_can_be_changed() -> None:
    quick, _ = two_ways("odd heads, wide experts")
    logits = quick([1])
    with quick.hooks([("ln_final.hook_normalized", lambda tensor, hook: -tensor)]):
        near(quick([1]), -logits)


def test_observers_see_what_they_see_otherwise() -> None:
    quick, plain = two_ways("odd heads, wide experts")
    points = [f"blocks.*.{point}" for point in few_tokens.Layers.points]
    order: list[list[str]] = []
    seen: list[dict[str, Tensor]] = []
    for model in (quick, plain):
        cache, names, values = model.new_cache(), [], {}

        @observer
        def look(tensor: Tensor, hook: HookPoint, names: list = names, values: dict = values) -> None:
            names.append((hook.name, hook.layer, hook.positions, hook.tokens.tolist()))
            values[hook.name] = tensor.clone()

        model([3, 1, 4], cache)
        with model.hooks([(points, look), ("hook_embed", lambda tensor, hook: None)]):
            model([1, 5], cache)
        order.append(names)
        seen.append(values)
    assert order[0] == order[1] and len(order[0]) == 10 * 2
    for name, expected in seen[1].items():
        near(seen[0][name], expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_patterns_are_those_of_the_readable_engine(shape: str) -> None:
    quick, plain = two_ways(shape)
    for batch, n_before, n in ((1, 5, 1), (1, 130, 3), (3, 70, 1), (2, 9, 4)):
        seen: list[dict[str, Tensor]] = [{}, {}]
        for model, values in zip((quick, plain), seen, strict=True):
            caches = [model.new_cache() for _ in range(batch)]
            ids = torch.arange(batch * (n_before + n)).reshape(batch, -1) % 97
            model(ids[:, :n_before], caches)

            @observer
            def look(tensor: Tensor, hook: HookPoint, values: dict = values) -> None:
                values[hook.name] = tensor.clone()

            with model.hooks([("blocks.*.attn.hook_pattern", look), ("blocks.1.attn.hook_sink", look)]):
                model(ids[:, n_before:], caches)
        assert seen[0].keys() == seen[1].keys()
        for name, expected in seen[1].items():
            near(seen[0][name], expected)
            assert torch.equal(seen[0][name] == 0, expected == 0), "what is hidden is exactly 0"


def test_hooks_that_change_something_are_heeded() -> None:
    quick, plain = two_ways("top 2")
    double = [("blocks.1.hook_resid_mid", lambda tensor, hook: 2 * tensor)]
    unchanged = quick([5])
    changed = quick.run_with_hooks([5], double)
    near(changed, plain.run_with_hooks([5], double))
    assert not torch.allclose(changed, unchanged)


def test_points_are_in_the_order_in_which_hooks_fire() -> None:
    from gptoss_lab.hooks import LAYER_POINTS

    points = list(few_tokens.Layers.points)
    assert points == [point for point in LAYER_POINTS if point in points]


def test_the_largest_are_chosen_the_first_among_equals() -> None:
    from gptoss_lab.ops import row_kernels
    from gptoss_lab.ops.row_kernels import Choice
    from gptoss_lab.ops.threads import launch

    logits = torch.tensor([[1.0, 3.0, 2.0, 3.0, -5.0], [-1.0, -1.0, -1.0, -1.0, -1.0], [0.0, 80.0, -80.0, 1.0, 2.0]])
    indices, weights = torch.empty(3, 3, dtype=torch.int64), torch.empty(3, 3)
    job = Choice(logits.data_ptr(), 3, 5, 3, indices.data_ptr(), weights.data_ptr())
    launch(row_kernels.choose, job, 0)
    assert indices.tolist() == [[1, 3, 2], [0, 1, 2], [1, 4, 3]]
    near(weights, logits.gather(1, indices).softmax(dim=1))
