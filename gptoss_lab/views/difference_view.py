"""Two branches of a thought side by side: what they say, what they would answer, where they route differently."""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import ipywidgets
import traitlets

from gptoss_lab.views import front_end
from gptoss_lab.views.compare_map import STYLE as COMPARE_STYLE
from gptoss_lab.views.compare_view import CompareView, compare
from gptoss_lab.views.difference_data import difference_data, names, routed_alike
from gptoss_lab.views.heading import heading_html

if TYPE_CHECKING:
    from gptoss_lab.thought.differences import Difference

TITLE = "Two branches, side by side"
STYLE = ("theme.css", "conversation.css", "token_strip.css", "difference_text.css")
AID = "Each under its own settings and interventions. What was thought was not meant for end users."


def difference(difference: "Difference") -> "DifferenceView":
    """What `ThoughtLab.compare` found, to look at; `.to_html(path)` makes it one offline file."""
    return DifferenceView(difference)


class DifferenceView(ipywidgets.VBox):
    """Both texts and what each would answer in `text`; `routing` is the comparing view of both traces, or None."""

    def __init__(self, difference: "Difference") -> None:
        self.text = DifferenceText(data=difference_data(difference))
        self.routing: CompareView | None = None
        if difference.traces is not None and routed_alike(difference):
            self.routing = compare(*difference.traces, pairs=routed_alike(difference), names=names(difference))
            self.routing.part = "reply"
        below = [] if self.routing is None else [self.routing]
        super().__init__([ipywidgets.HTML(heading_html(TITLE, AID)), self.text, *below])

    def to_html(self, path: str | PathLike[str]) -> Path:
        """Writes the view, as it stands, to one HTML file that opens offline and stays interactive; returns `path`."""
        path = Path(path)
        state: dict[str, Any] = {"heading": [TITLE, AID], "difference": self.text.data, "routing": None}
        if self.routing is not None:
            routing = self.routing._page_state()
            shown = {name: routing.pop(name) for name in ("heading", "controls")}
            state |= routing | {"routing": shown}
        page = front_end.page(
            title=TITLE,
            script=front_end.module("difference_page.js"),
            css=front_end.style(*dict.fromkeys((*STYLE, *COMPARE_STYLE))),
            state=state,
        )
        path.write_text(page, encoding="utf-8")
        return path


class DifferenceText(anywidget.AnyWidget):
    """Both texts with what differs marked; `data` is what `difference_data` gives."""

    _esm = front_end.module("difference_text.js")
    _css = front_end.style(*STYLE)

    data: Any = traitlets.Dict().tag(sync=True)
