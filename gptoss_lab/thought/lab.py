"""ThoughtLab: think, branch, edit, compare, and ask what caused what."""

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import tiktoken

from gptoss_lab import __version__, harmony
from gptoss_lab.cache import KVCache
from gptoss_lab.edits import Edits, check, describe, flat, to_json, touched
from gptoss_lab.experiments.adding_mistakes import mistakes
from gptoss_lab.experiments.early_answering import forced, forced_answer
from gptoss_lab.experiments.receiving import receiver_heads
from gptoss_lab.experiments.resampling import resample
from gptoss_lab.experiments.step_routing import routing_by_channel, routing_by_step
from gptoss_lab.experiments.suppressing import suppress
from gptoss_lab.harmony import Message
from gptoss_lab.harmony.messages import Effort
from gptoss_lab.model import never
from gptoss_lab.segments import Segment
from gptoss_lab.session import CHAT_TOKENS, Model
from gptoss_lab.thought import saving
from gptoss_lab.thought.differences import Difference, compare
from gptoss_lab.thought.growing import Growth, grow, growth_of, read_given, under
from gptoss_lab.thought.monitors import Alarm, Monitor, watch
from gptoss_lab.thought.tree import Branch, Settings, Token, given
from gptoss_lab.tokenizer import token_text

if TYPE_CHECKING:
    import pandas as pd

Rest = Literal["anew", "keep"]
_UNCHANGED: Any = object()


class ThoughtLab:
    """A question, and the tree of thoughts about it.

    question: a text, or the messages so far. instructions: a developer message.
    edits: interventions under which the model thinks; those that are active when the lab is made are among them. A
        branch runs under its own and no others.
    temperature, top_p, max_new_tokens: of every branch, until changed; 2,048 tokens, or what the context leaves, where
        not given. seed: of the first thought; each branch draws with the next seed unless it is given one.

    Every verb that makes a branch leaves the one it starts from as it was, and returns the new one as a value; `of`
    says which branch it starts from, by number or as a value, and is the latest where not given. Positions count tokens
    from the start of the prompt, steps count from 1. With go_on=False a branch is made and not continued.

    An interrupt, whenever it comes, leaves every branch consistent; `resume` goes on with what would have come.

    Raises ValueError for an empty question and for settings that no generation allows, before anything runs.
    """

    def __init__(
        self,
        model: Model,
        question: str | Sequence[Message],
        effort: Effort = "high",
        temperature: float = 1.0,
        *,
        top_p: float = 1.0,
        seed: int | None = None,
        instructions: str | None = None,
        edits: Edits = (),
        max_new_tokens: int | None = None,
    ):
        self._model: Model | None = model
        self._model_name = model.name
        self.question = [Message("user", question)] if isinstance(question, str) else list(question)
        active = (*model.edits, *flat(edits))
        check(active, model.config)
        prompt = harmony.render(model.conversation(question, effort, instructions), model.tokenizer)
        room = model.config.n_ctx - len(prompt.tokens)
        self.settings = Settings(
            effort=effort,
            instructions=instructions,
            edits=active,
            temperature=temperature,
            top_p=top_p,
            seed=time.time_ns() % 2**31 if seed is None else seed,
            max_new_tokens=max(1, min(CHAT_TOKENS, room)) if max_new_tokens is None else max_new_tokens,
        )
        """What the first thought is generated under."""
        self.alarms: list[Alarm] = []
        """What monitors have said; see `thought.monitors`."""
        self._growths: dict[int, Growth] = {}

    def __repr__(self) -> str:
        return f"<thought lab: {self.question[-1].content!r}, {len(self._growths)} branches>"

    # What there is

    @property
    def model(self) -> Model:
        """Raises ValueError where the lab was opened without one."""
        if self._model is None:
            raise ValueError("this lab was opened without its model: load_thoughts(path, model) brings it along")
        return self._model

    @property
    def branches(self) -> list[Branch]:
        """All of them, as they are now, in the order in which they were made."""
        return [self[number] for number in list(self._growths)]

    @property
    def latest(self) -> Branch:
        """The branch that was made last. Raises ValueError where there is none."""
        return self[self._number(None)]

    def __getitem__(self, number: int) -> Branch:
        """A branch by its number, as it is now. Raises ValueError where there is none of that number."""
        return self._growths[self._number(number)].snapshot(self._model.tokenizer if self._model else None)

    def __len__(self) -> int:
        return len(self._growths)

    def children(self, of: "int | Branch | None" = None) -> list[int]:
        """The numbers of the branches that were made from one."""
        return [number for number, growth in self._growths.items() if growth.parent == self._number(of)]

    # Thinking

    def run(self, **going: Any) -> Branch:
        """The first thought: generated, or gone on with where it was interrupted. going: as for `resume`."""
        if not self._growths:
            self._begin()
        return self.resume(0, **going)

    def resume(
        self,
        of: "int | Branch | None" = None,
        *,
        max_new_tokens: int | None = None,
        on_token: Callable[[Token], None] | None = None,
        should_stop: Callable[[], bool] = never,
        monitors: Sequence[Monitor] = (),
    ) -> Branch:
        """Goes on with a branch that has not come to its end, to its limit or for so many tokens in all.

        monitors: they read along; where one speaks up, the branch stops there and `alarms` says why. See
            `thought.monitors`.
        """
        for token in self.stream(of, max_new_tokens=max_new_tokens, should_stop=should_stop, monitors=monitors):
            if on_token:
                on_token(token)
        return self[self._number(of)]

    def stream(
        self,
        of: "int | Branch | None" = None,
        *,
        max_new_tokens: int | None = None,
        should_stop: Callable[[], bool] = never,
        monitors: Sequence[Monitor] = (),
    ) -> Iterator[Token]:
        """As `resume`, token by token: each is in the branch when it is given out. Streams may take turns."""
        if not self._growths and of in (None, 0):
            self._begin()
        growth = self._growths[self._number(of)]
        if max_new_tokens is not None:
            growth.limit = replace(growth.settings, max_new_tokens=max_new_tokens).max_new_tokens
        if monitors:
            return watch(self.model, growth, monitors, self.alarms, should_stop)
        return grow(self.model, growth, should_stop)

    # Branching

    def branch(
        self, at: int, token: str | int | None = None, *, of: "int | Branch | None" = None, **options: Any
    ) -> Branch:
        """From a place on, otherwise: with another token there, given as text or id, or with what is sampled anew.

        options: go_on, seed, max_new_tokens. Raises ValueError for a place that is not in the reply.
        """
        parent = self._at(of, at)
        ids = [] if token is None else [token] if isinstance(token, int) else self._ids(token)
        instead = self._text(ids)
        there = f", instead of {parent.tokens[at].text!r}" if at < len(parent) else ""
        origin = f"sampled anew from position {at}" if token is None else f"{instead!r} at position {at}{there}"
        return self._sprout(parent, at, ids, origin, **options)

    def edit(
        self,
        step: int | Segment | None = None,
        text: str = "",
        *,
        tokens: tuple[int, int] | None = None,
        of: "int | Branch | None" = None,
        rest: Rest = "anew",
        **options: Any,
    ) -> Branch:
        """With another text for a step, or for a stretch of tokens (start, stop), control tokens spelt out as such.

        A step keeps the blanks and line ends around it, unless control tokens stand in its text. rest: what followed is
        generated "anew", or the rest of the message is kept ("keep") and generated from there. options: go_on, seed,
        max_new_tokens.
        """
        parent, start, stop, place = self._stretch(of, step, tokens)
        before = self._text([token.id for token in parent.tokens[start:stop]])
        if tokens is None and "<|" not in text:
            text = f"{_blanks_before(before)}{text.strip()}{_blanks_after(before)}"
        origin = f"{place} changed from {before!r} to {text!r}"
        return self._sprout(parent, start, self._ids(text), origin, rest=self._rest(parent, stop, rest), **options)

    def delete(
        self,
        step: int | Segment | None = None,
        *,
        tokens: tuple[int, int] | None = None,
        of: "int | Branch | None" = None,
        rest: Rest = "keep",
        **options: Any,
    ) -> Branch:
        """Without a step, or a stretch of tokens; as `edit`. What followed in the message is kept unless rest="anew",
        which would leave the model free to say it after all."""
        parent, start, stop, place = self._stretch(of, step, tokens)
        origin = f"{place} deleted, {self._text([token.id for token in parent.tokens[start:stop]])!r}"
        return self._sprout(parent, start, [], origin, rest=self._rest(parent, stop, rest), **options)

    def insert(
        self,
        after: int | Segment,
        text: str,
        *,
        of: "int | Branch | None" = None,
        rest: Rest = "anew",
        **options: Any,
    ) -> Branch:
        """With a sentence more after a step, set off as the others are; 0 puts it before the first. As `edit`."""
        parent = self[self._number(of)]
        number = after.number if isinstance(after, Segment) else after
        at, text = _set_in(parent.steps, self._step(parent, max(number, 1)), number, text)
        origin = f"{text!r} inserted after step {number}"
        return self._sprout(parent, at, self._ids(text), origin, rest=self._rest(parent, at, rest), **options)

    def truncate(self, after: int | Segment, *, of: "int | Branch | None" = None, **options: Any) -> Branch:
        """The thought ends after a step (0: before the first), and the model answers at once.

        options: go_on, seed, max_new_tokens.
        """
        parent = self[self._number(of)]
        step = None if after == 0 else self._step(parent, after)
        at, ids = forced(parent.ids, parent.n_prompt, step, self._encoding)
        when = "there is no thought" if step is None else f"the thought ends after step {step.number}"
        return self._sprout(parent, at, ids, when, **options)

    def change(
        self,
        *,
        effort: Effort | None = None,
        instructions: str | None = _UNCHANGED,
        edits: Edits | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        at: int | None = None,
        of: "int | Branch | None" = None,
        **options: Any,
    ) -> Branch:
        """Under other settings: another effort or developer message, other interventions (in the place of the branch's
        own), another temperature.

        at: what the reply says before this position is kept, as if the model had said it under these settings; nothing
        of it where not given. options: go_on, seed, max_new_tokens.

        Raises ValueError for an effort where the conversation has a system message of its own, and for interventions
        that cannot be carried out.
        """
        parent = self._at(of, at) if at is not None else self[self._number(of)]
        at = parent.n_prompt if at is None else at
        changes: dict[str, Any] = {"effort": effort, "temperature": temperature, "top_p": top_p}
        changes = {name: value for name, value in changes.items() if value is not None}
        if instructions is not _UNCHANGED:
            changes["instructions"] = instructions
        if edits is not None:
            changes["edits"] = flat(edits)
            check(changes["edits"], self.model.config)
        if not changes:
            raise ValueError("nothing is changed: give effort, instructions, edits, temperature or top_p")
        if effort is not None and any(message.role == "system" for message in self.question):
            raise ValueError("the conversation has a system message of its own, which says the effort: change that")
        settings = replace(parent.settings, **changes)
        kept = "" if at == parent.n_prompt else f", the reply kept up to position {at}"
        return self._sprout(parent, at, [], f"{_words(changes)}{kept}", settings=settings, **options)

    def read(self, of: "int | Branch | None" = None) -> Branch:
        """Works out what the model expects at the tokens that edits put into a branch; continuing it does so too."""
        read_given(self.model, self._growths[self._number(of)])
        return self[self._number(of)]

    # Comparing and keeping

    def compare(self, a: "int | Branch", b: "int | Branch | None" = None) -> Difference:
        """Two branches side by side: texts, where they part, routing, the probability of each answer, outcome.

        b: the latest where not given. Without a model, texts and outcome alone.
        """
        return compare(self._model, self[self._number(a)], self[self._number(b)])

    def save(self, path: str | PathLike[str]) -> Path:
        """Writes the whole tree into one JSON file, which `load_thoughts` reads, without the model too."""
        branches = [(self[number], growth.limit) for number, growth in list(self._growths.items())]
        return saving.write(path, self._model_name, __version__, self.question, self.settings, branches)

    # What caused what: for arguments and columns see the experiments of the same names

    def forced_answer(self, of: "int | Branch | None" = None, **options: Any) -> "pd.DataFrame":
        """When the answer is settled; see `experiments.early_answering`."""
        return self._experiment(forced_answer, of, options)

    def mistakes(self, of: "int | Branch | None" = None, **options: Any) -> "pd.DataFrame":
        """Whether the answer follows a step that is made wrong; see `experiments.adding_mistakes`."""
        return self._experiment(mistakes, of, options)

    def resample(self, of: "int | Branch | None" = None, **options: Any) -> "pd.DataFrame":
        """What becomes of the answer when a step is drawn anew; see `experiments.resampling`."""
        options.setdefault("temperature", self[self._number(of)].settings.temperature)
        return self._experiment(resample, of, options)

    def suppress(self, of: "int | Branch | None" = None, **options: Any) -> "pd.DataFrame":
        """Which later steps change when nothing attends to a step any more; see `experiments.suppressing`."""
        return self._experiment(suppress, of, options)

    def receiver_heads(self, of: "int | Branch | None" = None, **options: Any) -> "pd.DataFrame":
        """Which heads look back at few steps from everywhere; see `experiments.receiving`."""
        return self._experiment(receiver_heads, of, options)

    def routing_by_step(self, of: "int | Branch | None" = None, **options: Any) -> "pd.DataFrame":
        """Which experts serve which kind of step; see `experiments.step_routing`."""
        return self._experiment(routing_by_step, of, options)

    def routing_by_channel(self, of: "int | Branch | None" = None, **options: Any) -> "pd.DataFrame":
        """Whether the thought is routed unlike the answer; see `experiments.step_routing`."""
        return self._experiment(routing_by_channel, of, options)

    # Helpers

    def _experiment(
        self, experiment: Callable[..., "pd.DataFrame"], of: "int | Branch | None", options: dict[str, Any]
    ) -> "pd.DataFrame":
        """Runs one on a branch, under its own interventions and no others."""
        branch, model = self[self._number(of)], self.model
        return under(model, branch.settings.edits, lambda: experiment(model, branch.reply, **options))

    @property
    def _encoding(self) -> tiktoken.Encoding:
        return self.model.tokenizer

    def _number(self, of: "int | Branch | None") -> int:
        if not self._growths:
            raise ValueError("there is no thought yet: run() generates the first")
        number = max(self._growths) if of is None else of.number if isinstance(of, Branch) else of
        if number not in self._growths:
            raise ValueError(f"there is no branch {number!r}; there are 0 to {max(self._growths)}")
        return number

    def _at(self, of: "int | Branch | None", at: int) -> Branch:
        """The branch that a verb starts from, where it has this position."""
        parent = self[self._number(of)]
        if not parent.n_prompt <= at <= len(parent):
            raise ValueError(
                f"position {at} is not in the reply of branch {parent.number}, which has positions {parent.n_prompt} "
                f"to {len(parent) - 1}"
            )
        return parent

    def _step(self, branch: Branch, step: int | Segment) -> Segment:
        number = step.number if isinstance(step, Segment) else step
        if not 1 <= number <= len(branch.steps):
            raise ValueError(f"branch {branch.number} has no step {number}; its steps are 1 to {len(branch.steps)}")
        return branch.steps[number - 1]

    def _stretch(
        self, of: "int | Branch | None", step: int | Segment | None, tokens: tuple[int, int] | None
    ) -> tuple[Branch, int, int, str]:
        """Where a verb acts: the branch, the first token, the one after the last, and that in words."""
        if (step is None) == (tokens is None):
            raise ValueError("say what is meant: step=, or tokens=(start, stop)")
        if tokens is not None:
            start, stop = tokens
            if not start < stop:
                raise ValueError(f"a stretch of tokens is (start, stop), start before stop; got {tokens}")
            self._at(of, start)
            return self._at(of, stop), start, stop, f"positions {start} to {stop - 1}"
        assert step is not None
        parent = self[self._number(of)]
        meant = self._step(parent, step)
        return parent, meant.start, meant.stop, f"step {meant.number}"

    def _rest(self, parent: Branch, start: int, rest: Rest) -> Sequence[Token]:
        """What is kept of a message from a position on, its end included."""
        if rest not in ("anew", "keep"):
            raise ValueError(f"rest is anew or keep; got {rest!r}")
        if rest == "anew" or start >= len(parent):
            return ()
        message = parent.spans[start].message
        stop = next((n for n in range(start, len(parent)) if parent.spans[n].message != message), len(parent))
        return parent.tokens[start:stop]

    def _ids(self, text: str) -> list[int]:
        return self._encoding.encode(text, allowed_special="all")

    def _text(self, ids: Sequence[int]) -> str:
        return self._encoding.decode(ids)

    def _tokens(self, ids: Iterable[int], source: Literal["prompt", "given"]) -> list[Token]:
        return [Token(one, token_text(self._encoding, one), source) for one in ids]

    def _begin(self) -> None:
        """The first branch, of which only the prompt is there."""
        self._plant(None, [], "the first thought", self.settings, self.model.transformer.new_cache())

    def _sprout(
        self,
        parent: Branch,
        at: int,
        ids: Sequence[int],
        origin: str,
        *,
        rest: Sequence[Token] = (),
        settings: Settings | None = None,
        go_on: bool = True,
        seed: int | None = None,
        max_new_tokens: int | None = None,
    ) -> Branch:
        """A branch that has its parent's tokens before `at`, then those of an edit, then a kept rest."""
        settings = replace(
            settings or parent.settings,
            seed=self.settings.seed + max(self._growths) + 1 if seed is None else seed,
            max_new_tokens=parent.settings.max_new_tokens if max_new_tokens is None else max_new_tokens,
        )
        reply = [*parent.tokens[parent.n_prompt : at], *self._tokens(ids, "given"), *rest]
        number = self._plant(parent, reply, origin, settings, self._growths[parent.number].cache)
        return self.resume(number) if go_on else self[number]

    def _plant(
        self, parent: Branch | None, reply: Sequence[Token], origin: str, settings: Settings, cache: KVCache
    ) -> int:
        """Puts a new branch into the tree, with a fork of a cache of its parent's."""
        model = self.model
        asked = model.conversation(self.question, settings.effort, settings.instructions)
        prompt = harmony.render(asked, model.tokenizer)
        tokens = [*self._tokens(prompt.tokens, "prompt"), *reply]
        if len(tokens) > model.config.n_ctx:
            raise ValueError(f"the branch would begin with {len(tokens)} tokens; the context has {model.config.n_ctx}")
        shared = 0 if parent is None else _unaffected(parent, tokens, settings, model)
        if parent is not None:
            tokens = [*parent.tokens[:shared], *map(given, tokens[shared:])]
        own = cache.fork()
        own.rewind(min(own.length, shared, len(tokens) - 1))
        number = max(self._growths, default=-1) + 1
        self._growths[number] = Growth(
            number=number,
            parent=None if parent is None else parent.number,
            shared=shared,
            origin=origin,
            settings=settings,
            asked=tuple(asked),
            prompt_spans=tuple(prompt.spans),
            n_given=len(tokens),
            tokens=tokens,
            cache=own,
            limit=settings.max_new_tokens,
        )
        return number


def load_thoughts(path: str | PathLike[str], model: Model | None = None) -> ThoughtLab:
    """A tree from the file that `ThoughtLab.save` wrote; without a model there is everything to see and nothing to do.

    Raises FileNotFoundError where there is no such file; ValueError where it holds something else, and for a model with
    another vocabulary. Warns where the model has another name than the one that thought so.
    """
    data = saving.read(path)
    thoughts = object.__new__(ThoughtLab)
    thoughts._model, thoughts._model_name = model, data["model"]
    thoughts.question, thoughts.settings, thoughts._growths = data["question"], data["settings"], {}
    thoughts.alarms = []
    if model is not None:
        _check_vocabulary(model, data["texts"], data["model"])
    for branch, limit in data["branches"]:
        # Without a model nothing grows, so that no cache is ever asked for.
        cache = cast(KVCache, None) if model is None else model.transformer.new_cache()
        thoughts._growths[branch.number] = growth_of(branch, cache, limit)
    return thoughts


def _check_vocabulary(model: Model, texts: Mapping[int, str], name: str) -> None:
    for token, text in texts.items():
        if (ours := token_text(model.tokenizer, token)) != text:
            raise ValueError(
                f"the file was written with another vocabulary: its token {token} is {text!r}, this model's is {ours!r}"
            )
    if model.name != name:
        warnings.warn(f"these are thoughts of {name!r}; they go on with {model.name!r}", stacklevel=3)


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
