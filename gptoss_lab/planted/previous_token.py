"""Planted: heads that look back by a fixed distance, whatever stands there.

Layer 0, whose window is 128 tokens, has three of them, at distances 1, 2 and 0 (the token itself); the first two share
a key-value head. Layer 1, which sees everything, has one more at distance 1. The rest are blank. Tokens for which
nothing stands so far back rest on their sinks.

Only the head (0, 0) carries something: the token that it looks at becomes the prediction. So after "a b" the model
says "a". All others look and say nothing: removing them changes no logit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gptoss_lab.config import ModelConfig
from gptoss_lab.planted import truth, vocabulary
from gptoss_lab.planted.blank import Register, blank_draft
from gptoss_lab.planted.heads import Head, carry, look_back
from gptoss_lab.planted.truth import Planted


@dataclass(frozen=True)
class Truth:
    config: ModelConfig
    distances: Mapping[Head, int]
    """How far each head looks back; heads that are not named are blank."""
    speaks: Head
    """The head whose removal changes the prediction."""

    def attention(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Every head's pattern, [layer, head, q_pos, k_pos]."""
        looks = {head: truth.tokens_before(distance) for head, distance in self.distances.items()}
        return truth.attention(self.config, looks, tokens)

    def next_tokens(self, tokens: Sequence[int]) -> list[set[int]]:
        """The tokens that may come next at each position, all equally likely."""
        return [set(range(self.config.d_vocab)), *({token} for token in tokens[:-1])]


DISTANCES = {(0, 0): 1, (0, 1): 2, (0, 2): 0, (1, 0): 1}
SPEAKS = (0, 0)


def build() -> Planted[Truth]:
    draft = blank_draft(n_layers=2)
    for head, distance in DISTANCES.items():
        look_back(draft, head, distance)
    carry(draft, SPEAKS, Register.TOKEN, Register.ANSWER)
    return Planted(draft.config, draft.finished(), vocabulary.encoding(), Truth(draft.config, DISTANCES, SPEAKS))
