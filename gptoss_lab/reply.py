"""Reply: what a model answered."""

from dataclasses import dataclass, field

from gptoss_lab.harmony import Message, Span
from gptoss_lab.trace import Trace


@dataclass(frozen=True, eq=False)
class Reply:
    """An answer, with the thinking that led to it. In a notebook it shows itself, channel by channel.

    finish: "stop" (the model ended it), "length" (max_new_tokens), "context" (the context is full) or "interrupted".
    """

    messages: list[Message]
    """What the model wrote, message by message; the last may be unfinished (`complete` is False)."""
    conversation: list[Message]
    """What it was asked and what it answered. To go on: `model.chat([*reply.conversation, Message("user", ...)])`."""
    tokens: list[int]
    """The new tokens."""
    spans: list[Span]
    """One a new token."""
    logprobs: list[float]
    """Of each new token: natural logarithm of the model's own probability, before temperature and top-p."""
    prompt_tokens: list[int]
    prompt_spans: list[Span]
    finish: str
    seconds: float = 0.0
    """From the question to the last token."""
    trace: Trace | None = field(default=None, repr=False)
    """Where `record=` asked for one."""
    shown_in_cell: int | None = field(default=None, repr=False)
    """The notebook cell (by its execution count) that streamed this reply and still shows it."""
    edits: list[str] = field(default_factory=list)
    """The interventions under which it was made, in plain words."""

    @property
    def text(self) -> str:
        """The answer: what stands in the final channel."""
        return "".join(message.content for message in self.messages if message.channel == "final")

    @property
    def thought(self) -> str:
        """The analysis channel: the model's thinking, which was not trained to be shown to end users."""
        return "\n".join(message.content for message in self.messages if message.channel == "analysis")

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        from gptoss_lab.views.reply import reply_html

        return reply_html(self)

    def _ipython_display_(self) -> None:
        """Displayed as a cell's last expression: nothing where that cell has streamed this very reply."""
        from IPython.core.getipython import get_ipython
        from IPython.display import HTML, display

        shell = get_ipython()
        if shell is None or self.shown_in_cell is None or shell.execution_count != self.shown_in_cell:
            display(HTML(self._repr_html_()))
