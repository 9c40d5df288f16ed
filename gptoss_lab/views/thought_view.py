"""The thought view: a tree of branches, and the tokens and steps of one of them."""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets
import traitlets

from gptoss_lab.views import front_end
from gptoss_lab.views.controls import controls_row, toggle_buttons
from gptoss_lab.views.heading import heading_html
from gptoss_lab.views.plain_text import visible
from gptoss_lab.views.thought_data import page_branches
from gptoss_lab.views.thought_map import STYLE, ThoughtMap

if TYPE_CHECKING:
    from gptoss_lab.thought.lab import ThoughtLab

TITLE = "How did the thought go, and how might it have gone?"
PARTS = [("Everything", None), ("Prompt", "prompt"), ("Reply", "reply")]
COLOURS = [("channel", "channel"), ("surprisal", "surprisal"), ("entropy", "entropy")]
CONTROLS: dict[str, tuple[str, list[tuple[str, Any]]]] = {"part": ("Show", PARTS), "colour": ("Colour by", COLOURS)}
FOLLOWED = ("branch", "pinned", "selection", "part", "colour")


def thoughts(thoughts: "ThoughtLab") -> "ThoughtView":
    """A thought lab's branches, to read and click through; `.to_html(path)` makes it one offline file.

    To make more of them with the mouse: `lab.ThoughtDesk(thoughts)`.
    """
    return ThoughtView(thoughts)


class ThoughtView(ipywidgets.VBox):
    """The branches of a thought lab.

    `branch` (a number), `pinned`, `selection`, `part` and `colour` follow what is clicked, and may be set; see
    `ThoughtMap`, which `map` is.
    """

    branch = traitlets.Int(None, allow_none=True)
    pinned = traitlets.Int(None, allow_none=True)
    selection: Any = traitlets.Tuple(default_value=None, allow_none=True)
    part = traitlets.Unicode("reply", allow_none=True)
    colour = traitlets.Unicode("channel")

    def __init__(self, thoughts: "ThoughtLab", *above: ipywidgets.Widget, live: bool = False) -> None:
        self.thoughts = thoughts
        self.map = ThoughtMap(live)
        self.heading = ipywidgets.HTML()
        self.by_name = {name: toggle_buttons(*control) for name, control in CONTROLS.items()}
        super().__init__([self.heading, *above, controls_row(*self.by_name.values()), self.map])
        self.refresh()
        for name in FOLLOWED:
            traitlets.link((self.map, name), (self, name))
        for name, control in self.by_name.items():
            traitlets.link((self.map, name), (control, "value"))

    def refresh(self, chosen: int | None = None) -> None:
        """Shows the branches as they are now, and the text of `chosen`; of the one on show where not given."""
        branches = self.thoughts.branches
        if chosen is None and self.map.branch is None and branches:
            chosen = branches[0].number
        self.map.show(branches, chosen)
        self.heading.value = heading_html(TITLE, self._aid())

    def to_html(self, path: str | PathLike[str]) -> Path:
        """Writes the view, as it stands, to one HTML file that opens offline, every branch in it; returns `path`."""
        path = Path(path)
        page = front_end.page(
            title=TITLE,
            script=front_end.module("thought_page.js"),
            css=front_end.style(*STYLE),
            state=self._page_state(),
        )
        path.write_text(page, encoding="utf-8")
        return path

    def _page_state(self) -> dict[str, Any]:
        kept = ("tree", "branch", "pinned", "selection", "part", "role", "channel", "colour", "layer")
        return {name: getattr(self.map, name) for name in kept} | {
            "live": False,
            "heading": [TITLE, self._aid()],
            "controls": [
                {"name": name, "title": title, "options": [list(each) for each in options]}
                for name, (title, options) in CONTROLS.items()
            ],
            "store": page_branches(self.map.branches),
        }

    def _aid(self) -> str:
        question = visible(self.thoughts.question[-1].content).replace("\n", " ↵ ")
        count = len(self.thoughts)
        return f"“{question}” {count:,} branch{'' if count == 1 else 'es'}."
