"""The front end: plain ES modules and style sheets, joined without a build step.

A browser gets each view's code as one text: anywidget sends it to a notebook, an exported page holds it inline. So a
module may import its neighbours (`import { tokenStrip } from "./token_strip.js";`, a line by itself), and `module`
writes those out before it. They share one scope then: their top-level names must differ.
"""

import base64
import html
import json
import re
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([a-z_]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)
_DEFAULT_EXPORT = re.compile(r"^export default .*;\n", re.MULTILINE)


def module(name: str) -> str:
    """The ES module of this folder called `name`, with those that it imports before it."""
    parts: dict[str, str] = {}

    def add(name: str) -> None:
        text = (_FOLDER / name).read_text(encoding="utf-8")
        for imported in _IMPORT.findall(text):
            if imported not in parts:
                add(imported)
        parts[name] = _EXPORT.sub("", _IMPORT.sub("", text))

    add(name)
    root = parts.pop(name)
    return "\n".join([*(_DEFAULT_EXPORT.sub("", part) for part in parts.values()), root])


def style(*names: str) -> str:
    """The style sheets of this folder called `names`, one after another."""
    return "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in names)


def page(title: str, script: str, css: str, state: dict[str, Any], library: str = "") -> str:
    """A page that needs nothing but itself: `script` finds `state` in the element `#state` and draws into `#view`.

    Bytes in `state` become `{"base64": ...}`. `library` is JavaScript in `#library`, to be run when the script wants it
    (see page.js). The page may fetch nothing.
    """
    return _PAGE.format(
        title=html.escape(title),
        css=_inline(css, "style"),
        library=_inline(library, "script"),
        # Inside a script element only "<" could end it, and JSON has it in strings alone.
        state=json.dumps(state, default=_base64, allow_nan=False).replace("<", "\\u003c"),
        script=_inline(script, "script"),
    )


def _base64(value: object) -> dict[str, str]:
    if not isinstance(value, bytes):
        raise TypeError(f"a page's state holds JSON values and bytes; found {type(value).__name__}")
    return {"base64": base64.b64encode(value).decode("ascii")}


def _inline(text: str, element: str) -> str:
    if re.search(f"</{element}", text, re.IGNORECASE):
        raise ValueError(f"cannot stand inside a page: the text holds </{element}")
    return text


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:">
<title>{title}</title>
<style>
{css}
</style>
<body>
<main id="view"></main>
<script type="application/json" id="state">{state}</script>
<script type="text/plain" id="library">{library}</script>
<script type="module">
{script}
</script>
</body>
</html>
"""
