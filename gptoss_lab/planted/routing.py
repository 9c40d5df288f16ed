"""Planted: experts that serve one class of tokens each.

The classes are control, digit, letter and punctuation (`vocabulary.CLASSES`). In each of three layers, four of the
eight experts belong to a class each, and the other four are helpers. Every token is served by two:

    first, with a weight of 0.731, the expert of a class: in layers 0 and 1 of the token's own class, in layer 2 of the
        class of the token before it (what precedes the first token counts as control);
    second, with a weight of 0.269, a helper, which two places of the token's code word choose: an arbitrary property
        of the token, shared by about a quarter of the vocabulary each.

The third in line is 7 logits behind. So in layers 0 and 1 routing is a function of the token alone: it holds all the
information that there is about the class, and nothing beyond the token. In layer 2 the first expert holds no more about
the token's own class than the text itself does, and all about the class before, beyond the token.

Every expert writes one word whatever it is given: expert e of layer l promotes the capital letter number 8 l + e, from
A to X. Each layer speaks sixteen times as loud as the one before it, so the letter of the last layer's first expert is
the prediction. The head (2, 0) looks at the token before; all other heads are blank.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gptoss_lab.config import ModelConfig
from gptoss_lab.planted import truth, vocabulary
from gptoss_lab.planted.blank import Draft, Register, blank_draft
from gptoss_lab.planted.codes import WIDTH, codeword, orthogonal_codeword
from gptoss_lab.planted.experts import LOUDNESS, Rule, write_rules
from gptoss_lab.planted.heads import Head, carry, look_back
from gptoss_lab.planted.truth import Planted

CONTROL = vocabulary.CLASSES.index("control")

EXPERT_OF_CLASS = ((0, 1, 2, 3), (6, 4, 0, 2), (5, 3, 7, 1))  # [layer][class]
READS = (Register.CLASS, Register.CLASS, Register.PREVIOUS_CLASS)  # [layer]
PREVIOUS_TOKEN_HEAD = (2, 0)

CLASS_LOGIT, HELPER_LOGIT = 8.0, 7.0  # of the two experts that are chosen; the largest of the others is 0
HELPER_PLACES = (7, 15)  # places of a token's code word; their signs choose the helper
HELPER_SIGNS = ((1, 1), (1, -1), (-1, 1), (-1, -1))  # of the first helper, the second, ...


@dataclass(frozen=True)
class Truth:
    config: ModelConfig
    classes: tuple[str, ...]
    class_of: NDArray[np.int64]
    """The class of every token, [d_vocab]."""
    expert_of_class: NDArray[np.int64]
    """[layer, class]; in the last layer, of the class of the token before."""
    helpers: NDArray[np.int64]
    """[layer, 4], the experts that belong to no class."""
    helper_of: NDArray[np.int64]
    """Which of a layer's four helpers serves a token, [d_vocab]."""
    weights: tuple[float, float]
    """What the first expert's output and the helper's are multiplied by."""
    margin: float
    """By how much the helper's router logit exceeds the third."""
    promotes: NDArray[np.int64]
    """The token that an expert promotes, [layer, expert]."""
    previous_token_head: Head

    def attention(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Every head's pattern, [layer, head, q_pos, k_pos]; what a row lacks to 1 is the sink's."""
        return truth.attention(self.config, {self.previous_token_head: truth.tokens_before(1)}, tokens)

    def experts(self, tokens: Sequence[int]) -> NDArray[np.int64]:
        """The experts that serve each token, [layer, pos, rank]."""
        own_class = self.class_of[list(tokens)]
        class_before = np.concatenate(([CONTROL], own_class[:-1]))
        deciding = np.stack([own_class, own_class, class_before])  # [layer, pos]
        first = np.take_along_axis(self.expert_of_class, deciding, axis=1)
        return np.stack([first, self.helpers[:, self.helper_of[list(tokens)]]], axis=-1)

    def output(self, layer: int, expert: int) -> NDArray[np.float32]:
        """What an expert gives for any token, before it is weighed, [d_model]."""
        given = np.zeros(self.config.d_model, dtype=np.float32)
        given[Register.ANSWER.slots] = LOUDNESS * loudness_of(layer) * codeword(int(self.promotes[layer, expert]))
        return given

    def next_tokens(self, tokens: Sequence[int]) -> list[set[int]]:
        """The token that comes next at each position: what the last layer's first expert promotes."""
        return [{int(self.promotes[-1, expert])} for expert in self.experts(tokens)[-1, :, 0]]


def build() -> Planted[Truth]:
    draft = blank_draft(n_layers=3)
    plan = _plan(draft.config)
    look_back(draft, PREVIOUS_TOKEN_HEAD, distance=1)
    control = orthogonal_codeword(CONTROL)
    carry(draft, PREVIOUS_TOKEN_HEAD, Register.CLASS, Register.PREVIOUS_CLASS, otherwise=control)
    for layer in range(draft.config.n_layers):
        plant_router(draft, layer, plan)
        for expert in range(draft.config.n_experts):
            word = codeword(int(plan.promotes[layer, expert])) * loudness_of(layer)
            write_rules(draft, layer, expert, [Rule(when={}, write={Register.ANSWER: word})])
    return Planted(draft.config, draft.finished(), vocabulary.encoding(), plan)


def plant_router(draft: Draft, layer: int, plan: Truth) -> None:
    """A logit of 8 for the expert of the class, and of 7, 0, 0 and -7 for the helpers."""
    weights = draft.weights.layers[layer]
    weights.router_bias.zero_()
    for number, expert in enumerate(plan.expert_of_class[layer]):
        weights.router[expert, READS[layer].slots] = CLASS_LOGIT / WIDTH * orthogonal_codeword(number)
    for signs, expert in zip(HELPER_SIGNS, plan.helpers[layer], strict=True):
        for place, sign in zip(HELPER_PLACES, signs, strict=True):
            weights.router[expert, Register.TOKEN.slots][place] = HELPER_LOGIT / 2 * sign


def loudness_of(layer: int) -> float:
    """How loud the experts of a layer speak, beside those of the last."""
    return 16.0 ** (layer - len(READS) + 1)


def _plan(config: ModelConfig) -> Truth:
    n_layers, n_experts = config.n_layers, config.n_experts
    everyone = set(range(n_experts))
    places = torch.stack([codeword(token)[list(HELPER_PLACES)] for token in range(config.d_vocab)]).int()
    first_letter = vocabulary.token_id("A")
    lead = CLASS_LOGIT - HELPER_LOGIT
    return Truth(
        config=config,
        classes=vocabulary.CLASSES,
        class_of=np.array([vocabulary.class_of(token) for token in range(config.d_vocab)]),
        expert_of_class=np.array(EXPERT_OF_CLASS),
        helpers=np.array([sorted(everyone.difference(experts)) for experts in EXPERT_OF_CLASS]),
        helper_of=np.array([HELPER_SIGNS.index((first, second)) for first, second in places.tolist()]),
        weights=(1 / (1 + math.exp(-lead)), 1 / (1 + math.exp(lead))),
        margin=HELPER_LOGIT,
        promotes=first_letter + np.arange(n_layers * n_experts).reshape(n_layers, n_experts),
        previous_token_head=PREVIOUS_TOKEN_HEAD,
    )
