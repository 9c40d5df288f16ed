"""The tokens view: the plainest look at a trace, token by token."""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets
import traitlets

from gptoss_lab.trace import Trace
from gptoss_lab.views import front_end
from gptoss_lab.views.heading import heading_html
from gptoss_lab.views.plain_text import visible
from gptoss_lab.views.strip_controls import StripControls, exported_controls
from gptoss_lab.views.token_strip import BY_CHANNEL, PANE_STYLE, TokenStrip

if TYPE_CHECKING:
    from gptoss_lab.reply import Reply


def tokens(trace: "Trace | Reply") -> "TokensView":
    """Every token of a trace, or of a reply that has one, with its message, channel, probability and alternatives, and
    how decided the routers were; `.to_html(path)` makes it one offline file.

    Raises ValueError for a reply without a trace.
    """
    if isinstance(trace, Trace):
        return TokensView(trace)
    if trace.trace is None:
        raise ValueError('this reply holds no trace: give model.trace(reply), or chat with record=("routing",)')
    return TokensView(trace.trace)


class TokensView(ipywidgets.VBox):
    """A token strip with its controls.

    `pinned`, `selection`, `part`, `role`, `channel`, `colour` and `layer` follow what is clicked, and may be set; see
    `TokenStrip`, which `map` is.
    """

    TITLE = "What was said, token by token"
    FOLLOWED: tuple[str, ...] = ("pinned", "selection", "part", "role", "channel", "colour", "layer")

    pinned = traitlets.Int(None, allow_none=True)
    selection: Any = traitlets.Tuple(default_value=None, allow_none=True)
    part = traitlets.Unicode(None, allow_none=True)
    role = traitlets.Unicode(None, allow_none=True)
    channel = traitlets.Unicode(None, allow_none=True)
    colour = traitlets.Unicode(BY_CHANNEL)
    layer = traitlets.Int(None, allow_none=True)

    def __init__(self, trace: Trace, *below: ipywidgets.Widget) -> None:
        self._aid = self._aid_of(trace)
        self.heading = ipywidgets.HTML(heading_html(self.TITLE, self._aid))
        self.map = self._map_of(trace)
        self.controls = StripControls(self.map)
        super().__init__([self.heading, self.controls, self.map, *below])
        for name in self.FOLLOWED:
            traitlets.link((self.map, name), (self, name))

    def show(self, trace: Trace) -> None:
        """Shows another trace in place."""
        self._aid = self._aid_of(trace)
        self.heading.value = heading_html(self.TITLE, self._aid)
        self.map.show(trace)
        self.controls.refresh()

    def to_html(self, path: str | PathLike[str]) -> Path:
        """Writes the view, as it stands, to one HTML file that opens offline and stays interactive; returns `path`."""
        path = Path(path)
        path.write_text(front_end.page(title=self.TITLE, **self._page()), encoding="utf-8")
        return path

    def _page(self) -> dict[str, Any]:
        state = {name: getattr(self.map, name) for name in ("data", *self.FOLLOWED)}
        return {
            "script": front_end.module("tokens_page.js"),
            "css": front_end.style(*PANE_STYLE),
            "state": state | {"heading": [self.TITLE, self._aid], "controls": exported_controls(self.map)},
        }

    def _map_of(self, trace: Trace) -> TokenStrip:
        return TokenStrip(trace)

    def _aid_of(self, trace: Trace) -> str:
        name = f"{visible(trace.model_name)}: " if trace.model_name else ""
        return (
            f"{name}{trace.n_prompt:,} tokens of the prompt, {len(trace.token_ids) - trace.n_prompt:,} of the reply. "
            "A token is a word, or a piece of one; each message begins and ends with control tokens."
        )

    @traitlets.validate("pinned", "selection", "part", "role", "channel", "colour", "layer")
    def _check(self, proposal: dict[str, Any]) -> Any:
        """The strip knows what can be selected."""
        setattr(self.map, proposal["trait"].name, proposal["value"])
        return proposal["value"]
