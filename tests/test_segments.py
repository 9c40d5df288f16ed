"""Steps of a thought: sentences and lines, of what the assistant says and of nothing else."""

import re

import pytest
import traces

from gptoss_lab.harmony import Span
from gptoss_lab.segments import segments, step_of


def steps_of(text: str, by: str = "sentence") -> list[str]:
    words = re.findall(r"\n| ?[^\W\d_]+| ?\d{1,3}| ?[^\w\s]+\n*| +|\s|_", text)
    assert "".join(words) == text
    found = segments(words, [Span(0, "assistant", "analysis", None, "content")] * len(words), by)
    assert "".join(step.text for step in found) == text
    assert [step.number for step in found] == list(range(1, len(found) + 1))
    return [step.text for step in found]


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        (
            "3 tens, 8 units.\nUnits: 8 + 7 = 15, write 5, carry 1.\nTogether: 95.",
            ["3 tens, 8 units.\n", "Units: 8 + 7 = 15, write 5, carry 1.\n", "Together: 95."],
        ),
        ("1: x += y; x 8 y 5\n2: if z < 4 go to 1, yes; x 8\n3: stop; x 8", None),
        (
            'We add. Really? Yes! "Fine." So (it is.) Done',
            ["We add.", " Really?", " Yes!", ' "Fine."', " So (it is.)", " Done"],
        ),
        ("Take e.g. 3.14 of 2. Then stop", ["Take e.g. 3.14 of 2.", " Then stop"]),
        ("1. First.\n2. Second one. Third", ["1. First.\n", "2. Second one.", " Third"]),
        ("\n\nOne.\n\n \nTwo\n\n", ["\n\nOne.\n\n \n", "Two\n\n"]),
        ("一二三。四五。", ["一二三。", "四五。"]),
        ("nothing ends it", ["nothing ends it"]),
    ],
)
def test_a_step_is_a_sentence_or_what_its_line_ends(text: str, steps: list[str] | None) -> None:
    assert steps_of(text) == (steps or text.splitlines(keepends=True))


def test_lines_and_messages_are_coarser() -> None:
    text = "We add. Units first.\nThen tens."
    assert steps_of(text, "line") == ["We add. Units first.\n", "Then tens."]
    assert steps_of(text, "message") == [text]


def test_headers_prompts_and_control_tokens_belong_to_no_step() -> None:
    trace = traces.conversation()
    steps = segments(trace.texts, trace.spans)
    assert [step.text for step in steps] == [*traces.THOUGHT.splitlines(keepends=True), "38 + 57 = 95"]
    assert [step.channel for step in steps] == ["analysis"] * 4 + ["final"]
    for position, span in enumerate(trace.spans):
        step = step_of(steps, position)
        assert (step is not None) == (span.role == "assistant" and span.section == "content")
    later = segments(trace.texts, trace.spans, begin=steps[3].start)
    assert [step.text for step in later] == [step.text for step in steps[3:]]


def test_a_token_is_never_split() -> None:
    texts = ["It is", ". It", " was", ".\n\nSo", " be it", "."]
    steps = segments(texts, [Span(0, "assistant", "final", None, "content")] * len(texts))
    assert [(step.start, step.stop) for step in steps] == [(0, 2), (2, 4), (4, 6)]


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="by is one of sentence, line, message; got 'word'"):
        segments([], [], "word")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got 1 texts and 0 spans"):
        segments(["a"], [])
