"""The routing view: which experts each token went to, and how the work was shared between them."""

from importlib import resources
from typing import Any

import traitlets

from gptoss_lab.trace import Trace
from gptoss_lab.views import front_end
from gptoss_lab.views.load_chart import LoadChart
from gptoss_lab.views.plain_text import visible
from gptoss_lab.views.routing_map import STYLE, RoutingMap
from gptoss_lab.views.tokens_view import TokensView


def routing(trace: Trace) -> "RoutingView":
    """The routing of every token, to look at and click through; `.to_html(path)` makes it one offline file."""
    return RoutingView(trace)


class RoutingView(TokensView):
    """Token strip, layer by expert map and load chart, with their controls.

    `cell` ((layer, expert) or None) and all that TokensView has follow what is clicked, and may be set; see
    `RoutingMap`. `map` and `chart` are the parts.
    """

    TITLE = "Which experts did each token go to?"
    FOLLOWED = (*TokensView.FOLLOWED, "cell")

    cell: Any = traitlets.Tuple(default_value=None, allow_none=True)

    def __init__(self, trace: Trace) -> None:
        self.chart = LoadChart(trace)
        super().__init__(trace, self.chart)

    def show(self, trace: Trace) -> None:
        """Shows another trace in place."""
        super().show(trace)
        self.chart.show(trace)

    def _page(self) -> dict[str, Any]:
        page = super()._page()
        plotly = resources.files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
        return page | {
            "script": front_end.module("routing_page.js"),
            "css": front_end.style(*STYLE, "load_chart.css"),
            "state": page["state"] | {"load": self.chart.exported()},
            "library": plotly,
        }

    def _map_of(self, trace: Trace) -> RoutingMap:
        return RoutingMap(trace)

    def _aid_of(self, trace: Trace) -> str:
        name = f"{visible(trace.model_name)}: " if trace.model_name else ""
        k = trace.expert_indices.shape[2]
        return (
            f"{name}{trace.n_layers} layers of {trace.n_experts} experts. In every layer a router sends each token to "
            f"{k} of the {trace.n_experts}, and says how much weight each of them gets."
        )

    @traitlets.validate("cell")
    def _check_cell(self, proposal: dict[str, Any]) -> Any:
        """The map knows what can be selected."""
        self.map.cell = proposal["value"]
        return proposal["value"]
