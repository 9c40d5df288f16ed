"""A conversation in a terminal: told apart, and never obeyed."""

import dataclasses
import io
import unicodedata

import pytest
import traces
from hypothesis import example, given
from hypothesis import strategies as st

from gptoss_lab.harmony import Message, Span
from gptoss_lab.live import StreamedToken
from gptoss_lab.reply import Reply
from gptoss_lab.terminal import Transcript, afterword, routing_summary

Messages = list[tuple[str | None, str | None, list[str]]]
CALL_AND_ANSWER: Messages = [
    ("analysis", None, ["3 + ", "4\x1b"]),
    ("commentary", "functions.f", ["{}"]),
    ("final", None, ["7"]),
]
REORDERING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@given(st.text())
@example("\x1b]0;owned\x07\x1b[2J\x9b31m\r\u202egnp.exe\u2066\x7f\ud83d")
def test_no_character_reaches_the_terminal_that_it_would_obey(text: str) -> None:
    for character in _printed([(text, text, [text])]):
        assert character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")
        assert unicodedata.bidirectional(character) not in REORDERING


def test_what_a_terminal_would_not_obey_stays_as_it_is() -> None:
    text = "Ein Übertrag: 7 + 8 = 15,\n\tn'est-ce pas? 你好 👩‍👩‍👧 עברית"
    assert text in _printed([("final", None, [text])])


def test_channels_are_told_apart_without_styles() -> None:
    assert _printed(CALL_AND_ANSWER) == "[analysis]\n3 + 4⟨U+001B⟩\n\n[commentary to functions.f]\n{}\n\n[final]\n7\n"


def test_channels_are_told_apart_with_styles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    thought, call, answer = _printed(CALL_AND_ANSWER, Terminal()).split("\n\n")
    assert thought == "\x1b[0m\x1b[1manalysis\x1b[0m\n\x1b[2m3 + 4⟨U+001B⟩"
    assert call.endswith("\x1b[2m{}")
    assert answer == "\x1b[0m\x1b[1mfinal\x1b[0m\n7\x1b[0m\n"


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_styles_can_be_declined(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    assert "\x1b" not in _printed(CALL_AND_ANSWER, Terminal())


def test_a_transcript_of_nothing_is_nothing() -> None:
    out = io.StringIO()
    Transcript(out).close()
    assert out.getvalue() == ""


def test_two_messages_in_one_channel_are_two() -> None:
    assert _printed([("analysis", None, ["so"]), ("analysis", None, ["so"])]) == "[analysis]\nso\n\n[analysis]\nso\n"


def test_what_the_transcript_could_not_show_is_said_afterwards() -> None:
    messages = [Message("assistant", "", malformed="<|start|>\x1b<|channel|>"), Message("assistant", "7", "final")]
    reply = Reply(messages, messages, [], [], [], [], [], finish="length")
    header, ending = afterword(reply)
    assert header == "A message's header is malformed: <|start|>⟨U+001B⟩<|channel|>"
    assert "--max-new-tokens" in ending
    assert afterword(dataclasses.replace(reply, messages=messages[1:], finish="stop")) == []


def test_the_routing_summary_counts_the_reply() -> None:
    trace = traces.conversation(n_layers=4, n_experts=8, k=2)
    title, header, *layers = routing_summary(trace).splitlines()
    table = trace.routing()
    reply = table[(table.position >= trace.n_prompt) & (table.section == "content")]
    assert title.startswith(f"Routing: {reply.position.nunique()} tokens, each through 2 of 8 experts in 4 layers")
    assert header.split("  ")[0] == "layer"
    assert "busiest in analysis" in header
    assert "busiest in final" in header
    assert [line.split()[0] for line in layers] == ["0", "1", "2", "3"]

    final = reply[(reply.channel == "final") & (reply.layer == 0)]
    counts = final.groupby("expert").position.nunique().sort_values(ascending=False)
    share = counts.iloc[0] / final.position.nunique()
    assert f"{counts.index[0]} ({share:.0%})" in layers[0][header.index("busiest in final") :]

    load = reply[reply.layer == 0].groupby("expert").position.nunique()
    assert layers[0].split()[1][load.idxmax()] == "█"


def test_the_routing_summary_fits_narrow_encodings_and_wide_models() -> None:
    assert routing_summary(traces.conversation(), encoding="ascii").isascii()
    assert "load by expert" not in routing_summary(traces.conversation(n_experts=128, k=4))


def _printed(messages: Messages, out: io.StringIO | None = None) -> str:
    """What a transcript makes of messages that arrive a token at a time: (channel, recipient, content tokens) each."""
    out = out or io.StringIO()
    transcript = Transcript(out)
    for number, (channel, recipient, texts) in enumerate(messages):
        for section, text in [("header", "<|message|>"), *(("content", text) for text in texts), ("end", "<|end|>")]:
            span = Span(number, "assistant", channel, recipient, section)
            transcript(StreamedToken(0, text, span, -1.0))
    transcript.close()
    return out.getvalue()
