"""The grid of guesses, a row a token and a column a point: one ES module, in a notebook and in an exported page."""

from typing import Any

import anywidget
import traitlets

from gptoss_lab.trace import Trace
from gptoss_lab.views import front_end
from gptoss_lab.views.lens_data import lens_data
from gptoss_lab.views.strip_data import STRIP_STYLE

STYLE = (*STRIP_STYLE, "bars.css", "lens_grid.css")

COLOURS = [
    ("probability of the guess", "probability"),
    ("entropy", "entropy"),
    ("rank of what came next", "rank"),
]
DETAILS = [("after each layer", "layers"), ("after attention too", "all")]


class LensGrid(anywidget.AnyWidget):
    """What the model would say after each token, were it to stop at each point.

    `pinned`: the pinned token's position, or None. `point`: the number of the chosen point, or None. `colour`: what the
    colours mean, a value of COLOURS. `detail`: which points are on show, a value of DETAILS. All may be set.

    `data` goes to the browser whole (see `lens_data`).
    """

    _esm = front_end.module("lens_grid.js")
    _css = front_end.style(*STYLE)

    data = traitlets.Dict().tag(sync=True)
    pinned = traitlets.Int(None, allow_none=True).tag(sync=True)
    point = traitlets.Int(None, allow_none=True).tag(sync=True)
    colour = traitlets.Enum([name for _, name in COLOURS], "probability").tag(sync=True)
    detail = traitlets.Enum([name for _, name in DETAILS], "layers").tag(sync=True)

    def __init__(self, trace: Trace) -> None:
        super().__init__(data=lens_data(trace))

    def show(self, trace: Trace) -> None:
        """Shows another trace in place, with nothing pinned."""
        data = lens_data(trace)
        with self.hold_sync():
            self.pinned, self.point = None, None
            self.data = data

    @traitlets.validate("pinned")
    def _check_pinned(self, proposal: dict[str, Any]) -> int | None:
        position = proposal["value"]
        if position is not None and not 0 <= position < self.data["nTokens"]:
            raise traitlets.TraitError(f"pinned={position}: this trace has tokens 0 to {self.data['nTokens'] - 1}")
        return position

    @traitlets.validate("point")
    def _check_point(self, proposal: dict[str, Any]) -> int | None:
        point, places = proposal["value"], self.data["places"]
        if point is not None and not 0 <= point < len(places):
            raise traitlets.TraitError(
                f"point={point}: this trace has points 0 ({places[0]}) to {len(places) - 1} ({places[-1]})"
            )
        return point
