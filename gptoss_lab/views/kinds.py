"""The kinds of text that the views tell apart: each has a colour in theme.css, and words beside it."""

RAW_THOUGHT = "raw thought, not meant for end users"

LEGEND = {
    "system": "system",
    "user": "user",
    "tool": "tool result",
    "analysis": f"analysis: {RAW_THOUGHT}",
    "commentary": "commentary: calls and asides",
    "final": "final: the answer",
    "other": "other",
}


def kind_of(role: str | None, channel: str | None) -> str:
    """A key of LEGEND: never a name that came from the model, so that it may stand in markup."""
    if role == "assistant":
        return channel if channel in ("analysis", "commentary", "final") else "other"
    if role in ("system", "developer"):
        return "system"
    return "user" if role == "user" else "tool" if role else "other"
