"""The experts view, in a real JupyterLab and as an exported page: the same gestures do the same things."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import traces
from looking import WATCH_ALERTS, assert_nothing_ran, assert_readable, hover_ms, load_ms

import gptoss_lab as lab
from gptoss_lab.views import experts

pytestmark = pytest.mark.browser

VIEW = "import traces, gptoss_lab as lab\nview = lab.views.experts(traces.conversation())\nview.expert = (1, 2)\nview"
PLANTED = """import gptoss_lab as lab
model = lab.load("planted:routing", engine="torch")
trace = model.trace(list(range(20)), record=("routing", "experts"))
view = lab.views.experts(trace, model.transformer.weights, model.tokenizer)
view"""
TRACE = traces.conversation()


def page_view() -> Any:
    view = experts(TRACE)
    view.expert = (1, 2)
    return view


def cell(page: Any, layer: int, expert: int, n_experts: int = 8) -> Any:
    return page.locator(".gl-cell").nth(layer * n_experts + expert)


def served(layer: int, expert: int) -> dict[int, float]:
    """Position and weight of every token that an expert served."""
    weights = TRACE.dense_weights()[layer, :, expert]
    return {int(position): float(weights[position]) for position in np.nonzero(weights)[0]}


def listed(page: Any) -> list[int]:
    """The positions of the rows, from top to bottom."""
    rows = page.locator(".gl-served-row").evaluate_all("all => all.map(r => [r.offsetTop, +r.dataset.position])")
    return [position for _, position in sorted(rows)]


def bars(page: Any) -> int:
    return int(page.locator(".js-plotly-plot .bars .point").count())


def gestures(page: Any) -> None:
    """Everything that the view answers to, wherever it is; begins and ends at expert 2 of layer 1."""
    by_weight = sorted(served(1, 2), key=lambda position: -served(1, 2)[position])
    assert page.locator(".gl-served-pane h4").inner_text() == "Tokens of expert 2 of layer 1"
    found = listed(page)
    assert found == by_weight[: len(found)]
    top = page.locator(f".gl-served-row[data-position='{by_weight[0]}']")
    assert top.locator("b").text_content() == TRACE.texts[by_weight[0]].replace("\n", "↵")
    assert float(top.locator(".gl-share-bar").inner_text()) == pytest.approx(served(1, 2)[by_weight[0]], abs=1e-3)
    # The map's readout says how much an expert did.
    cell(page, 0, 0).hover()
    content = np.array([span.section == "content" for span in TRACE.spans])
    content &= np.arange(len(content)) >= TRACE.n_prompt
    n = int((TRACE.expert_indices[0, content] == 0).any(axis=1).sum())
    words = page.locator(".gl-all-experts .gl-readout").inner_text()
    assert words.startswith("Layer 0, expert 0 served")
    assert f"({n} of {content.sum()})" in words
    # A click on a row pins its token; arrows walk from row to row.
    top.click()
    assert page.locator(".gl-served-row.gl-pinned").get_attribute("data-position") == str(by_weight[0])
    assert f"at position {by_weight[0]}: weight" in page.locator(".gl-served-pane .gl-readout").inner_text()
    page.keyboard.press("ArrowDown")
    assert page.locator(".gl-served-row.gl-pinned").get_attribute("data-position") == str(by_weight[1])
    page.keyboard.press("Escape")
    assert page.locator(".gl-served-row.gl-pinned").count() == 0
    # A click on the map chooses another expert; so do arrows.
    assert bars(page) == 16
    cell(page, 0, 0).click()
    page.wait_for_selector("h4:text-is('Tokens of expert 0 of layer 0')")
    assert set(listed(page)) <= set(served(0, 0))
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("h4:text-is('Tokens of expert 1 of layer 0')")
    cell(page, 1, 2).click()
    page.wait_for_selector("h4:text-is('Tokens of expert 2 of layer 1')")


def test_in_a_notebook(open_notebook: Callable[..., Any], pictures: Path) -> None:
    notebook = open_notebook(VIEW, size=(1280, 1400))
    notebook.run_all()
    page = notebook.page
    page.wait_for_selector(".gl-served-row")
    page.wait_for_selector(".js-plotly-plot .bars .point", state="attached")
    page.locator(".jp-Cell").first.click()
    gestures(page)
    # The kernel follows what is clicked, and the chart follows the kernel.
    heights = "[...document.querySelectorAll('.bars .point path')].map((bar) => bar.getBBox().height)"
    before = page.evaluate(heights)
    cell(page, 3, 5).click()
    notebook.wait_until("view.expert", "(3, 5)")
    page.wait_for_function(f"before => String({heights}) !== String(before)", arg=before)
    page.locator(".gl-served-row").first.click()
    notebook.wait_until("view.pinned is not None", "True")
    page.get_by_role("button", name="place in the text").click()
    notebook.wait_until("view.order", "'position'")
    found = listed(page)
    assert found == sorted(found)
    # The page follows what the kernel sets.
    notebook.ask("setattr(view, 'expert', (0, 0)) or setattr(view, 'order', 'weight')")
    page.wait_for_selector("h4:text-is('Tokens of expert 0 of layer 0')")
    assert page.locator(".gl-promotes").is_hidden()
    assert_readable(page, ".jp-OutputArea .gptoss")
    page.screenshot(path=pictures / "experts-notebook-light.png")
    notebook.use_theme("JupyterLab Dark")
    assert_readable(page, ".jp-OutputArea .gptoss")
    page.screenshot(path=pictures / "experts-notebook-dark.png")
    assert notebook.errors == []
    page.get_by_role("button", name="place in the text").focus()
    reached = []
    for _ in range(3):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.className"))
    assert any("gl-map" in each for each in reached)
    assert any("gl-served" in each for each in reached)


def test_what_an_expert_promotes(open_notebook: Callable[..., Any], open_page: Callable[..., Any]) -> None:
    notebook = open_notebook(PLANTED, size=(1280, 1400))
    notebook.run_all()
    page = notebook.page
    page.wait_for_selector(".gl-promotes .gl-bar")
    assert page.locator(".gl-promotes .gl-bar-text").first.inner_text() == eval_text(notebook, "raised")
    cell(page, 0, 1, int(notebook.ask("trace.n_experts"))).click()
    notebook.wait_until("view.expert", "(0, 1)")
    served_any = notebook.ask("view.map.promoted['tokens'] > 0") == "True"
    if served_any:
        page.wait_for_function(
            "text => document.querySelector('.gl-promotes .gl-bar-text')?.textContent === text",
            arg=eval_text(notebook, "raised"),
        )
    else:
        page.wait_for_selector("text=It served no token, so nothing can be said")
    assert notebook.errors == []

    model = lab.load("planted:routing", engine="torch")
    view = experts(
        model.trace(list(range(20)), record=("routing", "experts")), model.transformer.weights, model.tokenizer
    )
    exported = open_page(view)
    texts = exported.locator(".gl-promotes .gl-bar-text").all_inner_texts()
    assert texts == [text for text, _ in view.map.promoted["raised"] + view.map.promoted["lowered"]]
    assert exported.errors == []


def eval_text(notebook: Any, kind: str) -> str:
    return str(notebook.ask(f"view.map.promoted['{kind}'][0][0]"))[1:-1]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (420, "light")])
def test_as_a_page(open_page: Callable[..., Any], pictures: Path, width: int, scheme: str) -> None:
    page = open_page(page_view(), scheme, (width, 1200))
    gestures(page)
    page.get_by_label("Tokens by").select_option("place in the text")
    found = listed(page)
    assert found == sorted(found)
    assert bars(page) == 16
    assert_readable(page, ".gptoss")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out sideways"
    assert page.errors == []
    assert len(page.requests) == 1, f"a page fetches nothing but itself: {page.requests}"
    page.screenshot(path=pictures / f"experts-page-{width}-{scheme}.png", full_page=True)


def test_four_thousand_tokens_of_the_large_shape(open_page: Callable[..., Any], pictures: Path) -> None:
    page = open_page(experts(traces.long(4000)), size=(1400, 1100))
    assert page.locator(".gl-served-row").count() < 60, "only the rows in view are drawn"
    hover = hover_ms(page, ".gl-cell")
    load = load_ms(page)
    print(f"load {load:.0f} ms, hover {hover:.0f} ms")
    assert hover < 50
    assert load < 1000
    page.locator(".gl-served").evaluate("list => list.scrollTop = 5000")
    page.screenshot(path=pictures / "experts-page-4000-tokens.png", full_page=True)


def test_hostile_text_is_text(open_notebook: Callable[..., Any], open_page: Callable[..., Any]) -> None:
    from test_views import SCRIPT, hostile

    trace = hostile()
    view = experts(trace)
    view.expert = (0, int(trace.expert_indices[0, 5, 0]))
    page = open_page(view)
    page.locator(".gl-served-row[data-position='5']").click()
    assert page.locator(".gl-served-row[data-position='5'] b").inner_text() == SCRIPT
    assert SCRIPT in page.locator(".gl-served-pane .gl-readout").inner_text()
    assert "a⟨U+202E⟩b" in page.locator(".gl-served").inner_text()
    assert_nothing_ran(page)
    assert page.errors == []

    notebook = open_notebook(
        "import test_views, gptoss_lab as lab\nview = lab.views.experts(test_views.hostile())\nview.pinned = 5\nview"
    )
    notebook.page.evaluate(WATCH_ALERTS)
    notebook.run_all()
    notebook.page.wait_for_selector(".gl-served-row")
    assert SCRIPT in notebook.page.locator(".gl-served-pane .gl-readout").inner_text()
    assert_nothing_ran(notebook.page)
    assert notebook.errors == []
