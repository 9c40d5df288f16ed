"""The tokens view, in a real JupyterLab and as an exported page."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import traces
from looking import WATCH_ALERTS, assert_nothing_ran, assert_readable

from gptoss_lab.views import tokens

pytestmark = pytest.mark.browser

TRACE = traces.conversation()
CARRY = TRACE.texts.index(" carry")


def test_in_a_notebook(open_notebook: Callable[..., Any], pictures: Path) -> None:
    notebook = open_notebook("import traces, gptoss_lab as lab\nview = lab.views.tokens(traces.conversation())\nview")
    notebook.run_all()
    page = notebook.page
    page.wait_for_selector(".gl-token")
    page.get_by_label("Colour by").select_option("router margin")
    notebook.wait_until("view.colour", "'margin'")
    page.locator(".gl-token").nth(CARRY).click()
    notebook.wait_until("view.pinned", str(CARRY))
    page.keyboard.press("Shift+End")
    notebook.wait_until("view.selection", f"({CARRY}, {len(TRACE.texts)})")
    page.locator(".gl-token").nth(CARRY).hover()
    least = TRACE.margins()[:, CARRY].min()
    assert f"Router margin: {least:#.3g} logits, least of all layers." in page.locator(".gl-tip").inner_text()
    assert_readable(page, ".jp-OutputArea .gptoss")
    assert notebook.errors == []
    page.screenshot(path=pictures / "tokens-notebook.png")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_as_a_page(open_page: Callable[..., Any], pictures: Path, scheme: str) -> None:
    view = tokens(TRACE)
    view.colour = "surprisal"
    page = open_page(view, scheme)
    assert page.get_by_label("Colour by").locator("option:checked").inner_text() == "surprisal"
    page.get_by_label("Role").select_option("user")
    assert page.locator(".gl-title").count() == 1
    page.get_by_label("Role").select_option("All")
    likeliest = int(np.nanargmax(TRACE.logprobs))
    page.locator(".gl-token").nth(likeliest).hover()
    assert page.locator(".gl-choices > span").first.evaluate("span => span.className") == "gl-taken"
    assert_readable(page, ".gptoss")
    assert page.errors == []
    assert len(page.requests) == 1
    page.screenshot(path=pictures / f"tokens-page-{scheme}.png", full_page=True)


def test_hostile_text_is_text(open_notebook: Callable[..., Any], open_page: Callable[..., Any]) -> None:
    from test_views import SCRIPT, hostile

    page = open_page(tokens(hostile()))
    page.locator(".gl-token").nth(5).hover()
    assert page.locator(".gl-tip b").inner_text() == SCRIPT
    assert_nothing_ran(page)
    notebook = open_notebook("import test_views, gptoss_lab as lab\nlab.views.tokens(test_views.hostile())")
    notebook.page.evaluate(WATCH_ALERTS)
    notebook.run_all()
    notebook.page.wait_for_selector(".gl-token")
    notebook.page.locator(".gl-token").nth(5).hover()
    assert_nothing_ran(notebook.page)
    assert notebook.errors == []
