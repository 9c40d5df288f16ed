"""The attention view, in a real JupyterLab and as an exported page: the same gestures do the same things."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attentive
import numpy as np
import pytest
import traces
from looking import WATCH_ALERTS, assert_nothing_ran, assert_readable, hover_ms, load_ms

from gptoss_lab.views import attention

pytestmark = pytest.mark.browser

VIEW = """import attentive, gptoss_lab as lab
view = lab.views.attention(attentive.conversation())
view.head = (1, 0)
view"""
TRACE = attentive.conversation()
CARRY = TRACE.texts.index(" carry")
N = len(TRACE.token_ids)


def page_view() -> Any:
    view = attention(TRACE)
    view.head = (1, 0)
    return view


def token(page: Any, position: int) -> Any:
    return page.locator(f".gl-token[id$='-{position}']")


def small_head(page: Any, layer: int, head: int, n_heads: int = 4) -> Any:
    return page.locator(".gl-small-head").nth(layer * n_heads + head)


def point_at(page: Any, reader: int, key: int) -> str:
    """What the large picture says where a token reads another."""
    box = page.locator(".gl-pattern").bounding_box()
    page.mouse.move(
        box["x"] + (key + 0.5) / N * box["width"],
        box["y"] + (reader + 0.5) / N * box["height"],
    )
    return str(page.locator(".gl-large-pane .gl-readout").inner_text())


def painted(page: Any, selector: str) -> int:
    """How many colours a canvas holds."""
    return int(
        page.evaluate(
            """(selector) => {
                const canvas = document.querySelector(selector);
                const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                return new Set(new Uint32Array(data.buffer)).size;
            }""",
            selector,
        )
    )


def gestures(page: Any) -> None:
    """Everything that the view answers to, wherever it is; begins and ends with layer 1, head 0 and nothing pinned."""
    assert TRACE.patterns is not None
    assert TRACE.sinks is not None
    page.wait_for_function("document.querySelector('.gl-pattern').width > 1")
    assert painted(page, ".gl-small-head canvas") > 10
    assert painted(page, ".gl-pattern") > 10
    # Layers say how far they see; heads how much goes to the sink.
    layers = page.locator(".gl-layer").all_inner_texts()
    assert [words.split("\n")[1] for words in layers] == [f"window {attentive.WINDOW}", "sees all"] * 2
    small_head(page, 2, 3).hover()
    shown = page.locator(".gl-grid-pane .gl-readout").inner_text()
    assert shown == (
        f"Layer 2, head 3: sees the last {attentive.WINDOW} tokens; "
        f"{100 * TRACE.sinks[2, 3].mean():.1f} % of its attention goes to the sink."
    )
    # The large picture tells what it shows: a strong read, one too weak to be kept, what comes later, the sink.
    share = TRACE.patterns[1, 0, CARRY, CARRY - 1]
    names = f"“␣carry” ({CARRY}) reads “{TRACE.texts[CARRY - 1].replace(' ', '␣')}” ({CARRY - 1})"
    assert point_at(page, CARRY, CARRY - 1) == f"{names}: {100 * share:.1f} %."
    weakest = int(TRACE.patterns[1, 0, N - 1, : N - 1].argmin())
    assert "less than 0." in point_at(page, N - 1, weakest)
    assert "it comes later" in point_at(page, 3, CARRY)
    page.locator(".gl-sink-column").hover(position={"x": 5, "y": 1})
    assert f"{100 * TRACE.sinks[1, 0, 0]:.1f} % to the sink" in page.locator(".gl-large-pane .gl-readout").inner_text()
    # Pointing at a token draws its arcs; clicking keeps them.
    token(page, CARRY).hover()
    assert page.locator(".gl-arcs path").count() >= 8
    assert page.locator(".gl-tip").inner_text().splitlines()[0] == "␣carry"
    token(page, CARRY).click()
    page.locator(".gl-large-pane h4").hover()
    assert page.locator(".gl-wide-pane h4").inner_text() == "What ␣carry reads"
    marked = page.locator(".gl-token.gl-weight").evaluate_all("all => all.map(t => +t.id.split('-').at(-1))")
    strongest = np.argsort(-TRACE.patterns[1, 0, CARRY])[:12]
    assert sorted(marked) == sorted(strongest.tolist())
    widths = page.locator(".gl-shares .gl-share").evaluate_all("all => all.map(s => s.getBoundingClientRect().width)")
    whole = page.locator(".gl-shares").bounding_box()["width"]
    assert widths[0] / whole == pytest.approx(TRACE.sinks[1, 0, CARRY], abs=0.04)
    assert widths[1] / whole == pytest.approx(share, abs=0.04)
    # Arrows walk; Escape lets go.
    page.locator(".gl-strip").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".gl-pinned").text_content() == TRACE.texts[CARRY + 1]
    assert page.locator(".gl-cross-row").is_visible()
    page.keyboard.press("Escape")
    assert page.locator(".gl-pinned").count() == 0
    assert page.locator(".gl-arcs path").count() == 0
    assert page.locator(".gl-token.gl-weight").count() == 0
    # A click on the picture pins the token that reads.
    point_at(page, CARRY, 2)
    page.mouse.down()
    page.mouse.up()
    assert page.locator(".gl-pinned").text_content() == " carry"
    # Another head: by click, and by key.
    small_head(page, 0, 3).click()
    page.wait_for_function("document.querySelector('.gl-large-pane h4').textContent === 'Layer 0, head 3'")
    page.wait_for_function("!document.querySelector('.gl-waiting')")
    assert float(page.locator(".gl-share-sink").inner_text().split()[1]) > 80
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("document.querySelector('.gl-large-pane h4').textContent === 'Layer 0, head 2'")
    page.keyboard.press("ArrowUp")
    assert page.locator(".gl-large-pane h4").inner_text() == "Layer 0, head 2"
    small_head(page, 1, 0).click()
    page.wait_for_function("!document.querySelector('.gl-waiting')")
    page.locator(".gl-strip").focus()
    page.keyboard.press("Escape")


def test_in_a_notebook(open_notebook: Callable[..., Any], pictures: Path) -> None:
    notebook = open_notebook(VIEW, size=(1280, 1500))
    notebook.run_all()
    page = notebook.page
    page.wait_for_selector(".gl-token")
    page.locator(".jp-Cell").first.click()
    gestures(page)
    # The kernel follows what is clicked.
    small_head(page, 2, 1).click()
    notebook.wait_until("view.head", "(2, 1)")
    token(page, CARRY).click()
    notebook.wait_until("view.pinned", str(CARRY))
    page.get_by_role("button", name="what reads it").click()
    notebook.wait_until("view.direction", "'read by'")
    page.wait_for_function("document.querySelector('.gl-wide-pane h4').textContent.startsWith('What reads')")
    # The page follows what the kernel sets.
    notebook.ask("setattr(view, 'head', (3, 0)) or setattr(view, 'pinned', 9) or setattr(view, 'direction', 'reads')")
    page.wait_for_function("document.querySelector('.gl-pinned')?.id.endsWith('-9')")
    page.wait_for_function("document.querySelector('.gl-large-pane h4').textContent === 'Layer 3, head 0'")
    page.wait_for_function("!document.querySelector('.gl-waiting')")
    assert_readable(page, ".jp-OutputArea .gptoss")
    token(page, CARRY).click()
    page.screenshot(path=pictures / "attention-notebook-light.png")
    # The other theme repaints the pictures.
    colour = "document.querySelector('.gl-pattern').getContext('2d').getImageData(0, 0, 1, 1).data.join()"
    light = page.evaluate(colour)
    notebook.use_theme("JupyterLab Dark")
    page.wait_for_function(f"{colour} !== '{light}'")
    assert_readable(page, ".jp-OutputArea .gptoss")
    assert notebook.errors == []
    page.screenshot(path=pictures / "attention-notebook-dark.png")
    # Tab reaches buttons, heads and tokens.
    page.get_by_role("button", name="what it reads").focus()
    reached = []
    for _ in range(5):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.className"))
    assert any("gl-heads" in each for each in reached)
    assert any("gl-strip" in each for each in reached)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (420, "dark")])
def test_as_a_page(open_page: Callable[..., Any], pictures: Path, width: int, scheme: str) -> None:
    page = open_page(page_view(), scheme, (width, 1300))
    gestures(page)
    page.get_by_label("Arcs to").select_option("what reads it")
    token(page, CARRY).click()
    assert page.locator(".gl-wide-pane h4").inner_text() == "What reads ␣carry"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out sideways"
    assert_readable(page, ".gptoss")
    assert page.errors == []
    assert len(page.requests) == 1, f"a page fetches nothing but itself: {page.requests}"
    page.screenshot(path=pictures / f"attention-page-{width}-{scheme}.png", full_page=True)


def test_four_thousand_tokens(open_page: Callable[..., Any], pictures: Path) -> None:
    trace = attentive.with_attention(traces.long(4000, 2, 4, 2), layers=(0, 1), heads=(0, 1))
    page = open_page(attention(trace), size=(1400, 1300))
    load = load_ms(page)
    hover = hover_ms(page, ".gl-token")
    print(f"load {load:.0f} ms, hover {hover:.0f} ms")
    assert hover < 50
    assert load < 1000
    page.locator(".gl-token").nth(200).click()
    page.screenshot(path=pictures / "attention-page-4000-tokens.png", full_page=True)


def test_hostile_text_is_text(open_notebook: Callable[..., Any], open_page: Callable[..., Any]) -> None:
    from test_views import SCRIPT, hostile

    page = open_page(attention(attentive.with_attention(hostile())))
    token(page, 10).click()
    page.locator(".gl-pattern").hover()
    token(page, 5).hover()
    assert token(page, 5).inner_text() == SCRIPT
    assert SCRIPT in page.locator(".gl-wide-pane h4").inner_text()
    assert "a⟨U+202E⟩b" in page.locator(".gl-strip").inner_text()
    assert_nothing_ran(page)
    assert page.errors == []

    notebook = open_notebook(
        "import attentive, test_views, gptoss_lab as lab\n"
        "view = lab.views.attention(attentive.with_attention(test_views.hostile()))\nview.pinned = 5\nview"
    )
    notebook.page.evaluate(WATCH_ALERTS)
    notebook.run_all()
    notebook.page.wait_for_selector(".gl-arcs path", state="attached")
    assert SCRIPT in notebook.page.locator(".gl-wide-pane h4").inner_text()
    assert_nothing_ran(notebook.page)
    assert notebook.errors == []
