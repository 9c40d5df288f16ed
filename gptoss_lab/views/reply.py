"""A reply as HTML: its channels told apart, everything that the model wrote escaped."""

import html
from collections.abc import Iterable
from typing import TYPE_CHECKING

from gptoss_lab.views import front_end
from gptoss_lab.views.conversation import FINISHES, Block, blocks

if TYPE_CHECKING:
    from gptoss_lab.reply import Reply

FOLD_ABOVE = 600
"""A thought of more characters starts folded."""


def reply_html(reply: "Reply") -> str:
    """The reply as a fragment of markup. Raw thought is marked as what it is, and folded where it is long."""
    count = f"{len(reply.tokens):,} token{'' if len(reply.tokens) == 1 else 's'}"
    seconds = f" in {reply.seconds:.1f} s" if reply.seconds else ""
    return blocks_html(blocks(reply.messages), f"{count}{seconds}. {FINISHES.get(reply.finish, reply.finish)}")


def blocks_html(written: Iterable[Block], status: str) -> str:
    """The messages, and a line below them, as a fragment of markup with its style."""
    style = front_end.style("theme.css", "conversation.css")
    messages = "".join(map(_message, written))
    footer = f'<div class="gl-status">{html.escape(status)}</div>' if status else ""
    return f'<style>{style}</style><div class="gptoss gl-conversation">{messages}{footer}</div>'


def _message(block: Block) -> str:
    note = f" <span>{html.escape(block['note'])}</span>" if block["note"] else ""
    head = f"<b>{html.escape(block['title'])}</b>{note}"
    text = f'<pre class="gl-text" dir="auto">{html.escape(block["text"])}</pre>'
    attributes = f'class="gl-message" data-kind="{block["kind"]}"'
    if block["kind"] != "analysis":
        return f'<div {attributes}><div class="gl-head-line">{head}</div>{text}</div>'
    folded = "" if len(block["text"]) > FOLD_ABOVE else " open"
    return f'<details {attributes}{folded}><summary class="gl-head-line">{head}</summary>{text}</details>'
