"""A reply as it is written, in a notebook cell."""

from collections.abc import Callable, Sequence
from typing import Any

import anywidget
import traitlets

from gptoss_lab.views import front_end
from gptoss_lab.views.conversation import FINISHES, Block, MessageLike, blocks
from gptoss_lab.views.reply import blocks_html
from gptoss_lab.views.throttle import SHORTEST_PAUSE, Throttle

CHARACTERS_PER_SECOND = 400_000
"""An update carries the whole text, so a long text is sent less often."""

Messages = Sequence[MessageLike] | Callable[[], Sequence[MessageLike]]
"""What is shown; or what gives it, and is only asked when it is shown, which most tokens are too fast for."""


class LiveReply(anywidget.AnyWidget):
    """Shows messages while they are written: `show()` once, `update(messages)` with every token, `finish(status)`.

    Updates that come too fast are shown together, a little later, and the last one always. Any thread may call these.
    What `show` put into a cell becomes plain HTML at the finish, which a saved notebook keeps: a widget lives as long
    as its kernel.
    """

    _esm = front_end.module("stream.js")
    _css = front_end.style("theme.css", "conversation.css")

    blocks: Any = traitlets.List().tag(sync=True)
    status = traitlets.Unicode().tag(sync=True)
    running = traitlets.Bool(False).tag(sync=True)

    _latest: Messages = ()
    _place: Any = None

    def __init__(self) -> None:
        super().__init__()
        self._throttle = Throttle(self._show_latest)

    def show(self) -> None:
        """Displays the widget in the cell that runs."""
        from IPython.display import display

        self.start()
        self._place = display(self, display_id=True)

    def start(self) -> None:
        """Begins anew, with nothing written yet."""
        self._throttle.stop()
        self._latest = ()
        with self.hold_sync():
            self.blocks, self.status, self.running = [], "Reading the prompt.", True

    def update(self, messages: Messages) -> None:
        """Shows the messages as they are now, all of them; later, if the last update was just before."""
        self._latest = messages
        self._throttle()

    def finish(self, status: str = "stop") -> None:
        """Shows the last messages, and why the reply ended: a `Reply.finish`, or a sentence."""
        self._throttle.stop()
        with self.hold_sync():
            self.blocks, self.status, self.running = self._blocks(), FINISHES.get(status, status), False
        if self._place is not None:
            from IPython.display import HTML

            self._place.update(HTML(blocks_html(self.blocks, self.status)))

    def _show_latest(self) -> float:
        written = self._blocks()
        with self.hold_sync():
            self.blocks, self.status = written, "Writing."
        return max(SHORTEST_PAUSE, sum(len(block["text"]) for block in written) / CHARACTERS_PER_SECOND)

    def _blocks(self) -> list[Block]:
        return blocks(self._latest() if callable(self._latest) else self._latest)
