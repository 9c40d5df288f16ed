"""How edits of the routing are carried out.

However they are given, they act in this order: the router's logits are swapped, biased, masked; then k experts are
taken, the forced ones among them, and weighed by a softmax over those k; then their shares are scaled.
"""

import threading
from collections.abc import Sequence

import torch
from torch import Tensor

from gptoss_lab.config import ModelConfig
from gptoss_lab.edits.base import Edit, Hooks, of_kind
from gptoss_lab.edits.experts import BiasRouter, ForceExpert, MaskExpert, ScaleExpert, SetTopK, SwapExperts
from gptoss_lab.edits.sight import Sight
from gptoss_lab.edits.where import EVERYWHERE, combinations
from gptoss_lab.edits.wording import counted, listed
from gptoss_lab.hooks import HookPoint


def routing_hooks(edits: Sequence[Edit], config: ModelConfig, sight: Sight) -> Hooks:
    """The hooks of all edits of the routing, at the routing's own points alone: attention stays as fast as it was."""
    hooks: Hooks = []
    for layer in range(config.n_layers):
        here = [edit for edit in edits if layer in edit.layers_of(config)]
        routing = _Routing(here, config, sight)
        hooks += [(f"blocks.{layer}.mlp.{point}", hook) for point, hook in routing.hooks]
    return hooks


class _Routing:
    """The edits of one layer's routing. What one hook saw is kept for the next, within a pass and a thread."""

    def __init__(self, edits: Sequence[Edit], config: ModelConfig, sight: Sight):
        self._of_logits: list[SwapExperts | BiasRouter | MaskExpert] = [
            *of_kind(edits, SwapExperts),
            *of_kind(edits, BiasRouter),
            *of_kind(edits, MaskExpert),
        ]
        self._top_k, self._forced = of_kind(edits, SetTopK), of_kind(edits, ForceExpert)
        self._scales = of_kind(edits, ScaleExpert)
        self._model_k, self._n_experts = config.experts_per_token, config.n_experts
        untouched = [] if any(edit.where == EVERYWHERE for edit in self._top_k) else [self._model_k]
        self._places = max([edit.k for edit in self._top_k] + untouched)
        self._sight = sight
        self._seen = threading.local()

    @property
    def hooks(self) -> Hooks:
        chooses = bool(self._top_k or self._forced)
        return [
            *([("hook_router_logits", self._logits)] if self._of_logits or chooses else []),
            *([("hook_expert_indices", self._choice)] if self._scales or chooses else []),
            *([("hook_topk_weights", self._weights)] if chooses else []),
            *([("hook_expert_out", self._shares)] if self._scales else []),
        ]

    def _logits(self, logits: Tensor, hook: HookPoint) -> Tensor:
        for edit in self._of_logits:
            logits = torch.where(self._touched(edit, hook), edit.applied(logits), logits)
        self._seen.logits = logits
        return logits

    def _choice(self, chosen: Tensor, hook: HookPoint) -> Tensor:
        if self._top_k or self._forced:
            _check_nothing_came_between(self._seen.logits, chosen)
            chosen = self._choose(self._seen.logits, hook)
        self._seen.chosen = chosen
        return chosen

    def _choose(self, logits: Tensor, hook: HookPoint) -> Tensor:
        """Each token's k experts in rank order, then what only fills up the places, [batch, pos, place]."""
        k = torch.full_like(logits[..., :1], self._model_k)
        for edit in self._top_k:
            k = torch.where(self._touched(edit, hook), edit.k, k)
        forced = torch.zeros_like(logits, dtype=torch.bool)
        for force in self._forced:
            forced |= self._touched(force, hook) & self._members(force.experts, logits)
        self._seen.unused = torch.arange(self._places, device=logits.device) >= k
        chosen = logits.masked_fill(forced, torch.inf).topk(self._places, dim=-1).indices
        ranks = logits.gather(-1, chosen).masked_fill(self._seen.unused, -torch.inf)
        return chosen.gather(-1, ranks.argsort(dim=-1, descending=True, stable=True))

    def _weights(self, weights: Tensor, hook: HookPoint) -> Tensor:
        logits: Tensor = self._seen.logits.gather(-1, self._seen.chosen)
        return logits.masked_fill(self._seen.unused, -torch.inf).softmax(dim=-1)

    def _shares(self, shares: Tensor, hook: HookPoint) -> Tensor:
        """shares [batch, pos, place, d_model]. The weights stay what the router gave."""
        chosen: Tensor = self._seen.chosen
        for edit in self._scales:
            meant = self._members(edit.experts, chosen)[chosen] & self._touched(edit, hook)
            shares = torch.where(meant[..., None], shares * edit.scale, shares)
        return shares

    def _touched(self, edit: Edit, hook: HookPoint) -> Tensor:
        """Which tokens, bool [batch, pos, 1]."""
        return self._sight.touched(edit.where, hook)[..., None]

    def _members(self, experts: Sequence[int], beside: Tensor) -> Tensor:
        """Which experts are meant, bool [expert], on the device of another tensor."""
        members = torch.zeros(self._n_experts, dtype=torch.bool, device=beside.device)
        members[list(experts)] = True
        return members


def check_routing(edits: Sequence[Edit], config: ModelConfig) -> None:
    """Raises ValueError where edits that meet at one token leave a layer without a choice, or with two."""
    choices = of_kind(edits, MaskExpert, ForceExpert, SetTopK)
    first_layer: dict[tuple[Edit, ...], int] = {}
    for layer in range(config.n_layers):
        first_layer.setdefault(tuple(edit for edit in choices if layer in edit.layers_of(config)), layer)
    for here, layer in first_layer.items():
        places = list(dict.fromkeys(edit.where for edit in here))
        for holds in combinations(places, config.n_ctx) if here else ():
            met = [place for place, held in zip(places, holds, strict=True) if held]
            _check_choice(layer, [edit for edit in here if edit.where in met], config)


def _check_choice(layer: int, edits: Sequence[Edit], config: ModelConfig) -> None:
    """The same for the edits that meet at one token of one layer."""
    ks = sorted({edit.k for edit in of_kind(edits, SetTopK)}) or [config.experts_per_token]
    masked = {expert for edit in of_kind(edits, MaskExpert) for expert in edit.experts}
    forced = {expert for edit in of_kind(edits, ForceExpert) for expert in edit.experts}
    k, left = ks[0], config.n_experts - len(masked)
    if len(ks) > 1:
        raise ValueError(f"a token of layer {layer} is told to take {listed(ks)} experts: it can take one number")
    if both := sorted(masked & forced):
        raise ValueError(f"{counted('expert', both)} of layer {layer} cannot be masked and forced at the same tokens")
    if left < k:
        raise ValueError(
            f"layer {layer} has {config.n_experts} experts, and a token takes {k}: of {len(masked)} masked, {left} are "
            f"left; mask at most {config.n_experts - k}"
        )
    if len(forced) > k:
        raise ValueError(
            f"a token of layer {layer} takes {k} experts, and {len(forced)} are forced ({listed(sorted(forced))}); "
            f"force at most {k}, or set_top_k({len(forced)})"
        )


def _check_nothing_came_between(logits: Tensor, chosen: Tensor) -> None:
    if not torch.equal(logits.topk(chosen.shape[-1], dim=-1).indices, chosen):
        raise RuntimeError(
            "a hook changed the routing between an edit and its effect: enter model.hooks(...) before model.edit(...)"
        )
