"""A conversation in a terminal: channels told apart as they stream, and how the reply was routed.

Nothing that the model wrote reaches the terminal raw: an escape sequence in it could move the cursor, rename the window
or rewrite what stands above. Such characters are shown, not obeyed.
"""

import os
import re
import sys
from typing import TYPE_CHECKING, Protocol, TextIO

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from gptoss_lab.harmony import Span
    from gptoss_lab.trace import Trace

# Control characters but tab and newline, the marks that reorder a line's text, odd line ends, and lone surrogates.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"
_BARS, _DIGITS = "▁▂▃▄▅▆▇█", "0123456789"  # a load, smallest to largest; digits where the terminal has no blocks
_WIDEST = 64  # experts that are drawn side by side; above that the busiest ones have to do


class StreamedToken(Protocol):
    @property
    def text(self) -> str: ...
    @property
    def span(self) -> "Span": ...


def safe(text: str) -> str:
    """`text` with every character that a terminal would obey written out, as `\\x1b`."""
    return _UNSAFE.sub(lambda match: match.group().encode("unicode_escape").decode("ascii"), text)


class Transcript:
    """Prints tokens as they come, under a line that names their channel; what is not the final answer is dimmed."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._styled = out.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        self._heading: tuple[int, str] | None = None

    def __call__(self, token: StreamedToken) -> None:
        span = token.span
        if span.section != "content":
            return
        name = _name(span)
        if self._heading != (span.message, name):
            self._begin(name)
            self._heading = (span.message, name)
            if self._styled and span.channel != "final":
                self._out.write(_DIM)
        self._out.write(safe(token.text))
        self._out.flush()

    def close(self) -> None:
        """End the line and any style, also after an interruption."""
        if self._heading is not None:
            self._out.write(_PLAIN + "\n" if self._styled else "\n")
            self._out.flush()

    def _begin(self, name: str) -> None:
        if self._heading is not None:
            self._out.write("\n\n")
        self._out.write(f"{_PLAIN}{_BOLD}{safe(name)}{_PLAIN}\n" if self._styled else f"[{safe(name)}]\n")


def routing_summary(trace: "Trace", encoding: str = "utf-8") -> str:
    """The reply's expert load: a line for each layer, with the experts that the most tokens went to in each channel."""
    reply = np.arange(trace.n_prompt, len(trace.tokens))
    channels = np.array([trace.spans[position].channel or "no channel" for position in reply], dtype=object)
    names = list(dict.fromkeys(channels))
    n_layers, n_experts, k = trace.n_layers, trace.n_experts, trace.expert_indices.shape[2]
    drawn = n_experts <= _WIDEST

    rows = [["layer", *(["load by expert"] if drawn else []), *(f"busiest in {safe(name)}" for name in names)]]
    for layer in range(n_layers):
        row = [str(layer)]
        if drawn:
            row.append(_bars(_load(trace, layer, reply), encoding))
        row.extend(_busiest(_load(trace, layer, reply[channels == name])) for name in names)
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    title = f"Routing of the reply: {len(reply)} tokens through {n_layers} layers, {k} of {n_experts} experts in each."
    return "\n".join([title, *table])


def _load(trace: "Trace", layer: int, positions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of these tokens that went to each expert, [expert]; sums to k."""
    chosen = trace.expert_indices[layer, positions].ravel()
    return np.bincount(chosen, minlength=trace.n_experts) / max(1, len(positions))


def _busiest(load: NDArray[np.float64], n: int = 3) -> str:
    order = np.argsort(-load, kind="stable")[:n]
    return ", ".join(f"{expert} ({load[expert]:.0%})" for expert in order if load[expert] > 0)


def _bars(load: NDArray[np.float64], encoding: str) -> str:
    try:
        _BARS.encode(encoding)
        levels = _BARS
    except UnicodeEncodeError:
        levels = _DIGITS
    return "".join(levels[round(share / max(load.max(), 1e-9) * (len(levels) - 1))] for share in load)


def _name(span: "Span") -> str:
    name = span.channel or span.role or "unnamed"
    return f"{name} to {span.recipient}" if span.recipient else name
