"""Interventions: each does what it says, where it says, while generating too, and refuses what cannot be."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, cycle, pairwise, takewhile

import numpy as np
import pytest
import torch
from small import BYTES, SMALL
from torch import Tensor

from gptoss_lab import edits
from gptoss_lab import weights as weights_module
from gptoss_lab.config import ModelConfig
from gptoss_lab.edits.activations import HEAD_POINTS, PATCH_POINTS
from gptoss_lab.edits.heads import KnockOutAttention
from gptoss_lab.harmony import StreamParser
from gptoss_lab.hooks import ActivationCache
from gptoss_lab.model import Transformer
from gptoss_lab.ops import ENGINES
from gptoss_lab.session import Model
from gptoss_lab.weights import Weights

CONFIG = replace(SMALL, d_vocab=264, n_layers=2)
WEIGHTS = weights_module.random(CONFIG, seed=5, packed=False)

TEXT = (
    "<|start|>user<|message|>Hi<|end|><|start|>assistant<|channel|>analysis<|message|>So, hm.<|end|>"
    "<|start|>assistant<|channel|>final<|message|>Yes! It is 95.<|return|>"
)
TOKENS = BYTES.encode(TEXT, allowed_special="all")
N = len(TOKENS)


def place_of(text: str, last: bool = True) -> int:
    """The token at which a part of the text begins; its last occurrence unless said."""
    at = TEXT.rindex(text) if last else TEXT.index(text)
    return len(BYTES.encode(TEXT[:at], allowed_special="all"))


ANALYSIS = range(place_of("<|message|>So"), place_of("<|end|><|start|>assistant<|channel|>final") + 1)
FINAL = range(place_of("<|message|>Yes"), N)


@pytest.fixture(params=ENGINES, scope="module")
def model(request: pytest.FixtureRequest) -> Transformer:
    return Transformer(CONFIG, WEIGHTS, request.param)


@pytest.fixture(scope="module")
def chatty() -> Model:
    return Model(Transformer(replace(CONFIG, n_ctx=2048), WEIGHTS, "torch"), BYTES, "small")


def run(
    model: Transformer, edit: edits.Edits = (), tokens: Sequence[int] | Tensor = TOKENS
) -> tuple[Tensor, ActivationCache]:
    with model.hooks(edits.fwd_hooks(edit, model.config, BYTES)):
        return model.run_with_cache(tokens)


def like(model: Transformer, weights: Weights) -> Tensor:
    """The logits of the same model with other weights."""
    return Transformer(CONFIG, weights, model.engine)(TOKENS)


def with_layer(layer: int, **changed: Tensor) -> Weights:
    layers = list(WEIGHTS.layers)
    layers[layer] = replace(layers[layer], **changed)
    return replace(WEIGHTS, layers=tuple(layers))


def at(layer: int, point: str) -> str:
    return f"blocks.{layer}.{point}"


LOGITS, CHOSEN, WEIGHED = "mlp.hook_router_logits", "mlp.hook_expert_indices", "mlp.hook_topk_weights"
SHARES = "mlp.hook_expert_out"


def untouched_before(edited: ActivationCache, plain: ActivationCache, point: str) -> None:
    """Nothing has changed at the points that fire before `point`."""
    for name in list(plain)[: list(plain).index(point)]:
        assert torch.equal(edited[name], plain[name]), name


# Experts


def test_an_ablated_experts_share_is_zero_and_the_others_keep_theirs(model: Transformer) -> None:
    _, plain = run(model)
    _, edited = run(model, edits.ablate_expert(3, layer=1, positions=slice(10, None)))
    untouched_before(edited, plain, at(1, SHARES))
    ablated = plain[at(1, CHOSEN)] == 3
    assert ablated[:, :10].any()
    assert ablated[:, 10:].any()
    ablated[:, :10] = False
    expected = plain[at(1, SHARES)].masked_fill(ablated[..., None], 0)
    assert torch.equal(edited[at(1, SHARES)], expected)
    assert (edited[at(1, SHARES)][ablated] == 0).all()


@pytest.mark.parametrize("scale", [0.5, 1.0, -2.0])
def test_a_scaled_experts_share_is_multiplied(model: Transformer, scale: float) -> None:
    _, plain = run(model)
    _, edited = run(model, edits.scale_expert([3, 5], scale, layer=0))
    scaled = torch.isin(plain[at(0, CHOSEN)], torch.tensor([3, 5]))
    expected = torch.where(scaled[..., None], plain[at(0, SHARES)] * scale, plain[at(0, SHARES)])
    assert torch.equal(edited[at(0, SHARES)], expected)
    assert torch.equal(edited[at(0, WEIGHED)], plain[at(0, WEIGHED)])


def test_a_masked_expert_is_never_chosen_and_those_chosen_are_weighed_again(model: Transformer) -> None:
    _, plain = run(model)
    _, edited = run(model, edits.mask_expert([0, 4], layer=1))
    untouched_before(edited, plain, at(1, LOGITS))
    logits = plain[at(1, LOGITS)].clone()
    logits[..., [0, 4]] = -torch.inf
    best = logits.topk(CONFIG.experts_per_token)
    assert torch.isin(plain[at(1, CHOSEN)], torch.tensor([0, 4])).any()
    assert torch.equal(edited[at(1, LOGITS)], logits)
    assert torch.equal(edited[at(1, CHOSEN)], best.indices)
    torch.testing.assert_close(edited[at(1, WEIGHED)], best.values.softmax(-1))


def test_a_forced_expert_is_always_chosen_in_place_of_the_last(model: Transformer) -> None:
    _, plain = run(model)
    _, edited = run(model, edits.force_expert(6, layer=1))
    untouched_before(edited, plain, at(1, CHOSEN))
    had_it = (plain[at(1, CHOSEN)] == 6).any(-1)
    assert 0 < had_it.sum() < N
    assert (edited[at(1, CHOSEN)] == 6).any(-1).all()
    assert (edited[at(1, CHOSEN)] == plain[at(1, CHOSEN)][..., :1]).any(-1).all()  # the first stays
    torch.testing.assert_close(edited[at(1, SHARES)][had_it], plain[at(1, SHARES)][had_it])
    chosen = edited[at(1, LOGITS)].gather(-1, edited[at(1, CHOSEN)])
    assert (chosen.diff(dim=-1) <= 0).all()  # in rank order
    torch.testing.assert_close(edited[at(1, WEIGHED)], chosen.softmax(-1))


def test_swapped_experts_are_as_if_their_weights_were_and_swapping_again_undoes_it(model: Transformer) -> None:
    swap = edits.swap_experts(1, 6, layer=0)
    order = torch.tensor([0, 6, 2, 3, 4, 5, 1, 7])
    layer = WEIGHTS.layers[0]
    names = ("gate_up", "gate_up_bias", "down", "down_bias")
    logits, _ = run(model, swap)
    torch.testing.assert_close(
        logits, like(model, with_layer(0, **{name: getattr(layer, name)[order] for name in names}))
    )
    assert not torch.allclose(logits, run(model)[0])
    assert torch.equal(run(model, swap + swap)[0], run(model)[0])


def test_a_biased_router_is_as_if_its_own_bias_were_other(model: Transformer) -> None:
    bias = WEIGHTS.layers[1].router_bias.clone()
    bias[[2, 3]] += 0.7
    logits, _ = run(model, edits.bias_router([2, 3], 0.7, layer=1))
    torch.testing.assert_close(logits, like(model, with_layer(1, router_bias=bias)))
    assert not torch.allclose(logits, run(model)[0])


@pytest.mark.parametrize("k", [1, 3, 8])
def test_top_k_is_what_it_is_set_to(model: Transformer, k: int) -> None:
    _, plain = run(model)
    logits, edited = run(model, edits.set_top_k(k))
    best = plain[at(0, LOGITS)].topk(k)
    assert torch.equal(edited[at(0, CHOSEN)], best.indices)
    torch.testing.assert_close(edited[at(0, WEIGHED)], best.values.softmax(-1))
    other = Transformer(replace(CONFIG, experts_per_token=k), WEIGHTS, model.engine)
    torch.testing.assert_close(logits, other(TOKENS))


def test_tokens_may_differ_in_k(model: Transformer) -> None:
    edit = edits.set_top_k(1, channel="analysis") + edits.set_top_k(3, channel="final") + edits.force_expert(6)
    _, edited = run(model, edit)
    weights, chosen = edited[at(1, WEIGHED)][0], edited[at(1, CHOSEN)][0]
    k = torch.full((N,), 2)
    k[list(ANALYSIS)], k[list(FINAL)] = 1, 3
    assert weights.shape == (N, 3)
    assert torch.equal((weights > 0).sum(-1), k)
    torch.testing.assert_close(weights.sum(-1), torch.ones(N))
    assert ((chosen == 6) & (weights > 0)).any(-1).all()
    assert (chosen[list(ANALYSIS), 0] == 6).all()
    assert all(len(set(row)) == 3 for row in chosen.tolist())


def test_edits_of_the_routing_leave_attention_to_the_fast_kernels() -> None:
    every = [
        edits.ablate_expert(1),
        edits.mask_expert(2),
        edits.force_expert(3),
        edits.swap_experts(4, 5),
        edits.bias_router(6, 1.0),
        edits.set_top_k(3),
    ]
    points = {name.split(".", 2)[2] for name, _ in edits.fwd_hooks(every, CONFIG)}
    assert points == {LOGITS, CHOSEN, WEIGHED, SHARES}
    assert {name for name, _ in edits.fwd_hooks(edits.mask_expert(2, layer=1), CONFIG)} == {at(1, LOGITS)}


def test_a_hook_that_comes_between_an_edit_and_its_effect_is_named(model: Transformer) -> None:
    turn_round = [(at(0, LOGITS), lambda tensor, hook: -tensor)]
    force = edits.fwd_hooks(edits.force_expert(1), CONFIG)
    with model.hooks(force), model.hooks(turn_round), pytest.raises(RuntimeError, match=r"before model\.edit"):
        model(TOKENS)
    with model.hooks(turn_round), model.hooks(force):
        model(TOKENS)


# Attention


def test_an_ablated_head_says_nothing(model: Transformer) -> None:
    o = WEIGHTS.layers[1].o.clone()
    o[:, 2 * CONFIG.d_head : 3 * CONFIG.d_head] = 0
    logits, edited = run(model, edits.ablate_head(2, layer=1))
    assert (edited[at(1, "attn.hook_z")][:, :, 2] == 0).all()
    torch.testing.assert_close(logits, like(model, with_layer(1, o=o)))
    plain = run(model)[1]
    assert torch.equal(edited[at(1, "attn.hook_z")][:, :, :2], plain[at(1, "attn.hook_z")][:, :, :2])


def test_knocked_out_attention_is_zero_and_the_rest_as_it_was(model: Transformer) -> None:
    _, plain = run(model)
    edit = edits.knock_out_attention(edits.at(channel="final"), edits.at(channel="analysis"), head=1, layer=1)
    _, edited = run(model, edit)
    expected = plain[at(1, "attn.hook_pattern")].clone()
    rows, columns = torch.tensor(list(FINAL))[:, None], torch.tensor(list(ANALYSIS))
    assert (expected[0, 1, rows, columns] > 0).all()
    expected[0, 1, rows, columns] = 0
    assert torch.equal(edited[at(1, "attn.hook_pattern")], expected)


def test_knocked_out_attention_is_shared_out_where_asked_for(model: Transformer) -> None:
    _, plain = run(model)
    _, edited = run(model, edits.knock_out_attention([9, 10], range(5), head=1, layer=1, renormalise=True))
    pattern, sink = edited[at(1, "attn.hook_pattern")], edited[at(1, "attn.hook_sink")]
    assert (pattern[0, 1, 9:11, :5] == 0).all()
    torch.testing.assert_close(pattern.sum(-1) + sink, torch.ones_like(sink))
    before = plain[at(1, "attn.hook_pattern")][0, 1, 9]
    torch.testing.assert_close(pattern[0, 1, 9, 5:], before[5:] / (1 - before[:5].sum()))
    assert torch.equal(pattern[0, 1, :9], plain[at(1, "attn.hook_pattern")][0, 1, :9])


def test_a_removed_sink_is_as_if_its_logit_were_minus_infinity(model: Transformer) -> None:
    greedy = with_layer(0, sinks=torch.full((CONFIG.n_heads,), 6.0))  # takes nearly all
    gone = with_layer(0, sinks=torch.tensor([6.0, -1e9, 6.0, 6.0]))
    logits, edited = run(Transformer(CONFIG, greedy, model.engine), edits.remove_sink(1, layer=0))
    torch.testing.assert_close(logits, like(model, gone), atol=1e-4, rtol=1e-4)
    rows = edited[at(0, "attn.hook_pattern")].sum(-1)
    torch.testing.assert_close(rows[:, 1], torch.ones(1, N))
    assert (rows[:, 0] < 0.5).all()


def test_a_row_that_is_knocked_out_whole_stays_zero_without_its_sink(model: Transformer) -> None:
    _, edited = run(model, edits.remove_sink() + edits.knock_out_attention(renormalise=True))
    assert (edited[at(1, "attn.hook_pattern")] == 0).all()
    _, edited = run(model, edits.remove_sink() + edits.knock_out_attention())
    assert (edited[at(1, "attn.hook_pattern")] == 0).all()


# Activations


@pytest.mark.parametrize("point", PATCH_POINTS)
def test_a_patch_from_the_same_run_changes_nothing_and_from_another_does(model: Transformer, point: str) -> None:
    logits, seen = run(model)
    assert torch.equal(run(model, edits.patch(seen, 1, point))[0], logits)
    _, other = model.run_with_cache(TOKENS[::-1], at(1, point))
    patched, edited = run(model, edits.patch(other, 1, point, positions=[3, 4, 9]))
    assert not torch.allclose(patched, logits)
    expected = seen[at(1, point)].clone()
    expected[:, [3, 4, 9]] = other[at(1, point)][:, [3, 4, 9]]
    assert torch.equal(edited[at(1, point)], expected)


def test_a_patched_last_residual_gives_the_other_runs_logits(model: Transformer) -> None:
    logits, other = model.run_with_cache(TOKENS[::-1])
    assert torch.equal(run(model, edits.patch(other, 1))[0], logits)


def test_a_patch_may_take_from_other_positions_and_one_head(model: Transformer) -> None:
    point = HEAD_POINTS[2]
    _, seen = model.run_with_cache(TOKENS)
    z = seen[at(1, point)]
    _, edited = run(model, edits.patch(z[0], 1, point, head=3, positions=[8, 9], from_positions=[2, 4]))
    expected = z.clone()
    expected[0, 8, 3], expected[0, 9, 3] = z[0, 2, 3], z[0, 4, 3]
    assert torch.equal(edited[at(1, point)], expected)


def test_steering_adds_and_by_nothing_changes_nothing(model: Transformer) -> None:
    logits, plain = run(model)
    direction = torch.linspace(-1, 1, CONFIG.d_model)
    assert torch.equal(run(model, edits.steer(direction, 0, scale=0))[0], logits)
    for point in ("hook_resid_pre", "hook_resid_mid", "hook_resid_post"):
        changed, edited = run(model, edits.steer(direction, 0, 2.0, point, positions=7))
        expected = plain[at(0, point)].clone()
        expected[:, 7] += 2 * direction
        torch.testing.assert_close(edited[at(0, point)], expected)
        # not equal to the last bit: what position 7 chooses decides which tokens an expert takes together
        torch.testing.assert_close(changed[:, :7], logits[:, :7])
        assert not torch.allclose(changed[:, 7], logits[:, 7])


# Where, also while generating


def every_kind(**where) -> list[edits.Edit]:
    rows = torch.randn(N, CONFIG.d_model, generator=torch.Generator().manual_seed(1))
    place = edits.at(**where)
    return [
        edits.ablate_expert([1, 2, 3, 4], **where),
        edits.scale_expert([1, 2, 3, 4], -1.5, layer=0, **where),
        edits.mask_expert([1, 4], layer=[0, 1], **where),
        edits.force_expert(5, **where),
        edits.swap_experts(0, 7, layer=1, **where),
        edits.bias_router([2, 3], 1.5, **where),
        edits.set_top_k(1, **where),
        edits.set_top_k(3, **where),
        edits.ablate_head([0, 3], **where),
        edits.remove_sink(layer=0, **where),
        edits.knock_out_attention(place, edits.at(slice(0, None, 2), role="user"), layer=1),
        edits.knock_out_attention(place, edits.at(slice(0, None, 2))),
        edits.knock_out_attention(place, place, renormalise=True),
        edits.patch(rows, 1, "hook_mlp_out", **where),
        edits.steer(rows[0], 1, 3.0, **where),
    ]


WHERES = [
    {"channel": "analysis"},
    {"role": "assistant", "section": "content"},
    {"message": 1},
    {"positions": range(20, 30)},
    {"positions": slice(5, None, 3), "channel": "final"},
]


PARTS = [0, 14, *takewhile(lambda part: part < N, accumulate(cycle([1, 1, 4]), initial=17)), N]
"""Where a text is cut for a run in parts, most of them of one token."""


@pytest.mark.parametrize("where", WHERES, ids=str)
def test_a_run_in_parts_equals_one_pass_with_the_same_edit(model: Transformer, where: dict) -> None:
    plain = model(TOKENS)
    several = every_kind(**where)
    for edit in several if where == WHERES[0] else several[::5]:
        with model.hooks(edits.fwd_hooks(edit, CONFIG, BYTES)):
            whole = model(TOKENS)
            cache = model.new_cache()
            parts = [model(TOKENS[start:stop], cache) for start, stop in pairwise(PARTS)]
            branch = cache.fork()
            branch.rewind(N - 12)
            again = model(TOKENS[-12:], branch)
        assert not torch.allclose(whole, plain, atol=1e-4), edit
        torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-4, rtol=1e-4, msg=str(edit))
        torch.testing.assert_close(again, whole[:, -12:], atol=1e-4, rtol=1e-4, msg=str(edit))


@pytest.mark.parametrize("where", [{"positions": range(20, 30)}, {"channel": "analysis"}], ids=str)
def test_no_kind_touches_other_tokens(model: Transformer, where: dict) -> None:
    _, plain = run(model)
    inside = torch.zeros(N, dtype=torch.bool)
    inside[list(ANALYSIS if "channel" in where else where["positions"])] = True
    for edit in every_kind(**where):
        if edit.layers == (1,) and isinstance(edit, KnockOutAttention):
            continue  # the first layer's window hides the user from the analysis
        here = replace(edit, layers=(0,))
        _, edited = run(model, here)
        before, after = (seen[at(0, "hook_resid_post")][0] for seen in (plain, edited))
        torch.testing.assert_close(after[~inside], before[~inside], msg=str(here))
        assert not torch.allclose(after[inside], before[inside]), here


def touched(model: Transformer, tokens: Tensor | Sequence[int] = TOKENS, **where) -> list[list[int]]:
    """Where the first layer's steering shows, in each sequence of a batch."""
    _, plain = run(model, (), tokens)
    _, edited = run(model, edits.steer(torch.ones(CONFIG.d_model), 0, point="hook_resid_pre", **where), tokens)
    moved = (edited[at(0, "hook_resid_pre")] != plain[at(0, "hook_resid_pre")]).any(-1)
    return [row.nonzero().flatten().tolist() for row in moved]


def test_a_channel_reaches_from_its_headers_end_to_its_messages(model: Transformer) -> None:
    assert touched(model, channel="analysis") == [list(ANALYSIS)]
    assert touched(model, channel="final", section="content") == [list(FINAL)[1:-1]]
    assert touched(model, role="user") == [
        list(range(place_of("<|message|>Hi"), place_of("<|start|>assistant", False)))
    ]
    assert touched(model, section="end") == [[place_of(end, last) for end, last in ENDS]]
    assert touched(model, message=0) == [list(range(place_of("<|start|>assistant", False)))]
    assert touched(model, channel="analysis", positions=[3, ANALYSIS[2], FINAL[0]]) == [[ANALYSIS[2]]]
    assert touched(model, positions=np.arange(N) % 9 == 4) == [list(range(4, N, 9))]
    assert touched(model, positions=slice(None, None, 10)) == [list(range(0, N, 10))]


ENDS = [("<|end|>", False), ("<|end|>", True), ("<|return|>", True)]


def test_each_token_is_read_once_while_generating(model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    push = StreamParser.push
    monkeypatch.setattr(StreamParser, "push", lambda parser, token: (read.append(token), push(parser, token))[1])
    with model.hooks(edits.fwd_hooks(edits.mask_expert(1, channel="final"), CONFIG, BYTES)):
        cache = model.new_cache()
        for start, stop in pairwise(PARTS):
            model(TOKENS[start:stop], cache)
    assert read == TOKENS


def test_what_an_edit_would_touch_can_be_asked_beforehand() -> None:
    assert np.flatnonzero(edits.touched(edits.at(channel="analysis"), TOKENS, BYTES)).tolist() == list(ANALYSIS)
    assert edits.touched(edits.at([2, 4]), TOKENS).nonzero()[0].tolist() == [2, 4]


def test_sequences_of_a_batch_each_have_their_own_channels(model: Transformer) -> None:
    other = TEXT.replace("analysis", "finalxxx").replace("final<", "analysis<").replace("finalxxx", "final")
    rows = [TOKENS, BYTES.encode(other, allowed_special="all")]
    alone = [touched(model, row, channel="final")[0] for row in rows]
    assert alone[0] != alone[1]
    assert all(alone)
    assert touched(model, torch.tensor(rows), channel="final") == alone
    assert touched(model, torch.tensor([rows[0], rows[0]]), channel="final") == [alone[0], alone[0]]


# Values: composing, words, JSON


def test_edits_compose_in_any_order_and_nesting(model: Transformer) -> None:
    several = [
        edits.swap_experts(0, 1, layer=0),
        edits.mask_expert(1, layer=0),
        edits.set_top_k(3, layer=0),
        edits.force_expert(2, layer=0),
        edits.scale_expert(2, 0.3, layer=0),
        edits.steer(torch.ones(CONFIG.d_model), 0, point="hook_resid_mid"),
        edits.remove_sink(layer=0),
    ]
    first, *rest = several
    assert first + rest == tuple(several)
    assert (first + rest[0]) + rest[1] == tuple(several[:3])
    assert edits.flat([first, [rest, ()]]) == tuple(several)
    logits, seen = run(model, several)
    assert (seen[at(0, CHOSEN)] != 1).all()
    assert torch.equal(run(model, several[::-1])[0], logits)
    with pytest.raises(TypeError, match="an edit is expected"):
        first + "mask"


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (edits.ablate_expert(7, 3, channel="analysis"), "expert 7 of layer 3 is ablated on the analysis channel"),
        (edits.scale_expert([3, 5], -2), "experts 3 and 5 of every layer are scaled by -2"),
        (edits.mask_expert(1, [0, 2, 1]), "expert 1 of layers 0, 1 and 2 is masked"),
        (edits.force_expert(1, 0, positions=4), "expert 1 of layer 0 is forced at position 4"),
        (
            edits.swap_experts(5, 2, 1, positions=[1, 2, 3, 9]),
            "experts 5 and 2 of layer 1 change places at positions 1 to 3 and 9",
        ),
        (
            edits.bias_router(1, 0.5, 2, role="user"),
            "+0.5 on the router logit of expert 1 of layer 2 in what the user says",
        ),
        (edits.set_top_k(1, 2, positions=slice(8, None)), "each token takes 1 expert in layer 2 at positions 8 on"),
        (
            edits.ablate_head(2, 3, message=4, section="content"),
            "head 2 of layer 3 is ablated in message 4, in contents",
        ),
        (
            edits.knock_out_attention(edits.at(channel="final"), range(0, 10, 2), 1, 3),
            "attention of head 1 of layer 3 from the final channel to positions 0 to 9 in steps of 2 is knocked out",
        ),
        (
            edits.knock_out_attention(renormalise=True),
            "attention of every head of every layer is knocked out, and what is left is weighed again",
        ),
        (edits.remove_sink([1, 2], 0), "the sink of heads 1 and 2 of layer 0 is removed"),
        (
            edits.patch(np.zeros((6, 64)), 1, positions=slice(2, None)),
            "hook_resid_post of layer 1 is patched from another run at positions 2 to 5",
        ),
        (edits.steer([3.0, 4.0], 1, 2), "hook_resid_post of layer 1 is steered by 2 times a direction of norm 5"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_edit_says_what_it_does(edit: edits.Edit, words: str) -> None:
    assert str(edit) == words
    assert edits.describe([edit]) == [words]
    assert edits.from_json(edits.to_json(edit)) == (edit,)
    assert words in edits.to_json(edit)


def test_json_gives_equal_edits_back_and_refuses_anything_else() -> None:
    several = [*every_kind(channel="analysis"), *every_kind(positions=[1, 5, 6], message=2)]
    again = edits.from_json(edits.to_json(several))
    assert again == tuple(several)
    assert len({*again, *several}) == len(several)
    for junk in (
        "{}",
        '[{"edit": "open_file"}]',
        '[{"edit": "mask_expert"}]',
        '[{"edit": "mask_expert", "experts": ["1"]}]',
        '[{"edit": "mask_expert", "experts": [1], "more": 1}]',
        '[{"edit": "mask_expert", "experts": [1], "where": {"colour": 1}}]',
        '[{"edit": "mask_expert", "experts": [1], "where": {"positions": [5]}}]',
        '[{"edit": "scale_expert", "experts": [1], "scale": NaN}]',
        '[{"edit": "steer", "point": "hook_resid_pre", "scale": 1, "direction": {"shape": [2], "float32": "!"}}]',
        '[{"edit": "steer", "point": "hook_resid_pre", "scale": 1, "direction": {"shape": [2], "float32": "AAAA"}}]',
        "not json",
    ):
        with pytest.raises(ValueError):
            edits.from_json(junk)


# What cannot be


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: edits.ablate_expert(40), "no expert 40; this model's experts run from 0 to 7"),
        (lambda: edits.ablate_expert(-1), "experts count from 0; got -1"),
        (lambda: edits.ablate_expert("seven"), "expert is a number, or several; got 'seven'"),
        (lambda: edits.ablate_expert([]), r"expert is a number, or several; got \[\]"),
        (lambda: edits.ablate_expert(True), "got True"),
        (lambda: edits.ablate_expert(1, layer=2), "no layer 2; this model's layers run from 0 to 1"),
        (lambda: edits.scale_expert(1, float("nan")), "scale is a finite number; got nan"),
        (lambda: edits.bias_router(1, float("inf")), "bias is a finite number; got inf"),
        (lambda: edits.mask_expert(range(7)), "of 7 masked, 1 are left; mask at most 6"),
        (lambda: edits.mask_expert(range(4)) + edits.mask_expert([4, 5, 6]), "mask at most 6"),
        (lambda: edits.mask_expert(range(5)) + edits.set_top_k(4), "takes 4: of 5 masked, 3 are left; mask at most 4"),
        (
            lambda: edits.force_expert([1, 2, 3], layer=1),
            "of layer 1 takes 2 experts, and 3 are forced .1, 2 and 3.; force at most 2",
        ),
        (lambda: edits.force_expert([1, 2]) + edits.set_top_k(1), "takes 1 experts, and 2 are forced"),
        (lambda: edits.mask_expert([1, 2]) + edits.force_expert(2), "expert 2 of layer 0 cannot be masked and forced"),
        (lambda: edits.set_top_k(1) + edits.set_top_k(2, layer=1), "told to take 1 and 2 experts"),
        (lambda: edits.set_top_k(0), "from 1; got 0"),
        (lambda: edits.set_top_k(9), "at most this model's 8 experts; got 9"),
        (lambda: edits.swap_experts(1, 1), "two different experts"),
        (lambda: edits.ablate_head(4), "no head 4; this model's heads run from 0 to 3"),
        (lambda: edits.knock_out_attention(positions_out_of_range()), "run from 0 to 1023; got 1024"),
        (lambda: edits.knock_out_attention(1, to=5000), "run from 0 to 1023; got 5000"),
        (lambda: edits.remove_sink(positions=-1), "positions count from 0, the first token; got -1"),
        (lambda: edits.remove_sink(positions=[]), "the edit would act nowhere"),
        (lambda: edits.remove_sink(positions=[0.5]), r"whole numbers; got \[0.5\]"),
        (lambda: edits.remove_sink(positions="all"), "got 'all'"),
        (lambda: edits.remove_sink(channel="anlysis"), "got 'anlysis'; did you mean 'analysis'"),
        (lambda: edits.remove_sink(section="middle"), "one of header, content, end; got 'middle'"),
        (lambda: edits.remove_sink(message=-1), "got -1"),
        (lambda: edits.patch(np.zeros((3, 64)), 0, "hook_tail"), "what can be patched is hook_resid_pre"),
        (lambda: edits.patch(np.zeros((3, 63)), 0), r"activations of shape \(64,\) a token; got \(63,\)"),
        (lambda: edits.patch(np.zeros((3, 64)), 0, positions=3), "the other run run from 0 to 2; got 3"),
        (lambda: edits.patch(np.zeros((3, 64)), 0, positions=[1, 2], from_positions=0), "1 positions are taken, and 2"),
        (lambda: edits.patch(np.zeros((3, 64)), 0, head=1), "heads can be patched at attn.hook_q"),
        (lambda: edits.patch(np.full((3, 64), np.nan), 0), "got NaN"),
        (lambda: edits.patch(np.zeros((3, 64)), 0) + edits.patch(np.ones((2, 64)), 0), "two patches"),
        (lambda: edits.steer(np.zeros(63), 0), r"has 64 values; got shape \(63,\)"),
        (lambda: edits.steer(np.zeros(64), 0, point="hook_mlp_out"), "what can be steered"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_before_anything_runs(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        edits.check(make(), CONFIG)


def positions_out_of_range() -> range:
    return range(1000, 1025)


def test_what_never_meets_does_not_contradict() -> None:
    def both(**places: dict) -> None:
        edits.check(edits.mask_expert(2, **places["a"]) + edits.force_expert(2, **places["b"]), CONFIG)

    both(a={"channel": "analysis"}, b={"channel": "final"})
    both(a={"positions": range(5)}, b={"positions": slice(5, None)})
    both(a={"positions": slice(0, None, 2)}, b={"positions": slice(1, None, 2)})
    both(a={"layer": 0}, b={"layer": 1})
    edits.check(edits.patch(np.zeros((3, 64)), 0) + edits.patch(np.zeros((9, 64)), 0, positions=slice(3, None)), CONFIG)
    for a, b in [
        ({"channel": "analysis"}, {"role": "assistant"}),
        ({"positions": range(6)}, {"positions": slice(5, None)}),
        ({"positions": slice(0, None, 3)}, {"positions": slice(1, None, 2)}),
        ({}, {"channel": "final", "message": 3, "section": "end"}),
    ]:
        with pytest.raises(ValueError, match="masked and forced"):
            both(a=a, b=b)


def test_without_a_tokenizer_channels_cannot_be_told() -> None:
    edits.fwd_hooks(edits.mask_expert(1, positions=3), CONFIG)
    for edit in (edits.mask_expert(1, channel="final"), edits.knock_out_attention(1, edits.at(message=0))):
        with pytest.raises(ValueError, match="tokenizer is needed"):
            edits.fwd_hooks(edit, CONFIG)


# In a session


def test_a_session_edits_within_a_block_and_says_so(chatty: Model) -> None:
    edit = edits.mask_expert([0, 1, 2], channel="analysis") + edits.steer(torch.ones(CONFIG.d_model), 0)

    def chat():
        return chatty.chat("Hi", max_new_tokens=12, temperature=0, record=("routing",))

    plain = chat()
    with chatty.edit(edit) as same:
        assert same is chatty
        assert chatty.edits == edit
        edited = chat()
        assert edited.trace is chatty.trace(edited)
        assert chatty.trace(plain) is not plain.trace
    assert chatty.edits == ()
    assert edited.tokens != plain.tokens
    assert edited.edits == edits.describe(edit)
    assert plain.edits == []
    assert edits.from_json(edited.trace.provenance["edits"]) == edit
    assert "edits" not in plain.trace.provenance
    assert chat().tokens == plain.tokens


@pytest.mark.parametrize("k", [1, 3])
def test_a_trace_has_places_for_the_layer_that_takes_most_experts(chatty: Model, k: int) -> None:
    with chatty.edit(edits.set_top_k(k, layer=0)):
        trace = chatty.trace(TOKENS, record=("experts",))
        _, seen = chatty.run_with_cache(TOKENS)
    assert trace.topk_weights.shape == (2, N, max(k, 2))
    assert ((trace.topk_weights > 0).sum(axis=2) == [[k], [2]]).all()
    assert all(len(set(row)) == max(k, 2) for row in trace.expert_indices.reshape(-1, max(k, 2)).tolist())
    assert np.array_equal(trace.dense_weights()[0] > 0, seen[at(0, "mlp.hook_expert_weights")][0].numpy() > 0)
    np.testing.assert_allclose(trace.expert_out[0].sum(axis=1), seen[at(0, "hook_mlp_out")][0], atol=1e-5)


def test_nested_blocks_act_as_one(chatty: Model) -> None:
    forced, masked, halved = edits.force_expert(3), edits.mask_expert(1), edits.scale_expert(2, 0.5)
    with chatty.edit(forced, masked, [halved]):
        together = chatty(TOKENS)
    with chatty.edit(masked, halved), chatty.edit(forced):
        assert torch.equal(chatty(TOKENS), together)
        with pytest.raises(ValueError, match="masked and forced"), chatty.edit(edits.mask_expert(3)):
            pass
        assert torch.equal(chatty(TOKENS), together)
    with chatty.edit(forced):
        alone = chatty(TOKENS)
        with chatty.edit(masked):
            pass
        assert torch.equal(chatty(TOKENS), alone)


def test_another_thread_is_not_edited(chatty: Model) -> None:
    plain, elsewhere = chatty(TOKENS), []
    with chatty.edit(edits.set_top_k(1)):
        thread = threading.Thread(target=lambda: elsewhere.append((chatty.edits, chatty(TOKENS))))
        thread.start()
        thread.join()
    assert elsewhere[0][0] == ()
    assert torch.equal(elsewhere[0][1], plain)


def test_a_long_context_is_checked_quickly() -> None:
    config: ModelConfig = replace(CONFIG, n_ctx=131072, n_layers=36, n_experts=128)
    several = [edits.mask_expert(expert, positions=slice(expert, None)) for expert in range(100)]
    edits.check(several, config)
