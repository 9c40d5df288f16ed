"""Growing a branch, token by token, so that an interrupt at any moment leaves it consistent.

What a branch holds is a list of tokens to which one is added at a time, and a cache that holds the keys and values of
some of the first of them: never of others. Whatever is left half done is done again from there.
"""

import contextvars
import math
from collections import abc
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import islice
from typing import TypeVar

import numpy as np
import tiktoken
from torch import Tensor

from gptoss_lab.cache import KVCache
from gptoss_lab.edits import Edit
from gptoss_lab.generate import Generator, entropy_of, likeliest
from gptoss_lab.harmony import Message, Span, StreamParser
from gptoss_lab.model import FwdHooks, Stopped, never
from gptoss_lab.session import Model
from gptoss_lab.thought.structure import problems_of
from gptoss_lab.thought.tree import Alternatives, Branch, Finish, Settings, Token
from gptoss_lab.tokenizer import control_ids, token_text

Item = TypeVar("Item")

N_ALTERNATIVES = 5
"""How many of the likeliest tokens are kept with each."""

_CHUNK = 64  # given tokens that are read together: a large vocabulary's logits are 0.8 MB each


@dataclass
class Growth:
    """A branch while it grows. Only `tokens`, `finish`, `limit` and the cache ever change."""

    number: int
    parent: int | None
    shared: int
    origin: str
    settings: Settings
    asked: tuple[Message, ...]
    prompt_spans: tuple[Span, ...]
    n_given: int
    tokens: list[Token]
    cache: KVCache
    """Of the first tokens, under the branch's own interventions."""
    limit: int
    """How many new tokens there may be."""
    finish: Finish = "unfinished"
    _seen: Branch | None = field(default=None, repr=False)

    def snapshot(self, encoding: tiktoken.Encoding | None) -> Branch:
        """The branch as it is now. Without its vocabulary, as it was read from a file."""
        if encoding is None:
            assert self._seen is not None
            return self._seen
        tokens, finish = tuple(self.tokens), self.finish
        seen = self._seen
        if seen is None or len(seen.tokens) != len(tokens) or seen.finish != finish or seen.tokens != tokens:
            self._seen = seen = self._branch(tokens, finish, encoding)
        return seen

    def _branch(self, tokens: tuple[Token, ...], finish: Finish, encoding: tiktoken.Encoding) -> Branch:
        n_prompt = len(self.prompt_spans)
        parser = StreamParser(encoding, messages_so_far=len(self.asked))
        reply = [token.id for token in tokens[n_prompt:]]
        for token in reply:
            parser.push(token)
        spans, messages = parser.spans, tuple(parser.messages if reply else ())
        return Branch(
            number=self.number,
            parent=self.parent,
            shared=self.shared,
            origin=self.origin,
            settings=self.settings,
            asked=self.asked,
            n_prompt=n_prompt,
            n_given=self.n_given,
            tokens=tokens,
            spans=(*self.prompt_spans, *spans),
            messages=messages,
            problems=problems_of(reply, spans, messages, encoding, ended=finish == "stop"),
            finish=finish,
        )


def growth_of(branch: Branch, cache: KVCache, limit: int) -> Growth:
    """A branch that was written to a file, to go on with."""
    return Growth(
        number=branch.number,
        parent=branch.parent,
        shared=branch.shared,
        origin=branch.origin,
        settings=branch.settings,
        asked=branch.asked,
        prompt_spans=branch.spans[: branch.n_prompt],
        n_given=branch.n_given,
        tokens=list(branch.tokens),
        cache=cache,
        limit=limit,
        finish=branch.finish,
        _seen=branch,
    )


def grow(
    model: Model, growth: Growth, should_stop: Callable[[], bool] = never, hooks: FwdHooks = ()
) -> abc.Generator[Token, None, None]:
    """Reads what is given and generates what is to follow, yielding each new token when it is in its place.

    Runs under the branch's own interventions and these hooks, and no others. Left before its end, by an exception or by
    whoever listens, it can be called again, and goes on as if nothing had happened.
    """
    return _in_a_context_of_its_own(_grow(model, growth, should_stop, hooks))


def read_given(model: Model, growth: Growth) -> None:
    """Works out what the model expected where tokens were given: their probabilities, alternatives and entropies."""
    under(model, growth.settings.edits, lambda: _read_given(model, growth, never))


def under(model: Model, edits: tuple[Edit, ...], work: Callable[[], Item]) -> Item:
    """What some work gives under these interventions and no others, whatever is active here."""

    def alone() -> Item:
        with model.edit(edits):
            return work()

    return contextvars.Context().run(alone)


def _grow(
    model: Model, growth: Growth, should_stop: Callable[[], bool], hooks: FwdHooks
) -> abc.Generator[Token, None, None]:
    settings, controls = growth.settings, control_ids(model.tokenizer)
    ends = {controls["<|return|>"], controls["<|call|>"]}
    growth.finish = "interrupted"  # unless it comes to another end
    with model.edit(settings.edits), model.hooks(hooks):
        try:
            _read_given(model, growth, should_stop)
        except Stopped:
            return
        growth.finish = _end_of(growth, ends, model.config.n_ctx) or "interrupted"
        if growth.finish != "interrupted":
            return
        drawn = len(growth.tokens) - growth.n_given
        growth.cache.rewind(min(growth.cache.length, len(growth.tokens) - 1))
        generator = Generator(
            model.transformer,
            [token.id for token in growth.tokens[growth.cache.length :]],
            growth.limit - drawn,
            temperature=settings.temperature,
            top_p=settings.top_p,
            seed=settings.seed,
            drawn=drawn,
            stop=ends,
            cache=growth.cache,
            n_alternatives=N_ALTERNATIVES,
            should_stop=should_stop,
        )
        for sampled in generator:
            token = _token(model, sampled.token, sampled.logprob, sampled.entropy, sampled.alternatives)
            growth.tokens.append(token)
            yield token
        growth.finish = _end_of(growth, ends, model.config.n_ctx) or "interrupted"


def _end_of(growth: Growth, ends: set[int], n_ctx: int) -> Finish | None:
    """Why nothing is to follow; None where something is."""
    if growth.tokens[-1].id in ends and len(growth.tokens) > len(growth.prompt_spans):
        return "stop"
    if len(growth.tokens) - growth.n_given >= growth.limit:
        return "length"
    return "context" if len(growth.tokens) > n_ctx else None


def _read_given(model: Model, growth: Growth, should_stop: Callable[[], bool]) -> None:
    """Runs the tokens up to the last that nothing is known about, and notes what was expected in their places."""
    n_prompt = len(growth.prompt_spans)
    unknown = [place for place, token in enumerate(growth.tokens) if place >= n_prompt and math.isnan(token.logprob)]
    if not unknown:
        return
    first, last = unknown[0], unknown[-1]
    if growth.cache.length >= first:
        growth.cache.rewind(first - 1)
    else:
        _run(model, growth, first - 1, should_stop, last_only=True)
    while growth.cache.length < last:
        start = growth.cache.length
        logits = _run(model, growth, min(start + _CHUNK, last), should_stop)
        assert logits is not None
        for place, row in enumerate(logits[0], start=start + 1):
            growth.tokens[place] = _as_expected(model, growth.tokens[place], row)


def _run(
    model: Model, growth: Growth, stop: int, should_stop: Callable[[], bool], last_only: bool = False
) -> Tensor | None:
    """Runs the tokens from where the cache ends to before `stop`, if there are any; logits [1, pos, d_vocab]."""
    tokens = [token.id for token in islice(growth.tokens, growth.cache.length, stop)]
    if not tokens:
        return None
    return model.transformer(tokens, growth.cache, last_only=last_only, should_stop=should_stop)


def _as_expected(model: Model, token: Token, logits: Tensor) -> Token:
    """A token with what the model expected in its place. logits: [d_vocab]."""
    if not math.isnan(token.logprob):
        return token
    logprobs = logits.detach().double().log_softmax(dim=-1).cpu().numpy()
    found = likeliest(logprobs, N_ALTERNATIVES)
    known = _token(model, token.id, float(logprobs[token.id]), entropy_of(np.asarray(logprobs)), found)
    return replace(known, source=token.source)


def _token(
    model: Model, token: int, logprob: float, entropy: float, alternatives: tuple[tuple[int, float], ...]
) -> Token:
    texts = _texts(model.tokenizer)
    return Token(token, texts[token], "sampled", logprob, entropy, Alternatives(alternatives, texts))


class _Texts(dict[int, str]):
    """What tokens say, each looked up once."""

    def __init__(self, encoding: tiktoken.Encoding):
        super().__init__()
        self._encoding = encoding

    def __missing__(self, token: int) -> str:
        text = self[token] = token_text(self._encoding, token)
        return text


_texts = cache(_Texts)


def _in_a_context_of_its_own(items: abc.Generator[Item, None, None]) -> abc.Generator[Item, None, None]:
    """The same items, made where no interventions or hooks are active but those that the iterator sets itself.

    So whoever listens between two items is not under them, and two iterators may take turns.
    """
    context, end = contextvars.Context(), object()
    try:
        while (item := context.run(next, items, end)) is not end:
            yield item  # type: ignore[misc]
    finally:
        context.run(items.close)
