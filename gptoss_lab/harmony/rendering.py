"""Messages to tokens."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gptoss_lab.harmony.messages import Message
from gptoss_lab.harmony.spans import Section, Span
from gptoss_lab.tokenizer import control_ids

if TYPE_CHECKING:
    from tiktoken import Encoding


@dataclass(frozen=True)
class Rendered:
    """A conversation as the model reads it."""

    tokens: list[int]
    spans: list[Span]
    """One a token."""


def render(
    messages: Sequence[Message], tokenizer: "Encoding", for_completion: bool = True, drop_analysis: bool = True
) -> Rendered:
    """A conversation in tokens, ending in <|start|>assistant if it is for completion.

    Text is only ever text: control tokens that it spells out are encoded letter by letter. What was sampled as
    <|return|> stands as <|end|>. With drop_analysis, the analysis before the first final message is left out once the
    assistant's last message is final; until then, tool calls included, everything stays.

    Raises TypeError for what is no Message, ValueError for a message without a role and for a vocabulary without
    harmony's control tokens.
    """
    for message in messages:
        _check(message)
    controls = control_ids(tokenizer)
    calls_functions = any(map(_defines_functions, messages))
    tokens: list[int] = []
    spans: list[Span] = []
    for index, message in _kept(messages, drop_analysis):
        content = _with_functions_line(message) if calls_functions else message.content
        header, end = _header(message, tokenizer, controls), _end(message)
        sections: list[tuple[Section, list[int]]] = [
            ("header", header),
            ("content", tokenizer.encode_ordinary(content)),
            ("end", [controls[end]]),
        ]
        for section, part in sections:
            tokens += part
            spans += [Span(index, message.role, message.channel, message.recipient, section)] * len(part)
    if for_completion:
        opening = [controls["<|start|>"], *tokenizer.encode_ordinary("assistant")]
        tokens += opening
        spans += [Span(len(messages), "assistant", None, None, "header")] * len(opening)
    return Rendered(tokens, spans)


def render_for_training(messages: Sequence[Message], tokenizer: "Encoding", drop_analysis: bool = False) -> Rendered:
    """A conversation as it should be sampled: like `render`, but a last message that is final ends in <|return|>."""
    rendered = render(messages, tokenizer, for_completion=False, drop_analysis=drop_analysis)
    if messages and messages[-1].role == "assistant" and messages[-1].channel == "final":
        rendered.tokens[-1] = control_ids(tokenizer)["<|return|>"]
    return rendered


def _kept(messages: Sequence[Message], drop_analysis: bool) -> list[tuple[int, Message]]:
    """Messages and their numbers, without the analysis that the format drops from history."""
    channels_of_assistant = [message.channel for message in messages if message.role == "assistant"]
    if not drop_analysis or channels_of_assistant[-1:] != ["final"]:
        return list(enumerate(messages))
    first_final = [message.channel for message in messages].index("final")
    return [
        (index, message)
        for index, message in enumerate(messages)
        if index > first_final or message.channel != "analysis"
    ]


def _check(message: Message) -> None:
    if not isinstance(message, Message):
        raise TypeError(f"a conversation is made of gptoss_lab.Message, and this is none: {message!r}")
    if message.role in ("", "tool"):
        raise ValueError(f"a tool's message has the tool's name for its role, not {message.role!r}: {message!r}")


def _header(message: Message, tokenizer: "Encoding", controls: dict[str, int]) -> list[int]:
    """Parts are encoded one by one, as openai-harmony does: byte pairs never merge across them."""
    encode = tokenizer.encode_ordinary
    header = [controls["<|start|>"], *encode(message.role)]
    if message.recipient not in (None, "all"):
        header += encode(f" to={message.recipient}")
    if message.channel is not None:
        header += [controls["<|channel|>"], *encode(message.channel)]
    if message.content_type is not None:
        plain, constrained, name = message.content_type.partition("<|constrain|>")
        if constrained and not plain:
            header += [*encode(" "), controls["<|constrain|>"], *encode(name)]
        else:
            header += encode(f" {message.content_type}")
    return [*header, controls["<|message|>"]]


def _end(message: Message) -> str:
    return "<|call|>" if message.role == "assistant" and message.recipient is not None else "<|end|>"


def _defines_functions(message: Message) -> bool:
    return message.role == "developer" and "# Tools\n\n## functions\n\nnamespace functions {\n" in message.content


_ENDS_WITH_CHANNELS = re.compile(r"(?:\A|\n\n)# Valid channels: [^\n]+\Z")


def _with_functions_line(message: Message) -> str:
    if message.role != "system" or not _ENDS_WITH_CHANNELS.search(message.content):
        return message.content
    return f"{message.content}\nCalls to these tools must go to the commentary channel: 'functions'."
