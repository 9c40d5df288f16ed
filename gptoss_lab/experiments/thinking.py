"""What experiments on a thought have in common: its steps and answer, answers drawn from a place in it, and pace."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gptoss_lab.cache import KVCache
from gptoss_lab.edits import to_json
from gptoss_lab.experiments.answering import Sampling, answer_all
from gptoss_lab.harmony import Message, Span, StreamParser
from gptoss_lab.reply import Reply
from gptoss_lab.segments import Segment, Unit, segments
from gptoss_lab.session import Model
from gptoss_lab.tokenizer import token_text

Question = Reply | str | Sequence[Message]
"""A reply, whose thought is examined; or a question, which is answered first, at high effort and temperature 0."""


@dataclass(frozen=True)
class Thinking:
    """A reply as experiments see it. Positions count from the start of the prompt."""

    ids: list[int]
    """Of prompt and reply."""
    n_prompt: int
    spans: list[Span]
    steps: list[Segment]
    """Of the thought: all that is said before the final channel."""
    answer: str
    """What stands in the final channel, blanks around it left out; empty where the reply has none."""
    answer_ids: list[int]
    """Its tokens, the one that ends it included."""
    answer_start: int
    """The position of the first of them, or the reply's end where there is none."""


@dataclass(frozen=True)
class Said:
    """What the model said from some place on."""

    tokens: list[int]
    answer: str
    """In the final channel, blanks around it left out."""


def thinking_of(model: Model, of: Question, by: Unit = "sentence") -> Thinking:
    """Raises ValueError where nothing is said before the final channel."""
    reply = of if isinstance(of, Reply) else model.chat(of, "high", temperature=0.0, display=False)
    ids, spans = [*reply.prompt_tokens, *reply.tokens], [*reply.prompt_spans, *reply.spans]
    texts = [token_text(model.tokenizer, token) for token in ids]
    n_prompt = len(reply.prompt_tokens)
    final = [place for place in range(n_prompt, len(ids)) if spans[place].channel == "final"]
    content = [place for place in final if spans[place].section == "content"]
    start = content[0] if content else final[0] if final else len(ids)
    steps = [step for step in segments(texts, spans, by, n_prompt) if step.start < start and step.channel != "final"]
    if not steps:
        raise ValueError("the reply has no thought: nothing is said before the final channel; ask at a higher effort")
    answer_ids = [ids[place] for place in final if place >= start and spans[place].section != "header"]
    return Thinking(ids, n_prompt, spans, steps, reply.text.strip(), answer_ids if content else [], start)


def read(model: Model, ids: Sequence[int]) -> KVCache:
    """A cache of all but the last of these tokens, under what is active now."""
    cache = model.transformer.new_cache()
    if len(ids) > 1:
        model.transformer(list(ids[:-1]), cache, last_only=True)
    return cache


def forked(model: Model, cache: KVCache, ids: Sequence[int], shared: int) -> KVCache:
    """A fork of a cache that holds all but the last of `ids`, of which the first `shared` are what the cache holds."""
    own = cache.fork()
    own.rewind(min(own.length, shared, len(ids) - 1))
    if own.length < len(ids) - 1:
        model.transformer(list(ids[own.length : -1]), own, last_only=True)
    return own


def say(model: Model, cache: KVCache, ids: Sequence[int], n_prompt: int, n: int, sampling: Sampling) -> list[Said]:
    """n continuations of `ids`, drawn together. cache: all but the last of them; it is left as it was.

    At temperature 0 they would all be the same: one is generated, and counted n times.
    """
    different = 1 if sampling.temperature == 0 else n
    caches = [cache.fork() for _ in range(different)]
    samplings = [replace(sampling, seed=sampling.seed + number) for number in range(different)]
    drawn = answer_all(model, [list(ids[-1:])] * different, caches, samplings)
    said = [Said(tokens, answer_in(model, [*ids[n_prompt:], *tokens])) for tokens in drawn]
    return said * n if different < n else said


def logprob(model: Model, cache: KVCache, last: int, tokens: Sequence[int]) -> float:
    """Natural logarithm of the probability that these tokens follow. cache: all before `last`; it is left as it was."""
    logits = model.transformer([last, *tokens[:-1]], cache.fork())[0].double().log_softmax(dim=-1)
    return sum(float(row[token]) for row, token in zip(logits, tokens, strict=True))


def answer_in(model: Model, reply: Sequence[int]) -> str:
    """What a reply's tokens say in the final channel, blanks around it left out."""
    parser = StreamParser(model.tokenizer)
    for token in reply:
        parser.push(token)
    return "".join(message.content for message in parser.messages if message.channel == "final").strip()


def setting_of(model: Model, thinking: Thinking) -> list[object]:
    """What the numbers of every experiment depend on, for its fingerprint."""
    steps = [(step.start, step.stop) for step in thinking.steps]
    return [model.name, to_json(model.edits), thinking.ids, thinking.n_prompt, steps]


def pace_of_answers(model: Model, cache: KVCache, token: int, n: int = 1) -> float:
    """Seconds a token when n continuations are drawn together, measured on two."""
    caches = [cache.fork() for _ in range(n)]
    times = []
    for _ in range(2):
        before = time.monotonic()
        model.transformer([[token]] * n, caches, last_only=True)
        times.append(time.monotonic() - before)
    return min(times) / n


def pace_of_reading(model: Model, ids: Sequence[int]) -> float:
    """Seconds a token when a text is read, measured on its first tokens."""
    first = list(ids[:32])
    before = time.monotonic()
    model.transformer(first, last_only=True)
    return (time.monotonic() - before) / len(first)
