"""Comparing a run with an edited one: what the model expects at each token of the same text, how it routes them, and
what it answers when left to itself."""

import html
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gptoss_lab.analyses.routing import NOISE
from gptoss_lab.edits import Edit, Edits, check, describe, flat
from gptoss_lab.experiments.divergence import keeping_final_residual, kl_divergence
from gptoss_lab.harmony import Message
from gptoss_lab.harmony.messages import Effort
from gptoss_lab.reply import Reply
from gptoss_lab.session import Model
from gptoss_lab.trace import Trace
from gptoss_lab.views.plain_text import quoted, visible

if TYPE_CHECKING:
    import pandas as pd


def compare(
    model: Model,
    prompt: str | Sequence[Message],
    edits: Edits,
    *,
    reply: Reply | None = None,
    effort: Effort = "medium",
    max_new_tokens: int | None = None,
    temperature: float = 0.0,
    seed: int | None = None,
) -> "Comparison":
    """What edits change: the model runs over prompt and unedited reply with and without them, and answers with them.

    prompt: a question, or the messages so far, as for `Model.chat`; effort, max_new_tokens, temperature and seed too.
    reply: the model's unedited reply to the prompt, where there is one already.

    Edits that are active already stay so on both sides. Raises ValueError for no edits, for those that cannot be
    carried out (before anything runs), and for a reply to another prompt.
    """
    changes = flat(edits)
    if not changes:
        raise ValueError("there is nothing to compare: give at least one edit")
    check((*model.edits, *changes), model.config)

    def answer(to: str | Sequence[Message]) -> Reply:
        return model.chat(to, effort, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed, display=False)

    reply = answer(prompt) if reply is None else reply
    asked = _asked(reply, prompt)
    before, residual_before = _expectations(model, reply)
    with model.edit(changes):
        after, residual_after = _expectations(model, reply)
        edited_reply = answer(asked)
    moved = kl_divergence(model.transformer, residual_before[:-1], residual_after[:-1])
    return Comparison(changes, reply, edited_reply, before, after, np.concatenate(([np.nan], moved), dtype=np.float32))


@dataclass(frozen=True, eq=False)
class Comparison:
    """A run beside an edited one. `print(comparison)` sums it up; `table()` and `routing()` have the rest."""

    edits: tuple[Edit, ...]
    reply: Reply
    """Unedited."""
    edited_reply: Reply
    before: Trace
    """Prompt and unedited reply, unedited."""
    after: Trace
    """The same tokens, edited."""
    kl: NDArray[np.float32]
    """[pos], in nats: how far what is expected at each place, from the tokens before it, moves away from the unedited
    expectation, KL(before || after). NaN at the first token, which nothing precedes."""

    @property
    def answer_changed(self) -> bool:
        return self.reply.text != self.edited_reply.text

    def table(self) -> "pd.DataFrame":
        """A row for every token of prompt and unedited reply.

        Columns: position, token, text, role, channel, section; kl (see `Comparison.kl`); probability_before and
        probability_after, of this token at its place; likeliest_before and likeliest_after, the likeliest tokens there;
        flips, the number of layers that choose other experts for it.
        """
        about = self.before.tokens()[["position", "token", "text", "role", "channel", "section"]]
        return about.assign(
            kl=self.kl,
            probability_before=np.exp(self.before.logprobs),
            probability_after=np.exp(self.after.logprobs),
            likeliest_before=_likeliest(self.before),
            likeliest_after=_likeliest(self.after),
            flips=self._differs().any(axis=2).sum(axis=0),
        )

    def routing(self) -> "pd.DataFrame":
        """A row for every layer and token where other experts are chosen.

        Columns: layer, position, text, channel; left and joined, the experts that are chosen no more and those that are
        instead; margin, by how much the unedited choice was made, in router logits; noise, whether that is so little
        that rounding alone may change it. An expert with weight 0 counts as not chosen.
        """
        import pandas as pd

        chosen, margins = self.before.dense_weights() > 0, self.before.margins()
        differs = self._differs()
        layer, position = np.nonzero(differs.any(axis=2))
        changed, was_chosen = differs[layer, position], chosen[layer, position]
        margin = margins[layer, position]
        return pd.DataFrame(
            {
                "layer": layer,
                "position": position,
                "text": [self.before.texts[place] for place in position],
                "channel": [self.before.spans[place].channel for place in position],
                "left": [tuple(np.flatnonzero(row).tolist()) for row in changed & was_chosen],
                "joined": [tuple(np.flatnonzero(row).tolist()) for row in changed & ~was_chosen],
                "margin": margin,
                "noise": margin < NOISE,
            }
        )

    def summary(self) -> str:
        """What has changed, in plain words."""
        return "\n".join([*self._edit_lines(), self._expectation_line(), self._answer_line(), self._routing_line()])

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(visible(self.summary()))}</pre>"

    def _differs(self) -> NDArray[np.bool_]:
        """Which experts are chosen on one side alone, [layer, pos, expert]."""
        return (self.before.dense_weights() > 0) != (self.after.dense_weights() > 0)

    def _edit_lines(self) -> list[str]:
        return [f"Edit: {words}." for words in describe(self.edits)]

    def _expectation_line(self) -> str:
        n_prompt, kl = self.before.n_prompt, self.kl[self.before.n_prompt :]
        if not len(kl):
            return "Expectations: there is no reply to compare them on."
        if kl.max() < NOISE:
            return f"Expectations: over the {len(kl)} tokens of the unedited reply they stay as they were."
        worst = n_prompt + int(kl.argmax())
        table = self.table()[n_prompt:]
        others = int((table.likeliest_before != table.likeliest_after).sum())
        return (
            f"Expectations, over the {len(kl)} tokens of the unedited reply: they move by {kl.mean():.3g} nats on "
            f"average and by {kl.max():.3g} at most, at {_shown(self.before.texts[worst])} (position {worst}); another "
            f"token is the likeliest at {others} places."
        )

    def _answer_line(self) -> str:
        answer, edited = _shown(self.reply.text), _shown(self.edited_reply.text)
        if self.reply.tokens == self.edited_reply.tokens:
            return f"Answer: {answer}, word for word the same reply."
        same = next(
            (n for n, (a, b) in enumerate(zip(self.reply.tokens, self.edited_reply.tokens, strict=False)) if a != b),
            min(len(self.reply.tokens), len(self.edited_reply.tokens)),
        )
        change = f"{answer} becomes {edited}" if self.answer_changed else f"{answer} stays"
        return f"Answer: {change}; the replies part after {same} of {len(self.reply.tokens)} tokens."

    def _routing_line(self) -> str:
        flips = self.routing()
        total = self.before.router_logits.shape[0] * self.before.router_logits.shape[1]
        if flips.empty:
            return f"Routing: none of {total} choices of experts differs."
        by_layer = flips.layer.value_counts()
        noise = f", {flips.noise.sum()} of them within rounding" if flips.noise.any() else ""
        return (
            f"Routing: {len(flips)} of {total} choices of experts differ{noise}, most of them in layer "
            f"{by_layer.index[0]} ({by_layer.iloc[0]}); half of those that do had margins below "
            f"{flips.margin.median():.3g}."
        )


def _asked(reply: Reply, prompt: str | Sequence[Message]) -> list[Message]:
    """The conversation that a reply answers. Raises ValueError where that is not the prompt."""
    asked = reply.conversation[: len(reply.conversation) - len(reply.messages)]
    wanted = [Message("user", prompt)] if isinstance(prompt, str) else list(prompt)
    if asked[len(asked) - len(wanted) :] != wanted:
        raise ValueError(f"the reply answers another prompt: {asked[-1].content[:200]!r}")
    return asked


def _expectations(model: Model, reply: Reply) -> tuple[Trace, Tensor]:
    """A pass over a reply with its prompt: its trace, and the last residual stream [pos, d_model]."""
    with keeping_final_residual(model.transformer) as seen:
        trace = model.trace(replace(reply, trace=None))
    return trace, seen[0][0]


def _likeliest(trace: Trace) -> list[str]:
    """The likeliest token's text at each place; nothing where that is unknown."""
    return [texts[0] if texts else "" for texts in trace.alternative_texts or [[]] * len(trace.token_ids)]


def _shown(text: str) -> str:
    """Model text in a line of ours."""
    return f"'{quoted(text if len(text) <= 80 else text[:79] + '…')}'"
