"""A conversation in a terminal: told apart, and never obeyed."""

import io
import unicodedata
from dataclasses import dataclass

import pytest
import traces
from hypothesis import example, given
from hypothesis import strategies as st

from gptoss_lab.harmony import Span
from gptoss_lab.terminal import Transcript, routing_summary, safe

REORDERING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


@dataclass
class Streamed:
    text: str
    span: Span


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@given(st.text())
@example("\x1b]0;owned\x07\x1b[2J\x9b31m\r\u202egnp.exe\u2066\x7f\ud83d")
def test_no_character_reaches_the_terminal_that_it_would_obey(text: str) -> None:
    shown = safe(text)
    for character in shown:
        assert character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")
        assert unicodedata.bidirectional(character) not in REORDERING


def test_what_a_terminal_would_not_obey_stays_as_it_is() -> None:
    text = "Ein Übertrag: 7 + 8 = 15,\n\tn'est-ce pas? 你好 👩‍👩‍👧 עברית"
    assert safe(text) == text
    assert safe("a\x1b[31mb") == "a\\x1b[31mb"


def test_channels_are_told_apart_without_styles() -> None:
    out = io.StringIO()
    _print(Transcript(out))
    assert out.getvalue() == "[analysis]\n3 + 4\\x1b\n\n[commentary to functions.f]\n{}\n\n[final]\n7\n"


def test_channels_are_told_apart_with_styles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    _print(Transcript(out))
    thought, call, answer = out.getvalue().split("\n\n")
    assert thought == "\x1b[0m\x1b[1manalysis\x1b[0m\n\x1b[2m3 + 4\\x1b"
    assert call.endswith("\x1b[2m{}")
    assert answer == "\x1b[0m\x1b[1mfinal\x1b[0m\n7\x1b[0m\n"


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_styles_can_be_declined(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    out = Terminal()
    _print(Transcript(out))
    assert "\x1b" not in out.getvalue()


def test_a_transcript_of_nothing_is_nothing() -> None:
    out = io.StringIO()
    Transcript(out).close()
    assert out.getvalue() == ""


def test_two_messages_in_one_channel_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    transcript = Transcript(out)
    for message in (2, 3):
        transcript(Streamed("so", Span(message, "assistant", "analysis", None, "content")))
    assert out.getvalue() == "[analysis]\nso\n\n[analysis]\nso"


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


def _print(transcript: Transcript) -> None:
    """A thought with an escape in it, a call, an answer."""
    for message, channel, recipient, texts in (
        (2, "analysis", None, ["3 + ", "4\x1b"]),
        (3, "commentary", "functions.f", ["{}"]),
        (4, "final", None, ["7"]),
    ):
        transcript(Streamed("<|channel|>", Span(message, "assistant", channel, recipient, "header")))
        for text in texts:
            transcript(Streamed(text, Span(message, "assistant", channel, recipient, "content")))
        transcript(Streamed("<|end|>", Span(message, "assistant", channel, recipient, "end")))
    transcript.close()
