"""From edits to hooks, having seen that they can be, and to words and JSON and back."""

import json
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from torch import Tensor

from gptoss_lab.config import ModelConfig
from gptoss_lab.edits.activations import Patch, Steer, Values, activation_hooks, check_activations
from gptoss_lab.edits.base import Edit, Edits, Hooks, flat
from gptoss_lab.edits.experts import BiasRouter, ForceExpert, MaskExpert, ScaleExpert, SetTopK, SwapExperts
from gptoss_lab.edits.heads import AblateHead, KnockOutAttention, RemoveSink, attention_hooks
from gptoss_lab.edits.routing import check_routing, routing_hooks
from gptoss_lab.edits.sight import Sight
from gptoss_lab.edits.where import Where
from gptoss_lab.hooks import HookFunction, HookPoint

if TYPE_CHECKING:
    from tiktoken import Encoding

KINDS: dict[str, type[Edit]] = {
    "scale_expert": ScaleExpert,
    "mask_expert": MaskExpert,
    "force_expert": ForceExpert,
    "swap_experts": SwapExperts,
    "bias_router": BiasRouter,
    "set_top_k": SetTopK,
    "ablate_head": AblateHead,
    "knock_out_attention": KnockOutAttention,
    "remove_sink": RemoveSink,
    "patch": Patch,
    "steer": Steer,
}
"""Every kind of edit, by the name that it has in JSON."""


def always() -> bool:
    return True


def fwd_hooks(
    edits: Edits,
    config: ModelConfig,
    tokenizer: "Encoding | None" = None,
    is_active: Callable[[], bool] = always,
) -> Hooks:
    """The hooks that carry out edits, for `Transformer.hooks`. The order in which they are given does not matter,
    but for swaps that share an expert.

    tokenizer: needed by edits that ask for a channel, role, section or message.
    is_active: asked at every hook; where it says no, the hook does nothing.

    Raises ValueError as `check` does, and for edits that need a tokenizer where there is none.
    """
    several = flat(edits)
    check(several, config)
    places = [edit.where for edit in several] + [edit.to for edit in several if isinstance(edit, KnockOutAttention)]
    if tokenizer is None and any(place.needs_text for place in places):
        raise ValueError("to act by channel, role, section or message, the model's tokenizer is needed: tokenizer=...")
    sight = Sight(tokenizer)
    hooks = [
        *activation_hooks(several, config, sight),
        *routing_hooks(several, config, sight),
        *attention_hooks(several, config, sight),
    ]
    return [(point, _while_active(hook, is_active)) for point, hook in hooks]


def check(edits: Edits, config: ModelConfig) -> None:
    """Raises ValueError, naming what was given and what is possible, for edits that cannot be carried out: with layers,
    experts, heads, positions or shapes that the model does not have, or that contradict each other.
    """
    several = flat(edits)
    for edit in several:
        edit.check(config)
    check_routing(several, config)
    check_activations(several, config)


def describe(edits: Edits) -> list[str]:
    """Each edit in plain words."""
    return [str(edit) for edit in flat(edits)]


def to_json(edits: Edits) -> str:
    """The edits as JSON, from which `from_json` makes them again. Patches and directions are in it as they are."""
    return json.dumps([_to_data(edit) for edit in flat(edits)])


def from_json(text: str) -> tuple[Edit, ...]:
    """The edits that `to_json` wrote. Raises ValueError for anything else."""
    data = json.loads(text)
    if not isinstance(data, list):
        raise ValueError(f"edits are a list in JSON; got {type(data).__name__}")
    return tuple(map(_from_data, data))


def _to_data(edit: Edit) -> dict[str, Any]:
    kind = next(name for name, kind in KINDS.items() if type(edit) is kind)
    values = {field.name: getattr(edit, field.name) for field in fields(edit)}
    plain = {
        name: value.to_json() if isinstance(value, (Where, Values)) else value
        for name, value in values.items()
        if value is not None
    }
    return {"edit": kind, "says": str(edit), **plain}


def _from_data(data: Any) -> Edit:
    if not isinstance(data, dict) or data.get("edit") not in KINDS:
        raise ValueError(f"an edit in JSON has one of the names {', '.join(KINDS)}; got {str(data)[:200]!r}")
    kind = KINDS[data["edit"]]
    values = {name: _from_plain(name, value) for name, value in data.items() if name not in ("edit", "says")}
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"this is no {data['edit']}: {error}") from None


def _from_plain(name: str, value: Any) -> Any:
    if name in ("where", "to"):
        return Where.from_json(value)
    if name in ("values", "direction"):
        return Values.from_json(value)
    return tuple(value) if isinstance(value, list) else value


def _while_active(hook: HookFunction, is_active: Callable[[], bool]) -> HookFunction:
    def hook_while_active(tensor: Tensor, point: HookPoint) -> Tensor | None:
        return hook(tensor, point) if is_active() else None

    return hook_while_active
