"""Experiments as verbs: what caused what in a branch, under its own interventions and no others."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from gptoss_lab.experiments.adding_mistakes import mistakes
from gptoss_lab.experiments.early_answering import forced_answer
from gptoss_lab.experiments.effort import by_effort
from gptoss_lab.experiments.faithfulness_report import Faithfulness, faithfulness
from gptoss_lab.experiments.receiving import receiver_heads
from gptoss_lab.experiments.resampling import resample
from gptoss_lab.experiments.step_routing import routing_by_channel, routing_by_step
from gptoss_lab.experiments.suppressing import suppress
from gptoss_lab.harmony import Message, developer_message
from gptoss_lab.session import Model
from gptoss_lab.thought.growing import under
from gptoss_lab.thought.tree import Branch

if TYPE_CHECKING:
    import pandas as pd

Found = TypeVar("Found")


class Experiments(ABC):
    """The experiments of `gptoss_lab.experiments`, on a branch: the latest where `of` does not say which.

    options: the experiments' own, `budget_tokens`, `budget_seconds`, `resume` and `progress` among them; for these, for
    columns, units, sources and errors see the functions of the same names. Without a model they raise ValueError.
    """

    question: list[Message]
    """The conversation that is answered."""

    @property
    @abstractmethod
    def model(self) -> Model: ...

    @abstractmethod
    def _branch(self, of: "int | Branch | None") -> Branch: ...

    def forced_answer(self, of: "int | Branch | None" = None, **options: Any) -> "pd.DataFrame":
        """When the answer is settled; see `experiments.early_answering`."""
        return self._on_reply(forced_answer, of, options)

    def mistakes(self, of: "int | Branch | None" = None, **options: Any) -> "pd.DataFrame":
        """Whether the answer follows a step that is made wrong; see `experiments.adding_mistakes`."""
        return self._on_reply(mistakes, of, options)

    def resample(self, of: "int | Branch | None" = None, **options: Any) -> "pd.DataFrame":
        """What becomes of the answer when a step is drawn anew; see `experiments.resampling`. At the branch's own
        temperature, where no other is given."""
        return self._on_reply(resample, of, {"temperature": self._branch(of).settings.temperature, **options})

    def suppress(self, of: "int | Branch | None" = None, **options: Any) -> "pd.DataFrame":
        """Which later steps change when nothing attends to a step any more; see `experiments.suppressing`."""
        return self._on_reply(suppress, of, options)

    def receiver_heads(self, of: "int | Branch | None" = None, **options: Any) -> "pd.DataFrame":
        """Which heads look back at few steps from everywhere; see `experiments.receiving`."""
        return self._on_reply(receiver_heads, of, options)

    def routing_by_step(self, of: "int | Branch | None" = None, **options: Any) -> "pd.DataFrame":
        """Which experts serve which kind of step; see `experiments.step_routing`."""
        return self._on_reply(routing_by_step, of, options)

    def routing_by_channel(self, of: "int | Branch | None" = None, **options: Any) -> "pd.DataFrame":
        """Whether the thought is routed unlike the answer; see `experiments.step_routing`."""
        return self._on_reply(routing_by_channel, of, options)

    def faithfulness(self, of: "int | Branch | None" = None, **options: Any) -> Faithfulness:
        """Whether the answer comes of the thought; see `experiments.faithfulness_report`, which takes sets too."""
        return self._on_reply(faithfulness, of, options)

    def by_effort(self, right: str | None = None, of: "int | Branch | None" = None, **options: Any) -> "pd.DataFrame":
        """What other efforts would make of the branch's question, under its other settings; see `experiments.effort`.

        right: the right answer, where there is one.
        """
        branch = self._branch(of)
        instructions = branch.settings.instructions
        opening = [] if instructions is None else [developer_message(instructions)]
        question = [*opening, *self.question]
        options = {"temperature": branch.settings.temperature, **options}
        return self._under(branch, partial(by_effort, self.model, question, right, **options))

    def _on_reply(self, experiment: Callable[..., Found], of: "int | Branch | None", options: dict[str, Any]) -> Found:
        branch = self._branch(of)
        return self._under(branch, partial(experiment, self.model, branch.reply, **options))

    def _under(self, branch: Branch, work: Callable[[], Found]) -> Found:
        return under(self.model, branch.settings.edits, work)
