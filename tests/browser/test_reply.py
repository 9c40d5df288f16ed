"""Replies in a real JupyterLab: while they are written, afterwards, and asked for from a box."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from looking import WATCH_ALERTS, assert_nothing_ran, assert_readable

pytestmark = pytest.mark.browser

STREAM = """
import time, talker, test_views
from gptoss_lab.harmony import Message
from gptoss_lab.views.stream import LiveReply
thought, answer = "a\\u202eb " + test_views.SCRIPT + " and so on. " * 20, test_views.ROLE
live = LiveReply()
live.show()
live.update([Message("assistant", "a first guess at what this is", channel="commentary")])
time.sleep(0.1)
for place in range(len(thought)):
    live.update([Message("assistant", thought[:place + 1], channel="analysis")])
    time.sleep(0.002)
live.update([Message("assistant", thought, channel="analysis"), Message("assistant", answer, channel="final")])
live.finish("stop")
"""
FINISHED = """
from test_views import reply_of
reply_of(
    Message("assistant", thought, channel="analysis", recipient=test_views.SCRIPT),
    Message("assistant", answer, channel="final"),
)
"""


def test_a_streamed_reply_and_a_finished_one(open_notebook: Callable[..., Any], pictures: Path) -> None:
    notebook = open_notebook(STREAM, FINISHED)
    page = notebook.page
    page.evaluate(WATCH_ALERTS)
    notebook.run_all()
    page.wait_for_function("document.querySelectorAll('.gl-message').length === 4")
    thought = "a⟨U+202E⟩b <script>alert(1)</script> and so on. "
    for first, last in ((0, 1), (2, 3)):
        texts = page.locator(".gl-message pre")
        assert texts.nth(first).text_content().startswith(thought)
        assert texts.nth(last).text_content() == "\"><img src=x onerror='alert(2)'>"
        assert "not meant for end users" in page.locator(".gl-message").nth(first).inner_text()
    assert page.locator(".gl-running").count() == 0
    # What has been streamed stays in a saved notebook.
    assert page.locator(".jp-RenderedHTMLCommon .gl-conversation").count() == 2
    assert_nothing_ran(page)
    assert notebook.errors == []
    page.screenshot(path=pictures / "reply-light.png")
    notebook.use_theme("JupyterLab Dark")
    page.screenshot(path=pictures / "reply-dark.png")


def test_the_ask_box(open_notebook: Callable[..., Any], pictures: Path) -> None:
    notebook = open_notebook(
        "import talker, gptoss_lab as lab\nmodel = talker.Talker(pause=0.02)\nbox = lab.views.ask(model)\nbox",
        size=(1280, 1300),
    )
    notebook.run_all()
    page = notebook.page
    ask, stop = (page.get_by_role("button", name=name, exact=True) for name in ("Ask", "Stop"))
    question = page.get_by_placeholder("What is 246 + 135?")
    question.fill("What is 38 + 57?")
    question.press("Enter")
    page.wait_for_selector(".gl-running")
    assert not ask.is_enabled()
    page.wait_for_selector(".gl-message[data-kind='analysis']")
    page.screenshot(path=pictures / "ask-writing.png")
    page.wait_for_selector(".gl-token")
    page.wait_for_selector(".js-plotly-plot .bars .point")
    assert notebook.ask("model.asked[0][0]") == "'What is 38 + 57?'"
    assert page.locator(".gl-message[data-kind='final'] pre").text_content() == "38 + 57 = 95"
    page.locator(".gl-token").nth(30).click()
    notebook.wait_until("box.routing.pinned", "30")

    ask.click()
    page.wait_for_selector(".gl-running")
    stop.click()
    page.wait_for_function("document.querySelector('.gl-status').textContent === 'Stopped.'")
    notebook.wait_until("box.reply.finish", "'interrupted'")
    assert ask.is_enabled()
    assert page.locator(".gl-routing").count() == 1
    notebook.wait_until("box.routing.pinned", "None")
    assert_readable(page, ".jp-OutputArea .gptoss")
    assert notebook.errors == []
    page.screenshot(path=pictures / "ask-stopped.png")
