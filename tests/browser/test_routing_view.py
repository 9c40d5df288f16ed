"""The routing view, in a real JupyterLab and as an exported page: the same gestures do the same things."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import traces
from looking import WATCH_ALERTS, assert_nothing_ran, assert_readable

from gptoss_lab.analyses.routing import weight_entropy
from gptoss_lab.views import routing
from gptoss_lab.views.plain_text import as_token

pytestmark = pytest.mark.browser

VIEW = "import traces, gptoss_lab as lab\nview = lab.views.routing(traces.conversation())\nview"
TRACE = traces.conversation()
CARRY = TRACE.texts.index(" carry")


def token(page: Any, position: int) -> Any:
    return page.locator(".gl-token").nth(position)


def cell(page: Any, layer: int, expert: int, n_experts: int = 8) -> Any:
    return page.locator(".gl-cell").nth(layer * n_experts + expert)


def weights_on_map(page: Any) -> np.ndarray:
    """The numbers in the map's cells, [layer, expert]; 0 where a cell is empty."""
    texts = page.locator(".gl-cell").all_inner_texts()
    return np.array([float(text or 0) for text in texts]).reshape(TRACE.n_layers, TRACE.n_experts)


def likeliest(position: int) -> list[str]:
    """The lines of a token's tip that name its alternatives."""
    texts, logprobs = TRACE.alternative_texts[position], TRACE.alternative_logprobs[position]  # type: ignore[index]
    return [
        line
        for text, logprob in zip(texts, logprobs, strict=True)
        for line in (text.replace(" ", "␣"), f"{100 * np.exp(logprob):.1f} %")
    ]


def gestures(page: Any) -> None:
    """Everything that the strip and the map answer to, wherever they are; begins and ends with nothing pinned."""
    # With nothing pinned: the sum over what is on show.
    content = np.array([span.section == "content" for span in TRACE.spans])
    np.testing.assert_allclose(weights_on_map(page), TRACE.dense_weights()[:, content].sum(axis=1), atol=0.051)
    # Hovering reads a token.
    token(page, CARRY).hover()
    tip = page.locator(".gl-tip")
    probability = 100 * np.exp(TRACE.logprobs[CARRY])
    assert tip.inner_text().splitlines() == [
        "␣carry",
        f"id {TRACE.token_ids[CARRY]} at position {CARRY}",
        "assistant, analysis",
        f"Sampled with probability {probability:.1f} %.",
        "Likeliest here:",
        *likeliest(CARRY),
    ]
    token(page, 0).hover()
    assert tip.inner_text().splitlines()[2:] == ["system, control token", "Given, not sampled."]
    # Clicking pins it, and the map shows its weights.
    token(page, CARRY).click()
    assert page.locator(".gl-map-pane h4").inner_text() == "Experts of the token ␣carry"
    np.testing.assert_allclose(weights_on_map(page), TRACE.dense_weights()[:, CARRY], atol=0.0051)
    # Arrow keys move the pin; down and up by a line.
    pinned = page.locator(".gl-pinned")
    page.keyboard.press("ArrowRight")
    assert pinned.text_content() == TRACE.texts[CARRY + 1]
    page.keyboard.press("ArrowLeft")
    top = pinned.bounding_box()["y"]
    page.keyboard.press("ArrowDown")
    assert pinned.bounding_box()["y"] > top
    page.keyboard.press("ArrowUp")
    assert pinned.bounding_box()["y"] == top
    page.keyboard.press("Home")
    assert pinned.inner_text() == "<|start|>"
    # Escape lets go.
    page.keyboard.press("Escape")
    assert pinned.count() == 0
    selections(page)
    assert "whole conversation" in page.locator(".gl-map-pane h4").inner_text()
    # A click on a cell marks the tokens that the expert served: in layer 0, expert 0 serves digits.
    cell(page, 0, 0).click()
    assert page.locator(".gl-strip-pane h4").inner_text() == "Tokens by their weight for expert 0 of layer 0"
    served = page.locator(".gl-token.gl-weight").all_text_contents()
    assert served == [text for text in TRACE.texts if re.search(r"\d", text)]
    page.keyboard.press("ArrowRight")
    assert "expert 1 of layer 0" in page.locator(".gl-strip-pane h4").inner_text()
    page.keyboard.press("Escape")
    assert page.locator(".gl-token.gl-weight").count() == 0


def selections(page: Any) -> None:
    """Ranges of tokens: by shift-click, shift-arrow and dragging; the map sums over them."""

    def check(start: int, end: int) -> None:
        assert page.locator(".gl-selected").all_text_contents() == [as_token(text) for text in TRACE.texts[start:end]]
        assert page.locator(".gl-map-pane h4").inner_text() == "Experts of the selected tokens"
        np.testing.assert_allclose(weights_on_map(page), TRACE.dense_weights()[:, start:end].sum(axis=1), atol=0.051)

    token(page, CARRY).click()
    token(page, CARRY - 3).click(modifiers=["Shift"])
    check(CARRY - 3, CARRY + 1)
    page.keyboard.press("Shift+ArrowRight")
    check(CARRY - 2, CARRY + 1)
    for _ in range(4):
        page.keyboard.press("Shift+ArrowRight")
    check(CARRY, CARRY + 3)
    assert page.locator(".gl-pinned").text_content() == TRACE.texts[CARRY], "the end that does not move stays pinned"
    page.keyboard.press("ArrowRight")
    assert page.locator(".gl-selected").count() == 0
    assert page.locator(".gl-pinned").text_content() == as_token(TRACE.texts[CARRY + 3])
    token(page, CARRY + 2).hover()
    page.mouse.down()
    token(page, CARRY + 3).hover()
    token(page, CARRY + 6).hover()
    page.mouse.up()
    check(CARRY + 2, CARRY + 7)
    page.keyboard.press("Escape")
    assert page.locator(".gl-selected, .gl-pinned").count() == 0


def test_in_a_notebook(open_notebook: Callable[..., Any], pictures: Path) -> None:
    notebook = open_notebook(VIEW, "a_cell_below = True", size=(1280, 1200))
    notebook.run_all()
    page = notebook.page
    page.wait_for_selector(".gl-token")
    page.wait_for_selector(".js-plotly-plot .bars .point")
    page.locator(".jp-Cell").first.click()
    gestures(page)
    token(page, CARRY).click()
    page.keyboard.press("b")  # in a notebook: a new cell below
    page.keyboard.press("Escape")
    assert page.locator(".jp-CodeCell").count() == 2, "keys pressed in the strip are not the notebook's"

    # The kernel follows what is clicked.
    token(page, CARRY).click()
    notebook.wait_until("view.pinned", str(CARRY))
    cell(page, 2, 5).click()
    notebook.wait_until("view.cell", "(2, 5)")
    token(page, CARRY + 4).click(modifiers=["Shift"])
    notebook.wait_until("view.selection", f"({CARRY}, {CARRY + 5})")
    page.get_by_role("button", name="final", exact=True).click()
    notebook.wait_until("view.channel", "'final'")
    page.wait_for_function("document.querySelectorAll('.gl-title').length === 1")

    # The page follows what the kernel sets.
    changes = {"channel": None, "selection": None, "pinned": 3, "cell": None}
    notebook.ask(" or ".join(f"setattr(view, {name!r}, {value!r})" for name, value in changes.items()))
    page.wait_for_function("document.querySelector('.gl-pinned')?.id.endsWith('-3')")
    page.wait_for_function("document.querySelectorAll('.gl-title').length === 4")
    colours(page)
    notebook.ask("setattr(view, 'colour', 'margin') or setattr(view, 'layer', 1)")
    page.wait_for_function("document.querySelector('.gl-strip-pane h4').innerText.endsWith('router margin, layer 1')")
    notebook.ask("setattr(view, 'colour', 'channel')")

    # The menus of the chart.
    heights = "[...document.querySelectorAll('.bars .point path')].map((bar) => bar.getBBox().height)"
    before = page.evaluate(heights)
    page.locator(".gl-load select").select_option("layer 1")
    page.wait_for_function(f"before => String({heights}) !== String(before)", arg=before)
    notebook.wait_until("view.chart.layer.value", "1")

    # The chart is as wide as its place.
    chart_width = "document.querySelector('.js-plotly-plot .main-svg').getBoundingClientRect().width"
    assert page.evaluate(chart_width) > 900
    page.evaluate("document.querySelector('.gl-load').parentElement.style.width = '640px'")
    page.wait_for_function(f"{chart_width} <= 640")
    page.evaluate("document.querySelector('.gl-load').parentElement.style.width = ''")
    page.wait_for_function(f"{chart_width} > 900")

    assert_readable(page, ".jp-OutputArea .gptoss")
    assert notebook.errors == []
    page.screenshot(path=pictures / "routing-notebook-light.png")


def colours(page: Any) -> None:
    """The menu of colours, in either host: each says what it means, and what a token's value is."""

    def wait_for_title(title: str) -> None:
        page.wait_for_function("t => document.querySelector('.gl-strip-pane h4').innerText === t", arg=title)

    page.get_by_label("Colour by").select_option("surprisal")
    wait_for_title("Tokens by surprisal")
    legend = page.locator(".gl-strip-pane .gl-ramp")
    assert legend.inner_text().splitlines() == [
        "0 nats: certain",
        "6.9 nats or more: one chance in 1,000, or less",
        "not known",
    ]
    coloured = [text for text, logprob in zip(TRACE.texts, TRACE.logprobs, strict=True) if not np.isnan(logprob)]
    assert page.locator(".gl-token.gl-weight").all_text_contents() == [as_token(text) for text in coloured]
    token(page, CARRY).hover()
    assert f"Surprisal: {-TRACE.logprobs[CARRY]:#.3g} nats." in page.locator(".gl-tip").inner_text()
    page.get_by_label("Colour by").select_option("routing entropy")
    wait_for_title("Tokens by routing entropy, mean over all layers")
    page.get_by_label("Layer").first.select_option("layer 1")
    wait_for_title("Tokens by routing entropy, layer 1")
    token(page, CARRY + 1).hover()
    token(page, CARRY).hover()
    assert f"{weight_entropy(TRACE)[1, CARRY]:#.3g} nats, layer 1." in page.locator(".gl-tip").inner_text()
    assert page.locator(".gl-token.gl-weight").count() == len(TRACE.texts)


def test_a_dark_notebook(open_notebook: Callable[..., Any], pictures: Path) -> None:
    notebook = open_notebook(VIEW, size=(900, 1500))
    notebook.run_all()
    page = notebook.page
    page.wait_for_selector(".js-plotly-plot .bars .point")
    ink = "getComputedStyle(document.querySelector('.gl-strip-pane h4')).color"
    light = page.evaluate(ink)
    notebook.use_theme("JupyterLab Dark")
    assert page.evaluate(ink) != light
    token(page, CARRY).click()
    cell(page, 0, 0).click()
    token(page, CARRY + 1).hover()
    assert_readable(page, ".jp-OutputArea .gptoss")
    for drawn, written in ((".xtick text", ".gl-aid"), (".legendtext", ".gl-load h4")):
        fill = page.evaluate("drawn => getComputedStyle(document.querySelector(drawn)).fill", drawn)
        assert fill == page.evaluate("written => getComputedStyle(document.querySelector(written)).color", written)
    assert notebook.errors == []
    page.screenshot(path=pictures / "routing-notebook-dark.png")


def test_tab_reaches_the_controls(open_notebook: Callable[..., Any]) -> None:
    notebook = open_notebook(VIEW)
    notebook.run_all()
    page = notebook.page
    page.wait_for_selector(".js-plotly-plot .bars .point")
    page.get_by_role("button", name="Everything").first.focus()
    reached = []
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.textContent.slice(0, 8) + document.activeElement.className")
        )
    assert any("gl-strip" in each for each in reached)
    assert any("gl-map" in each for each in reached)
    assert any(each.startswith("tokens s") for each in reached), reached


def test_as_a_page(open_page: Callable[..., Any], pictures: Path) -> None:
    page = open_page(routing(TRACE))
    gestures(page)
    page.get_by_label("Channel", exact=True).select_option("final")
    page.get_by_label("Show").select_option("Reply")
    assert page.locator(".gl-title").count() == 1
    assert page.locator(".gl-map-pane h4").inner_text() == "Experts of the reply, channel “final”"
    page.get_by_label("Role").select_option("system")
    assert page.locator(".gl-token").count() == 0
    assert "no content tokens" in page.locator(".gl-map-pane .gl-aid").inner_text()
    for menu, choice in (("Show", "Everything"), ("Role", "All"), ("Channel", "All")):
        page.get_by_label(menu, exact=True).select_option(choice)
    colours(page)
    page.get_by_label("Colour by").select_option("channel")
    bars = page.locator(".bars .point path")
    before = [bar.bounding_box()["height"] for bar in bars.all()]
    layer, measure = page.locator(".gl-load select").all()
    layer.select_option("layer 2")
    measure.select_option("router weight")
    page.wait_for_function("document.querySelector('.gl-load .gl-aid').textContent.includes('layer 2')")
    assert [bar.bounding_box()["height"] for bar in bars.all()] != before
    assert_readable(page, ".gptoss")
    assert page.errors == []
    assert len(page.requests) == 1, f"a page fetches nothing but itself: {page.requests}"
    page.screenshot(path=pictures / "routing-page-light.png", full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_numbers_on_every_weight_are_readable(open_page: Callable[..., Any], scheme: str) -> None:
    page = open_page(routing(TRACE), scheme)
    page.evaluate(
        """() => document.querySelectorAll(".gl-cell").forEach((cell, index, all) => {
            cell.classList.add("gl-weight");
            cell.textContent = "0.5";
            cell.style.setProperty("--gl-weight", index / (all.length - 1));
        })"""
    )
    assert_readable(page, ".gl-map")
    turn = float(page.evaluate("getComputedStyle(document.querySelector('.gl-map')).getPropertyValue('--gl-turn')"))
    for weight in (turn - 0.0001, turn + 0.0001):
        page.evaluate(
            "w => document.querySelectorAll('.gl-cell').forEach(c => c.style.setProperty('--gl-weight', w))", weight
        )
        assert_readable(page, ".gl-map")


@pytest.mark.parametrize(("width", "scheme"), [(420, "dark"), (420, "light"), (1280, "dark")])
def test_a_page_in_other_widths_and_colours(
    open_page: Callable[..., Any], pictures: Path, width: int, scheme: str
) -> None:
    view = routing(TRACE)
    view.pinned = CARRY
    page = open_page(view, scheme, (width, 900))
    assert page.locator(".gl-pinned").text_content() == " carry", "a page opens as the view stood"
    cell(page, 0, 0).click()
    token(page, CARRY).hover()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out sideways"
    assert_readable(page, ".gptoss")
    page.screenshot(path=pictures / f"routing-page-{width}-{scheme}.png", full_page=True)


WAITS = """
async () => {
    const strip = document.querySelector(".gl-strip");
    const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    const waits = { hover: [], scroll: [], pin: [] };
    const time = async (name, act) => {
        const before = performance.now();
        act();
        await painted();
        waits[name].push(performance.now() - before);
    };
    const middle = () => {
        const all = [...strip.querySelectorAll(".gl-token")];
        return all[Math.floor(all.length / 2)];
    };
    for (let step = 0; step < 20; step++) {
        await time("scroll", () => (strip.scrollTop = (step * strip.scrollHeight) / 20));
        await time("hover", () => middle().dispatchEvent(new PointerEvent("pointerover", { bubbles: true })));
        await time("pin", () => middle().click());
    }
    return { waits, drawn: strip.querySelectorAll(".gl-token").length };
}
"""


def test_four_thousand_tokens_of_the_large_shape(open_page: Callable[..., Any], pictures: Path) -> None:
    page = open_page(routing(traces.long(4000)), size=(1400, 1000))
    painted = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    found = page.evaluate(WAITS)
    medians = {name: float(np.median(waits)) for name, waits in found["waits"].items()}
    print(f"first paint {painted:.0f} ms, {medians} ms, {found['drawn']} tokens drawn")
    assert found["drawn"] < 1500, "only rows in view are drawn"
    # On a machine that does nothing else: a first paint under 1,000 ms, a hover under 50.
    assert max(medians.values()) < 1000
    assert painted < 10_000
    page.keyboard.press("End")
    assert page.locator(".gl-pinned").text_content() == " done"
    page.keyboard.press("Home")
    assert page.locator(".gl-pinned").text_content() == "<|start|>"
    cell(page, 3, 7, 32).click()
    page.screenshot(path=pictures / "routing-page-4000-tokens.png", full_page=True)


HOSTILE = "import test_views, gptoss_lab as lab\nview = lab.views.routing(test_views.hostile())\nview"


def test_hostile_text_is_text(open_notebook: Callable[..., Any], open_page: Callable[..., Any], pictures: Path) -> None:
    from test_views import ROLE, SCRIPT, hostile

    page = open_page(routing(hostile()))
    token(page, 5).click()
    assert token(page, 5).inner_text() == SCRIPT
    assert token(page, 6).inner_text() == "a⟨U+202E⟩b"
    assert page.locator(".gl-title b").first.inner_text() == f"assistant, {SCRIPT}, to {ROLE.replace(' ', '␣')}"
    assert page.get_by_label("Channel", exact=True).locator("option").all_inner_texts() == ["All", SCRIPT]
    assert f"{SCRIPT} (6 tokens)" in page.locator(".legend").text_content()
    page.locator(".bars .point").first.hover(force=True)
    assert_nothing_ran(page)
    assert page.errors == []
    page.screenshot(path=pictures / "hostile-page.png", full_page=True)

    notebook = open_notebook(HOSTILE)
    notebook.page.evaluate(WATCH_ALERTS)
    notebook.run_all()
    notebook.page.wait_for_selector(".js-plotly-plot .bars .point")
    assert notebook.page.get_by_role("button", name=SCRIPT).count() == 1
    notebook.page.get_by_role("button", name=SCRIPT).click()
    notebook.wait_until("view.channel", repr(SCRIPT))
    notebook.page.locator(".bars .point").first.hover(force=True)
    assert_nothing_ran(notebook.page)
    assert notebook.errors == []
