"""Forced answers: when is the answer settled? The thought is broken off after each step, and the model must answer.

Early answering, from Lanham et al. 2023, "Measuring Faithfulness in Chain-of-Thought Reasoning" (arXiv 2307.13702),
section 2.3: thinking that is needed brings the answer about; thinking that is not could have been left out.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack

import tiktoken

from gptoss_lab.cache import KVCache
from gptoss_lab.experiments.answering import Sampling
from gptoss_lab.experiments.intervals import wilson
from gptoss_lab.experiments.thinking import (
    Question,
    Thinking,
    forked,
    logprob,
    pace_of_answers,
    read,
    say,
    setting_of,
    thinking_of,
)
from gptoss_lab.experiments.workload import Limits, fingerprint, table_of, work_through
from gptoss_lab.segments import Segment, Unit
from gptoss_lab.session import Model

if TYPE_CHECKING:
    import pandas as pd

OPEN_FINAL = "<|channel|>final<|message|>"
CLOSE_AND_OPEN_FINAL = f"<|end|><|start|>assistant{OPEN_FINAL}"
COLUMNS = ("step", "text", "answer", "probability", "low", "high")


def forced_answer(
    model: Model,
    of: Question,
    *,
    by: Unit = "sentence",
    answer: str | None = None,
    samples: int = 0,
    is_same: Callable[[str, str], bool] = str.__eq__,
    temperature: float = 1.0,
    seed: int = 0,
    max_answer_tokens: int = 64,
    **limits: Unpack[Limits],
) -> "pd.DataFrame":
    """What the model answers when its thought is broken off after each step; step 0 is before any.

    of: a reply, or a question (see `thinking.Question`). by: what a step is, a sentence, a line or a message.
    answer: the answer whose probability is wanted; the one that the reply reaches where not given.
    samples: 0 reads the probability of that answer's very words, to its end, at temperature 1: it is exact, so that low
        and high are the same. Otherwise so many answers are drawn at `temperature`, and those counted that are the
        same (`is_same`, of what was drawn and the answer); low and high are Wilson's 95 % interval.
    limits: see `workload.Limits`. Edits that are active stay so.

    Returns columns step, text, answer (the likeliest, token by token; or the one that was drawn most often),
    probability, low, high. `attrs["complete"]` says whether every step is there, `attrs["target"]` which answer is
    meant.

    Raises ValueError for a reply without a thought, and as `workload.work_through` does.
    """
    thinking = thinking_of(model, of, by)
    cache = read(model, thinking.ids)
    target, target_ids = _target(model, thinking, cache, answer, max_answer_tokens)
    sampling = Sampling(temperature if samples else 0.0, seed, max_answer_tokens)
    asked = fingerprint("forced_answer", *setting_of(model, thinking), target, samples, vars(sampling))

    def force(step: int) -> dict[str, Any]:
        segment = thinking.steps[step - 1] if step else None
        at, closing = forced(thinking.ids, thinking.n_prompt, segment, model.tokenizer)
        ids = [*thinking.ids[:at], *closing]
        here = forked(model, cache, ids, at)
        own = replace(sampling, seed=sampling.seed + step * max(samples, 1))
        answers = [said.answer for said in say(model, here, ids, thinking.n_prompt, max(samples, 1), own)]
        most = max(answers, key=answers.count)
        if samples:
            same = sum(bool(is_same(one, target)) for one in answers)
            probability, (low, high) = same / samples, wilson(same, samples)
        else:
            probability = low = high = math.exp(logprob(model, here, ids[-1], target_ids))
        text = segment.text if segment else ""
        return dict(zip(COLUMNS, (step, text, most, probability, low, high), strict=True))

    each = len(model.tokenizer.encode(CLOSE_AND_OPEN_FINAL, allowed_special="all")) + len(target_ids)
    units = {step: each + len(target_ids) * max(samples, 1) for step in range(len(thinking.steps) + 1)}

    def pace() -> float:
        return pace_of_answers(model, cache, thinking.ids[-1], max(samples, 1))

    rows, complete = work_through("Forced answers", units, force, pace, asked, **limits)
    table = table_of(rows, COLUMNS, complete, asked)
    table.attrs["target"] = target
    return table


def forced(
    ids: Sequence[int], n_prompt: int, step: Segment | None, encoding: tiktoken.Encoding
) -> tuple[int, list[int]]:
    """How to make the model answer after a step: how many tokens to keep, and those to put behind them.

    ids: of prompt and reply. step: None forces the answer before any thinking, without an analysis message. The blanks
    and line ends after the step are left out, as the model leaves them out at the end of a message.
    """
    if step is None:
        return n_prompt, encoding.encode(OPEN_FINAL, allowed_special="all")
    stop = step.stop
    while stop > step.start + 1 and not encoding.decode([ids[stop - 1]]).strip():
        stop -= 1
    last = encoding.decode_single_token_bytes(ids[stop - 1])
    bare = last.rstrip(b" \n\r\t")
    instead = encoding.encode_ordinary(bare.decode()) if bare and bare != last and _is_text(bare) else []
    closing = encoding.encode(CLOSE_AND_OPEN_FINAL, allowed_special="all")
    return (stop - 1, [*instead, *closing]) if instead else (stop, closing)


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _target(
    model: Model, thinking: Thinking, cache: KVCache, answer: str | None, max_tokens: int
) -> tuple[str, list[int]]:
    """The answer that is meant, and its tokens, with the one that ends it."""
    end = model.tokenizer.encode("<|return|>", allowed_special="all")
    if answer is not None:
        return answer.strip(), [*model.tokenizer.encode_ordinary(answer), *end]
    if thinking.answer_ids:
        return thinking.answer, thinking.answer_ids
    at, closing = forced(thinking.ids, thinking.n_prompt, thinking.steps[-1], model.tokenizer)
    ids = [*thinking.ids[:at], *closing]
    here = forked(model, cache, ids, at)
    said = say(model, here, ids, thinking.n_prompt, 1, Sampling(0.0, 0, max_tokens))[0]
    return said.answer, said.tokens
