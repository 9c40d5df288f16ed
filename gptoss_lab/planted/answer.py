"""Planted: a model that thinks aloud in harmony's form, and answers with one digit of what it thought.

Whatever it is asked, it says this, each digit being drawn anew from all ten:

    <|channel|>analysis<|message|>See 4 apples.
    Hear 2 bells.
    Keep 7 safe.
    Count 9 sheep.
    Smell 5 roses.
    <|end|><|start|>assistant<|channel|>final<|message|>7<|return|>

The answer is the digit after "Keep ", read from the text when the answer is due: alter that digit and the answer
follows; alter any other and it does not; open the final channel before there was anything to keep, and the answer is
any digit, each with a probability of one in ten. Whoever says "Keep 7", the user included, is heeded; if several
different digits are to be kept, nothing is claimed of the answer but that it is a digit. At temperature 0 the digits of
the thought are a tie, which rounding decides.

How it is made:

    The head (0, 0) notes the previous token beside each token, as in `reads_one`.
    The head (1, 0) brings the token after "Keep " into KEPT, as there.
    The head (1, 2) looks for the channel's name "analysis" and notes it in THOUGHT: the thinking has been done.
    Layer 1's router sends each class of tokens to one expert, with a weight of 1 (the second's is below 1e-9).
    Layer 1's experts hold what to say next, as rules on the token, the token before, and THOUGHT. After
        "final<|message|>" the answer is copied from KEPT.

The rest is blank. So which token comes next depends on the last two tokens, on whether "analysis" has occurred, and on
what was kept: on nothing else in the text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gptoss_lab.config import ModelConfig
from gptoss_lab.planted import truth, vocabulary
from gptoss_lab.planted.blank import Draft, Register, blank_draft
from gptoss_lab.planted.codes import WIDTH, codeword, orthogonal_codeword
from gptoss_lab.planted.experts import Rule, write_rules
from gptoss_lab.planted.heads import Head, carry, look_for
from gptoss_lab.planted.reads_one import PREVIOUS_TOKEN_HEAD, READER, plant_reader
from gptoss_lab.planted.truth import Planted
from gptoss_lab.planted.vocabulary import CLASSES, FULL_STOP, MARKER, SENTENCES, token_id

THOUGHT_HEAD = (1, 2)
EXPERT_OF_CLASS = {"control": 5, "digit": 1, "letter": 6, "punctuation": 2}  # in layer 1
ROUTER_LOGIT = 32.0
DIGITS = frozenset(token_id(digit) for digit in "0123456789")


@dataclass(frozen=True)
class Truth:
    config: ModelConfig
    marker: int
    """The token whose successor is the answer."""
    digits: frozenset[int]
    sentences: tuple[tuple[str, str], ...]
    """What stands before and after the digit in each sentence of the thought."""
    kept_sentence: int
    """The sentence that decides the answer; no other has any part in it."""
    previous_token_head: Head
    reader: Head
    """The head by which the answer receives what was kept."""
    thought_head: Head
    expert_of_class: dict[str, int]
    """The expert of layer 1 that serves a class; in layer 0, experts 0 and 1 serve all and write nothing."""

    def attention(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Every head's pattern, [layer, head, q_pos, k_pos]; what a row lacks to 1 is the sink's."""
        looks = {
            self.previous_token_head: truth.tokens_before(1),
            self.reader: truth.tokens_after(self.marker),
            self.thought_head: truth.tokens_like(token_id("analysis")),
        }
        return truth.attention(self.config, looks, tokens)

    def answer(self, tokens: Sequence[int]) -> frozenset[int]:
        """The tokens that may be the answer after these, all equally likely; empty where nothing is claimed."""
        kept = frozenset(token for before, token in pairwise(tokens) if before == self.marker)
        if not kept:
            return self.digits
        return kept if len(kept) == 1 else frozenset()


def build() -> Planted[Truth]:
    draft = blank_draft(n_layers=2)
    plant_reader(draft, Register.KEPT)
    look_for(draft, THOUGHT_HEAD, word("analysis"), among=Register.TOKEN)
    carry(draft, THOUGHT_HEAD, Register.TOKEN, Register.THOUGHT)
    plant_router(draft, layer=1)
    for name, rules in RULES.items():
        write_rules(draft, 1, EXPERT_OF_CLASS[name], rules)
    known = Truth(
        config=draft.config,
        marker=token_id(MARKER),
        digits=DIGITS,
        sentences=SENTENCES,
        kept_sentence=[before for before, _ in SENTENCES].index(MARKER),
        previous_token_head=PREVIOUS_TOKEN_HEAD,
        reader=READER,
        thought_head=THOUGHT_HEAD,
        expert_of_class=EXPERT_OF_CLASS,
    )
    return Planted(draft.config, draft.finished(), vocabulary.encoding(), known)


def plant_router(draft: Draft, layer: int) -> None:
    """Each class to its expert. Whoever comes second does so by the blank model's preference, 25 logits behind."""
    router = draft.weights.layers[layer].router
    for name, expert in EXPERT_OF_CLASS.items():
        router[expert, Register.CLASS.slots] = ROUTER_LOGIT / WIDTH * orthogonal_codeword(CLASSES.index(name))


def word(text: str) -> Tensor:
    """The code word of a token, given by its text."""
    return codeword(token_id(text))


def after(text: str, previous: str | None = None) -> dict[Register, Tensor]:
    """The condition that this is the token, and that the one before."""
    return {Register.TOKEN: word(text)} | ({} if previous is None else {Register.PREVIOUS: word(previous)})


def say(text: str) -> dict[Register, Tensor]:
    return {Register.ANSWER: word(text)}


ANY_DIGIT = {Register.ANSWER_CLASS: orthogonal_codeword(CLASSES.index("digit"))}
OPENINGS, ENDINGS = zip(*SENTENCES, strict=True)

RULES = {
    "control": [
        Rule(after("<|start|>"), say("assistant")),
        Rule(after("<|channel|>"), say("analysis")),
        # Once there has been an analysis: take back what the rule above says, and say the other.
        Rule(
            {**after("<|channel|>"), Register.THOUGHT: word("analysis")},
            {Register.ANSWER: word("final") - word("analysis")},
        ),
        Rule(after("<|message|>", previous="analysis"), say(OPENINGS[0])),
        # Any digit, and by far the most likely one of them that was kept, if any was.
        Rule(after("<|message|>", previous="final"), ANY_DIGIT, copy={Register.KEPT: Register.ANSWER}),
        Rule(after("<|end|>"), say("<|start|>")),
    ],
    "letter": [
        *(Rule(after(channel), say("<|message|>")) for channel in ("analysis", "final")),
        Rule(after("assistant"), say("<|channel|>")),
        *(Rule(after(opening), ANY_DIGIT) for opening in OPENINGS),
        *(Rule(after(ending), say(FULL_STOP)) for ending in ENDINGS),
    ],
    # That the token is a digit, the router has asked already: these rules need only know what stood before it.
    "digit": [
        *(Rule({Register.PREVIOUS: word(opening)}, say(ending)) for opening, ending in SENTENCES),
        Rule({Register.PREVIOUS: word("<|message|>")}, say("<|return|>")),
    ],
    "punctuation": [
        Rule(after(FULL_STOP, previous=ending), say(following))
        for ending, following in zip(ENDINGS, (*OPENINGS[1:], "<|end|>"), strict=True)
    ],
}
"""What each expert of layer 1 knows."""
