"""Messages as blocks to draw: what a streamed reply and a finished one have in common."""

from collections.abc import Iterable
from typing import Protocol, TypedDict

from gptoss_lab.views.kinds import RAW_THOUGHT, kind_of
from gptoss_lab.views.plain_text import quoted, visible

FINISHES = {
    "stop": "",
    "length": "Cut off: it may not write more tokens (max_new_tokens).",
    "context": "Cut off: the context is full.",
    "interrupted": "Stopped.",
}


class MessageLike(Protocol):
    """What is drawn of a message; `harmony.Message` is one."""

    @property
    def role(self) -> str: ...
    @property
    def channel(self) -> str | None: ...
    @property
    def recipient(self) -> str | None: ...
    @property
    def content(self) -> str: ...


class Block(TypedDict):
    """A message: the kind of its colour, and its words as text with nothing hidden in it."""

    kind: str
    title: str
    note: str
    text: str


def blocks(messages: Iterable[MessageLike]) -> list[Block]:
    """A block a message, in order."""
    return [
        Block(
            kind=kind_of(message.role, message.channel),
            title=_title(message),
            note=_note(message),
            text=visible(message.content),
        )
        for message in messages
    ]


def _title(message: MessageLike) -> str:
    name = message.channel if message.role == "assistant" and message.channel else message.role or "unknown role"
    return quoted(name) + (f", to {quoted(message.recipient)}" if message.recipient else "")


def _note(message: MessageLike) -> str:
    if malformed := getattr(message, "malformed", None):
        return f"malformed header: {quoted(malformed)}"
    return RAW_THOUGHT if kind_of(message.role, message.channel) == "analysis" else ""
