"""Every expert's load, and one expert's tokens: one ES module, in a notebook and in an exported page."""

from typing import Any

import anywidget
import traitlets

from gptoss_lab.trace import Trace
from gptoss_lab.views import front_end
from gptoss_lab.views.experts_data import Promotions, Statistics, busiest, experts_data
from gptoss_lab.views.strip_data import STRIP_STYLE

STYLE = (*STRIP_STYLE, "expert_map.css", "bars.css", "experts_map.css")

ORDERS = [("weight", "weight"), ("place in the text", "position")]


class ExpertsMap(anywidget.AnyWidget):
    """All experts, and what one of them did.

    `expert`: the chosen (layer, expert). `pinned`: the pinned token's position, or None. `order`: how the tokens that
    the expert served are ordered, by "weight" or "position". All three may be set.

    `data` goes to the browser at once (see `experts_data`), `promoted` whenever another expert is chosen (see
    `Promotions`); it is empty where there are no weights to tell.
    """

    _esm = front_end.module("experts_map.js")
    _css = front_end.style(*STYLE)

    data = traitlets.Dict().tag(sync=True)
    promoted = traitlets.Dict().tag(sync=True)
    expert: Any = traitlets.Tuple(traitlets.Int(), traitlets.Int()).tag(sync=True)
    pinned = traitlets.Int(None, allow_none=True).tag(sync=True)
    order = traitlets.Enum([name for _, name in ORDERS], "weight").tag(sync=True)

    def __init__(self, trace: Trace, statistics: Statistics, promotions: Promotions | None) -> None:
        self._promotions = promotions
        self._shape = trace.n_layers, trace.n_experts
        super().__init__(data=experts_data(trace, statistics), expert=busiest(statistics))
        self.observe(self._promote, "expert")
        self._promote()

    def _promote(self, _: object = None) -> None:
        self.promoted = self._promotions.of(*self.expert) if self._promotions else {}

    @traitlets.validate("expert")
    def _check_expert(self, proposal: dict[str, Any]) -> tuple[int, int]:
        layer, expert = proposal["value"]
        n_layers, n_experts = self._shape
        if not (0 <= layer < n_layers and 0 <= expert < n_experts):
            raise traitlets.TraitError(
                f"expert={(layer, expert)}: expected (layer, expert), the layer below {n_layers}, "
                f"the expert below {n_experts}"
            )
        return layer, expert

    @traitlets.validate("pinned")
    def _check_pinned(self, proposal: dict[str, Any]) -> int | None:
        position = proposal["value"]
        if position is not None and not 0 <= position < self.data["nTokens"]:
            raise traitlets.TraitError(f"pinned={position}: this trace has tokens 0 to {self.data['nTokens'] - 1}")
        return position
