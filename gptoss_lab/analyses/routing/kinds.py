"""What kind of text each token belongs to: its channel, role, section, speaker, or class. And which tokens count."""

import numpy as np
from numpy.typing import NDArray

from gptoss_lab.trace import Trace

Mask = NDArray[np.bool_]
UNNAMED = "(none)"

KINDS = ("channel", "role", "section", "speaker", "class")


def labels(trace: Trace, by: str) -> NDArray[np.object_]:
    """What kind of text each token belongs to, [pos] of str; "(none)" where harmony gives it none.

    `by` is "channel", "role" or "section", as in the token's span; "speaker": of what the assistant says its message's
    channel, of all else the role, so that a reply's header goes with the channel that it opens; or "class": "control",
    "digit", "letter" (words too), "blank" (line ends too) or "sign", by the token's own text.
    """
    if by == "speaker":
        return _speakers(trace)
    if by == "class":
        of_text = {text: _class_of(text) for text in set(trace.texts)}
        return np.array([of_text[text] for text in trace.texts], dtype=object)
    if by not in KINDS:
        raise ValueError(f"by={by!r}: expected one of {', '.join(map(repr, KINDS))}")
    return np.array([getattr(span, by) or UNNAMED for span in trace.spans], dtype=object)


def content(trace: Trace) -> Mask:
    """Tokens of message contents, [pos]: no headers, no control tokens."""
    return labels(trace, "section") == "content"


def reply(trace: Trace) -> Mask:
    """Tokens after the prompt, [pos]."""
    return np.arange(len(trace.token_ids)) >= trace.n_prompt


def checked(trace: Trace, where: Mask | None) -> Mask:
    """A mask over tokens; the reply's content where not given. Raises ValueError for another shape or type."""
    if where is None:
        return reply(trace) & content(trace)
    where = np.asarray(where)
    if where.dtype != bool or where.shape != (len(trace.token_ids),):
        raise ValueError(
            f"where: expected {len(trace.token_ids)} booleans, one a token; found {where.dtype} of shape {where.shape}"
        )
    return where


def _class_of(text: str) -> str:
    if text.startswith("<|") and text.endswith("|>"):
        return "control"
    bare = text.strip()
    if not bare:
        return "blank"
    if bare.isdigit():
        return "digit"
    return "letter" if any(letter.isalpha() for letter in bare) else "sign"


def _speakers(trace: Trace) -> NDArray[np.object_]:
    own = {span.message: span.channel for span in trace.spans if span.channel and span.role == "assistant"}
    return np.array([own.get(span.message) or span.role or UNNAMED for span in trace.spans], dtype=object)
