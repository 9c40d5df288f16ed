"""New branches: what one has in common with the branch that it starts from, so that it need not be run again."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gptoss_lab import harmony
from gptoss_lab.edits import to_json, touched
from gptoss_lab.harmony import Message
from gptoss_lab.session import Model
from gptoss_lab.thought.changes import tokens_of
from gptoss_lab.thought.growing import Growth
from gptoss_lab.thought.tree import Branch, Settings, Token, given


@dataclass(frozen=True)
class Beginning:
    """What a new branch begins with."""

    number: int
    question: Sequence[Message]
    settings: Settings
    origin: str
    reply: Sequence[Token] = ()
    """Of the branch it starts from, and what an edit put in."""


def sprout(model: Model, beginning: Beginning, parent: tuple[Branch, Growth] | None = None) -> Growth:
    """A branch, not continued yet, with a fork of its parent's cache: constant time, whatever the length.

    Raises ValueError where it would begin with more tokens than the context has, and as `Model.conversation` does.
    """
    settings = beginning.settings
    asked = model.conversation(beginning.question, settings.effort, settings.instructions)
    prompt = harmony.render(asked, model.tokenizer)
    tokens = [*tokens_of(prompt.tokens, model.tokenizer, "prompt"), *beginning.reply]
    if len(tokens) > model.config.n_ctx:
        raise ValueError(f"the branch would begin with {len(tokens)} tokens; the context has {model.config.n_ctx}")
    shared, cache = 0, model.transformer.new_cache()
    if parent is not None:
        branch, growth = parent
        shared = _unaffected(branch, tokens, settings, model)
        tokens = [*branch.tokens[:shared], *map(given, tokens[shared:])]
        cache = growth.cache.fork()
        cache.rewind(min(cache.length, shared, len(tokens) - 1))
    return Growth(
        number=beginning.number,
        parent=None if parent is None else parent[0].number,
        shared=shared,
        origin=beginning.origin,
        settings=settings,
        asked=tuple(asked),
        prompt_spans=tuple(prompt.spans),
        n_given=len(tokens),
        tokens=tokens,
        cache=cache,
        limit=settings.max_new_tokens,
    )


def _unaffected(parent: Branch, tokens: Sequence[Token], settings: Settings, model: Model) -> int:
    """How many tokens from the start are as in the parent, with the same interventions acting on them."""
    pairs = zip(parent.tokens, tokens, strict=False)
    same = next((n for n, (one, other) in enumerate(pairs) if one.id != other.id), min(len(parent), len(tokens)))
    before, after = parent.settings.edits, settings.edits
    if before is after or to_json(before) == to_json(after):
        return same
    ids = [token.id for token in tokens[:same]]
    anywhere = np.any([touched(edit.where, ids, model.tokenizer) for edit in (*before, *after)], axis=0)
    return int(anywhere.argmax()) if anywhere.any() else same
