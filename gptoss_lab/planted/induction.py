"""Planted: an induction pair, two heads that together continue "A B ... A" with "B".

The head (0, 0) looks at the token before and notes it beside each token: at B, "I come after an A". The head (1, 2)
looks for notes of the token that it stands on: at the second A, for whoever comes after an A. It finds B, and carries
it to the answer. Neither does anything alone; removing either takes the prediction away. The rest are blank.

Where its token has not occurred before, the second head rests on its sink, and all tokens are equally likely. Where it
has occurred several times, it looks at all that followed, in equal shares: if they are the same token, that is
predicted. Two equal neighbours, "A A", count as an A that follows an A.

Olsson et al., "In-context Learning and Induction Heads" (arXiv 2209.11895).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gptoss_lab.config import ModelConfig
from gptoss_lab.planted import truth, vocabulary
from gptoss_lab.planted.blank import Register, blank_draft
from gptoss_lab.planted.heads import Head, carry, look_back, look_for
from gptoss_lab.planted.truth import Planted


@dataclass(frozen=True)
class Truth:
    config: ModelConfig
    previous_token_head: Head
    induction_head: Head

    def attention(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Every head's pattern, [layer, head, q_pos, k_pos]; what a row lacks to 1 is the sink's."""
        looks = {
            self.previous_token_head: truth.tokens_before(1),
            self.induction_head: truth.tokens_after_one_like_this,
        }
        return truth.attention(self.config, looks, tokens)

    def next_tokens(self, tokens: Sequence[int]) -> list[set[int]]:
        """The tokens that may come next at each position, all equally likely; empty where nothing is claimed."""
        ids = np.asarray(tokens, dtype=np.int64)
        followers = np.tril(truth.tokens_after_one_like_this(ids))
        return [truth.claimed(set(ids[row].tolist()), self.config) for row in followers]


PREVIOUS_TOKEN_HEAD = (0, 0)
INDUCTION_HEAD = (1, 2)


def build() -> Planted[Truth]:
    draft = blank_draft(n_layers=2)
    look_back(draft, PREVIOUS_TOKEN_HEAD, distance=1)
    carry(draft, PREVIOUS_TOKEN_HEAD, Register.TOKEN, Register.PREVIOUS)
    look_for(draft, INDUCTION_HEAD, sought=Register.TOKEN, among=Register.PREVIOUS)
    carry(draft, INDUCTION_HEAD, Register.TOKEN, Register.ANSWER)
    return Planted(
        draft.config,
        draft.finished(),
        vocabulary.encoding(),
        Truth(draft.config, PREVIOUS_TOKEN_HEAD, INDUCTION_HEAD),
    )
