"""What a model says when it always takes the likeliest token, for many conversations at once."""

from collections.abc import Collection, Sequence
from itertools import groupby

import tiktoken
import torch

from gptoss_lab.model import Transformer
from gptoss_lab.nano.batches import Lesson, side_by_side

ROWS = 32  # lessons that are read together
SIDE_BY_SIDE = 128  # replies that are sampled together; their caches take about a megabyte each


def says_verbatim(model: Transformer, lessons: Sequence[Lesson]) -> list[bool]:
    """For each lesson, whether the model would say all of what is taught, token for token.

    One pass over each: where every token of it is the likeliest after those before it, sampling would give just that.
    """
    in_order = sorted(range(len(lessons)), key=lambda n: len(lessons[n].inputs))
    verbatim = [False] * len(lessons)
    for first in range(0, len(in_order), ROWS):
        numbers = in_order[first : first + ROWS]
        batch = side_by_side([lessons[number] for number in numbers])
        with torch.inference_mode():
            likeliest = model(batch.inputs.to(model.device)).argmax(-1).cpu()
        said = ~(batch.taught & (likeliest != batch.targets)).any(dim=1)
        for number, as_taught in zip(numbers, said.tolist(), strict=True):
            verbatim[number] = as_taught
    return verbatim


def replies(
    model: Transformer, encoding: tiktoken.Encoding, prompts: Sequence[Sequence[int]], longest: int
) -> list[list[int]]:
    """The likeliest tokens after each prompt, up to <|return|> or <|call|>, or until there are `longest`."""
    stop = set(map(encoding.encode_single_token, ("<|return|>", "<|call|>")))
    in_order = sorted(range(len(prompts)), key=lambda n: len(prompts[n]))
    found: dict[int, list[int]] = {}
    for first in range(0, len(in_order), SIDE_BY_SIDE):
        numbers = in_order[first : first + SIDE_BY_SIDE]
        said = _replies_side_by_side(model, [prompts[number] for number in numbers], stop, longest)
        found |= dict(zip(numbers, said, strict=True))
    return [found[number] for number in range(len(prompts))]


def _replies_side_by_side(
    model: Transformer, prompts: Sequence[Sequence[int]], stop: Collection[int], longest: int
) -> list[list[int]]:
    """Only sequences of one length can be run together. The shortest always go first: so they catch up with the longer
    ones, and before long all go on as one.
    """
    caches = [model.new_cache() for _ in prompts]
    said: list[list[int]] = [[] for _ in prompts]

    def say_one_more(numbers: Sequence[int], unread: Sequence[Sequence[int]]) -> None:
        with torch.inference_mode():
            logits = model(torch.tensor(unread), [caches[number] for number in numbers], last_only=True)
        for number, token in zip(numbers, logits[:, -1].argmax(-1).tolist(), strict=True):
            said[number].append(token)

    def length(number: int) -> int:
        return len(prompts[number]) + len(said[number])

    for _, alike in groupby(sorted(range(len(prompts)), key=length), key=length):
        numbers = list(alike)
        say_one_more(numbers, [prompts[number] for number in numbers])
    while going := [n for n, tokens in enumerate(said) if tokens[-1] not in stop and len(tokens) < longest]:
        shortest = min(map(length, going))
        numbers = [number for number in going if length(number) == shortest]
        say_one_more(numbers, [said[number][-1:] for number in numbers])
    return said
