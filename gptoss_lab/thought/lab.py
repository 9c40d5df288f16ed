"""ThoughtLab: think, branch, edit, compare, and ask what caused what."""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, cast

from gptoss_lab import __version__, harmony
from gptoss_lab.cache import KVCache
from gptoss_lab.edits import Edits, check, flat
from gptoss_lab.harmony import Message
from gptoss_lab.harmony.messages import Effort
from gptoss_lab.model import never
from gptoss_lab.segments import Segment
from gptoss_lab.session import CHAT_TOKENS, Model
from gptoss_lab.thought import changes, saving
from gptoss_lab.thought.changes import UNCHANGED, Change, Rest
from gptoss_lab.thought.differences import Difference, compare
from gptoss_lab.thought.experimenting import Experiments
from gptoss_lab.thought.growing import Growth, grow, growth_of, read_given
from gptoss_lab.thought.monitors import Alarm, Monitor, watch
from gptoss_lab.thought.sprouting import Beginning, sprout
from gptoss_lab.thought.tree import Branch, Settings, Token
from gptoss_lab.tokenizer import token_text


class ThoughtLab(Experiments):
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

    What caused what is asked with verbs too, `thoughts.resample()` and its like: see `Experiments`.

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
        return self._branch(None)

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
        return self._branch(of)

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
        parent = self._branch(of)
        return self._sprout(parent, changes.taken(parent, at, token, self.model.tokenizer), **options)

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
        parent = self._branch(of)
        return self._sprout(parent, changes.edited(parent, step, text, tokens, rest, self.model.tokenizer), **options)

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
        parent = self._branch(of)
        return self._sprout(parent, changes.deleted(parent, step, tokens, rest, self.model.tokenizer), **options)

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
        parent = self._branch(of)
        return self._sprout(parent, changes.inserted(parent, after, text, rest, self.model.tokenizer), **options)

    def truncate(self, after: int | Segment, *, of: "int | Branch | None" = None, **options: Any) -> Branch:
        """The thought ends after a step (0: before the first), and the model answers at once.

        options: go_on, seed, max_new_tokens.
        """
        parent = self._branch(of)
        return self._sprout(parent, changes.cut_short(parent, after, self.model.tokenizer), **options)

    def change(
        self,
        *,
        effort: Effort | None = None,
        instructions: str | None = UNCHANGED,
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
        parent = self._branch(of)
        change = changes.under_other_settings(parent, at, effort, instructions, edits, temperature, top_p)
        check(change.settings.edits, self.model.config)
        if effort is not None and any(message.role == "system" for message in self.question):
            raise ValueError("the conversation has a system message of its own, which says the effort: change that")
        return self._sprout(parent, change, **options)

    def read(self, of: "int | Branch | None" = None) -> Branch:
        """Works out what the model expects at the tokens that edits put into a branch; continuing it does so too."""
        read_given(self.model, self._growths[self._number(of)])
        return self._branch(of)

    # Comparing and keeping

    def compare(self, a: "int | Branch", b: "int | Branch | None" = None) -> Difference:
        """Two branches side by side: texts, where they part, routing, the probability of each answer, outcome.

        b: the latest where not given. Without a model, texts and outcome alone.
        """
        return compare(self._model, self._branch(a), self._branch(b))

    def save(self, path: str | PathLike[str]) -> Path:
        """Writes the whole tree, and what monitors said, into one JSON file, which `load_thoughts` reads, without the
        model too."""
        branches = [(self[number], growth.limit) for number, growth in list(self._growths.items())]
        return saving.write(path, self._model_name, __version__, self.question, self.settings, branches, self.alarms)

    # Helpers

    def _number(self, of: "int | Branch | None") -> int:
        if not self._growths:
            raise ValueError("there is no thought yet: run() generates the first")
        number = max(self._growths) if of is None else of.number if isinstance(of, Branch) else of
        if number not in self._growths:
            raise ValueError(f"there is no branch {number!r}; there are 0 to {max(self._growths)}")
        return number

    def _branch(self, of: "int | Branch | None") -> Branch:
        return self[self._number(of)]

    def _begin(self) -> None:
        """The first branch, of which only the prompt is there."""
        self._growths[0] = sprout(self.model, Beginning(0, self.question, self.settings, "the first thought"))

    def _sprout(
        self,
        parent: Branch,
        change: Change,
        *,
        go_on: bool = True,
        seed: int | None = None,
        max_new_tokens: int | None = None,
    ) -> Branch:
        """A branch more, and what it says, if it is to go on."""
        number = max(self._growths) + 1
        settings = replace(
            change.settings,
            seed=self.settings.seed + number if seed is None else seed,
            max_new_tokens=change.settings.max_new_tokens if max_new_tokens is None else max_new_tokens,
        )
        reply = [*parent.tokens[parent.n_prompt : change.at], *change.tokens]
        new = Beginning(number, self.question, settings, change.origin, reply)
        self._growths[number] = sprout(self.model, new, (parent, self._growths[parent.number]))
        return self.resume(number) if go_on else self[number]


def load_thoughts(path: str | PathLike[str], model: Model | None = None) -> ThoughtLab:
    """A tree from the file that `ThoughtLab.save` wrote; without a model there is everything to see and nothing to do.

    Raises FileNotFoundError where there is no such file; ValueError where it holds something else, and for a model with
    another vocabulary. Warns where the model has another name than the one that thought so.
    """
    data = saving.read(path)
    thoughts = object.__new__(ThoughtLab)
    thoughts._model, thoughts._model_name = model, data["model"]
    thoughts.question, thoughts.settings, thoughts._growths = data["question"], data["settings"], {}
    thoughts.alarms = data["alarms"]
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
