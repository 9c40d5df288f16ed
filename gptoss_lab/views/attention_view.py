"""The attention view: which earlier tokens each token reads, head by head, and how much goes to the sink."""

from os import PathLike
from pathlib import Path
from typing import Any

import ipywidgets
import traitlets

from gptoss_lab.trace import Trace
from gptoss_lab.views import front_end
from gptoss_lab.views.attention_data import page_heads, recorded
from gptoss_lab.views.attention_map import DIRECTIONS, STYLE, AttentionMap
from gptoss_lab.views.controls import toggle_buttons
from gptoss_lab.views.heading import heading_html
from gptoss_lab.views.plain_text import visible

TITLE = "What does each token read?"


def attention(trace: Trace) -> "AttentionView":
    """The attention of every recorded head, to look at and click through; `.to_html(path)` makes it one offline file.

    The trace must hold attention: `model.trace(reply, record=("routing", "attention"))`. Raises ValueError otherwise.
    """
    return AttentionView(trace)


class AttentionView(ipywidgets.VBox):
    """Head grid, one head large, and a token strip with arcs.

    `head` ((layer, head)), `pinned` (a position or None) and `direction` ("reads" or "read by") follow what is clicked,
    and may be set; see `AttentionMap`, which is `map`.
    """

    head: Any = traitlets.Tuple()
    pinned = traitlets.Int(None, allow_none=True)
    direction = traitlets.Unicode("reads")

    def __init__(self, trace: Trace) -> None:
        self._aid = _aid(trace)
        self.heading = ipywidgets.HTML(heading_html(TITLE, self._aid))
        self.map = AttentionMap(trace)
        self.direction_buttons = toggle_buttons("Arcs to", DIRECTIONS)
        super().__init__([self.heading, self.direction_buttons, self.map])
        for trait in ("head", "pinned", "direction"):
            traitlets.link((self.map, trait), (self, trait))
        traitlets.link((self.map, "direction"), (self.direction_buttons, "value"))

    def show(self, trace: Trace) -> None:
        """Shows another trace in place."""
        self._aid = _aid(trace)
        self.heading.value = heading_html(TITLE, self._aid)
        self.map.show(trace)

    @traitlets.validate("head", "pinned", "direction")
    def _check(self, proposal: dict[str, Any]) -> Any:
        """The map knows what can be selected."""
        setattr(self.map, proposal["trait"].name, proposal["value"])
        return proposal["value"]

    def to_html(self, path: str | PathLike[str]) -> Path:
        """Writes the view, as it stands, to one HTML file that opens offline and stays interactive; returns `path`.

        Where there are more heads than such a file should hold, the page shows the others small, and says so.
        """
        path = Path(path)
        state: dict[str, Any] = {name: getattr(self.map, name) for name in ("data", "head", "pinned", "direction")}
        page = front_end.page(
            title=TITLE,
            script=front_end.module("attention_page.js"),
            css=front_end.style(*STYLE),
            state=state
            | {
                "heading": [TITLE, self._aid],
                "menus": [["direction", "Arcs to", [list(each) for each in DIRECTIONS]]],
                "heads": page_heads(self.map.trace, self.head),
            },
        )
        path.write_text(page, encoding="utf-8")
        return path


def _aid(trace: Trace) -> str:
    recorded(trace)
    name = f"{visible(trace.model_name)}: " if trace.model_name else ""
    n_layers, n_heads = len(trace.attention_layers), len(trace.attention_heads)
    return (
        f"{name}{n_layers} layer{'s' * (n_layers != 1)} of {n_heads} head{'s' * (n_heads != 1)}. In every head a token "
        "shares out its attention between the tokens so far, itself included, and a sink that holds nothing: what goes "
        "there is left unread."
    )
