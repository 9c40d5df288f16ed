"""Where a reply goes while it is written: to a caller's function, and into the notebook cell that runs."""

import sys
from dataclasses import dataclass
from typing import Protocol

from gptoss_lab.harmony import Span, StreamParser


@dataclass(frozen=True)
class StreamedToken:
    """A new token of a chat as it arrives. Its span's channel and recipient are known once the header is complete."""

    token: int
    text: str
    """What the token adds to the visible text: nothing until a character is complete; a control token's own name."""
    span: Span
    logprob: float


class LiveDisplay(Protocol):
    """Shows a reply token by token."""

    @property
    def cell(self) -> int | None:
        """The cell that shows the reply, by its execution count."""
        ...

    def update(self, parser: StreamParser) -> None: ...
    def close(self, status: str) -> None: ...


class _NoDisplay:
    cell = None

    def update(self, parser: StreamParser) -> None:
        pass

    def close(self, status: str) -> None:
        pass


class _CellDisplay:
    """Streams into the notebook cell that runs."""

    def __init__(self, cell: int):
        from gptoss_lab.views.stream import LiveReply

        self.cell = cell
        self._view = LiveReply()
        self._view.show()

    def update(self, parser: StreamParser) -> None:
        self._view.update(lambda: parser.messages)

    def close(self, status: str) -> None:
        self._view.finish(status)


def live_display(wanted: bool) -> LiveDisplay:
    """A display in the cell that runs, where one is wanted and there is a notebook."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if not wanted or shell is None or type(shell).__name__ != "ZMQInteractiveShell":
        return _NoDisplay()
    return _CellDisplay(shell.execution_count)
