"""Harmony conversations for the embedded model to learn from, and others to examine it with.

Everything follows from a seed: conversation number n of a seed is always the same, whoever asks and in whatever
order. A question belongs to training or to the held-out split by a hash of its identity, all its phrasings together,
so that no held-out question can ever occur in training, not even in the history of a conversation.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from gptoss_lab.harmony import Message, developer_message, system_message, tool_result
from gptoss_lab.nano.domains import DOMAINS, Call, Effort, Problem

Split = Literal["train", "held-out"]

MIXTURE = {
    "addition": 8,
    "subtraction": 11,
    "machine": 9,
    "cups": 7,
    "words": 8,
    "json": 4,
    "python": 3,
    "browser": 14,
    "functions": 26,
    "false result": 4,
    "no call": 9,
    "refusal": 12,
    "unknown": 5,
}
"""How often a conversation begins with each domain."""


def mixture(more: Sequence[str] = ()) -> dict[str, int]:
    """The same, with as much again of a domain each time that `more` names it."""
    return {domain: weight * (1 + more.count(domain)) for domain, weight in MIXTURE.items()}


SUMS = ("addition", "subtraction")
STEPS = ("machine", "cups")
PLAIN = (*SUMS, *STEPS, "unknown")
FOLLOWED_BY = {
    "machine": STEPS,
    "cups": STEPS,
    "words": ("words",),
    "json": ("json",),
    "python": (*SUMS, *STEPS),
    "browser": (*SUMS, *STEPS),
    "functions": STEPS,
    "false result": STEPS,
    "no call": STEPS,
    "refusal": (),
}
"""What later turns may be about, given the tools, functions and rules that the first one brings along; else PLAIN."""

EFFORTS: dict[Effort, int] = {"low": 2, "medium": 2, "high": 14}
"""How often each effort is asked for: what is guessed at once, or nearly so, teaches little."""

SERIAL_EFFORTS: dict[Effort, int] = {"low": 9, "medium": 1, "high": 9}
"""The same where a conversation is about steps. At low effort there are more turns, so that as many questions are
answered at once as at high: what one pass can do is to be measured, not assumed.
"""

CALLS_GIVEN = 0.2
"""How often only what follows the last call is taught, where there are calls."""

HELD_OUT_SHARE = 8
"""One question in so many is held out."""


@dataclass(frozen=True)
class Conversation:
    """Messages, and the indices of those that the model should learn to say; the rest is given."""

    messages: tuple[Message, ...]
    taught: frozenset[int]


def conversation(seed: int, number: int, more: Sequence[str] = ()) -> Conversation:
    """A conversation to learn from: a system message, sometimes a developer message, one question or several.

    more: domains to begin with as often again; see `mixture`.

    All that the assistant says is taught, but for a first turn that others follow: it has lost its analysis, as
    harmony has it, and so is no example of thinking. In some conversations the calls are given too, as they stand
    where a conversation is rendered again, and what is made of their results is taught alone.
    """
    rng = Random(f"{seed}/{number}")
    weights = mixture(more)
    domain = rng.choices(list(weights), weights=list(weights.values()))[0]
    efforts = SERIAL_EFFORTS if domain in STEPS else EFFORTS
    effort = rng.choices(list(efforts), weights=list(efforts.values()))[0]
    problems = _problems(rng, domain, effort)
    spoken = [(message, False) for message in _opening(rng, effort, problems[0])]
    for turn, problem in enumerate(problems):
        spoken += _turn(problem, effort, shortened=turn == 0 and len(problems) > 1)
    messages, taught = zip(*spoken, strict=True)
    calls = [number for number, message in enumerate(messages) if message.role == "assistant" and message.recipient]
    first_taught = calls[-1] + 1 if calls and rng.random() < CALLS_GIVEN else 0
    return Conversation(messages, frozenset(n for n in range(first_taught, len(messages)) if taught[n]))


def example(problem: Problem, effort: Effort) -> Conversation:
    """A conversation of one question, as an examination puts it, with all that the model should say."""
    given, said = prompt(problem, effort), reply(problem, effort)
    taught = {n for n, message in enumerate(said, len(given)) if message.role == "assistant"}
    return Conversation((*given, *said), frozenset(taught))


def prompt(problem: Problem, effort: Effort) -> list[Message]:
    """What puts a problem to the model, as `Model.chat` does."""
    return [*_setting(problem, effort, problem.instructions), Message("user", problem.question)]


def reply(problem: Problem, effort: Effort) -> list[Message]:
    """What the model should say: its thoughts, if the effort allows of any, and the answer. Calls come before it, each
    with what the tool says.
    """
    said = []
    for call in problem.calls:
        message = call_message(call)
        said += [*_analysis(call.thoughts.get(effort)), message, tool_result(message, call.result)]
    return [*said, *_analysis(problem.thoughts.get(effort)), Message("assistant", problem.answer, channel="final")]


def call_message(call: Call) -> Message:
    """A call in the form of the real models: functions are called in the commentary channel, with what is bound to be
    JSON, built-in tools in the analysis channel, with code.
    """
    if call.tool.startswith("functions."):
        return Message("assistant", call.content, "commentary", call.tool, content_type="<|constrain|>json")
    return Message("assistant", call.content, "analysis", call.tool, content_type="code")


def draw(rng: Random, domain: str, split: Split) -> Problem:
    """A problem of a domain, drawn until one belongs to the split."""
    while True:
        problem = DOMAINS[domain](rng)
        if is_held_out(problem) == (split == "held-out"):
            return problem


def is_held_out(problem: Problem) -> bool:
    digest = hashlib.blake2b(problem.identity.encode(), digest_size=8).digest()
    return int.from_bytes(digest) % HELD_OUT_SHARE == 0


def _problems(rng: Random, domain: str, effort: Effort) -> list[Problem]:
    """One for each turn, the first one of a domain; what it needs must suit the others."""
    first = draw(rng, domain, "train")
    others = FOLLOWED_BY.get(domain, PLAIN)
    n_turns = rng.choice((1, 2, 3, 4)) if effort == "low" else rng.choices((1, 2, 3), weights=(8, 1, 1))[0]
    if first.tools or first.functions:  # whose descriptions are long enough
        n_turns = min(n_turns, 2)
    weights = [MIXTURE[domain] for domain in others]
    return [first, *(draw(rng, rng.choices(others, weights)[0], "train") for _ in range(n_turns - 1) if others)]


def _opening(rng: Random, effort: Effort, problem: Problem) -> list[Message]:
    """What a problem needs, sometimes with a date, and with instructions that change nothing."""
    date = f"20{rng.randint(24, 29)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}" if rng.random() < 0.05 else None
    idle = rng.choice(INSTRUCTIONS) if rng.random() < 0.1 else None
    instructions = [text for text in (idle, problem.instructions) if text]
    rng.shuffle(instructions)
    return _setting(problem, effort, "\n".join(instructions) or None, date)


def _turn(problem: Problem, effort: Effort, shortened: bool) -> list[tuple[Message, bool]]:
    """A question and what is said to it, each message with whether it is taught; shortened, without its analysis."""
    said = reply(problem, effort)
    whole = not shortened or all(message.channel == "final" for message in said)
    kept = [message for message in said if not shortened or message.channel != "analysis"]
    return [
        (Message("user", problem.question), False),
        *((message, whole and message.role == "assistant") for message in kept),
    ]


def _setting(problem: Problem, effort: Effort, instructions: str | None, date: str | None = None) -> list[Message]:
    system = system_message(effort=effort, current_date=date, tools=problem.tools)
    if instructions is None and not problem.functions:
        return [system]
    return [system, developer_message(instructions, problem.functions)]


def _analysis(thought: str | None) -> list[Message]:
    return [Message("assistant", thought, channel="analysis")] if thought else []


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
