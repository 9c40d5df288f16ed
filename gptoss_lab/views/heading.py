"""A view's title and the line that says how to read it."""

import html
from typing import Literal


def heading_html(title: str, aid: str, level: Literal["h3", "h4"] = "h3") -> str:
    """Both as markup, whatever they hold."""
    return (
        f'<header class="gptoss gl-heading"><{level}>{html.escape(title)}</{level}>'
        f'<p class="gl-aid">{html.escape(aid)}</p></header>'
    )
