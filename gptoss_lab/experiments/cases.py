"""What a sweep tries each edit on: texts that the unedited model has read, or questions that it has answered.

Work that an edit cannot change is not done again: a text's tokens before the first that an edit touches stay in a cache
from the unedited run, and what texts have in common from their start is run once for all of them. Texts of equal length
run as one batch.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gptoss_lab.cache import KVCache
from gptoss_lab.edits import Where, touched
from gptoss_lab.experiments.answering import Sampling, answer_all
from gptoss_lab.experiments.divergence import keeping_final_residual, kl_divergence
from gptoss_lab.experiments.prompts import Text
from gptoss_lab.harmony import StreamParser
from gptoss_lab.session import Model

BATCH_TOKENS = 4096
"""How many tokens go through the layers together, unless one text alone has more."""


IsRight = Callable[[str, str], bool]
"""Of a reply's final text and the right answer."""


class Cases(Protocol):
    """What edits are tried on."""

    n_tokens: int
    """How many run for one edit; where the model answers, as many as if its answers stayed as long as they were."""

    def __len__(self) -> int: ...

    def effects(self) -> NDArray[np.float64]:
        """What the edits that are active now do to each case, [case]; 0 is nothing."""
        ...

    def only(self, case: int) -> "Cases":
        """One of them alone."""
        ...


class Expectations:
    """Prompts with replies, and what the unedited model expected at each token of the replies. An edit's effect is the
    KL divergence of its expectations from those, in nats, averaged over a reply.
    """

    def __init__(self, model: Model, texts: Sequence["_Known"], before: Sequence[Tensor]):
        self._model, self._texts, self._before = model, texts, before  # before: [pos of the reply, d_model] for each
        self.n_tokens = _tokens_to_run(texts)

    @classmethod
    def read(cls, model: Model, texts: Sequence[Text], sampling: Sampling, places: Sequence[Where]) -> "Expectations":
        """Has the model read texts, having answered those without a reply. Edits will act at these places alone."""
        read, before = [], []
        for text, own_sampling in zip(texts, _one_each(sampling, len(texts)), strict=True):
            reply = text.reply or answer_all(model, [text.prompt], [model.transformer.new_cache()], [own_sampling])[0]
            tokens = [*text.prompt, *reply[:-1]]  # what would follow the last is nobody's business
            with keeping_final_residual(model.transformer) as residual:
                read.append(_read(model, tokens, len(text.prompt), places))
            before.append(residual[0][0, len(text.prompt) - 1 :].clone())
        return cls(model, read, before)

    def __len__(self) -> int:
        return len(self._texts)

    def effects(self) -> NDArray[np.float64]:
        effects = np.zeros(len(self))
        for numbers, tokens, caches in _batches(self._model, self._texts):
            with keeping_final_residual(self._model.transformer) as residual:
                self._model.transformer(tokens, caches, last_only=True)
            for number, after in zip(numbers, residual[0], strict=True):
                before = self._before[number]
                effects[number] = kl_divergence(self._model.transformer, before, after[-len(before) :]).mean()
        return effects

    def only(self, case: int) -> "Expectations":
        return Expectations(self._model, [self._texts[case]], [self._before[case]])


class Answers:
    """Questions with their right answers, and the unedited model's replies. An edit's effect is 1 where it makes a
    right reply wrong, and -1 where it makes a wrong one right.
    """

    def __init__(self, model: Model, questions: Sequence["_Question"], before: Sequence[Sequence[int]]):
        self._model, self._questions, self._before = model, questions, before
        self.n_tokens = _tokens_to_run([question.text for question in questions])
        self.n_tokens += sum(len(reply) - 1 for reply in before)

    @classmethod
    def ask(
        cls, model: Model, questions: Sequence[Text], is_right: IsRight, sampling: Sampling, places: Sequence[Where]
    ) -> "Answers":
        """Has the model answer questions. Edits will act at these places alone."""
        asked = [
            _Question(_read(model, text.prompt, len(text.prompt), places), text.answer, is_right, own_sampling)
            for text, own_sampling in zip(questions, _one_each(sampling, len(questions)), strict=True)
        ]
        return cls(model, asked, _replies(model, asked))

    def __len__(self) -> int:
        return len(self._questions)

    def effects(self) -> NDArray[np.float64]:
        return self._right(self._before) - self._right(_replies(self._model, self._questions))

    def only(self, case: int) -> "Answers":
        return Answers(self._model, [self._questions[case]], [self._before[case]])

    def _right(self, replies: Sequence[Sequence[int]]) -> NDArray[np.float64]:
        texts = [_final_text(self._model, reply) for reply in replies]
        marks = [asked.is_right(text, asked.answer) for asked, text in zip(self._questions, texts, strict=True)]
        return np.array(marks, dtype=np.float64)


def says(text: str, answer: str) -> bool:
    """Whether the answer stands in a text, as a word of its own."""
    return re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text) is not None


@dataclass(frozen=True)
class _Known:
    """A text to run, and the unedited cache of its first tokens, about which no edit changes anything."""

    tokens: Sequence[int]
    n_prompt: int
    unchanged: KVCache

    @property
    def n_unchanged(self) -> int:
        return self.unchanged.length


@dataclass(frozen=True)
class _Question:
    text: _Known
    answer: str
    is_right: IsRight
    sampling: Sampling


def _read(model: Model, tokens: Sequence[int], n_prompt: int, places: Sequence[Where]) -> _Known:
    """Runs a text unedited, and keeps what comes before any of the places; at most all but the prompt's last token."""
    cache = model.transformer.new_cache()
    model.transformer(tokens, cache, last_only=True)
    anywhere = np.any([touched(place, tokens, model.tokenizer) for place in places], axis=0)
    first = int(anywhere.argmax()) if anywhere.any() else len(tokens)
    cache.rewind(min(first, n_prompt - 1))
    return _Known(tokens, n_prompt, cache)


def _batches(
    model: Model, texts: Sequence[_Known]
) -> Iterator[tuple[Sequence[int], list[Sequence[int]], list[KVCache]]]:
    """Texts that can run together under the active edits: their numbers, remaining tokens, and caches of the rest."""
    shared = _shared(texts)
    beginning = model.transformer.new_cache()
    if shared:
        model.transformer(texts[0].tokens[:shared], beginning, last_only=True)
    caches = [(beginning if text.n_unchanged < shared else text.unchanged).fork() for text in texts]
    rest = [text.tokens[cache.length :] for text, cache in zip(texts, caches, strict=True)]

    def alike(number: int) -> tuple[int, int]:
        return caches[number].length, len(rest[number])

    for (_, length), group in groupby(sorted(range(len(texts)), key=alike), key=alike):
        numbers = list(group)
        size = max(1, BATCH_TOKENS // length)
        for start in range(0, len(numbers), size):
            batch = numbers[start : start + size]
            yield batch, [rest[number] for number in batch], [caches[number] for number in batch]


def _shared(texts: Sequence[_Known]) -> int:
    """How many tokens from the start are run once for several texts: what all prompts share, short of their ends."""
    common = 0
    for column in zip(*(text.tokens[: text.n_prompt - 1] for text in texts), strict=False):
        if len(set(column)) > 1:
            break
        common += 1
    return common if sum(text.n_unchanged < common for text in texts) > 1 else 0


def _tokens_to_run(texts: Sequence[_Known]) -> int:
    shared = _shared(texts)
    return shared + sum(len(text.tokens) - max(shared, text.n_unchanged) for text in texts)


def _replies(model: Model, questions: Sequence[_Question]) -> list[list[int]]:
    replies: list[list[int]] = [[] for _ in questions]
    for numbers, tokens, caches in _batches(model, [question.text for question in questions]):
        samplings = [questions[number].sampling for number in numbers]
        for number, reply in zip(numbers, answer_all(model, tokens, caches, samplings), strict=True):
            replies[number] = reply
    return replies


def _one_each(sampling: Sampling, n: int) -> list[Sampling]:
    """A seed of its own for each text, the same with and without edits."""
    return [replace(sampling, seed=sampling.seed + number) for number in range(n)]


def _final_text(model: Model, reply: Sequence[int]) -> str:
    parser = StreamParser(model.tokenizer)
    for token in reply:
        parser.push(token)
    return "".join(message.content for message in parser.messages if message.channel == "final")
