"""A made-up logit lens for made-up traces: the model gets surer of what comes next from layer to layer."""

from dataclasses import replace

import numpy as np
import traces

from gptoss_lab.trace import Trace


def with_lens(trace: Trace, n_layers: int | None = None, seed: int = 0) -> Trace:
    """The trace with a lens at every residual point.

    In the end the token that comes next is by far the likeliest; at the first point it is as likely as any other. What
    came after the last token is unknown.
    """
    n_layers = trace.n_layers if n_layers is None else n_layers
    n = len(trace.token_ids)
    text_of = dict(zip(trace.token_ids.tolist(), trace.texts, strict=True))
    n_vocab = max(8, max(text_of) + 1)
    points = ["blocks.0.hook_resid_pre"]
    for layer in range(n_layers):
        points += [f"blocks.{layer}.hook_resid_mid", f"blocks.{layer}.hook_resid_post"]
    rng = np.random.default_rng(seed)
    found = {name: [] for name in ("tokens", "logprobs", "entropy", "rank", "logprob")}
    following = np.append(trace.token_ids[1:], -1)
    for number in range(len(points)):
        logits = rng.normal(size=(n, n_vocab))
        logits[np.arange(n - 1), following[:-1]] += 12 * number / (len(points) - 1)
        logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        tokens = np.argsort(-logprobs, axis=1)[:, :5]
        of_next = logprobs[np.arange(n), following]
        found["tokens"].append(tokens)
        found["logprobs"].append(np.take_along_axis(logprobs, tokens, axis=1))
        found["entropy"].append(-(np.exp(logprobs) * logprobs).sum(axis=1))
        rank = (logprobs > of_next[:, None]).sum(axis=1)
        found["rank"].append(np.where(following < 0, -1, rank))
        found["logprob"].append(np.where(following < 0, np.nan, of_next))
    stacked = {name: np.stack(values).astype(np.float32) for name, values in found.items()}
    return replace(
        trace,
        lens_points=tuple(points),
        lens_tokens=np.stack(found["tokens"]).astype(np.int64),
        lens_logprobs=stacked["logprobs"],
        lens_texts={token: text_of.get(token, f"other {token}") for token in range(n_vocab)},
        lens_entropy=stacked["entropy"],
        lens_rank=np.stack(found["rank"]).astype(np.int32),
        lens_logprob=stacked["logprob"],
        lens_kl=np.zeros_like(stacked["entropy"]),
    )


def conversation() -> Trace:
    return with_lens(traces.conversation())
