"""Answering several prompts of equal length at once."""

from collections.abc import Sequence
from dataclasses import dataclass

from gptoss_lab.cache import KVCache
from gptoss_lab.generate import Sampler
from gptoss_lab.session import Model
from gptoss_lab.tokenizer import control_ids


@dataclass(frozen=True)
class Sampling:
    """How replies are drawn: as in `gptoss_lab.generate.Generator`, which says what raises ValueError."""

    temperature: float = 0.0
    seed: int = 0
    max_new_tokens: int = 256

    def __post_init__(self) -> None:
        Sampler(self.temperature)
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1; got {self.max_new_tokens}")


def answer_all(
    model: Model, prompts: Sequence[Sequence[int]], caches: Sequence[KVCache], samplings: Sequence[Sampling]
) -> list[list[int]]:
    """The new tokens after each prompt, up to <|return|> or <|call|>.

    prompts: tokens, equally long; what goes before them is in `caches`, one a prompt and of one length, which grow.
    """
    controls = control_ids(model.tokenizer)
    ends = controls["<|return|>"], controls["<|call|>"]
    samplers = [Sampler(sampling.temperature, seed=sampling.seed) for sampling in samplings]
    replies: list[list[int]] = [[] for _ in prompts]

    def goes_on(number: int) -> bool:
        reply, has_room = replies[number], caches[number].length < model.config.n_ctx
        return reply[-1] not in ends and len(reply) < samplings[number].max_new_tokens and has_room

    going, tokens = list(range(len(prompts))), [list(prompt) for prompt in prompts]
    while going:
        logits = model(tokens, [caches[number] for number in going], last_only=True)
        for number, row in zip(going, logits, strict=True):
            replies[number].append(samplers[number](row).token)
        going = [number for number in going if goes_on(number)]
        tokens = [replies[number][-1:] for number in going]
    return replies
