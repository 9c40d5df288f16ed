"""What a strip of tokens needs of a trace: texts, messages and sections, as plain values and bytes."""

from itertools import groupby
from typing import Any

import numpy as np

from gptoss_lab.analyses import routing
from gptoss_lab.trace import Trace
from gptoss_lab.views.kinds import LEGEND, RAW_THOUGHT, kind_of
from gptoss_lab.views.plain_text import as_token, quoted

STRIP_STYLE = ("theme.css", "token_strip.css", "token_tip.css")


def conversation(trace: Trace) -> dict[str, Any]:
    """The tokens, and the messages that they make up.

    Arrays are bytes (little endian, C order): ids int32 and logprobs float32 [pos]; sections uint8 [pos]; breaks int32,
    the positions after which a line ends.
    """
    return {
        "nTokens": len(trace.token_ids),
        "nPrompt": trace.n_prompt,
        "shown": [as_token(text) for text in trace.texts],
        "quoted": [quoted(text) for text in trace.texts],
        "blocks": _blocks(trace),
        "breaks": as_bytes([place for place, text in enumerate(trace.texts) if "\n" in text], "<i4"),
        "sections": as_bytes([_section(trace, place) for place in range(len(trace.token_ids))], "u1"),
        "ids": as_bytes(trace.token_ids, "<i4"),
        "logprobs": as_bytes(trace.logprobs, "<f4"),
    }


def as_bytes(values: Any, dtype: str) -> bytes:
    """An array as a browser reads it."""
    return np.ascontiguousarray(values, dtype=dtype).tobytes()


def _blocks(trace: Trace) -> list[dict[str, Any]]:
    """The messages, as the strip draws them: start and end positions, kind (of colour), title, note, legend."""
    speaker_of = routing.labels(trace, "speaker")
    blocks = []
    for _, positions in groupby(range(len(trace.spans)), key=lambda place: trace.spans[place].message):
        places = list(positions)
        span, speaker = trace.spans[places[-1]], speaker_of[places[0]]
        kind = kind_of(span.role, speaker)
        titles = [span.role or "unknown role", *([speaker] if speaker != span.role else [])]
        to = f", to {quoted(span.recipient)}" if span.recipient else ""
        blocks.append(
            {
                "start": places[0],
                "end": places[-1] + 1,
                "kind": kind,
                "title": ", ".join(map(quoted, titles)) + to,
                "note": RAW_THOUGHT if kind == "analysis" else "",
                "legend": LEGEND[kind],
            }
        )
    return blocks


def _section(trace: Trace, place: int) -> int:
    """0 content, 1 header, 2 control token, wherever it stands."""
    text = trace.texts[place]
    if text.startswith("<|") and text.endswith("|>") and len(text) > 4:
        return 2
    return 0 if trace.spans[place].section == "content" else 1
