"""Seeing, during a forward pass, which of its tokens an edit acts on, while generating too.

A token's place in a conversation is judged by what stands up to it, never by what follows: so a pass over a whole text
and a token-by-token run of the same text agree.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gptoss_lab.edits.where import Where
from gptoss_lab.harmony import Span, StreamParser
from gptoss_lab.hooks import HookPoint

if TYPE_CHECKING:
    from tiktoken import Encoding

KEPT = 64
"""How many sequences are remembered as far as they were read; a forgotten one is read again from its start."""


class Sight:
    """Where each edit acts, asked for at every hook and worked out once a pass."""

    def __init__(self, tokenizer: "Encoding | None"):
        self._tokenizer = tokenizer
        self._readings: OrderedDict[bytes, _Reading] = OrderedDict()
        self._this_pass = threading.local()

    def touched(self, where: Where, hook: HookPoint) -> Tensor:
        """Which tokens of the pass, bool [batch, pos]."""
        return self.touched_so_far(where, hook)[:, hook.positions.start :]

    def touched_so_far(self, where: Where, hook: HookPoint) -> Tensor:
        """Which of all tokens up to the last of the pass, bool [batch, k_pos]."""
        now = self._this_pass
        if getattr(now, "tokens", None) is not hook.tokens:
            now.tokens, now.readings, now.answers = hook.tokens, None, {}
        if where not in now.answers:
            now.answers[where] = torch.from_numpy(self._answer(where, hook)).to(hook.tokens.device)
        return now.answers[where]

    def _answer(self, where: Where, hook: HookPoint) -> NDArray[np.bool_]:
        batch, n = hook.tokens.shape
        inside = np.broadcast_to(where.contains(np.arange(n)), (batch, n))
        if not where.needs_text:
            return inside.copy()
        if self._this_pass.readings is None:
            rows = hook.tokens.cpu().numpy()
            self._this_pass.readings = [self._read(row, hook.positions.start) for row in rows]
        return inside & np.stack([reading.fits(where)[:n] for reading in self._this_pass.readings])

    def _read(self, tokens: NDArray[np.int64], start: int) -> "_Reading":
        """Reads a sequence's new tokens, from `start` on; all of them where what went before is not remembered."""
        assert self._tokenizer is not None
        reading = self._readings.get(tokens.tobytes()) or self._readings.pop(tokens[:start].tobytes(), None)
        if reading is None:
            reading = _Reading(StreamParser(self._tokenizer, starts_after=""))
        for token in tokens[len(reading.spans) :]:
            reading.spans.append(reading.parser.push(int(token)))
        self._readings[tokens.tobytes()] = reading
        while len(self._readings) > KEPT:
            self._readings.popitem(last=False)
        return reading


def touched(where: Where, tokens: Sequence[int], tokenizer: "Encoding | None" = None) -> NDArray[np.bool_]:
    """Which tokens of a whole sequence an edit would act on, [pos]. The tokenizer is needed for conditions on text."""
    here = HookPoint("", None, range(len(tokens)), torch.tensor([list(tokens)]))
    return Sight(tokenizer).touched(where, here)[0].numpy()


@dataclass
class _Reading:
    """A sequence as far as it was read."""

    parser: StreamParser
    spans: list[Span] = field(default_factory=list)
    """Of every token, as they were known when it came."""
    answers: dict[Where, bytearray] = field(default_factory=dict)

    def fits(self, where: Where) -> NDArray[np.bool_]:
        """Which tokens meet the conditions on text, bool [pos]."""
        answer = self.answers.setdefault(where, bytearray())
        answer.extend(where.fits(span) for span in self.spans[len(answer) :])
        return np.frombuffer(bytes(answer), dtype=np.bool_)
