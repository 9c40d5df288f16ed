"""Tokens to messages, one at a time as they are sampled."""

from codecs import getincrementaldecoder
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gptoss_lab.harmony.messages import Message
from gptoss_lab.harmony.spans import Section, Span
from gptoss_lab.tokenizer import control_ids, token_bytes

if TYPE_CHECKING:
    from tiktoken import Encoding


@dataclass(frozen=True)
class Parsed:
    """A conversation read from tokens."""

    messages: list[Message]
    """The last is not complete if the tokens end within it."""
    spans: list[Span]
    """One a token."""


def parse(tokens: Iterable[int], tokenizer: "Encoding") -> Parsed:
    """A whole conversation. Any tokens will do; what is not in harmony's form shows in `Message.malformed`."""
    parser = StreamParser(tokenizer, starts_after="")
    for token in tokens:
        parser.push(token)
    return Parsed(parser.messages, parser.spans)


class StreamParser:
    """Reads a reply while it is sampled.

    messages_so_far: how many messages the conversation has already, so that spans count on from there.
    starts_after: the unfinished message that the reply goes on with; control tokens in it are read as such.

    Any token is accepted. A message ends at <|end|>, <|return|> or <|call|>, and at the next <|start|> if these are
    missing. Other control tokens within content are part of it, spelt out.
    """

    def __init__(self, tokenizer: "Encoding", messages_so_far: int = 0, starts_after: str = "<|start|>assistant"):
        self.delta = ""
        """What the last token added to its message's content. A character of several tokens comes with the last."""
        self._tokenizer = tokenizer
        self._controls = {token: name for name, token in control_ids(tokenizer).items()}
        self._messages_so_far = messages_so_far
        self._default_role = ""
        self._finished: list[Message] = []
        self._draft: _Draft | None = None
        self._spans: list[Span] = []
        for token in tokenizer.encode(starts_after, allowed_special="all"):
            self.push(token)
        self._n_before = len(self._spans)
        if self._draft:
            self._default_role = self.messages[-1].role

    @property
    def messages(self) -> list[Message]:
        """The messages so far, the unfinished one included. Another thread than the one that pushes may ask."""
        finished, draft = list(self._finished), self._draft
        return finished if draft is None else [*finished, draft.message(self._default_role, complete=False)]

    @property
    def spans(self) -> list[Span]:
        """One for every token pushed, as they are known now: complete for the headers that have ended."""
        return self._spans[self._n_before :]

    def push(self, token: int) -> Span:
        """Takes the next token. Returns its span, which has no channel and recipient before the header has ended."""
        token = int(token)
        control = self._controls.get(token)
        if control == "<|start|>":
            self._finish(complete=False)
        if self._draft is None:
            self._draft = _Draft(begin=len(self._spans))
        self.delta = ""
        index = self._messages_so_far + len(self._finished)
        section = self._take(self._draft, token, control)
        span = self._spans[-1] if self._spans else None
        if span is None or (span.message, span.section, section) != (index, "content", "content"):
            heading = self._draft.heading or Message(self._default_role, "")
            span = Span(index, heading.role, heading.channel, heading.recipient, section)
        self._spans.append(span)
        if section == "end":
            self.delta = self._finish(complete=True)
        return span

    def _take(self, draft: "_Draft", token: int, control: str | None) -> Section:
        if control in ("<|end|>", "<|return|>", "<|call|>"):
            if draft.heading is None:
                draft.extend_header(control.encode(), special=True)
                self._settle(draft, well_ended=False)
            return "end"
        text = token_bytes(self._tokenizer, token)
        if draft.heading is not None:
            self.delta = draft.write(text)
            return "content"
        if control == "<|message|>":
            self._settle(draft, well_ended=True)
        else:
            draft.extend_header(text, self._tokenizer.is_special_token(token))
        return "header"

    def _settle(self, draft: "_Draft", well_ended: bool) -> None:
        """The header has ended: what it says holds for all its tokens."""
        heading = _read_header(draft.header, self._default_role, ended=True)
        draft.heading = heading if well_ended else replace(heading, malformed=_spelt_out(draft.header))
        index = self._messages_so_far + len(self._finished)
        span = Span(index, heading.role, heading.channel, heading.recipient, "header")
        self._spans[draft.begin :] = [span] * (len(self._spans) - draft.begin)

    def _finish(self, complete: bool) -> str:
        """Ends the message at hand, if there is one. Returns what that adds to its content: half a character."""
        if self._draft is None:
            return ""
        if self._draft.heading is None:
            self._settle(self._draft, well_ended=False)
        rest = self._draft.write(b"", last=True)
        self._finished.append(self._draft.message(self._default_role, complete))
        self._draft = None
        return rest


HeaderPart = tuple[str, bytearray]
"""A control token, empty if the header lacks its first, and the text that follows it."""


class _Draft:
    """A message whose end has not come."""

    def __init__(self, begin: int):
        self.begin = begin  # the number of its first token
        self.header: list[HeaderPart] = []
        self.heading: Message | None = None  # what the header said, once it has ended
        self._content: list[str] = []
        self._decoder = getincrementaldecoder("utf-8")("replace")

    def extend_header(self, text: bytes, special: bool) -> None:
        if special:
            self.header.append((text.decode(), bytearray()))
        else:
            if not self.header:
                self.header.append(("", bytearray()))
            self.header[-1][1].extend(text)

    def write(self, text: bytes, last: bool = False) -> str:
        """Adds to the content. Returns what became readable: part of a character waits for its rest."""
        readable = self._decoder.decode(text, last)
        self._content.append(readable)
        return readable

    def message(self, default_role: str, complete: bool) -> Message:
        heading = self.heading or _read_header(self.header, default_role, ended=False)
        return replace(heading, content="".join(self._content), complete=complete)


_ORDERS = [
    ["<|start|>", *optional] for optional in ([], ["<|channel|>"], ["<|constrain|>"], ["<|channel|>", "<|constrain|>"])
]


def _read_header(header: list[HeaderPart], default_role: str, ended: bool) -> Message:
    """A message without content. A recipient may stand with the role (as rendered) or the channel (as sampled).

    The header is malformed if a Message's fields cannot hold all of it, or if it has ended without a role or channel,
    or has run its text into the role.
    """
    leading: dict[str, str] = {}
    recipients: list[str] = []
    content_types: list[str] = []
    for control, text in header:
        words = text.decode(errors="replace").split()
        if control in ("<|start|>", "<|channel|>") and words and not words[0].startswith("to="):
            leading.setdefault(control, words.pop(0))
        recipients += [word.removeprefix("to=") for word in words if word.startswith("to=")]
        others = [word for word in words if not word.startswith("to=")]
        content_types += [control + " ".join(others)] if control == "<|constrain|>" else others
    order = [control for control, _ in header]
    role = leading.get("<|start|>", default_role)
    run_on = role.startswith("assistant") and role != "assistant"
    surplus = (
        run_on or order not in _ORDERS or len(recipients) > 1 or len(content_types) > 1 or " " in "".join(content_types)
    )
    lacking = any(control not in leading for control in order if control != "<|constrain|>") or "" in recipients
    malformed = surplus or (ended and lacking)
    return Message(
        role="assistant" if run_on else role,
        content="",
        channel=leading.get("<|channel|>"),
        recipient=recipients[0] if recipients else None,
        content_type=content_types[0] if content_types and not malformed else None,
        malformed=_spelt_out(header) if malformed else None,
    )


def _spelt_out(header: list[HeaderPart]) -> str:
    return "".join(control + text.decode(errors="replace") for control, text in header)
