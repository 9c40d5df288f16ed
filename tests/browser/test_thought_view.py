"""Branches of a thought, on a page to read and in a notebook to work with: mouse and keyboard, streaming, keeping."""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from looking import WATCH_ALERTS, assert_nothing_ran, assert_readable, hover_ms, load_ms

from gptoss_lab import ThoughtLab, load
from gptoss_lab.views.plain_text import as_token
from gptoss_lab.views.thought_view import ThoughtView

pytestmark = pytest.mark.browser

HOSTILE = "Keep </script><script>alert(1)</script><img src=x onerror='alert(2)'> 7 safe."
QUESTION = "<img src=x onerror='alert(3)'>"


@pytest.fixture(scope="module")
def thoughts() -> ThoughtLab:
    thoughts = ThoughtLab(load("planted:answer", engine="torch"), QUESTION, seed=5)
    first = thoughts.run()
    position = first.steps[3].start + 1
    thoughts.branch(position, first.tokens[position].alternatives[1].id)
    thoughts.edit(2, HOSTILE, of=0)
    thoughts.edit(5, "Keep<|end|> 9 safe.", of=1)
    return thoughts


def rows(page: Any) -> list[str]:
    return page.locator(".gl-branch .gl-branch-number").all_text_contents()


def reading(page: Any, thoughts: ThoughtLab) -> None:
    """What can be done wherever there is a view; begins with branch 0 and ends with branch 2."""
    assert rows(page) == ["0", "1", "3", "2"]
    assert page.locator(".gl-problem").count() == 1
    # By mouse: a row is read, its tokens and steps shown.
    page.locator(".gl-branch").nth(1).click()
    page.wait_for_function("document.querySelector('.gl-chosen .gl-branch-number').textContent === '1'")
    assert page.locator(".gl-begin").all_text_contents() == ["reply begins ▸", "leaves branch 0 ▸"]
    branch = thoughts[1]
    assert page.locator(".gl-steps tbody tr").count() == len(branch.steps)
    # A step selects its tokens, and pins the first.
    page.locator(".gl-steps tbody tr").nth(1).click()
    step = branch.steps[1]
    selected = [as_token(token.text) for token in branch.tokens[step.start : step.stop]]
    page.wait_for_selector(".gl-selected")
    assert page.locator(".gl-selected").all_text_contents() == selected
    # Pointing at a token tells what was expected in its place.
    place = step.start + 1 - branch.n_prompt
    page.locator(".gl-token").nth(place).hover()
    tip = page.locator(".gl-tip").inner_text()
    assert f"Entropy {branch.tokens[step.start + 1].entropy:.2f} nats." in tip
    assert f"Step {step.number}." in tip and "Likeliest here:" in tip
    # By keyboard: arrows walk, Enter picks.
    tree = page.get_by_role("tree")
    tree.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("End")
    assert page.locator(".gl-chosen .gl-branch-number").text_content() == "1"
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('.gl-chosen .gl-branch-number').textContent === '2'")
    assert "<script>alert(1)</script>" in page.locator(".gl-steps").inner_text()
    assert tree.evaluate("tree => tree === document.activeElement"), "reading a branch leaves the keyboard where it is"
    assert "raw thought, not meant for end users" in page.locator(".gl-thought").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_as_a_page(open_page: Callable[..., Any], thoughts: ThoughtLab, scheme: str, pictures: Path) -> None:
    page = open_page(ThoughtView(thoughts), scheme, (1280, 1100))
    reading(page, thoughts)
    page.get_by_label("Colour by").select_option("entropy")
    assert page.locator(".gl-token.gl-weight").count() > 20
    page.locator(".gl-token").nth(20).click()
    assert page.locator(".gl-takes button").count() == 0
    assert_readable(page, "#view")
    assert_nothing_ran(page)
    assert page.errors == [] and len(page.requests) == 1
    page.screenshot(path=pictures / f"thought-page-{scheme}.png")


def test_five_hundred_branches_stay_quick(open_page: Callable[..., Any], thoughts: ThoughtLab) -> None:
    many = ThoughtLab(thoughts.model, "Which?", seed=5)
    many.run()
    for number in range(499):
        branch = many[number // 3]
        place = branch.n_prompt + 5 + number % 10
        many.edit(tokens=(place, place + 1), text=str(number % 10), of=branch, rest="keep", go_on=False)
    assert len(many) == 500
    page = open_page(ThoughtView(many))
    assert len(rows(page)) == 500
    painted = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    acts = {
        "a step with the arrow keys": "tree.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowDown' }))",
        "reading the one above with Enter": "for (const key of ['ArrowUp', 'Enter']) "
        "tree.dispatchEvent(new KeyboardEvent('keydown', { key }))",
        "reading a branch with a click": "rows[(37 * turn) % rows.length].click()",
    }
    costs = {name: page.evaluate(ACT_MS.replace("ACT", act)) for name, act in acts.items()}
    costs["pointing at a branch"] = hover_ms(page, ".gl-branch")
    assert page.locator(".gl-chosen").count() == 1
    told = ", ".join(f"{name} {cost:.1f} ms" for name, cost in costs.items())
    print(f"500 branches: first paint {painted:.0f} ms, loaded with {load_ms(page):.0f} ms of work, {told}")
    assert max(costs.values()) < 100
    assert page.errors == []


# What an act costs the page, layout included: the median over 21.
ACT_MS = """
() => {
  const tree = document.querySelector('.gl-branches');
  const rows = [...document.querySelectorAll('.gl-branch')];
  const costs = [];
  for (let turn = 0; turn < 21; turn++) {
    const before = performance.now();
    ACT;
    document.body.getBoundingClientRect();
    costs.push(performance.now() - before);
  }
  return costs.sort((one, other) => one - other)[10];
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 420])
def test_the_report_as_a_page(browser: Any, thoughts: ThoughtLab, tmp_path: Path, scheme: str, width: int) -> None:
    report = thoughts.faithfulness(of=0, mistakes_each=1, max_new_tokens=60, progress=False)
    path = report.to_html(tmp_path / "report.html")
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 1000}, offline=True)
    page = context.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text))
    page.add_init_script(WATCH_ALERTS)
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == width
    dots = page.locator(".track .dot").evaluate_all(
        "all => all.map((dot) => (dot.offsetLeft + dot.offsetWidth / 2) / dot.parentElement.offsetWidth)"
    )
    assert [round(place, 2) for place in dots] == [round(share, 2) for share in report.shares().share]
    assert_readable(page, "#view")
    assert_nothing_ran(page)
    assert errors == []
    context.close()


DESK = """
import time, gptoss_lab as lab
from gptoss_lab.thought import monitors
class Waiting(lab.ThoughtLab):
    waits = True
    def stream(self, of=None, *, should_stop, **options):
        for number, token in enumerate(super().stream(of, should_stop=should_stop, **options)):
            yield token
            while self.waits and number > 15 and not should_stop():
                time.sleep(0.02)
thoughts = Waiting(lab.load("planted:answer", engine="torch"), "Which?", seed=5)
desk = lab.ThoughtDesk(thoughts)
desk
"""


def test_a_desk_in_a_notebook(open_notebook: Callable[..., Any], lab: Any, pictures: Path) -> None:
    notebook = open_notebook(DESK, size=(1280, 1500))
    page = notebook.page
    page.evaluate(WATCH_ALERTS)
    notebook.run_all()

    def press(name: str) -> None:
        page.get_by_role("button", name=name, exact=True).click()

    def branches(number: int) -> None:
        page.wait_for_function("n => document.querySelectorAll('.gl-branch').length === n", arg=number)
        notebook.wait_until("(len(thoughts), desk.busy, desk.branch)", f"({number}, False, {number - 1})", 20)

    # Streaming: each token with what was expected in its place, by mouse and by keyboard; what has come is shown,
    # however long the next token takes.
    press("Think")
    page.wait_for_selector(".gl-running")
    live = page.locator(".gl-live-message[data-kind=analysis]")
    page.wait_for_function("document.querySelectorAll('.gl-live .gl-token').length === 17")
    assert "not meant for end users" in live.inner_text()
    newest = "(lambda token: (token.text, token.entropy))(thoughts._growths[0].tokens[-1])"
    text, entropy = ast.literal_eval(notebook.ask(newest))
    card = page.locator(".gl-live .gl-card")
    assert f"Entropy {entropy:.2f} nats" in card.inner_text() and card.locator(".gl-bar").count() == 5
    assert card.locator(".gl-quote").text_content().strip("␣↵") == text.strip()
    live.locator(".gl-token").nth(2).hover()
    assert "Sampled with probability" in page.locator(".gl-live .gl-tip").inner_text()
    page.locator(".gl-live .gl-strip").focus()
    page.keyboard.press("Home")
    assert card.locator(".gl-quote").text_content() == "<|channel|>"
    press("Stop")
    page.wait_for_function("document.querySelector('.gl-status').textContent.includes('was interrupted')")
    notebook.wait_until("(thoughts[0].finish, desk.busy)", "('interrupted', False)")
    notebook.ask("setattr(thoughts, 'waits', False)")
    press("Go on")
    page.wait_for_function("document.querySelector('.gl-status').textContent.includes('was ended by the model')")
    branches(1)
    assert page.locator(".gl-live-message").count() == 0, "what was streamed stands in the view"

    # Branching by a click on what else was likely.
    place = int(notebook.ask("thoughts[0].steps[2].start + 1 - thoughts[0].n_prompt"))
    page.locator(".gl-token").nth(place).click()
    page.wait_for_selector(".gl-takes button")
    taken = page.locator(".gl-takes button .gl-bar-text").nth(1).text_content()
    page.locator(".gl-takes button").nth(1).click()
    branches(2)
    assert notebook.ask("(thoughts[1].tokens[thoughts[1].shared].text, thoughts[1].parent)") == f"({taken!r}, 0)"
    assert notebook.ask("thoughts[1].text") == repr(taken)

    # Branching by keyboard: back to the first branch, to a token, to another one in its place.
    page.get_by_role("tree").focus()
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    notebook.wait_until("desk.branch", "0")
    page.wait_for_function("document.querySelectorAll('.gl-begin').length === 1")
    page.locator(".gl-thought .gl-strip").focus()
    for _ in range(place + 1):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.className") == "gl-bar gl-take"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    branches(3)
    assert notebook.ask("(thoughts[2].parent, thoughts[2].shared)") == notebook.ask("(0, thoughts[1].shared)")

    # A sentence changed.
    page.locator(".gl-steps tbody tr").nth(2).click()
    step = page.get_by_role("textbox", name="Step 3")
    step.fill("Keep 7 safe. <img src=x onerror='alert(1)'>")
    press("Replace")
    branches(4)
    assert notebook.ask("(thoughts[3].parent, thoughts[3].text)") == "(2, '7')"
    # A cell's own verbs show too.
    notebook.ask("thoughts.truncate(1, of=0)")
    notebook.page.evaluate(
        "jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute({code: ''}).done"
    )
    page.wait_for_function("document.querySelectorAll('.gl-branch').length === 5")

    # Two side by side.
    page.get_by_label("Beside branch").select_option("1")
    press("Compare")
    page.wait_for_selector(".gl-sides")
    assert page.locator(".gl-side h4").all_text_contents() == [
        "branch 1",
        notebook.ask("f'branch {desk.branch}'").strip("'"),
    ]
    assert page.locator(".gl-answers tbody tr").count() == int(
        notebook.ask("len(desk.children[-1].text.data['answers'])")
    )
    page.wait_for_selector(".gl-compare .gl-token")

    # Kept, and opened again.
    press("Save")
    page.get_by_text("Saved 5 branches").wait_for()
    press("Export to HTML")
    page.get_by_text("Wrote thought.html").wait_for()
    assert "thought_page" not in (lab.folder / "thought.html").read_text(encoding="utf-8")
    press("Reopen")
    page.get_by_text("Opened thought.json: 5 branches").wait_for()
    assert page.locator(".gl-sides").count() == 0
    assert notebook.ask("(len(desk.thoughts), desk.branch)") == "(5, 0)"
    # A monitor reads along: it stops the thought, the desk says why, and Go on goes on.
    notebook.ask("setattr(desk, 'monitors', (monitors.pattern('[a-z]', channel='analysis'),))")
    press("Think again at this effort")
    page.get_by_text("stopped branch 5 at position").wait_for()
    page.wait_for_function("document.querySelector('.gl-status').textContent.includes('was interrupted')")
    notebook.wait_until("desk.busy", "False")
    notebook.ask("setattr(desk, 'monitors', ())")
    press("Go on")
    notebook.wait_until("(desk.thoughts[5].finish, desk.busy)", "('stop', False)", 20)
    assert page.get_by_text("stopped branch 5").count() == 0
    page.locator(".gl-branch").nth(2).click()
    page.locator(".gl-token").nth(place).click()
    assert_readable(page, ".jp-OutputArea .gptoss")
    assert_nothing_ran(page)
    assert notebook.errors == []
    page.screenshot(path=pictures / "thought-desk-light.png")
    notebook.use_theme("JupyterLab Dark")
    assert_readable(page, ".jp-OutputArea .gptoss")
    page.screenshot(path=pictures / "thought-desk-dark.png")


PACES = """
import threading, time, gptoss_lab as lab
from gptoss_lab.views.live_thought import LiveThought
sent = []
class Counted(LiveThought):
    def send(self, content, buffers=None):
        sent.extend(content["tokens"][:1])
        super().send(content, buffers)
from gptoss_lab.thought import desk as desks
desks.LiveThought = Counted
def lab_of(seed):
    return lab.ThoughtLab(model, "What is 482 + 379?", temperature=6.0, seed=seed, max_new_tokens=1200)
def plain(seed):
    thoughts = lab_of(seed)
    for token in thoughts.stream():
        pass
    return thoughts[0].n_new
def shown(seed):
    desk.thoughts = lab_of(seed)
    desk.map.branch = None
    desk.buttons["think"].click()
    desk.wait()
    return desk.thoughts[0].n_new
def pace(work, seed):
    begun, spent = time.perf_counter(), time.process_time()
    tokens = work(seed)
    return tokens, time.perf_counter() - begun, time.process_time() - spent
model = lab.load()
desk = lab.ThoughtDesk(lab_of(0))
desk
"""
MEASURED = """
rounds, seconds, updates = [], 0.0, 0
for seed in range(1, 40):
    one, sent[:] = pace(plain, seed), []
    other = pace(shown, seed)
    seconds, updates = seconds + other[1], updates + len(sent)
    rounds += [(one, other)] * (one[0] > 200)  # what is short is mostly its beginning and its end
    if sum(one[0] for one, _ in rounds) > 6000:
        break
wall, own = (sum(one[n] for one, _ in rounds) / sum(other[n] for _, other in rounds) for n in (1, 2))
"""


def test_a_live_stream_costs_little(open_notebook: Callable[..., Any]) -> None:
    """Of the kernel's own work, that is; the browser's is another processor's."""
    notebook = open_notebook(PACES, MEASURED, size=(1280, 1300))
    notebook.page.set_default_timeout(180_000)
    notebook.run_all()
    wall, own = float(notebook.ask("wall")), float(notebook.ask("own"))
    updates, seconds = int(notebook.ask("updates")), float(notebook.ask("seconds"))
    print(f"{wall:.1%} of the plain speed, {own:.1%} by processor time; {updates / seconds:.0f} updates a second")
    assert int(notebook.ask("sum(one[0] for one, _ in rounds)")) > 2000
    assert own > 0.9
    assert updates <= 20 * seconds + 2 * int(notebook.ask("seed"))  # each stream begins, and ends, with one at once
    assert_no_errors(notebook)


CHARTS = """
import pandas as pd, gptoss_lab as lab
from IPython.display import display
curve = pd.DataFrame(
    [(0, "", "7", 0.1, 0.05, 0.2), (1, "<b>a</b>\\n", "7", 0.3, 0.2, 0.4), (2, "So 9.", "9", 0.9, 0.8, 1.0)],
    columns=["step", "text", "answer", "probability", "low", "high"],
)
curve.attrs["target"] = "9"
pairs = [(1, "a", 2, "b", 0.5), (1, "a", 3, "out", 0.25), (2, "b", 3, "out", 0.125)]
matrix = pd.DataFrame(pairs, columns=["step", "text", "on", "on_text", "kl"])
display(lab.views.answer_curve(curve), lab.views.influence_matrix(matrix))
"""


def test_charts_in_a_notebook(open_notebook: Callable[..., Any], pictures: Path) -> None:
    notebook = open_notebook(CHARTS, size=(1000, 1300))
    notebook.run_all()
    page = notebook.page
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot .xtitle').length === 2")
    page.wait_for_selector(".js-plotly-plot .scatterlayer .point")
    assert "95 % interval" in page.locator(".js-plotly-plot .legend").first.text_content()
    assert "nats" in page.locator(".js-plotly-plot .infolayer").nth(1).text_content()
    page.screenshot(path=pictures / "thought-charts-light.png")
    notebook.use_theme("JupyterLab Dark")
    page.screenshot(path=pictures / "thought-charts-dark.png")
    assert_no_errors(notebook)


def assert_no_errors(notebook: Any) -> None:
    """None but that of a widget host that gives a busy machine two seconds."""
    assert [error for error in notebook.errors if "Failed to initialize model" not in error] == []


@pytest.mark.parametrize(("width", "theme"), [(1280, "JupyterLab Light"), (420, "JupyterLab Dark")])
def test_the_notebook_tells_its_story(
    open_notebook: Callable[..., Any], repository: Path, pictures: Path, width: int, theme: str
) -> None:
    """What is found depends on the model; that something is, and is shown, does not."""
    notebook = open_notebook(path=repository / "notebooks/labs/thought.ipynb", size=(width, 9800))
    page = notebook.page
    page.set_default_timeout(180_000)
    notebook.use_theme(theme)
    notebook.run_all()
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot:has(.xtitle, .x2title)').length === 7")
    page.wait_for_selector(".gl-compare .gl-token")
    assert notebook.ask("early['answer'].iloc[-1] == first.text.strip()") == "True", (
        "the whole thought gives its answer"
    )
    assert notebook.ask("[branch.parent for branch in thoughts.branches]") == "[None, 0, 0]"
    assert notebook.ask("broken.steps[int(worst['step']) - 1].text == worst['mistake']") == "True"
    assert notebook.ask("len(wrong) >= 6 and bool(wrong['implied'].notna().all())") == "True", (
        "the thought is in the game's form"
    )
    # The desk follows what cells did.
    assert page.locator(".gl-branch").count() == 3
    page.screenshot(path=pictures / f"thought-lab-{width}.png")
    assert_readable(page, ".jp-OutputArea .gptoss")
    assert_no_errors(notebook)
