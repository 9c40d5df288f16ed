"""Harmony conversations for the embedded model to learn from, and others to examine it with.

Everything follows from a seed: conversation number n of a seed is always the same, whoever asks and in whatever
order. A question belongs to training or to the held-out split by a hash of its identity, all its phrasings together,
so that no held-out question can ever occur in training, not even in the history of a conversation.
"""

import hashlib
from dataclasses import dataclass
from random import Random
from typing import Literal

from gptoss_lab.harmony import Message, developer_message, system_message
from gptoss_lab.nano.domains import DOMAINS, Effort, Problem

Split = Literal["train", "held-out"]

MIXTURE = {"addition": 10, "subtraction": 8, "unknown": 4}
"""How often a conversation is about each domain."""

EFFORTS: dict[Effort, int] = {"low": 8, "medium": 3, "high": 10}
"""How often each effort is asked for."""

HELD_OUT_SHARE = 8
"""One question in so many is held out."""


@dataclass(frozen=True)
class Conversation:
    """Messages, and the indices of those that the model should learn to say; the rest is given."""

    messages: tuple[Message, ...]
    taught: frozenset[int]


def conversation(seed: int, number: int) -> Conversation:
    """A conversation to learn from: a system message, sometimes a developer message, one question or several.

    At low effort every turn is taught, for each is what the model says when asked. At more effort the last one alone:
    the turns before it have lost their analysis, as harmony has it, and are no example of thinking.
    """
    rng = Random(f"{seed}/{number}")
    effort = rng.choices(list(EFFORTS), weights=list(EFFORTS.values()))[0]
    n_turns = rng.choice((1, 2, 3, 4)) if effort == "low" else rng.choices((1, 2, 3), weights=(8, 1, 1))[0]
    messages = _opening(rng, effort)
    taught = set()
    for turn in range(n_turns):
        problem = draw(rng, _domain(rng), "train")
        said = reply(problem, effort if turn == n_turns - 1 else "low")
        messages += [Message("user", problem.question), *said]
        if effort == "low" or turn == n_turns - 1:
            taught |= set(range(len(messages) - len(said), len(messages)))
    return Conversation(tuple(messages), frozenset(taught))


def prompt(problem: Problem, effort: Effort) -> list[Message]:
    """What puts a problem to the model, as `Model.chat` does."""
    return [system_message(effort=effort), Message("user", problem.question)]


def reply(problem: Problem, effort: Effort) -> list[Message]:
    """What the model should say: its thoughts, if the effort allows of any, then the answer."""
    thought = problem.thoughts.get(effort)
    analysis = [Message("assistant", thought, channel="analysis")] if thought else []
    return [*analysis, Message("assistant", problem.answer, channel="final")]


def draw(rng: Random, domain: str, split: Split) -> Problem:
    """A problem of a domain, drawn until one belongs to the split."""
    while True:
        problem = DOMAINS[domain](rng)
        if is_held_out(problem) == (split == "held-out"):
            return problem


def is_held_out(problem: Problem) -> bool:
    digest = hashlib.blake2b(problem.identity.encode(), digest_size=8).digest()
    return int.from_bytes(digest) % HELD_OUT_SHARE == 0


def _domain(rng: Random) -> str:
    return rng.choices(list(MIXTURE), weights=list(MIXTURE.values()))[0]


def _opening(rng: Random, effort: Effort) -> list[Message]:
    date = f"20{rng.randint(24, 29)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}" if rng.random() < 0.05 else None
    messages = [system_message(effort=effort, current_date=date)]
    if rng.random() < 0.1:
        messages.append(developer_message(rng.choice(INSTRUCTIONS)))
    return messages


# None of these changes what a good reply is.
INSTRUCTIONS = (
    "Be helpful.",
    "Be brief.",
    "Answer the question.",
    "You are a helpful assistant.",
    "You are a careful calculator.",
    "Always be kind to the user.",
    "Think carefully before you answer.",
    "Help the user with arithmetic.",
    "The user is a student who learns how a model works.",
    "Answer in plain text.\nNo lists.",
)
