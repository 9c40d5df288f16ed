"""Planted: a model that reads one earlier token, the one after "Keep ", and no other.

The head (0, 0) notes the previous token beside each token. The head (1, 0) looks for the note "Keep ", from everywhere,
and carries the token that it finds there to the answer. So in "See 4 apples. Keep 7 safe. Count 9 sheep." the model
says "7" from the 7 on, at every position; before that all tokens are equally likely. The rest are blank.

What has importance is the 7 (its value) and the "Keep " before it (that it is read at all); nothing else has any,
unless it is made into another "Keep ". If there are several, the head looks at what follows each, in equal shares.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gptoss_lab.config import ModelConfig
from gptoss_lab.planted import truth, vocabulary
from gptoss_lab.planted.blank import Draft, Register, blank_draft
from gptoss_lab.planted.codes import codeword
from gptoss_lab.planted.heads import Head, carry, look_back, look_for
from gptoss_lab.planted.truth import Planted


@dataclass(frozen=True)
class Truth:
    config: ModelConfig
    marker: int
    """The token whose successor is read."""
    previous_token_head: Head
    reader: Head

    def attention(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Every head's pattern, [layer, head, q_pos, k_pos]; what a row lacks to 1 is the sink's."""
        looks = {self.previous_token_head: truth.tokens_before(1), self.reader: truth.tokens_after(self.marker)}
        return truth.attention(self.config, looks, tokens)

    def read(self, tokens: Sequence[int]) -> list[int]:
        """The positions that are read; the tokens that stand there are the answer."""
        return [position for position in range(1, len(tokens)) if tokens[position - 1] == self.marker]

    def next_tokens(self, tokens: Sequence[int]) -> list[set[int]]:
        """The tokens that may come next at each position, all equally likely; empty where nothing is claimed."""
        read = self.read(tokens)
        so_far = ({tokens[place] for place in read if place <= position} for position in range(len(tokens)))
        return [truth.claimed(candidates, self.config) for candidates in so_far]


PREVIOUS_TOKEN_HEAD = (0, 0)
READER = (1, 0)


def build() -> Planted[Truth]:
    draft = blank_draft(n_layers=2)
    plant_reader(draft, Register.ANSWER)
    marker = vocabulary.token_id(vocabulary.MARKER)
    return Planted(
        draft.config,
        draft.finished(),
        vocabulary.encoding(),
        Truth(draft.config, marker, PREVIOUS_TOKEN_HEAD, READER),
    )


def plant_reader(draft: Draft, target: Register) -> None:
    """The two heads that bring the token after the marker into a register of every later token."""
    look_back(draft, PREVIOUS_TOKEN_HEAD, distance=1)
    carry(draft, PREVIOUS_TOKEN_HEAD, Register.TOKEN, Register.PREVIOUS)
    look_for(draft, READER, codeword(vocabulary.token_id(vocabulary.MARKER)), among=Register.PREVIOUS)
    carry(draft, READER, Register.TOKEN, target)
