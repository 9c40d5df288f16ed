"""The lens view, in a real JupyterLab and as an exported page: the same gestures do the same things."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lensed
import numpy as np
import pytest
import traces
from looking import WATCH_ALERTS, assert_nothing_ran, assert_readable, hover_ms, load_ms

from gptoss_lab.views import lens
from gptoss_lab.views.plain_text import quoted

pytestmark = pytest.mark.browser

VIEW = "import lensed, gptoss_lab as lab\nview = lab.views.lens(lensed.conversation())\nview"
TRACE = lensed.conversation()
CARRY = TRACE.texts.index(" carry")
LAST = len(TRACE.lens_points) - 1


def cell(page: Any, position: int, point: int) -> Any:
    return page.locator(f"[data-position='{position}'] [data-point='{point}']")


def guess_of(position: int, point: int, choice: int = 0) -> str:
    assert TRACE.lens_tokens is not None
    return quoted(TRACE.lens_texts[int(TRACE.lens_tokens[point, position, choice])])


def gestures(page: Any) -> None:
    """Everything that the view answers to, wherever it is; begins and ends with nothing pinned."""
    assert TRACE.lens_logprobs is not None
    assert TRACE.lens_rank is not None
    # A row says what was read, what would be said at each layer's end, and what came.
    row = page.locator(f"[data-position='{CARRY}'] > span").all_inner_texts()
    expected = [guess_of(CARRY, point) for point in range(0, LAST + 1, 2)]
    assert row == ["␣carry", *expected, quoted(TRACE.texts[CARRY + 1])]
    assert "gl-right" in cell(page, CARRY, LAST).get_attribute("class")
    # Pointing at a cell reads its guesses.
    cell(page, CARRY, 2).hover()
    pane = page.locator(".gl-guess-pane")
    assert pane.locator("h4").inner_text() == "After reading ␣carry"
    assert "after layer 0" in pane.locator(".gl-aid").inner_text()
    texts = pane.locator(".gl-bar-text").all_inner_texts()
    assert texts == [guess_of(CARRY, 2, choice) for choice in range(5)]
    shares = [float(text.split()[0]) for text in pane.locator(".gl-bar > span:last-child").all_inner_texts()]
    np.testing.assert_allclose(shares, 100 * np.exp(TRACE.lens_logprobs[2, CARRY]), atol=0.06)
    rank = int(TRACE.lens_rank[2, CARRY])
    facts = pane.locator(".gl-readout").inner_text()
    assert ("the likeliest here" in facts) if rank == 0 else (f"{rank} token" in facts)
    # Clicking keeps them, and arrows walk.
    cell(page, CARRY, 2).click()
    assert page.locator(".gl-picked").inner_text() == guess_of(CARRY, 2)
    page.keyboard.press("ArrowRight")
    page.locator(".gl-guess-pane h4").hover()
    assert page.locator(".gl-picked").inner_text() == guess_of(CARRY, 4)
    assert "after layer 1" in pane.locator(".gl-aid").inner_text()
    page.keyboard.press("ArrowDown")
    assert page.locator(".gl-picked").inner_text() == guess_of(CARRY + 1, 4)
    page.keyboard.press("End")
    assert page.locator(".gl-lens-row.gl-pinned .gl-read").inner_text() == quoted(TRACE.texts[-1])
    assert "What came next is not known." in pane.locator(".gl-readout").inner_text()
    page.keyboard.press("Home")
    page.wait_for_function("document.querySelector('.gl-lens-row.gl-pinned').dataset.position === '0'")
    page.keyboard.press("Escape")
    assert page.locator(".gl-picked, .gl-lens-row.gl-pinned").count() == 0
    assert "Point at a cell" in pane.inner_text()


def strengths(page: Any, point: int) -> list[float]:
    return list(
        page.locator(f"[data-position] [data-point='{point}']").evaluate_all(
            "all => all.map(cell => parseFloat(cell.style.getPropertyValue('--gl-weight')))"
        )
    )


def test_in_a_notebook(open_notebook: Callable[..., Any], pictures: Path) -> None:
    notebook = open_notebook(VIEW, size=(1280, 1000))
    notebook.run_all()
    page = notebook.page
    page.wait_for_selector(".gl-lens-row[data-position]")
    page.locator(".jp-Cell").first.click()
    cell(page, CARRY, 2).scroll_into_view_if_needed()
    gestures(page)
    # The kernel follows what is clicked.
    page.locator(".gl-lens-grid").evaluate("grid => grid.scrollTop = 24 * 30")
    cell(page, CARRY, 4).click()
    notebook.wait_until("(view.pinned, view.point)", f"({CARRY}, 4)")
    page.get_by_role("button", name="rank of what came next").click()
    notebook.wait_until("view.colour", "'rank'")
    page.get_by_role("button", name="after attention too").click()
    page.wait_for_function(f"document.querySelectorAll('.gl-lens-head .gl-guess').length === {LAST + 1}")
    # The page follows what the kernel sets.
    notebook.ask("setattr(view, 'detail', 'layers') or setattr(view, 'point', 0) or setattr(view, 'pinned', 5)")
    page.wait_for_function("document.querySelector('.gl-lens-row.gl-pinned')?.dataset.position === '5'")
    page.wait_for_function(f"document.querySelectorAll('.gl-lens-head .gl-guess').length === {LAST // 2 + 1}")
    assert_readable(page, ".jp-OutputArea .gptoss")
    page.screenshot(path=pictures / "lens-notebook-light.png")
    notebook.use_theme("JupyterLab Dark")
    assert_readable(page, ".jp-OutputArea .gptoss")
    page.screenshot(path=pictures / "lens-notebook-dark.png")
    assert notebook.errors == []
    page.get_by_role("button", name="after each layer").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert "gl-lens-grid" in page.evaluate("document.activeElement.className")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (420, "light")])
def test_as_a_page(open_page: Callable[..., Any], pictures: Path, width: int, scheme: str) -> None:
    page = open_page(lens(TRACE), scheme, (width, 900))
    cell(page, CARRY, 2).scroll_into_view_if_needed()
    gestures(page)
    page.locator(".gl-lens-grid").evaluate("grid => grid.scrollTop = 0")
    sure = strengths(page, LAST)
    assert np.mean(sure) > 0.9
    page.get_by_label("Colour by").select_option("entropy")
    assert np.mean(strengths(page, LAST)) > 0.8 > 0.3 > np.mean(strengths(page, 0))
    page.get_by_label("Colour by").select_option("rank of what came next")
    assert strengths(page, LAST)[0] == 1
    page.get_by_label("Points").select_option("after attention too")
    assert page.locator(".gl-lens-head .gl-guess").count() == LAST + 1
    assert_readable(page, ".gptoss")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out sideways"
    # A cell that is reached by key is in view, between the columns that stay.
    cell(page, 3, 0).click()
    for _ in range(LAST):
        page.keyboard.press("ArrowRight")
    picked = page.locator(".gl-picked").bounding_box()
    following = page.locator("[data-position='3'] .gl-next").bounding_box()
    assert picked["x"] + picked["width"] <= following["x"] + 1
    assert page.errors == []
    assert len(page.requests) == 1, f"a page fetches nothing but itself: {page.requests}"
    page.screenshot(path=pictures / f"lens-page-{width}-{scheme}.png", full_page=True)


def test_four_thousand_tokens_of_the_large_shape(open_page: Callable[..., Any], pictures: Path) -> None:
    view = lens(lensed.with_lens(traces.long(4000, 2, 4, 2), n_layers=24))
    view.detail = "all"
    page = open_page(view, size=(1400, 900))
    load = load_ms(page)
    hover = hover_ms(page, ".gl-rows .gl-guess")
    print(f"load {load:.0f} ms, hover {hover:.0f} ms")
    assert hover < 50
    assert load < 1000
    assert page.locator(".gl-lens-row").count() < 100, "only the rows in view are drawn"
    page.locator(".gl-lens-grid").evaluate("grid => grid.scrollTop = 24 * 3000")
    page.wait_for_selector("[data-position='3005']")
    page.screenshot(path=pictures / "lens-page-4000-tokens.png", full_page=True)


def test_hostile_text_is_text(open_notebook: Callable[..., Any], open_page: Callable[..., Any]) -> None:
    from test_views import SCRIPT, hostile

    page = open_page(lens(lensed.with_lens(hostile())))
    cell(page, 4, 0).click()
    assert page.locator("[data-position='5'] .gl-read").inner_text() == SCRIPT
    assert page.locator("[data-position='4'] .gl-next").inner_text() == SCRIPT
    assert "a⟨U+202E⟩b" in page.locator(".gl-lens-grid").inner_text()
    assert_nothing_ran(page)
    assert page.errors == []

    notebook = open_notebook(
        "import lensed, test_views, gptoss_lab as lab\n"
        "view = lab.views.lens(lensed.with_lens(test_views.hostile()))\nview.pinned = 5\nview"
    )
    notebook.page.evaluate(WATCH_ALERTS)
    notebook.run_all()
    notebook.page.wait_for_selector(".gl-lens-row.gl-pinned")
    assert SCRIPT in notebook.page.locator(".gl-guess-pane h4").inner_text()
    assert_nothing_ran(notebook.page)
    assert notebook.errors == []
