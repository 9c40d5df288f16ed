"""What every token of a conversation belongs to."""

from dataclasses import dataclass
from typing import Literal

Section = Literal["header", "content", "end"]


@dataclass(frozen=True, slots=True)
class Span:
    """The place of one token. Tokens of the same section of the same message may share one Span."""

    message: int
    """Counts messages from the start of the conversation, those left out of the prompt included."""
    role: str
    channel: str | None
    recipient: str | None
    section: Section
    """header: <|start|> to <|message|>, both included; end: <|end|>, <|return|> or <|call|>."""
