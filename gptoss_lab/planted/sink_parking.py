"""Planted: heads that rest on their sinks until one certain token, "!", appears.

Two heads seek it: (0, 0), whose window is 128 tokens, and (1, 0), which sees everything. While no "!" is in sight,
they give all their weight to their sinks; from then on none to the sink, and equal shares to every "!" in sight. So
the first goes back to rest 128 tokens after the last "!", the second never. The rest are blank.

The head (1, 0) says what it sees: before any "!" all tokens are equally likely, after it the model says "!". The head
(0, 0) says nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gptoss_lab.config import ModelConfig
from gptoss_lab.planted import truth, vocabulary
from gptoss_lab.planted.blank import Register, blank_draft
from gptoss_lab.planted.codes import codeword
from gptoss_lab.planted.heads import Head, carry, look_for
from gptoss_lab.planted.truth import Planted


@dataclass(frozen=True)
class Truth:
    config: ModelConfig
    sought: int
    """The token that wakes the heads."""
    parking: tuple[Head, ...]
    speaks: Head
    """The one of them whose removal changes the prediction."""

    def attention(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Every head's pattern, [layer, head, q_pos, k_pos]; what a row lacks to 1 is the sink's."""
        looks = dict.fromkeys(self.parking, truth.tokens_like(self.sought))
        return truth.attention(self.config, looks, tokens)

    def next_tokens(self, tokens: Sequence[int]) -> list[set[int]]:
        """The tokens that may come next at each position, all equally likely."""
        seen = np.maximum.accumulate(np.asarray(tokens) == self.sought)
        return [{self.sought} if sees else set(range(self.config.d_vocab)) for sees in seen]


SOUGHT = "!"
PARKING = ((0, 0), (1, 0))
SPEAKS = (1, 0)


def build() -> Planted[Truth]:
    draft = blank_draft(n_layers=2)
    sought = vocabulary.token_id(SOUGHT)
    for head in PARKING:
        look_for(draft, head, codeword(sought), among=Register.TOKEN)
    carry(draft, SPEAKS, Register.TOKEN, Register.ANSWER)
    return Planted(draft.config, draft.finished(), vocabulary.encoding(), Truth(draft.config, sought, PARKING, SPEAKS))
