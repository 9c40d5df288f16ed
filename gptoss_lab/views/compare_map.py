"""Two runs side by side, their choices of experts and where those differ: one ES module, in both hosts."""

from typing import Any

import traitlets

from gptoss_lab.views import front_end
from gptoss_lab.views.compare_data import compare_data
from gptoss_lab.views.compared import Compared
from gptoss_lab.views.routing_map import STYLE as ROUTING_STYLE
from gptoss_lab.views.routing_map import checked_cell
from gptoss_lab.views.token_strip import TokenStrip

STYLE = (*ROUTING_STYLE, "compare_map.css")


class CompareMap(TokenStrip):
    """The tokens of two runs, and the experts that they went to.

    Positions are those of the first run; `alone` is that of a pinned token which stands in the second alone, there, or
    None. `cell`: the chosen (layer, expert), or None; it follows clicks and keys, and may be set. The other traits are
    TokenStrip's. `data` is what `compare_data` gives.
    """

    _esm = front_end.module("compare_map.js")
    _css = front_end.style(*STYLE)

    cell: Any = traitlets.Tuple(traitlets.Int(), traitlets.Int(), default_value=None, allow_none=True).tag(sync=True)

    alone = traitlets.Int(None, allow_none=True).tag(sync=True)

    def __init__(self, runs: Compared) -> None:
        paired = {int(other) for _, other in runs.pairs}
        self._alone = [] if runs.same_text else [n for n in range(len(runs.second.texts)) if n not in paired]
        super().__init__(data=compare_data(runs))
        self.colour = "flips"

    @traitlets.validate("cell")
    def _check_cell(self, proposal: dict[str, Any]) -> tuple[int, int] | None:
        return checked_cell(proposal["value"], self.data["nLayers"], self.data["nExperts"])

    @traitlets.validate("alone")
    def _check_alone(self, proposal: dict[str, Any]) -> int | None:
        position = proposal["value"]
        if position is not None and position not in self._alone:
            raise traitlets.TraitError(f"alone={position}: no token of that position stands in the second run alone")
        return position

    @traitlets.observe("pinned", "alone")
    def _pin_one(self, change: dict[str, Any]) -> None:
        if change["new"] is not None:
            setattr(self, "alone" if change["name"] == "pinned" else "pinned", None)
