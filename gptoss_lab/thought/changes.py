"""Changes of a branch: what a verb makes of it, as a value. Nothing runs here, and no branch is touched.

Each raises ValueError for places, steps and settings that there are not.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import tiktoken

from gptoss_lab.edits import Edits, describe, flat
from gptoss_lab.experiments.early_answering import forced
from gptoss_lab.harmony.messages import Effort
from gptoss_lab.segments import Segment
from gptoss_lab.thought.tree import Branch, Settings, Token
from gptoss_lab.tokenizer import token_text

Rest = Literal["anew", "keep"]
UNCHANGED: Any = object()
"""Stands for what is not given, where None means something."""


@dataclass(frozen=True)
class Change:
    """The branch that comes of another: its tokens before `at`, then an edit's, then what is kept of the rest."""

    at: int
    tokens: Sequence[Token]
    """What is put in, kept tokens included."""
    origin: str
    """How it came about, in plain words."""
    settings: Settings
    """What it is generated under, but for the seed."""


def taken(branch: Branch, at: int, token: str | int | None, encoding: tiktoken.Encoding) -> Change:
    """Another token at a place, as text or id; or, where none is given, whatever is sampled there."""
    check_place(branch, at)
    ids = [] if token is None else [token] if isinstance(token, int) else _ids(token, encoding)
    there = f", instead of {branch.tokens[at].text!r}" if at < len(branch) else ""
    words = f"{encoding.decode(ids)!r} at position {at}{there}"
    origin = f"sampled anew from position {at}" if token is None else words
    return Change(at, tokens_of(ids, encoding, "given"), origin, branch.settings)


def edited(
    branch: Branch,
    step: int | Segment | None,
    text: str,
    tokens: tuple[int, int] | None,
    rest: Rest,
    encoding: tiktoken.Encoding,
) -> Change:
    """Another text for a step, which keeps the blanks around it, or for a stretch of tokens."""
    start, stop, place = _stretch(branch, step, tokens)
    before = encoding.decode(branch.ids[start:stop])
    if tokens is None and "<|" not in text:
        text = f"{_blanks_before(before)}{text.strip()}{_blanks_after(before)}"
    put_in = [*tokens_of(_ids(text, encoding), encoding, "given"), *_rest(branch, stop, rest)]
    return Change(start, put_in, f"{place} changed from {before!r} to {text!r}", branch.settings)


def deleted(
    branch: Branch,
    step: int | Segment | None,
    tokens: tuple[int, int] | None,
    rest: Rest,
    encoding: tiktoken.Encoding,
) -> Change:
    """Without a step, or a stretch of tokens."""
    start, stop, place = _stretch(branch, step, tokens)
    origin = f"{place} deleted, {encoding.decode(branch.ids[start:stop])!r}"
    return Change(start, _rest(branch, stop, rest), origin, branch.settings)


def inserted(branch: Branch, after: int | Segment, text: str, rest: Rest, encoding: tiktoken.Encoding) -> Change:
    """A sentence more after a step, set off as the others are; 0 puts it before the first."""
    number = after.number if isinstance(after, Segment) else after
    at, text = _set_in(branch.steps, step_numbered(branch, max(number, 1)), number, text)
    put_in = [*tokens_of(_ids(text, encoding), encoding, "given"), *_rest(branch, at, rest)]
    return Change(at, put_in, f"{text!r} inserted after step {number}", branch.settings)


def cut_short(branch: Branch, after: int | Segment, encoding: tiktoken.Encoding) -> Change:
    """The thought ends after a step (0: before the first), and the final channel is opened."""
    step = None if after == 0 else step_numbered(branch, after)
    at, ids = forced(branch.ids, branch.n_prompt, step, encoding)
    when = "there is no thought" if step is None else f"the thought ends after step {step.number}"
    return Change(at, tokens_of(ids, encoding, "given"), when, branch.settings)


def under_other_settings(
    branch: Branch,
    at: int | None,
    effort: Effort | None,
    instructions: str | None,
    edits: Edits | None,
    temperature: float | None,
    top_p: float | None,
) -> Change:
    """Settings that are not None, instructions that are not `UNCHANGED`; the reply is kept up to a place."""
    at = branch.n_prompt if at is None else check_place(branch, at)
    given = {
        "effort": effort,
        "edits": None if edits is None else flat(edits),
        "temperature": temperature,
        "top_p": top_p,
    }
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if instructions is not UNCHANGED:
        changes["instructions"] = instructions
    if not changes:
        raise ValueError("nothing is changed: give effort, instructions, edits, temperature or top_p")
    kept = "" if at == branch.n_prompt else f", the reply kept up to position {at}"
    return Change(at, (), f"{_words(changes)}{kept}", replace(branch.settings, **changes))


# Places in a branch


def check_place(branch: Branch, at: int) -> int:
    """The same place. Raises ValueError where it is not in the reply."""
    if not branch.n_prompt <= at <= len(branch):
        raise ValueError(
            f"position {at} is not in the reply of branch {branch.number}, which has positions {branch.n_prompt} "
            f"to {len(branch) - 1}"
        )
    return at


def step_numbered(branch: Branch, step: int | Segment) -> Segment:
    """One of a branch's steps. Raises ValueError where there is no such step."""
    number = step.number if isinstance(step, Segment) else step
    if not 1 <= number <= len(branch.steps):
        raise ValueError(f"branch {branch.number} has no step {number}; its steps are 1 to {len(branch.steps)}")
    return branch.steps[number - 1]


def tokens_of(ids: Iterable[int], encoding: tiktoken.Encoding, source: Literal["prompt", "given"]) -> list[Token]:
    """Tokens about which nothing is known yet."""
    return [Token(one, token_text(encoding, one), source) for one in ids]


def _stretch(branch: Branch, step: int | Segment | None, tokens: tuple[int, int] | None) -> tuple[int, int, str]:
    """Where a verb acts: the first token, the one after the last, and that in words."""
    if (step is None) == (tokens is None):
        raise ValueError("say what is meant: step=, or tokens=(start, stop)")
    if tokens is not None:
        start, stop = tokens
        if not start < stop:
            raise ValueError(f"a stretch of tokens is (start, stop), start before stop; got {tokens}")
        return check_place(branch, start), check_place(branch, stop), f"positions {start} to {stop - 1}"
    assert step is not None
    meant = step_numbered(branch, step)
    return meant.start, meant.stop, f"step {meant.number}"


def _rest(branch: Branch, start: int, rest: Rest) -> Sequence[Token]:
    """What is kept of a message from a position on, its end included."""
    if rest not in ("anew", "keep"):
        raise ValueError(f"rest is anew or keep; got {rest!r}")
    if rest == "anew" or start >= len(branch):
        return ()
    message = branch.spans[start].message
    stop = next((n for n in range(start, len(branch)) if branch.spans[n].message != message), len(branch))
    return branch.tokens[start:stop]


def _ids(text: str, encoding: tiktoken.Encoding) -> list[int]:
    return encoding.encode(text, allowed_special="all")


# Words


def _set_in(steps: Sequence[Segment], near: Segment, after: int, text: str) -> tuple[int, str]:
    """Where a sentence goes that is to stand after a step, and its text, set off as that message's sentences are."""
    message = [step for step in steps if step.message == near.message]
    before = near if after else None
    behind = next((step for step in message if step.number == after + 1), None)
    gap = next((gap for step in message for gap in (_blanks_after(step.text), _blanks_before(step.text)) if gap), "\n")
    opening = gap if before and not _blanks_after(before.text) else ""
    needed = not _blanks_before(behind.text) if behind else before and _blanks_after(before.text)
    closing = gap if needed else ""
    return (before.stop if before else near.start), f"{opening}{text.strip()}{closing}"


def _blanks_before(text: str) -> str:
    return text[: len(text) - len(text.lstrip())]


def _blanks_after(text: str) -> str:
    return text[len(text.rstrip()) :]


def _words(changes: dict[str, Any]) -> str:
    """Changed settings in words."""
    if "edits" in changes:
        changes = changes | {"edits": "; ".join(describe(changes["edits"])) or "none"}
    named = {"edits": "interventions", "instructions": "developer message"}
    return ", ".join(f"{named.get(name, name)}: {value}" for name, value in changes.items())
