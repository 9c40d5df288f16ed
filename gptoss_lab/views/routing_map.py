"""The token strip and the layer by expert map beside it: one ES module, in a notebook and in an exported page."""

from typing import Any, NamedTuple

import anywidget
import numpy as np
import traitlets
from numpy.typing import NDArray

from gptoss_lab.analyses import routing
from gptoss_lab.trace import Trace
from gptoss_lab.views import front_end
from gptoss_lab.views.plain_text import quoted
from gptoss_lab.views.strip_data import STRIP_STYLE, as_bytes, conversation

STYLE = (*STRIP_STYLE, "expert_map.css", "routing_map.css")


class RoutingMap(anywidget.AnyWidget):
    """Tokens and the experts they went to.

    `pinned`: the pinned token's position, or None. `cell`: the chosen (layer, expert), or None. `shown`: the name of
    the group of tokens on show, "all" or another of `groups`. All three follow clicks and keys, and may be set.

    `data` goes to the browser whole, its arrays as bytes (little endian, C order): experts uint8 (uint16 above 256
    experts) and weights float32 [layer, pos, rank]; members uint8 [group, pos]; sums float32 and choosers int32 [group,
    layer, expert], over a group's content tokens; and the conversation (see `strip_data`).
    """

    _esm = front_end.module("routing_map.js")
    _css = front_end.style(*STYLE)

    data = traitlets.Dict().tag(sync=True)
    pinned = traitlets.Int(None, allow_none=True).tag(sync=True)
    cell: Any = traitlets.Tuple(traitlets.Int(), traitlets.Int(), default_value=None, allow_none=True).tag(sync=True)
    shown = traitlets.Unicode("all").tag(sync=True)

    def __init__(self, trace: Trace) -> None:
        super().__init__(data=_data(trace))

    def show(self, trace: Trace) -> None:
        """Shows another trace in place, with nothing pinned."""
        with self.hold_sync():
            self.pinned, self.cell, self.shown = None, None, "all"
            self.data = _data(trace)

    @property
    def groups(self) -> list[tuple[str, str]]:
        """What can be on show: (name, title)."""
        return [(group["name"], group["title"]) for group in self.data["groups"]]

    @traitlets.validate("pinned")
    def _check_pinned(self, proposal: dict[str, Any]) -> int | None:
        position = proposal["value"]
        if position is not None and not 0 <= position < self.data["nTokens"]:
            raise traitlets.TraitError(f"pinned={position}: this trace has tokens 0 to {self.data['nTokens'] - 1}")
        return position

    @traitlets.validate("cell")
    def _check_cell(self, proposal: dict[str, Any]) -> tuple[int, int] | None:
        cell = proposal["value"]
        n_layers, n_experts = self.data["nLayers"], self.data["nExperts"]
        if cell is not None and not (0 <= cell[0] < n_layers and 0 <= cell[1] < n_experts):
            raise traitlets.TraitError(f"cell={cell}: expected a layer below {n_layers}, an expert below {n_experts}")
        return cell

    @traitlets.validate("shown")
    def _check_shown(self, proposal: dict[str, Any]) -> str:
        names = [name for name, _ in self.groups]
        if proposal["value"] not in names:
            raise traitlets.TraitError(f"shown={proposal['value']!r}: expected one of {', '.join(map(repr, names))}")
        return proposal["value"]


class _Group(NamedTuple):
    name: str
    title: str  # on its button
    label: str  # in a sentence: "experts of ..."
    member: NDArray[np.bool_]  # [pos]


def _data(trace: Trace) -> dict[str, Any]:
    groups = _groups(trace)
    counted = [group.member & routing.content(trace) for group in groups]
    totals = [routing.expert_sums(trace, where) for where in counted]
    return {
        **conversation(trace),
        "nLayers": trace.n_layers,
        "nExperts": trace.n_experts,
        "k": trace.expert_indices.shape[2],
        "groups": [
            {"name": group.name, "title": group.title, "label": group.label, "counted": int(where.sum())}
            for group, where in zip(groups, counted, strict=True)
        ],
        "experts": as_bytes(trace.expert_indices, "u1" if trace.n_experts <= 256 else "<u2"),
        "weights": as_bytes(trace.topk_weights, "<f4"),
        "members": as_bytes([group.member for group in groups], "u1"),
        "sums": as_bytes([weight for weight, _ in totals], "<f4"),
        "choosers": as_bytes([tokens for _, tokens in totals], "<i4"),
    }


def _groups(trace: Trace) -> list[_Group]:
    """Everything, the prompt, the reply, and then each speaker in order of appearance."""
    in_reply = routing.reply(trace)
    speaker_of = routing.labels(trace, "speaker")
    groups = [_Group("all", "Everything", "the whole conversation", np.ones_like(in_reply))]
    if in_reply.any() and not in_reply.all():
        groups.append(_Group("prompt", "Prompt", "the prompt", ~in_reply))
        groups.append(_Group("reply", "Reply", "the reply", in_reply))
    for speaker in dict.fromkeys(speaker_of):
        name = quoted(speaker)
        groups.append(_Group(f"speaker:{speaker}", name, f"“{name}”", speaker_of == speaker))
    return groups
