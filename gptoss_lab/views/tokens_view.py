"""The tokens view: the plainest look at a trace, token by token."""

from typing import TYPE_CHECKING

from gptoss_lab.trace import Trace
from gptoss_lab.views.plain_text import visible
from gptoss_lab.views.strip_view import StripView
from gptoss_lab.views.tokens_map import TokensMap

if TYPE_CHECKING:
    from gptoss_lab.reply import Reply


def tokens(trace: "Trace | Reply") -> "TokensView":
    """Every token of a trace, or of a reply that has one, with its message, channel, probability and alternatives, and
    how decided the routers were; `.to_html(path)` makes it one offline file.

    Raises ValueError for a reply without a trace.
    """
    if isinstance(trace, Trace):
        return TokensView(trace)
    if trace.trace is None:
        raise ValueError('this reply holds no trace: give model.trace(reply), or chat with record=("routing",)')
    return TokensView(trace.trace)


class TokensView(StripView):
    """A token strip with its controls."""

    TITLE = "What was said, token by token"

    map: TokensMap

    def __init__(self, trace: Trace) -> None:
        super().__init__(_aid(trace), TokensMap(trace))

    def show(self, trace: Trace) -> None:
        """Shows another trace in place."""
        self._say(_aid(trace))
        self.map.show(trace)
        self.controls.refresh()


def _aid(trace: Trace) -> str:
    name = f"{visible(trace.model_name)}: " if trace.model_name else ""
    return (
        f"{name}{trace.n_prompt:,} tokens of the prompt, {len(trace.token_ids) - trace.n_prompt:,} of the reply. "
        "A token is a word, or a piece of one; each message begins and ends with control tokens."
    )
