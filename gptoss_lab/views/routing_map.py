"""The token strip and the layer by expert map beside it: one ES module, in a notebook and in an exported page."""

from typing import Any

import numpy as np
import traitlets

from gptoss_lab.trace import Trace
from gptoss_lab.views import front_end
from gptoss_lab.views.strip_data import as_bytes
from gptoss_lab.views.token_strip import PANE_STYLE
from gptoss_lab.views.tokens_map import TokensMap

STYLE = (*PANE_STYLE, "expert_map.css", "routing_map.css")

WHOLE = 65535
"""A weight of 1, as it is sent."""


class RoutingMap(TokensMap):
    """Tokens and the experts they went to.

    `cell`: the chosen (layer, expert), or None; it follows clicks and keys, and may be set. The other traits are
    TokenStrip's. The map shows the selected tokens, else the pinned one, else the content of all that are on show.

    `data` goes to the browser whole: the conversation, its quantities, and as bytes (little endian, C order) experts
    uint8 (uint16 above 256 experts) and weights uint16, in 65535ths, both [layer, pos, rank].
    """

    _esm = front_end.module("routing_map.js")
    _css = front_end.style(*STYLE)

    cell: Any = traitlets.Tuple(traitlets.Int(), traitlets.Int(), default_value=None, allow_none=True).tag(sync=True)

    def show(self, trace: Trace) -> None:
        """Shows another trace in place, with nothing pinned or left out."""
        with self.hold_sync():
            self.cell = None
            super().show(trace)

    def _data(self, trace: Trace) -> dict[str, Any]:
        return super()._data(trace) | choices(trace)

    @traitlets.validate("cell")
    def _check_cell(self, proposal: dict[str, Any]) -> tuple[int, int] | None:
        return checked_cell(proposal["value"], self.data["nLayers"], self.data["nExperts"])


def checked_cell(cell: tuple[int, int] | None, n_layers: int, n_experts: int) -> tuple[int, int] | None:
    """The cell, or TraitError where there is no such one."""
    if cell is not None and not (0 <= cell[0] < n_layers and 0 <= cell[1] < n_experts):
        raise traitlets.TraitError(f"cell={cell}: expected a layer below {n_layers}, an expert below {n_experts}")
    return cell


def choices(trace: Trace) -> dict[str, Any]:
    """The routers' choices, for `readChoices` in routing_data.js."""
    return {
        "nLayers": trace.n_layers,
        "nExperts": trace.n_experts,
        "k": trace.expert_indices.shape[2],
        "experts": as_bytes(trace.expert_indices, "u1" if trace.n_experts <= 256 else "<u2"),
        "weights": as_bytes(np.rint(trace.topk_weights.clip(0, 1) * WHOLE), "<u2"),
    }
