"""Interventions: what to change in a run, as values that compose, say what they do, and travel with a trace.

    from gptoss_lab import edits

    edit = edits.ablate_expert(expert=7, layer=3, channel="analysis")
    print(edit)                                          # expert 7 of layer 3 is ablated on the analysis channel
    with model.edit(edit): model.chat("What is 38 + 57?")
    with model.edit(edit + edits.remove_sink(layer=0)): ...

Each acts in one layer, several or all, on the tokens that meet the conditions of `at` (positions, channel, role,
section, message), while generating as in one pass over a text. What cannot be carried out, or contradicts itself,
raises ValueError before anything runs. On a bare `Transformer`: `transformer.hooks(edits.fwd_hooks(edit, config))`.

    experts      ablate_expert, scale_expert, mask_expert, force_expert, swap_experts, bias_router, set_top_k
    heads        ablate_head, knock_out_attention, remove_sink
    activations  patch, steer
"""

from gptoss_lab.edits.activations import patch, steer
from gptoss_lab.edits.applying import check, describe, from_json, fwd_hooks, to_json
from gptoss_lab.edits.base import Edit, Edits, flat
from gptoss_lab.edits.experts import (
    ablate_expert,
    bias_router,
    force_expert,
    mask_expert,
    scale_expert,
    set_top_k,
    swap_experts,
)
from gptoss_lab.edits.heads import ablate_head, knock_out_attention, remove_sink
from gptoss_lab.edits.sight import touched
from gptoss_lab.edits.where import Conditions, Where, at

__all__ = [
    "Conditions",
    "Edit",
    "Edits",
    "Where",
    "ablate_expert",
    "ablate_head",
    "at",
    "bias_router",
    "check",
    "describe",
    "flat",
    "force_expert",
    "from_json",
    "fwd_hooks",
    "knock_out_attention",
    "mask_expert",
    "patch",
    "remove_sink",
    "scale_expert",
    "set_top_k",
    "steer",
    "swap_experts",
    "to_json",
    "touched",
]
