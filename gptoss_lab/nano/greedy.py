"""What a model says when it always takes the likeliest token, for many conversations at once."""

from collections import defaultdict
from collections.abc import Sequence

import tiktoken
import torch

from gptoss_lab.model import Transformer
from gptoss_lab.nano.batches import Lesson, side_by_side

ROWS = 32  # lessons that are read together


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
    """The likeliest tokens after each prompt, up to <|return|> or <|call|>, or until there are `longest`.

    Prompts of one length are continued side by side.
    """
    by_length: defaultdict[int, list[int]] = defaultdict(list)
    for number, prompt in enumerate(prompts):
        by_length[len(prompt)].append(number)
    found: dict[int, list[int]] = {}
    for numbers in by_length.values():
        side = _replies_side_by_side(model, encoding, [prompts[number] for number in numbers], longest)
        found |= dict(zip(numbers, side, strict=True))
    return [found[number] for number in range(len(prompts))]


def _replies_side_by_side(
    model: Transformer, encoding: tiktoken.Encoding, prompts: Sequence[Sequence[int]], longest: int
) -> list[list[int]]:
    stop = set(map(encoding.encode_single_token, ("<|return|>", "<|call|>")))
    said: list[list[int]] = [[] for _ in prompts]
    caches = [model.new_cache() for _ in prompts]
    going, tokens = list(range(len(prompts))), torch.tensor(prompts)
    while going and len(said[going[0]]) < longest:
        with torch.inference_mode():
            logits = model(tokens, [caches[number] for number in going], last_only=True)
        for number, token in zip(going, logits[:, -1].argmax(-1).tolist(), strict=True):
            said[number].append(token)
        going = [number for number in going if said[number][-1] not in stop]
        tokens = torch.tensor([said[number][-1:] for number in going])
    return said
