"""A thought while it is written, token by token, with what the model expected in the place of each."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from gptoss_lab.harmony import StreamParser
from gptoss_lab.views import front_end
from gptoss_lab.views.conversation import blocks
from gptoss_lab.views.plain_text import as_token, quoted
from gptoss_lab.views.strip_data import section_of
from gptoss_lab.views.throttle import Throttle
from gptoss_lab.views.token_strip import PANE_STYLE

if TYPE_CHECKING:
    from gptoss_lab.thought.tree import Token

STYLE = (*PANE_STYLE, "bars.css", "thought_map.css", "conversation.css", "live_thought.css")


class LiveThought(anywidget.AnyWidget):
    """Shows tokens as they come: `start(...)` once, `push(token)` with every one, `finish(status)`.

    Each token is sent once, with its probability, the entropy at its place and what else was likely there. Any thread
    may call these. A browser that comes late asks for all of them.
    """

    _esm = front_end.module("live_thought.js")
    _css = front_end.style(*STYLE)

    status = traitlets.Unicode().tag(sync=True)
    running = traitlets.Bool(False).tag(sync=True)

    def __init__(self) -> None:
        super().__init__()
        self._parser: StreamParser | None = None
        self._n_prompt = 0
        self._waiting: deque[Token] = deque()
        self._written: list[list[Any]] = []
        self._throttle = Throttle(self._send_new)
        self.on_msg(self._answer)

    def start(self, parser: StreamParser, n_prompt: int, so_far: Sequence["Token"] = ()) -> None:
        """Begins anew.

        parser: one that has read nothing and counts from 0. so_far: what stands in the reply already.
        """
        self._throttle.stop()
        self._parser, self._n_prompt, self._written, self._waiting = parser, n_prompt, [], deque(so_far)
        with self.hold_sync():
            self.status, self.running = "Reading the prompt.", True
        self._throttle.flush()

    def push(self, token: "Token") -> None:
        """A token more."""
        self._waiting.append(token)
        self._throttle()

    def finish(self, status: str) -> None:
        """Says why it ended, and shows no token any more: they stand in the tree now."""
        self._throttle.stop()
        self._parser, self._written = None, []
        with self.hold_sync():
            self.status, self.running = status, False
        self.send(self._from(0))

    def _send_new(self) -> None:
        if self._parser is None:
            return
        first = len(self._written)
        while self._waiting:
            token = self._waiting.popleft()
            span = self._parser.push(token.id)
            self._written.append(_entry(token, span.message, section_of(token.text, span)))
        if first == len(self._written) > 0:
            return
        if self._written:
            self.status = "Writing."
        self.send(self._from(first))

    def _from(self, first: int) -> dict[str, Any]:
        """The tokens from one on, and what is known of the messages that they stand in."""
        tokens = self._written[first:]
        message = tokens[0][0] if tokens else 0
        messages = self._parser.messages[message:] if self._parser is not None and tokens else []
        heads = blocks([replace(each, content="") for each in messages])
        return {"first": first, "nPrompt": self._n_prompt, "tokens": tokens, "message": message, "heads": heads}

    def _answer(self, _: Any, content: Any, __: Any) -> None:
        if content == "all":
            self._throttle.flush()
            self.send(self._from(0))


def _entry(token: "Token", message: int, section: int) -> list[Any]:
    """A token as live_thought.js reads it."""
    return [
        message,
        section,
        as_token(token.text),
        quoted(token.text),
        token.id,
        None if math.isnan(token.logprob) else _chance(token.logprob),
        None if math.isnan(token.entropy) else round(token.entropy, 4),
        token.source == "given",
        [[quoted(other.text), _chance(other.logprob)] for other in token.alternatives],
    ]


def _chance(logprob: float) -> float:
    return round(math.exp(logprob), 5)  # as far as anybody reads it: most of what is sent would be digits
