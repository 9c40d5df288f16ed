"""The notebooks, run from top to bottom in a real JupyterLab."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from looking import assert_readable

pytestmark = pytest.mark.browser


def test_start_here(open_notebook: Callable[..., Any], repository: Path, pictures: Path) -> None:
    notebook = open_notebook(path=repository / "notebooks/00_start_here.ipynb", size=(1280, 2600))
    began = time.monotonic()
    notebook.run_all()
    page = notebook.page
    page.wait_for_selector(".gl-routing .gl-token")
    page.wait_for_selector(".js-plotly-plot .bars .point")
    print(f"ran and painted in {time.monotonic() - began:.0f} s")
    assert notebook.ask("reply.finish") == "'stop'"
    kinds = (
        page.locator(".gl-conversation")
        .first.locator(".gl-message")
        .evaluate_all("all => all.map(m => m.dataset.kind)")
    )
    assert kinds == ["analysis", "final"]
    page.screenshot(path=pictures / "start-here.png")

    thought = page.locator(".gl-routing .gl-line[data-kind='analysis'] .gl-token[data-section='content']")
    digit = thought.filter(has_text=re.compile(r"^\d$")).first
    digit.click()
    notebook.wait_until("view.pinned", digit.get_attribute("id").rsplit("-", 1)[1])
    assert notebook.ask("trace.texts[view.pinned]") == repr(digit.text_content())

    box = page.get_by_placeholder("What is 246 + 135?")
    box.fill("What is 12 + 34?")
    box.press("Enter")
    page.wait_for_function("document.querySelectorAll('.gl-routing').length === 2")
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot .barlayer:has(.point)').length === 2")
    assert_readable(page, ".jp-OutputArea .gptoss")
    assert notebook.errors == []
    page.screenshot(path=pictures / "start-here-asked.png")


def test_routing_lab(open_notebook: Callable[..., Any], repository: Path, pictures: Path) -> None:
    """Fewer questions than a reader asks; what is found depends on the model, that something is found does not."""
    path = repository / "notebooks/labs/routing.ipynb"
    assert "N_QUESTIONS = 24" in path.read_text(encoding="utf-8")
    notebook = open_notebook(path=path, size=(1280, 5200))
    page = notebook.page
    page.evaluate(
        """() => {
            const cells = jupyterapp.shell.currentWidget.content.model.cells;
            for (const cell of Array.from(cells)) {
                cell.sharedModel.setSource(cell.sharedModel.getSource().replace("N_QUESTIONS = 24", "N_QUESTIONS = 6"));
            }
        }"""
    )
    began = time.monotonic()
    notebook.run_all()
    print(f"ran in {time.monotonic() - began:.0f} s")
    page.wait_for_selector(".gl-routing .gl-token")
    page.wait_for_selector(".gl-compare .gl-token")
    assert notebook.ask("sum(map(len, places)) == len(digits) >= 10") == "True", "thoughts name their carries"
    assert notebook.ask("traces[0].texts[view.pinned].strip()") == "'carry'"
    assert notebook.ask("outcomes.experts.tolist() == [len(cells) for cells in masks.values()]") == "True"
    assert notebook.ask("not set(ones) & set(masks['of equal load'])") == "True"
    assert notebook.ask("bool((experts.loc[ones].tells > 0).all())") == "True"
    assert_readable(page, ".jp-OutputArea .gptoss")
    assert notebook.errors == []
    page.screenshot(path=pictures / "routing-lab.png")


def test_notebooks_are_kept_without_outputs(repository: Path) -> None:
    for path in sorted((repository / "notebooks").rglob("*.ipynb")):
        book = nbformat.read(path, as_version=4)
        nbformat.validate(book)
        code = [cell for cell in book.cells if cell.cell_type == "code"]
        assert all(not cell.outputs and cell.execution_count is None for cell in code), path
