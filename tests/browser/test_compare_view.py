"""The comparing view, in a real JupyterLab and as an exported page."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_comparing as without
import traces
from looking import assert_nothing_ran, assert_readable

from gptoss_lab.analyses.routing import flips
from gptoss_lab.views import compare

pytestmark = pytest.mark.browser

VIEW = """
import traces, gptoss_lab as lab
trace = traces.conversation()
view = lab.views.compare(trace, traces.rerouted(trace))
view
"""
TRACE, OTHER = without.TRACE, without.OTHER
TABLE = flips(TRACE, OTHER)
FLIPPED = int(TABLE[TABLE.position >= TRACE.n_prompt].position.iloc[0])


def weights_on_maps(page: Any) -> np.ndarray:
    """The numbers in the cells, [map, layer, expert]; 0 where a cell is empty."""
    texts = page.locator(".gl-cell").all_inner_texts()
    return np.array([float(text.replace("−", "-") or 0) for text in texts]).reshape(3, TRACE.n_layers, TRACE.n_experts)


def token(page: Any, position: int) -> Any:
    return page.locator(".gl-token").nth(position)


def gestures(page: Any) -> None:
    """What the strip, the maps and the list answer to, in either host; ends with a token and a cell chosen."""
    content = np.array([span.section == "content" for span in TRACE.spans])
    sums = [trace.dense_weights()[:, content].sum(axis=1) for trace in (TRACE, OTHER)]
    np.testing.assert_allclose(weights_on_maps(page), [*sums, sums[1] - sums[0]], atol=0.051)
    token(page, FLIPPED).hover()
    tip = page.locator(".gl-tip").inner_text()
    assert f"Probability in the second run: {100 * np.exp(OTHER.logprobs[FLIPPED]):.1f} %." in tip
    layers = TABLE[TABLE.position == FLIPPED].layer.nunique()
    assert f"Layers that choose other experts: {layers} of 4." in tip

    token(page, FLIPPED).click()
    one, other = TRACE.dense_weights()[:, FLIPPED], OTHER.dense_weights()[:, FLIPPED]
    np.testing.assert_allclose(weights_on_maps(page), [one, other, other - one], atol=0.0051)
    rows = page.locator(".gl-flips tbody tr").all()
    expected = TABLE[TABLE.position == FLIPPED]
    assert len(rows) == len(expected)
    for layer, left, joined, margin, other_margin in expected[
        ["layer", "left", "joined", "margin", "other_margin"]
    ].itertuples(index=False):
        line = f"{layer}\t{left} → {joined}\t{margin:.3f}\t{other_margin:.3f}"
        assert any(line in row.inner_text() for row in rows), line
    rings = page.locator(".gl-cell.gl-ringed").evaluate_all(
        "all => all.map((cell) => [...document.querySelectorAll('.gl-cell')].indexOf(cell))"
    )
    size = TRACE.n_layers * TRACE.n_experts
    left = {int(layer * TRACE.n_experts + expert) for layer, expert in zip(expected.layer, expected.left, strict=True)}
    joined = {int(lay * TRACE.n_experts + expert) for lay, expert in zip(expected.layer, expected.joined, strict=True)}
    assert set(rings) == left | {size + each for each in joined} | {2 * size + each for each in left | joined}

    page.keyboard.press("Escape")
    assert page.locator(".gl-pinned, .gl-cell.gl-ringed").count() == 0
    assert page.locator(".gl-flips tbody tr").count() == min(200, int((content[TABLE.position]).sum()))
    button = page.locator(".gl-flips button").first
    button.focus()
    page.keyboard.press("Enter")


def test_in_a_notebook(open_notebook: Callable[..., Any], pictures: Path) -> None:
    notebook = open_notebook(VIEW, size=(1280, 1300))
    notebook.run_all()
    page = notebook.page
    page.wait_for_selector(".gl-token")
    gestures(page)
    largest = TABLE.assign(largest=TABLE[["margin", "other_margin"]].max(axis=1))
    content = [TRACE.spans[place].section == "content" for place in largest.position]
    first = largest[content].sort_values("largest", ascending=False, kind="stable").iloc[0]
    notebook.wait_until("view.cell", f"({first.layer}, {first.joined})")
    notebook.wait_until("view.pinned", str(first.position))
    notebook.ask("setattr(view, 'colour', 'moved') or setattr(view, 'layer', 2)")
    page.wait_for_function("document.querySelector('h4').innerText.endsWith('that moved, layer 2')")
    assert_readable(page, ".jp-OutputArea .gptoss")
    assert notebook.errors == []
    page.screenshot(path=pictures / "compare-notebook-light.png")
    notebook.use_theme("JupyterLab Dark")
    assert_readable(page, ".jp-OutputArea .gptoss")
    page.screenshot(path=pictures / "compare-notebook-dark.png")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_as_a_page(open_page: Callable[..., Any], pictures: Path, scheme: str) -> None:
    page = open_page(compare(TRACE, OTHER), scheme)
    gestures(page)
    assert_readable(page, ".gptoss")
    assert page.errors == []
    assert len(page.requests) == 1
    page.screenshot(path=pictures / f"compare-page-{scheme}.png", full_page=True)


def test_two_texts_stand_side_by_side(open_page: Callable[..., Any], pictures: Path) -> None:
    other = without.another_text()
    page = open_page(compare(TRACE, other))
    strips = page.locator(".gl-strip")
    assert strips.count() == 2
    carry = TRACE.texts.index(" carry")
    second = strips.nth(1).locator(".gl-token")
    second.nth(carry - 1).click()
    pinned = page.locator(".gl-pinned").evaluate_all("all => all.map((token) => token.id.split('-').at(-1))")
    assert pinned == [str(carry - 1)] * 2, "a token is pinned in both runs"
    assert strips.nth(0).locator(".gl-weight").count() == carry, "what is not compared has no colour"
    second.nth(carry).click()
    pinned = page.locator(".gl-pinned").evaluate_all("all => all.map((token) => token.textContent)")
    assert pinned == [other.texts[carry]], "what stands in the second run alone is pinned there"
    assert "in the second run alone" in page.locator(".gl-whole > .gl-aid").inner_text()
    weights = weights_on_maps(page)
    np.testing.assert_allclose(weights[1], other.dense_weights()[:, carry], atol=0.0051)
    assert not weights[[0, 2]].any(), "the first run has nothing to hold against it"
    page.keyboard.press("Escape")
    assert page.locator(".gl-pinned").count() == 0
    strips.nth(0).locator(".gl-token").nth(carry).click()
    assert page.locator(".gl-pinned").count() == 1
    assert "in the first run alone" in page.locator(".gl-whole > .gl-aid").inner_text()
    assert_readable(page, ".gptoss")
    assert page.errors == []
    page.screenshot(path=pictures / "compare-page-two-texts.png", full_page=True)


def test_hostile_text_is_text(open_page: Callable[..., Any]) -> None:
    trace = without.hostile()
    page = open_page(compare(trace, traces.rerouted(trace, 2.0), names=(without.SCRIPT, without.ROLE)))
    token(page, 5).hover()
    token(page, 5).click()
    assert page.locator(".gl-name").first.inner_text() == without.SCRIPT
    assert_nothing_ran(page)
    assert page.errors == []


def test_four_thousand_tokens(open_page: Callable[..., Any], pictures: Path) -> None:
    trace = traces.long(4000)
    page = open_page(compare(trace, traces.rerouted(trace)), size=(1400, 1000))
    painted = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    token(page, 50).click()
    assert page.locator(".gl-flips tbody tr").count() > 0
    print(f"first paint {painted:.0f} ms")
    page.screenshot(path=pictures / "compare-page-4000-tokens.png", full_page=True)
    assert page.errors == []
