"""Conversations as arrays of tokens, in batches of about equal length, without end.

The stream is a function of its seed, and can be taken up at any batch: that is how an interrupted training goes on.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from random import Random
from typing import NamedTuple

import tiktoken
import torch
from torch import Tensor

from gptoss_lab import harmony
from gptoss_lab.harmony import Message
from gptoss_lab.nano.data import Conversation, conversation

POOL = 1024
"""Conversations that are sorted by length together: more waste less on padding, and vary less from batch to batch."""


class Lesson(NamedTuple):
    """A conversation as tokens: what is read, what should follow each token, and whether the model should say that."""

    inputs: list[int]
    targets: list[int]
    taught: list[bool]


@dataclass(frozen=True)
class Batch:
    """Lessons side by side, the shorter ones filled up."""

    inputs: Tensor  # int64 [batch, pos]
    targets: Tensor  # int64 [batch, pos]
    taught: Tensor  # bool [batch, pos]
    filled: Tensor  # bool [batch, pos]: what is no part of a lesson

    def to(self, device: str) -> "Batch":
        """The same batch on another device."""
        return Batch(*(tensor.to(device) for tensor in (self.inputs, self.targets, self.taught, self.filled)))


class Place(NamedTuple):
    """Where in the stream a training stands: a pool, and a batch in it."""

    pool: int = 0
    batch: int = 0


BEGINNING = Place()


def stream(
    seed: int,
    tokenizer: tiktoken.Encoding,
    tokens_per_batch: int,
    start: Place = BEGINNING,
    more: Sequence[str] = (),
) -> Iterator[tuple[Batch, Place]]:
    """Batches from `start` on, each with the place that comes after it. more: domains to draw as often again."""
    pool, first = start
    while True:
        batches = _pool(seed, pool, tokenizer, tokens_per_batch, more)
        for number, lessons in islice(enumerate(batches), first, None):
            last = number == len(batches) - 1
            yield side_by_side(lessons), Place(pool + 1, 0) if last else Place(pool, number + 1)
        pool, first = pool + 1, 0


def fingerprint(seed: int, tokenizer: tiktoken.Encoding, more: Sequence[str] = ()) -> str:
    """Eight letters that change with the vocabulary, and with what the first conversations say."""
    lessons = [lesson(conversation(seed, n, more), tokenizer) for n in range(200)]
    return hashlib.sha256(repr([sorted(tokenizer._mergeable_ranks.items()), lessons]).encode()).hexdigest()[:8]


def lesson(talk: Conversation, tokenizer: tiktoken.Encoding) -> Lesson:
    """What the model should sample is taught, the rest given.

    It samples from `<|channel|>` on, or from `<|start|>` where it goes on after a message of its own. A turn that
    stands in the history ends with `<|end|>`; there too the model should say `<|return|>`, as it does when the turn
    is new.
    """
    messages = [_as_sampled(message) if n in talk.taught else message for n, message in enumerate(talk.messages)]
    rendered = harmony.render(messages, tokenizer, for_completion=False, drop_analysis=False)
    start, channel, end, stop, call = map(
        tokenizer.encode_single_token, ("<|start|>", "<|channel|>", "<|end|>", "<|return|>", "<|call|>")
    )
    read, said, taught, sampled = list(rendered.tokens), list(rendered.tokens), [], False
    for position, (token, span) in enumerate(zip(rendered.tokens, rendered.spans, strict=True)):
        if token == start:
            sampled = {span.message - 1, span.message} <= talk.taught
        elif token == channel:
            sampled = span.message in talk.taught
        taught.append(sampled)
        if sampled and token == end and talk.messages[span.message].recipient:
            read[position] = said[position] = call
        elif sampled and token == end and talk.messages[span.message].channel == "final":
            said[position] = stop
    return Lesson(read[:-1], said[1:], taught[1:])


def _as_sampled(message: Message) -> Message:
    """A call as the model says it, its recipient in the channel's part of the header; rendered, it is in the role's."""
    if message.recipient is None:
        return message
    return replace(message, channel=f"{message.channel} to={message.recipient}", recipient=None)


def _pool(
    seed: int, number: int, tokenizer: tiktoken.Encoding, tokens_per_batch: int, more: Sequence[str]
) -> list[list[Lesson]]:
    """A pool's lessons in batches of at most `tokens_per_batch`, padding included, in random order."""
    numbers = range(number * POOL, (number + 1) * POOL)
    lessons = [lesson(conversation(seed, n, more), tokenizer) for n in numbers]
    batches: list[list[Lesson]] = [[]]
    for one in sorted(lessons, key=lambda one: len(one.inputs)):
        if (len(batches[-1]) + 1) * len(one.inputs) > tokens_per_batch:
            batches.append([])
        batches[-1].append(one)
    Random(f"{seed}/pool {number}").shuffle(batches)
    return batches


def side_by_side(lessons: Sequence[Lesson]) -> Batch:
    length = max(len(one.inputs) for one in lessons)

    def array(rows: list[list[int]] | list[list[bool]], fill: int | bool) -> Tensor:
        return torch.tensor([[*row, *[fill] * (length - len(row))] for row in rows])

    inputs, targets, taught = (list(column) for column in zip(*lessons, strict=True))
    filled = array([[False] * len(row) for row in inputs], True)
    return Batch(array(inputs, 0), array(targets, 0), array(taught, False), filled)
