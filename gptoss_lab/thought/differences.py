"""Two branches side by side: where they part, what they say, how they route it, what they would answer."""

import difflib
import html
import math
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from gptoss_lab.analyses.routing import NOISE
from gptoss_lab.experiments.early_answering import forced
from gptoss_lab.experiments.thinking import logprob, read
from gptoss_lab.session import Model
from gptoss_lab.thought.growing import under
from gptoss_lab.thought.tree import Branch
from gptoss_lab.trace import Trace
from gptoss_lab.views.plain_text import quoted, visible

if TYPE_CHECKING:
    import pandas as pd


def compare(model: Model | None, a: Branch, b: Branch) -> "Difference":
    """Two branches side by side. Without a model, how they route and what else they might answer stays unknown."""
    if model is None:
        return Difference(a, b, None, None)
    answers = list(dict.fromkeys(answer for answer in (a.text, b.text) if answer))
    (trace_a, chances_a), (trace_b, chances_b) = (
        under(model, branch.settings.edits, partial(_seen, model, branch, answers)) for branch in (a, b)
    )
    return Difference(a, b, (trace_a, trace_b), {one: (chances_a[one], chances_b[one]) for one in answers})


@dataclass(frozen=True, eq=False)
class Difference:
    """Two branches side by side. `print(difference)` sums it up. Places count tokens from the start of the prompt."""

    a: Branch
    b: Branch
    traces: tuple[Trace, Trace] | None
    """Each branch under its own interventions; None where there was no model."""
    chances: dict[str, tuple[float, float]] | None
    """Of each answer that one of them gives, the probability in a and in b, where the answer begins (where there is
    none, were it asked for at once): of its very words, to the end, at temperature 1."""

    @cached_property
    def divergence(self) -> tuple[int, int] | None:
        """The places of the first tokens of the replies that differ, in a and in b; None where none does."""
        one, other = self.a.ids[self.a.n_prompt :], self.b.ids[self.b.n_prompt :]
        if one == other:
            return None
        pairs = zip(one, other, strict=False)
        same = next((n for n, (x, y) in enumerate(pairs) if x != y), min(len(one), len(other)))
        return self.a.n_prompt + same, self.b.n_prompt + same

    def text(self) -> "pd.DataFrame":
        """What the replies say, aligned.

        Columns: change ("same", "replaced", "only in a", "only in b"), a and b (texts), a_start, a_stop, b_start and
        b_stop (positions).
        """
        import pandas as pd

        names = {"equal": "same", "replace": "replaced", "delete": "only in a", "insert": "only in b"}
        return pd.DataFrame(
            [
                {
                    "change": names[change],
                    "a": _text(self.a, a_start, a_stop),
                    "b": _text(self.b, b_start, b_stop),
                    "a_start": a_start,
                    "a_stop": a_stop,
                    "b_start": b_start,
                    "b_stop": b_stop,
                }
                for change, a_start, a_stop, b_start, b_stop in self._aligned
            ],
            columns=["change", "a", "b", "a_start", "a_stop", "b_start", "b_stop"],
        )

    def routing(self) -> "pd.DataFrame":
        """A row for every layer and token that stands in both replies, aligned, and goes to other experts.

        Columns: layer, a_position, b_position, text, channel; left and joined, the experts chosen in a alone and in b
        alone; margin, the smaller of the two by which the choices were made, in router logits; noise, whether rounding
        alone may have changed it. Raises ValueError where the branches were compared without a model.
        """
        import pandas as pd

        if self.traces is None:
            raise ValueError("the branches were compared without a model: load_thoughts(path, model) brings it along")
        one, other = self.traces
        places = [
            (a_start + n, b_start + n)
            for change, a_start, a_stop, b_start, _ in self._aligned
            if change == "equal"
            for n in range(a_stop - a_start)
        ]
        places = [(a, b) for a, b in places if a < len(one.token_ids) and b < len(other.token_ids)]
        in_a, in_b = np.array(places, dtype=np.int64).reshape(-1, 2).T
        chosen_a, chosen_b = one.dense_weights()[:, in_a] > 0, other.dense_weights()[:, in_b] > 0
        margins = np.minimum(one.margins()[:, in_a], other.margins()[:, in_b])
        layer, place = np.nonzero((chosen_a != chosen_b).any(axis=2))
        return pd.DataFrame(
            [
                {
                    "layer": int(where),
                    "a_position": places[n][0],
                    "b_position": places[n][1],
                    "text": one.texts[places[n][0]],
                    "channel": one.spans[places[n][0]].channel,
                    "left": tuple(np.flatnonzero(chosen_a[where, n] & ~chosen_b[where, n]).tolist()),
                    "joined": tuple(np.flatnonzero(chosen_b[where, n] & ~chosen_a[where, n]).tolist()),
                    "margin": float(margins[where, n]),
                    "noise": bool(margins[where, n] < NOISE),
                }
                for where, n in zip(layer, place, strict=True)
            ],
            columns=["layer", "a_position", "b_position", "text", "channel", "left", "joined", "margin", "noise"],
        )

    def answers(self) -> "pd.DataFrame":
        """The probability of each answer in each branch. Columns: answer, a, b. Raises ValueError without a model."""
        import pandas as pd

        if self.chances is None:
            raise ValueError("the branches were compared without a model: load_thoughts(path, model) brings it along")
        rows = [(answer, *chances) for answer, chances in self.chances.items()]
        return pd.DataFrame(rows, columns=["answer", "a", "b"])

    def summary(self) -> str:
        """What differs, in plain words."""
        return "\n".join(
            [
                *(_line(branch) for branch in (self.a, self.b)),
                self._divergence_line(),
                *(self._answer_lines() if self.chances is not None else []),
                *([self._routing_line()] if self.traces is not None else []),
            ]
        )

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(visible(self.summary()))}</pre>"

    @cached_property
    def _aligned(self) -> list[tuple[str, int, int, int, int]]:
        """difflib's operations on the replies' tokens, with places that count from the start of the prompt."""
        a, b = self.a.n_prompt, self.b.n_prompt
        matcher = difflib.SequenceMatcher(None, self.a.ids[a:], self.b.ids[b:], autojunk=False)
        return [(change, a + i, a + j, b + k, b + m) for change, i, j, k, m in matcher.get_opcodes()]

    def _divergence_line(self) -> str:
        if self.divergence is None:
            return "The replies are the same, token by token."
        texts = [
            f"'{quoted(branch.tokens[place].text)}'" if place < len(branch) else "its end"
            for branch, place in zip((self.a, self.b), self.divergence, strict=True)
        ]
        return f"They part after {self.divergence[0] - self.a.n_prompt} tokens: {texts[0]} or {texts[1]}."

    def _answer_lines(self) -> list[str]:
        return [
            f"Probability of the answer {_shown(answer)}: {a:.3g} in branch {self.a.number}, {b:.3g} in branch "
            f"{self.b.number}."
            for answer, (a, b) in (self.chances or {}).items()
        ]

    def _routing_line(self) -> str:
        flips = self.routing()
        same = sum(j - i for change, i, j, _, _ in self._aligned if change == "equal")
        total = same * (self.traces[0].n_layers if self.traces else 0)
        if flips.empty:
            return f"Routing: the {same} tokens that both have go to the same experts in every layer."
        noise = f", {flips.noise.sum()} of them within rounding" if flips.noise.any() else ""
        return (
            f"Routing: {len(flips)} of {total} choices of experts for the {same} tokens that both have differ{noise}; "
            f"half of them had margins below {flips.margin.median():.3g}."
        )


def _seen(model: Model, branch: Branch, answers: list[str]) -> tuple[Trace, dict[str, float]]:
    return model.trace(branch.reply), _chances(model, branch, answers)


def _chances(model: Model, branch: Branch, answers: list[str]) -> dict[str, float]:
    """The probability of each answer where the branch's begins."""
    reply = range(branch.n_prompt, len(branch))
    final = [place for place in reply if branch.spans[place].channel == "final"]
    start = next((place for place in final if branch.spans[place].section == "content"), None)
    if start is None:
        thought = [step for step in branch.steps if step.channel != "final"]
        at, closing = forced(branch.ids, branch.n_prompt, thought[-1] if thought else None, model.tokenizer)
        ids = [*branch.ids[:at], *closing]
    else:
        ids = branch.ids[:start]
    cache, end = read(model, ids), model.tokenizer.encode("<|return|>", allowed_special="all")
    spelt = {answer: [*model.tokenizer.encode_ordinary(answer), *end] for answer in answers}
    return {answer: math.exp(logprob(model, cache, ids[-1], tokens)) for answer, tokens in spelt.items()}


def _text(branch: Branch, start: int, stop: int) -> str:
    return "".join(token.text for token in branch.tokens[start:stop])


def _line(branch: Branch) -> str:
    answer = f"answers {_shown(branch.text)}" if branch.text else "gives no answer"
    said = f"{answer}, in {len(branch) - branch.n_prompt} tokens"
    return f"Branch {branch.number} ({visible(branch.origin)}) {said}; it {visible(branch.status)}."


def _shown(text: str) -> str:
    """Model text in a line of ours."""
    return f"'{quoted(text if len(text) <= 80 else text[:79] + '…')}'"
