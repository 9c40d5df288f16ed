"""Tracing: from what a run recorded to a `Trace`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tiktoken
from torch import Tensor

from gptoss_lab.config import ModelConfig
from gptoss_lab.generate import Generation, likeliest
from gptoss_lab.harmony import Span
from gptoss_lab.logit_lens import UNKNOWN
from gptoss_lab.model import Transformer
from gptoss_lab.recording import Record, Recorder, lens_names, residual_names
from gptoss_lab.tokenizer import token_text
from gptoss_lab.trace import Trace

N_ALTERNATIVES = 5
"""How many of the likeliest tokens a trace keeps for each place."""

_CHUNK = 64  # positions that are unembedded together: a large vocabulary's logits are 0.8 MB each


@dataclass(frozen=True)
class Guesses:
    """What the model expected at each place, from the tokens before it."""

    logprobs: list[float]
    """Of the token that stands there; NaN where nothing is known."""
    alternatives: list[tuple[tuple[int, float], ...]]
    """The likeliest tokens and their log-probabilities; none where nothing is known."""


def guesses_of_generation(generation: Generation, n_prompt: int) -> Guesses:
    """What was expected while generating; nothing is known of the prompt."""
    return Guesses([*[np.nan] * n_prompt, *generation.logprobs], [*[()] * n_prompt, *generation.alternatives])


def guesses_of_pass(transformer: Transformer, final_residual: Tensor, tokens: Sequence[int]) -> Guesses:
    """What was expected in one pass, from its last residual stream [1, pos, d_model]; nothing of the first token."""
    logprobs: list[float] = [np.nan]
    alternatives: list[tuple[tuple[int, float], ...]] = [()]
    following = list(tokens[1:])
    for chunk in final_residual[0, :-1].split(_CHUNK):
        rows = transformer.unembed(chunk).log_softmax(dim=-1).detach().cpu().numpy()
        for row, token in zip(rows, following[len(logprobs) - 1 :], strict=False):
            logprobs.append(float(row[token]))
            alternatives.append(likeliest(row, N_ALTERNATIVES))
    return Guesses(logprobs, alternatives)


def holds(trace: Trace, record: Record, config: ModelConfig) -> bool:
    """Whether a trace has all that `record` asks for. `record` must have been checked."""
    wanted_and_held = [
        (record.attention, trace.attention_layers),
        (record.heads or () if record.attention else (), trace.attention_heads),
        (residual_names(record.residual), trace.residual_points),
        (record.experts, trace.expert_out_layers),
        (record.z, trace.z_layers),
        (lens_names(record.lens, config), trace.lens_points),
    ]
    return all(set(wanted) <= set(held) for wanted, held in wanted_and_held)


def assemble(
    recorder: Recorder,
    tokens: Sequence[int],
    spans: Sequence[Span],
    n_prompt: int,
    guesses: Guesses,
    encoding: tiktoken.Encoding,
    model_name: str,
    provenance: Mapping[str, str],
) -> Trace:
    """The trace of a run. What the recorder has not seen, the last token where the context is full, is left out."""
    n = recorder.n_positions
    width = max(map(len, guesses.alternatives), default=0)
    padded = [[*choices, *[(-1, np.nan)] * (width - len(choices))] for choices in guesses.alternatives[:n]]
    texts = [token_text(encoding, token) for token in tokens[:n]]
    arrays = recorder.arrays(after_last=int(tokens[n]) if n < len(tokens) else UNKNOWN)
    seen_by_lens = np.unique(arrays.get("lens_tokens", ())).astype(int).tolist()
    return Trace(
        token_ids=np.array(tokens[:n], dtype=np.int64),
        texts=texts,
        spans=list(spans[:n]),
        n_prompt=n_prompt,
        logprobs=np.array(guesses.logprobs[:n], dtype=np.float32),
        alternatives=np.array([[token for token, _ in choices] for choices in padded], dtype=np.int64),
        alternative_logprobs=np.array([[logprob for _, logprob in choices] for choices in padded], dtype=np.float32),
        alternative_texts=[
            [token_text(encoding, token) for token, _ in choices] for choices in guesses.alternatives[:n]
        ],
        model_name=model_name,
        provenance=dict(provenance),
        lens_texts={token: token_text(encoding, token) for token in seen_by_lens},
        **arrays,
    )
