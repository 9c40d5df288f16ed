"""Where a reply is not in harmony's form. It is told, never repaired."""

from collections.abc import Sequence

import tiktoken

from gptoss_lab.harmony import Message, Span

CHANNELS = ("analysis", "commentary", "final")


def problems_of(
    ids: Sequence[int], spans: Sequence[Span], messages: Sequence[Message], encoding: tiktoken.Encoding, ended: bool
) -> tuple[str, ...]:
    """What is wrong with a reply, in plain words.

    ids, spans: of its tokens. messages: what they were read as. ended: whether nothing is to follow.
    """
    found = []
    for number, message in enumerate(messages, start=1):
        name, last = f"message {number} of the reply", number == len(messages)
        if message.malformed is not None:
            found.append(f"the header of {name} is malformed, {message.malformed!r}")
        elif message.channel is None and (message.complete or not last):
            found.append(f"{name} has no channel")
        elif message.role == "assistant" and message.channel not in (*CHANNELS, None):
            found.append(f"{name} is on a channel that there is not, {message.channel!r}")
        if not message.complete and (ended or not last):
            found.append(f"{name} is not ended")
    stray = [
        encoding.decode([token])
        for token, span in zip(ids, spans, strict=True)
        if span.section == "content" and encoding.is_special_token(token)
    ]
    if stray:
        found.append(f"control tokens stand within a content: {', '.join(stray)}")
    return tuple(found)
