"""Made-up traces: a conversation in harmony's form, and routing by a plan, so that pictures have known answers."""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gptoss_lab.harmony import Span
from gptoss_lab.trace import Trace

# role, channel, recipient, content
Turn = tuple[str, str | None, str | None, str]

THOUGHT = """We add column by column.
Ones: 8 + 7 = 15, write 5, carry 1.
Tens: 3 + 5 + 1 = 9, write 9, carry 0.
So the sum is 95."""

ADDITION: list[Turn] = [
    ("system", None, None, "Reasoning: high"),
    ("user", None, None, "What is 38 + 57?"),
    ("assistant", "analysis", None, THOUGHT),
    ("assistant", "final", None, "38 + 57 = 95"),
]


def conversation(
    turns: Sequence[Turn] = ADDITION, n_layers: int = 4, n_experts: int = 8, k: int = 2, seed: int = 0
) -> Trace:
    """The turns as a trace; the prompt ends after the last user turn's `<|start|>assistant`.

    In layer 0 every token that holds a digit chooses expert 0 first, and no other token chooses it.
    """
    texts: list[str] = []
    spans: list[Span] = []
    n_prompt = 0
    for number, (role, channel, recipient, content) in enumerate(turns):
        if role == "assistant" and not n_prompt:
            n_prompt = len(texts) + 2
        header = ["<|start|>", *_words(role)]
        if channel is not None:
            header += ["<|channel|>", *_words(channel)]
        if recipient is not None:
            header += [" to", "=", *_words(recipient)]
        header.append("<|message|>")
        last = "<|return|>" if number == len(turns) - 1 else "<|end|>"
        for section, pieces in (("header", header), ("content", _words(content)), ("end", [last])):
            texts += pieces
            spans += [Span(number, role, channel, recipient, section) for _ in pieces]
    return routed(texts, spans, n_prompt or len(texts), n_layers, n_experts, k, seed)


def long(n_tokens: int, n_layers: int = 24, n_experts: int = 32, k: int = 4, seed: int = 0) -> Trace:
    """A long thought and its answer: `n_tokens` tokens in all, at the 20b's shape unless said."""
    words = _words("so we add the ones, then the tens; write 7 and carry 1. wait: is that right? let us check 15 again")
    rng = np.random.default_rng(seed)
    texts = ["<|start|>", "user", "<|message|>", "Go", "<|end|>", "<|start|>", "assistant"]
    spans = [Span(0, "user", None, None, section) for section in ("header", "header", "header", "content", "end")]
    spans += [Span(1, "assistant", "analysis", None, "header")] * 2
    n_prompt = len(texts)
    thought = n_tokens - n_prompt - 20
    texts += rng.choice(words, thought).tolist() + [" done"] * 20
    spans += [Span(1, "assistant", "analysis", None, "content")] * thought
    spans += [Span(2, "assistant", "final", None, "content")] * 20
    return routed(texts, spans, n_prompt, n_layers, n_experts, k, seed)


def routed(
    texts: list[str], spans: list[Span], n_prompt: int, n_layers: int, n_experts: int, k: int, seed: int = 0
) -> Trace:
    """The texts, with router logits that depend on the text, a little on the place, and in layer 0 on digits."""
    rng = np.random.default_rng(seed)
    vocabulary = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    tokens = np.array([vocabulary[text] for text in texts], dtype=np.int64)
    taste = rng.normal(size=(n_layers, len(vocabulary), n_experts)) + rng.normal(size=(n_layers, 1, n_experts)) / 2
    logits = (taste[:, tokens] + rng.normal(size=(n_layers, len(texts), n_experts)) / 2).astype(np.float32)
    digit = np.array([bool(re.search(r"\d", text)) for text in texts])
    logits[0, :, 0] = np.where(digit, 9.0, -9.0)
    indices, weights = _chosen(logits, k)
    logprobs = np.full(len(texts), np.nan, dtype=np.float32)
    logprobs[n_prompt:] = np.log(rng.beta(8, 1, len(texts) - n_prompt)).astype(np.float32)
    guesses = [_guesses(place, texts, logprobs, rng) if place >= n_prompt else [] for place in range(len(texts))]
    padded = [[*each, *[("", np.nan)] * (3 - len(each))] for each in guesses]
    return Trace(
        token_ids=tokens,
        texts=texts,
        spans=spans,
        n_prompt=n_prompt,
        logprobs=logprobs,
        alternatives=np.array([[vocabulary.get(text, -1) for text, _ in each] for each in padded], dtype=np.int64),
        alternative_logprobs=np.array([[logprob for _, logprob in each] for each in padded], dtype=np.float32),
        alternative_texts=[[text for text, _ in each] for each in guesses],
        router_logits=logits,
        expert_indices=indices,
        topk_weights=weights,
        model_name="made up",
    )


def rerouted(trace: Trace, size: float = 0.3, seed: int = 1) -> Trace:
    """The same tokens, their router logits moved at random by about `size`, and everything that follows from that."""
    logits = trace.router_logits + size * np.random.default_rng(seed).normal(size=trace.router_logits.shape)
    indices, weights = _chosen(logits, trace.expert_indices.shape[2])
    return replace(
        trace,
        router_logits=logits.astype(np.float32),
        expert_indices=indices,
        topk_weights=weights,
        logprobs=trace.logprobs * 1.5,
    )


def _chosen(logits: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    indices = np.argsort(-logits, axis=2, kind="stable")[:, :, :k]
    chosen = np.take_along_axis(logits, indices, axis=2)
    weights = np.exp(chosen - chosen.max(axis=2, keepdims=True))
    return indices.astype(np.int64), (weights / weights.sum(axis=2, keepdims=True)).astype(np.float32)


def _guesses(place: int, texts: list[str], logprobs: np.ndarray, rng: np.random.Generator) -> list[tuple[str, float]]:
    """This token and two others, with their logprobs, likeliest first."""
    others = [text for text in rng.permutation(list(dict.fromkeys(texts))) if text != texts[place]][:2]
    rest = 1 - np.exp(float(logprobs[place]))
    found = [(texts[place], float(logprobs[place])), *((str(text), np.log(rest / 3)) for text in others)]
    return sorted(found, key=lambda each: -each[1])


def _words(text: str) -> list[str]:
    return re.findall(r"\n| ?[^\W\d_]+| ?\d{1,3}| ?[^\w\s]| +|\s|_", text)
