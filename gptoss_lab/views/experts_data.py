"""What the experts view draws of a trace: choices, loads, who serves together with whom, promoted tokens."""

from functools import cached_property
from typing import Any

import numpy as np
import tiktoken
from numpy.typing import NDArray

from gptoss_lab.analyses import contributions, routing
from gptoss_lab.trace import Trace
from gptoss_lab.views.plain_text import quoted
from gptoss_lab.views.routing_map import choices
from gptoss_lab.views.strip_data import as_bytes, conversation
from gptoss_lab.weights import Weights

N_PROMOTED = 8

QUICK_SCORES = 5e7
"""Logits to compute for a page that holds every expert's promoted tokens; beyond that it holds one layer's."""


class Statistics:
    """How the work was shared between the experts of a trace, over the tokens that count.

    Those are the reply's content; without a reply the conversation's content, without any content all tokens.
    """

    def __init__(self, trace: Trace) -> None:
        in_reply, is_content = routing.reply(trace) & routing.content(trace), routing.content(trace)
        kinds = [
            (in_reply, "the reply's content tokens"),
            (is_content, "the content tokens"),
            (np.ones_like(is_content), "the tokens"),
        ]
        self.where, self.counted = next((mask, words) for mask, words in kinds if mask.any() or mask is kinds[-1][0])
        self.n_tokens = int(self.where.sum())
        self._trace = trace

    @cached_property
    def sums(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Router weight, and number of tokens, of every expert, both [layer, expert]."""
        return routing.expert_sums(self._trace, self.where)

    @property
    def shares(self) -> NDArray[np.float64]:
        """The share of the tokens that each expert served, [layer, expert]."""
        return self.sums[1] / max(1, self.n_tokens)

    @cached_property
    def together(self) -> NDArray[np.int64]:
        """How many tokens two experts both served, [layer, expert, expert]."""
        return routing.pair_counts(self._trace, self.where)

    @cached_property
    def by_chance(self) -> NDArray[np.float64]:
        """How many it would be, were they independent but for their popularity, [layer, expert, expert]."""
        return routing.expected_counts(self._trace, self.where)


def experts_data(trace: Trace, statistics: Statistics) -> dict[str, Any]:
    """The conversation, every token's experts, and how much each expert did.

    Arrays are bytes (see `strip_data`): sums float32 and choosers int32 [layer, expert], over the tokens that count.
    """
    weight, tokens = statistics.sums
    return {
        **conversation(trace),
        **choices(trace),
        "counted": statistics.counted,
        "nCounted": statistics.n_tokens,
        "sums": as_bytes(weight, "<f4"),
        "choosers": as_bytes(tokens, "<i4"),
    }


def busiest(statistics: Statistics) -> tuple[int, int]:
    """The (layer, expert) that got the most weight."""
    layer, expert = np.unravel_index(int(statistics.sums[0].argmax()), statistics.sums[0].shape)
    return int(layer), int(expert)


class Promotions:
    """What experts promote in the vocabulary. Raises ValueError where the trace holds no experts' outputs."""

    def __init__(self, trace: Trace, weights: Weights, encoding: tiktoken.Encoding | None) -> None:
        if trace.expert_out is None:
            raise ValueError('this trace has no experts\' outputs: trace with record=("routing", "experts")')
        self._trace, self._weights, self._encoding = trace, weights, encoding

    def of(self, layer: int, expert: int) -> dict[str, Any]:
        """The tokens that one expert makes likelier, and those that it makes less likely: [text, score] each."""
        found: dict[str, Any] = {"expert": [layer, expert], "tokens": 0, "raised": [], "lowered": []}
        if layer not in self._trace.expert_out_layers:
            return found | {"missing": "this layer's experts were not recorded"}
        table = contributions.promoted_by_expert(
            self._trace, self._weights, layer, expert, N_PROMOTED, encoding=self._encoding
        )
        if len(table):
            rows = [
                [quoted(text) if text else f"token {token}", round(float(score), 3)]
                for text, token, score in zip(table["text"], table["token"], table["score"], strict=True)
            ]
            half = len(rows) // 2
            found |= {"tokens": int(table["tokens"].iloc[0]), "raised": rows[:half], "lowered": rows[: half - 1 : -1]}
        return found

    def for_page(self, layer: int) -> list[dict[str, Any]]:
        """Every expert's, or, where that would take long, those of one layer."""
        n_scores = self._trace.n_layers * self._trace.n_experts * len(self._weights.unembedding)
        layers = range(self._trace.n_layers) if n_scores <= QUICK_SCORES else [layer]
        return [self.of(each, expert) for each in layers for expert in range(self._trace.n_experts)]
