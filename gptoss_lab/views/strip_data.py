"""What a strip of tokens needs of a trace: texts, messages, kinds of text, colours, as plain values and bytes."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np

from gptoss_lab.analyses import routing
from gptoss_lab.harmony import Span
from gptoss_lab.trace import Trace
from gptoss_lab.views.kinds import LEGEND, RAW_THOUGHT, kind_of
from gptoss_lab.views.plain_text import as_token, quoted
from gptoss_lab.views.quantities import Quantity

STRIP_STYLE = ("theme.css", "token_strip.css", "token_tip.css")


def conversation(trace: Trace) -> dict[str, Any]:
    """The tokens, the messages that they make up, and what is known of them.

    Arrays are bytes (little endian, C order): ids int32 and logprobs float32 [pos]; sections uint8 [pos]; breaks int32,
    the positions after which a line ends; roles and channels uint16 [pos], numbers in `facets`.
    """
    facets, numbers = zip(*(_facet(trace, by) for by in ("role", "channel")), strict=True)
    return {
        "nTokens": len(trace.token_ids),
        "nPrompt": trace.n_prompt,
        "shown": [as_token(text) for text in trace.texts],
        "quoted": [quoted(text) for text in trace.texts],
        "blocks": _blocks(trace),
        "facets": {"role": facets[0], "channel": facets[1]},
        "roles": as_bytes(numbers[0], "<u2"),
        "channels": as_bytes(numbers[1], "<u2"),
        "breaks": as_bytes([place for place, text in enumerate(trace.texts) if "\n" in text], "<i4"),
        "sections": as_bytes(list(map(section_of, trace.texts, trace.spans)), "u1"),
        "ids": as_bytes(trace.token_ids, "<i4"),
        "logprobs": as_bytes(trace.logprobs, "<f4"),
        "alternatives": _alternatives(trace),
    }


def colours(quantities: Sequence[Quantity]) -> list[dict[str, Any]]:
    """What the strip can be coloured by, values as float32 bytes."""
    return [{**each._asdict(), "values": as_bytes(each.values, "<f4")} for each in quantities]


def as_bytes(values: Any, dtype: str) -> bytes:
    """An array as a browser reads it."""
    return np.ascontiguousarray(values, dtype=dtype).tobytes()


def section_of(text: str, span: Span) -> int:
    """Of a token: 0 content, 1 header, 2 control token, wherever it stands."""
    if text.startswith("<|") and text.endswith("|>") and len(text) > 4:
        return 2
    return 0 if span.section == "content" else 1


def _facet(trace: Trace, by: str) -> tuple[list[dict[str, str]], list[int]]:
    """Every role or channel, in order of appearance, and the number of each token's, [pos].

    A message's header goes with the channel that it opens.
    """
    names = routing.labels(trace, by)
    if by == "channel":
        own = {span.message: span.channel for span in trace.spans if span.channel}
        names = np.array([own.get(span.message) or routing.UNNAMED for span in trace.spans], dtype=object)
    known = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return [{"name": name, "title": quoted(name)} for name in known], [known[name] for name in names]


def _alternatives(trace: Trace) -> dict[str, Any] | None:
    """The likeliest tokens at each place: `texts`, each once; `of` int32, numbers in texts or -1, and `logprobs`
    float32, both [pos, choice]. None where they were not recorded."""
    if trace.alternatives is None or trace.alternative_texts is None or trace.alternative_logprobs is None:
        return None
    width = trace.alternative_logprobs.shape[-1]
    of = np.full((len(trace.texts), width), -1)
    known: dict[str, int] = {}
    for position, texts in enumerate(trace.alternative_texts):
        of[position, : len(texts)] = [known.setdefault(text, len(known)) for text in texts]
    return {
        "width": width,
        "texts": [quoted(text) for text in known],
        "of": as_bytes(of, "<i4"),
        "logprobs": as_bytes(trace.alternative_logprobs, "<f4"),
    }


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
