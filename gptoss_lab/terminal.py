"""A conversation in a terminal: channels told apart as they stream, and how the reply was routed.

Nothing that the model wrote reaches the terminal raw: an escape sequence in it could move the cursor, rename the window
or rewrite what stands above. Such characters are shown, not obeyed.
"""

import os
import sys
from typing import TYPE_CHECKING, TextIO

import numpy as np
from numpy.typing import NDArray

from gptoss_lab.analyses import routing
from gptoss_lab.views.plain_text import visible

if TYPE_CHECKING:
    from gptoss_lab.harmony import Span
    from gptoss_lab.live import StreamedToken
    from gptoss_lab.reply import Reply
    from gptoss_lab.trace import Trace

_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"
_BARS, _DIGITS = "▁▂▃▄▅▆▇█", "0123456789"  # a load, smallest to largest; digits where the terminal has no blocks
_WIDEST = 64  # experts that are drawn side by side; above that the busiest ones have to do


class Transcript:
    """Prints a reply as it comes, each message under a line that names it; all but the final answer is dimmed."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._styled = out.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        self._message: int | None = None

    def __call__(self, token: "StreamedToken") -> None:
        if token.span.section != "content":
            return
        if token.span.message != self._message:
            self._begin(token.span)
        self._out.write(visible(token.text))
        self._out.flush()

    def close(self) -> None:
        """End the line and any style, also after an interruption."""
        if self._message is not None:
            self._out.write(_PLAIN + "\n" if self._styled else "\n")
            self._out.flush()

    def _begin(self, span: "Span") -> None:
        if self._message is not None:
            self._out.write("\n\n")
        name = visible(_name(span))
        tone = "" if span.channel == "final" else _DIM
        self._out.write(f"{_PLAIN}{_BOLD}{name}{_PLAIN}\n{tone}" if self._styled else f"[{name}]\n")
        self._message = span.message


def _name(span: "Span") -> str:
    name = span.channel or span.role or "unnamed"
    return f"{name} to {span.recipient}" if span.recipient else name


def afterword(reply: "Reply") -> list[str]:
    """What the transcript could not show, a line each: headers out of form, an answer broken off."""
    headers = [message.malformed for message in reply.messages if message.malformed]
    lines = [f"A message's header is malformed: {visible(header)}" for header in headers]
    if reply.finish in _ENDINGS:
        lines.append(_ENDINGS[reply.finish])
    return lines


_ENDINGS = {
    "length": "Broken off here: no more tokens were allowed (--max-new-tokens).",
    "context": "Broken off here: the model's context is full.",
    "interrupted": "Interrupted here.",
}


def routing_summary(trace: "Trace", encoding: str = "utf-8") -> str:
    """The reply's expert load: a line for each layer, with the experts that most tokens of each channel went to.

    `encoding` is the terminal's: bars are drawn in digits where it has no blocks.
    """
    counted = routing.reply(trace) & routing.content(trace)
    channel_of = routing.labels(trace, "channel")
    channels = list(dict.fromkeys(channel_of[counted]))
    load = routing.expert_sums(trace, counted)[1]
    load_in = [_share(trace, counted & (channel_of == channel)) for channel in channels]
    drawn = trace.n_experts <= _WIDEST

    rows = [["layer", *(["load by expert"] if drawn else []), *(f"busiest in {visible(name)}" for name in channels)]]
    for layer in range(trace.n_layers):
        bars = [_bars(load[layer], encoding)] if drawn else []
        rows.append([str(layer), *bars, *(_busiest(share[layer]) for share in load_in)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    k = trace.expert_indices.shape[2]
    title = (
        f"Routing: {counted.sum()} tokens, each through {k} of {trace.n_experts} experts in {trace.n_layers} layers."
    )
    return "\n".join([title, *lines])


def _share(trace: "Trace", where: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The share of these tokens that went to each expert, [layer, expert]; a layer's sum to k."""
    return routing.expert_sums(trace, where)[1] / where.sum()


def _busiest(load: NDArray[np.float64], n: int = 3) -> str:
    order = np.argsort(-load, kind="stable")[:n]
    return ", ".join(f"{expert} ({load[expert]:.0%})" for expert in order if load[expert] > 0)


def _bars(load: NDArray[np.int64], encoding: str) -> str:
    try:
        _BARS.encode(encoding)
        levels = _BARS
    except UnicodeEncodeError:
        levels = _DIGITS
    return "".join(levels[round(tokens / max(load.max(), 1) * (len(levels) - 1))] for tokens in load)
