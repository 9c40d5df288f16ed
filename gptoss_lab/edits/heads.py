"""Edits of attention: heads that say nothing, tokens that are not looked at, sinks that take nothing.

A pattern changes only where an edit says so. What is knocked out is set to zero, and the rest stays as it was, unless
`renormalise=True` asks for the softmax to be taken without it. To remove a sink is to share its mass out, each key in
proportion to what it has: the softmax over the keys alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor

from gptoss_lab.config import ModelConfig
from gptoss_lab.edits.base import Edit, Hooks, in_range, of_kind, optional_numbers, whole_numbers
from gptoss_lab.edits.sight import Sight
from gptoss_lab.edits.where import EVERYWHERE, Conditions, Positions, Where, at
from gptoss_lab.edits.wording import counted
from gptoss_lab.hooks import HookFunction, HookPoint

Numbers = int | Iterable[int]


def ablate_head(head: Numbers | None = None, layer: Numbers | None = None, **where: Unpack[Conditions]) -> "AblateHead":
    """What the head read, `hook_z`, is zero. head: one, several or (None) every head; layer: likewise.

    For the conditions see `edits.at`.
    """
    return AblateHead(optional_numbers("head", head), layers=optional_numbers("layer", layer), where=at(**where))


def remove_sink(head: Numbers | None = None, layer: Numbers | None = None, **where: Unpack[Conditions]) -> "RemoveSink":
    """The head's sink takes no mass: each row of its pattern is divided by its sum, and sums to 1.

    A row that is zero throughout, its every key knocked out, stays so. `hook_sink` fires before, and shows what the
    sink would have taken.
    """
    return RemoveSink(optional_numbers("head", head), layers=optional_numbers("layer", layer), where=at(**where))


def knock_out_attention(
    from_: "Where | Positions | None" = None,
    to: "Where | Positions | None" = None,
    head: Numbers | None = None,
    layer: Numbers | None = None,
    *,
    renormalise: bool = False,
) -> "KnockOutAttention":
    """The tokens of `from_` do not attend to those of `to`: their entries in the pattern are zero.

    from_, to: positions, or `edits.at(channel="final")` and its like; None is every token.
    renormalise: the scores are masked instead, so that what is left, the sink included, shares out the mass.
    """
    return KnockOutAttention(
        optional_numbers("head", head),
        _place(to),
        renormalise,
        layers=optional_numbers("layer", layer),
        where=_place(from_),
    )


@dataclass(frozen=True)
class _OfHeads(Edit):
    heads: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.heads is not None:
            whole_numbers("head", self.heads)

    def check(self, config: ModelConfig) -> None:
        super().check(config)
        in_range("head", self.heads, config.n_heads)

    @property
    def _subject(self) -> str:
        return f"{counted('head', self.heads)} {self._of_layers}"


@dataclass(frozen=True)
class AblateHead(_OfHeads):
    """See `ablate_head`."""

    def __str__(self) -> str:
        several = self.heads is not None and len(self.heads) > 1
        return f"{self._subject} {'are' if several else 'is'} ablated{self.where.adverb}"


@dataclass(frozen=True)
class RemoveSink(_OfHeads):
    """See `remove_sink`."""

    def __str__(self) -> str:
        return f"the sink of {self._subject} is removed{self.where.adverb}"


@dataclass(frozen=True)
class KnockOutAttention(_OfHeads):
    """See `knock_out_attention`; `where` is where attention comes from."""

    to: Where = EVERYWHERE
    renormalise: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.to, Where) or not isinstance(self.renormalise, bool):
            raise ValueError(f"to is a place and renormalise a boolean; got {self.to!r} and {self.renormalise!r}")

    def check(self, config: ModelConfig) -> None:
        super().check(config)
        self.to.check(config.n_ctx)

    def __str__(self) -> str:
        source = "" if self.where == EVERYWHERE else f" from {self.where}"
        target = "" if self.to == EVERYWHERE else f" to {self.to}"
        after = ", and what is left is weighed again" if self.renormalise else ""
        return f"attention of {self._subject}{source}{target} is knocked out{after}"


def attention_hooks(edits: Sequence[Edit], config: ModelConfig, sight: Sight) -> Hooks:
    """The hooks of all edits of attention. Patterns and scores are only asked for where an edit needs them."""

    def ablated(edit: AblateHead) -> HookFunction:
        def change(z: Tensor, hook: HookPoint) -> Tensor:  # [batch, pos, head, d_head]
            meant = sight.touched(edit.where, hook)[..., None] & _members(edit.heads, config, z)
            return z.masked_fill(meant[..., None], 0)

        return change

    def without_sink(edit: RemoveSink) -> HookFunction:
        def change(pattern: Tensor, hook: HookPoint) -> Tensor:  # [batch, head, q_pos, k_pos]
            total = pattern.sum(dim=-1, keepdim=True)
            meant = sight.touched(edit.where, hook)[:, None, :] & _members(edit.heads, config, pattern)[:, None]
            return torch.where(meant[..., None] & (total > 0), pattern / total, pattern)

        return change

    def knocked_out(edit: KnockOutAttention, filling: float) -> HookFunction:
        def change(pattern: Tensor, hook: HookPoint) -> Tensor:  # or scores: [batch, head, q_pos, k_pos]
            queries, keys = sight.touched(edit.where, hook), sight.touched_so_far(edit.to, hook)
            meant = (queries[:, :, None] & keys[:, None, :])[:, None]
            return pattern.masked_fill(meant & _members(edit.heads, config, pattern)[:, None, None], filling)

        return change

    knock_outs = of_kind(edits, KnockOutAttention)
    plan: list[tuple[Edit, str, HookFunction]] = [
        *((edit, "hook_attn_scores", knocked_out(edit, -torch.inf)) for edit in knock_outs if edit.renormalise),
        *((edit, "hook_pattern", without_sink(edit)) for edit in of_kind(edits, RemoveSink)),
        *((edit, "hook_pattern", knocked_out(edit, 0.0)) for edit in knock_outs if not edit.renormalise),
        *((edit, "hook_z", ablated(edit)) for edit in of_kind(edits, AblateHead)),
    ]
    return [(f"blocks.{layer}.attn.{point}", hook) for edit, point, hook in plan for layer in edit.layers_of(config)]


def _place(given: "Where | Positions | None") -> Where:
    return given if isinstance(given, Where) else at(given)


def _members(heads: Sequence[int] | None, config: ModelConfig, beside: Tensor) -> Tensor:
    """Which heads are meant, bool [head], on the device of another tensor."""
    members = torch.zeros(config.n_heads, dtype=torch.bool, device=beside.device)
    members[list(range(config.n_heads) if heads is None else heads)] = True
    return members
