"""Hook points: what they see, that they change what follows, and what they refuse."""

import threading

import pytest
import torch
from small import SMALL, tokens

from gptoss_lab import weights as weights_module
from gptoss_lab.hooks import LAYER_POINTS, READ_ONLY, HookPoint, all_names
from gptoss_lab.model import Transformer
from gptoss_lab.ops import ENGINES

PROMPT = tokens(2, 20)


@pytest.fixture(params=ENGINES)
def model(request: pytest.FixtureRequest) -> Transformer:
    return Transformer(SMALL, weights_module.random(SMALL, seed=3), request.param)


def test_every_point_fires_once_in_order_with_its_positions(model: Transformer) -> None:
    fired: list[HookPoint] = []
    cache = [model.new_cache(), model.new_cache()]
    model(PROMPT, cache)
    model.run_with_hooks(PROMPT, [(None, lambda tensor, hook: fired.append(hook))], cache)
    assert [hook.name for hook in fired] == all_names(SMALL)
    assert {hook.positions for hook in fired} == {range(20, 40)}
    assert fired[1].layer == 0
    assert fired[0].layer is None


def test_a_hook_knows_all_tokens_so_far_of_every_sequence(model: Transformer) -> None:
    fired: list[HookPoint] = []
    cache = [model.new_cache(), model.new_cache()]
    model(PROMPT[:, :15], cache)
    model.run_with_hooks(PROMPT[:, 15:], [(None, lambda tensor, hook: fired.append(hook))], cache)
    assert all(torch.equal(hook.tokens, PROMPT) for hook in fired)
    assert len({id(hook.tokens) for hook in fired}) == 1


def test_shapes_are_those_of_the_table(model: Transformer) -> None:
    _, seen = model.run_with_cache(PROMPT)
    batch, pos, c = 2, 20, SMALL
    shapes = {
        "hook_resid_pre": (batch, pos, c.d_model),
        "ln1.hook_scale": (batch, pos, 1),
        "attn.hook_q": (batch, pos, c.n_heads, c.d_head),
        "attn.hook_rot_k": (batch, pos, c.n_kv_heads, c.d_head),
        "attn.hook_v": (batch, pos, c.n_kv_heads, c.d_head),
        "attn.hook_z": (batch, pos, c.n_heads, c.d_head),
        "attn.hook_attn_scores": (batch, c.n_heads, pos, pos),
        "attn.hook_pattern": (batch, c.n_heads, pos, pos),
        "attn.hook_sink": (batch, c.n_heads, pos),
        "mlp.hook_router_logits": (batch, pos, c.n_experts),
        "mlp.hook_expert_indices": (batch, pos, c.experts_per_token),
        "mlp.hook_topk_weights": (batch, pos, c.experts_per_token),
        "mlp.hook_expert_weights": (batch, pos, c.n_experts),
        "mlp.hook_expert_out": (batch, pos, c.experts_per_token, c.d_model),
        "hook_mlp_out": (batch, pos, c.d_model),
    }
    for point, shape in shapes.items():
        assert seen[f"blocks.1.{point}"].shape == shape, point
        expected = torch.int64 if point == "mlp.hook_expert_indices" else torch.float32
        assert seen[f"blocks.1.{point}"].dtype == expected, point


def test_what_must_add_up_does(model: Transformer) -> None:
    _, seen = model.run_with_cache(PROMPT)
    for layer in range(SMALL.n_layers):
        at = {point: seen[f"blocks.{layer}.{point}"] for point in LAYER_POINTS}
        torch.testing.assert_close(at["mlp.hook_expert_out"].sum(dim=2), at["hook_mlp_out"])
        torch.testing.assert_close(
            at["attn.hook_pattern"].sum(dim=-1) + at["attn.hook_sink"], torch.ones_like(at["attn.hook_sink"])
        )
        torch.testing.assert_close(at["hook_resid_pre"] + at["hook_attn_out"], at["hook_resid_mid"])
        torch.testing.assert_close(at["hook_resid_mid"] + at["hook_mlp_out"], at["hook_resid_post"])
        torch.testing.assert_close(at["mlp.hook_expert_weights"].sum(dim=-1), torch.ones(2, 20))
        chosen = at["mlp.hook_router_logits"].gather(-1, at["mlp.hook_expert_indices"])
        torch.testing.assert_close(chosen.softmax(dim=-1), at["mlp.hook_topk_weights"])
        assert (chosen.diff(dim=-1) <= 0).all()  # in rank order
        pattern = at["attn.hook_pattern"]
        reach = SMALL.window(layer) or 20
        distance = torch.arange(20)[:, None] - torch.arange(20)
        assert (pattern[..., (distance < 0) | (distance >= reach)] == 0).all()
        assert (pattern[..., (distance >= 0) & (distance < reach)] > 0).all()


@pytest.mark.parametrize("point", [point for point in LAYER_POINTS if point not in READ_ONLY])
def test_a_changed_value_is_used_by_all_that_follows(model: Transformer, point: str) -> None:
    def change(tensor: torch.Tensor, hook: HookPoint) -> torch.Tensor:
        if point == "mlp.hook_expert_indices":
            return (tensor + 1) % SMALL.n_experts
        if point == "mlp.hook_router_logits":
            return -tensor
        return tensor * 1.5

    name = f"blocks.1.{point}"
    logits, seen = model.run_with_cache(PROMPT)
    assert not torch.allclose(model.run_with_hooks(PROMPT, [(name, change)]), logits)
    with model.hooks([(name, change)]):
        changed, after = model.run_with_cache(PROMPT)
    assert torch.allclose(after[name].float(), change(seen[name], None).float(), atol=1e-5)
    assert not torch.allclose(changed, logits)
    assert torch.equal(model(PROMPT), model(PROMPT))
    torch.testing.assert_close(model(PROMPT), logits)  # the hooks are gone
    before = [other for other in seen if list(seen).index(other) < list(seen).index(name)]
    for other in before:
        assert torch.equal(seen[other], after[other]), other


def test_changed_logits_choose_again_changed_indices_are_weighed_again_changed_weights_stay(model: Transformer) -> None:
    def ban_expert_0(tensor: torch.Tensor, hook: HookPoint) -> torch.Tensor:
        return tensor.index_fill(-1, torch.tensor([0]), -torch.inf)

    with model.hooks([("blocks.*.mlp.hook_router_logits", ban_expert_0)]):
        _, seen = model.run_with_cache(PROMPT)
    assert all((seen[f"blocks.{layer}.mlp.hook_expert_indices"] != 0).all() for layer in range(SMALL.n_layers))

    chosen = torch.tensor([1, 4, 6]).expand(2, 20, 3)  # three experts, where the model takes two
    with model.hooks([("blocks.0.mlp.hook_expert_indices", lambda tensor, hook: chosen)]):
        _, seen = model.run_with_cache(PROMPT)
    logits = seen["blocks.0.mlp.hook_router_logits"]
    expected = logits[..., [1, 4, 6]].softmax(dim=-1)
    torch.testing.assert_close(seen["blocks.0.mlp.hook_topk_weights"], expected)
    assert seen["blocks.0.mlp.hook_expert_out"].shape[2] == 3

    with model.hooks([("blocks.0.mlp.hook_topk_weights", lambda tensor, hook: torch.zeros_like(tensor))]):
        _, seen = model.run_with_cache(PROMPT)
    assert (seen["blocks.0.hook_mlp_out"] == 0).all()


def test_read_only_points_refuse_a_value(model: Transformer) -> None:
    for point in READ_ONLY:
        with pytest.raises(ValueError, match=f"blocks.0.{point} is read only"):
            model.run_with_hooks(PROMPT, [(f"blocks.0.{point}", lambda tensor, hook: tensor)])


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (lambda tensor: tensor[:, :1], ValueError, r"returned shape \(2, 1, 64\); expected \(2, 20, 64\)"),
        (lambda tensor: 0.0, TypeError, "returned float"),
    ],
)
def test_a_hook_that_returns_something_else_is_named(model: Transformer, value, kind, message) -> None:
    with pytest.raises(kind, match=message):
        model.run_with_hooks(PROMPT, [("blocks.2.hook_resid_post", lambda tensor, hook: value(tensor))])


def test_experts_that_do_not_exist_are_refused(model: Transformer) -> None:
    with pytest.raises(ValueError, match="there are 0 to 7"):
        model.run_with_hooks(PROMPT, [("blocks.0.mlp.hook_expert_indices", lambda tensor, hook: tensor + 8)])


def test_a_name_that_matches_nothing_raises_with_near_names(model: Transformer) -> None:
    with pytest.raises(KeyError, match=r"blocks.0.hook_resid_pre"):
        model.run_with_cache(PROMPT, "blocks.0.hook_resid_pr")
    with pytest.raises(KeyError, match="near it"):
        model.run_with_hooks(PROMPT, [("blocks.9.hook_mlp_out", lambda tensor, hook: None)])
    _, seen = model.run_with_cache(PROMPT, "blocks.0.*")
    with pytest.raises(KeyError, match="no hook point matches"):
        seen["blocks.1.hook_mlp_out"]


def test_filters_and_transformer_lens_names(model: Transformer) -> None:
    _, seen = model.run_with_cache(PROMPT, ["blocks.*.mlp.router.hook_out", "hook_embed"])
    assert list(seen) == ["hook_embed", *(f"blocks.{layer}.mlp.hook_router_logits" for layer in range(3))]
    assert torch.equal(seen["blocks.1.mlp.router.hook_out"], seen["blocks.1.mlp.hook_router_logits"])
    _, seen = model.run_with_cache(PROMPT, lambda name: name.endswith("hook_z"))
    assert len(seen) == 3


def test_hooks_of_one_thread_are_not_seen_by_another(model: Transformer) -> None:
    quiet = model(PROMPT)
    elsewhere: list[torch.Tensor] = []
    with model.hooks([("blocks.0.hook_mlp_out", lambda tensor, hook: tensor * 0)]):
        thread = threading.Thread(target=lambda: elsewhere.append(model(PROMPT)))
        thread.start()
        thread.join()
        assert not torch.allclose(model(PROMPT), quiet)
    torch.testing.assert_close(elsewhere[0], quiet)


def test_hooks_act_while_generating_and_may_change_what_they_see(model: Transformer) -> None:
    from gptoss_lab.generate import Generator

    def generate() -> list[int]:
        return [sampled.token for sampled in Generator(model, [1, 2, 3], 12, temperature=0)]

    plain = generate()
    positions: list[range] = []

    def change(tensor: torch.Tensor, hook: HookPoint) -> torch.Tensor:
        positions.append(hook.positions)
        return tensor * -3

    with model.hooks([("blocks.1.hook_mlp_out", change)]):
        changed = generate()
    assert changed != plain
    assert generate() == plain
    assert positions == [range(3), *(range(start, start + 1) for start in range(3, 14))]
