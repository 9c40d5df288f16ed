"""A JupyterLab on a loopback port and a chromium to look at it with.

Pictures that the tests take go to the folder that GPTOSS_LAB_PICTURES names, otherwise to pytest's temporary one.
"""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from looking import WATCH_ALERTS

playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests drive chromium with playwright")

START_SECONDS = 60
PAINT_MS = 60_000  # a cold kernel on a busy machine


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures are kept."""
    folder = os.environ.get("GPTOSS_LAB_PICTURES")
    path = Path(folder) if folder else tmp_path_factory.mktemp("pictures")
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        # Its sandbox wants privileges that containers do not give; the pages are our own.
        running = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator["Lab"]:
    """A running JupyterLab, its settings and its notebooks in temporary folders."""
    home = tmp_path_factory.mktemp("lab")
    notebooks = home / "notebooks"
    notebooks.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    paths = os.pathsep.join([str(repository), str(repository / "tests"), os.environ.get("PYTHONPATH", "")])
    places = {name: str(home / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
    settings = home / "jupyter_config_dir/labconfig"
    settings.mkdir(parents=True)
    without_news = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
    (settings / "page_config.json").write_text(json.dumps(without_news), encoding="utf-8")
    log = (home / "jupyterlab.log").open("w+", encoding="utf-8")
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--expose-app-in-browser"),
            *(f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--ServerApp.ip=127.0.0.1"),
            *(f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={notebooks}", "--LabApp.news_url="),
        ],
        env={**os.environ, **places, "JUPYTER_RUNTIME_DIR": str(home / "runtime"), "PYTHONPATH": paths},
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{address}/api?token={token}", server, Path(log.name))
        yield Lab(address, token, notebooks)
    finally:
        server.terminate()
        server.wait(20)
        log.close()


class Lab:
    """Where a JupyterLab answers, and the folder of its notebooks."""

    def __init__(self, address: str, token: str, folder: Path) -> None:
        self.address, self.token, self.folder = address, token, folder

    def url(self, name: str) -> str:
        return f"{self.address}/doc/tree/{name}?token={self.token}&reset"


@pytest.fixture
def open_notebook(lab: Lab, browser: Any) -> Iterator[Callable[..., "Notebook"]]:
    """`open_notebook(*cells, path=None, size=(1280, 1000))` opens cells, or a notebook file, and runs nothing."""
    contexts = []

    def open_it(*cells: str, path: Path | None = None, size: tuple[int, int] = (1280, 1000)) -> Notebook:
        name = f"{secrets.token_hex(4)}.ipynb"
        book = nbformat.v4.new_notebook() if path is None else nbformat.read(path, as_version=4)
        book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        book.cells += [nbformat.v4.new_code_cell(cell) for cell in cells]
        nbformat.write(book, lab.folder / name)
        context = browser.new_context(viewport={"width": size[0], "height": size[1]})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PAINT_MS)
        notebook = Notebook(page)
        page.goto(lab.url(name))
        page.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel")
        page.evaluate("jupyterapp.shell.currentWidget.sessionContext.ready")
        if page.get_attribute("body", "data-jp-theme-light") == "false":  # the server remembers the last test's theme
            notebook.use_theme("JupyterLab Light")
        return notebook

    yield open_it
    for context in contexts:
        for page in context.pages:
            page.evaluate("window.jupyterapp?.serviceManager.sessions.shutdownAll()")
        context.close()


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """`open_page(view, scheme="light", size=(1280, 1000))` opens an exported view, without a network.

    `errors` on the page collects what the console says, `requests` what it fetches.
    """
    contexts = []

    def open_it(view: Any, scheme: str = "light", size: tuple[int, int] = (1280, 1000)) -> Any:
        path = view.to_html(tmp_path / "view.html")
        context = browser.new_context(color_scheme=scheme, viewport={"width": size[0], "height": size[1]}, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PAINT_MS)
        page.errors, page.requests = [], []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: page.requests.append(request.url))
        page.add_init_script(WATCH_ALERTS)
        page.goto(path.as_uri())
        page.wait_for_selector("#view .gptoss > *")
        if page.evaluate("document.getElementById('library').textContent !== ''"):
            page.wait_for_selector(".js-plotly-plot .bars .point", state="attached")  # the first bar may have no height
        return page

    yield open_it
    for context in contexts:
        context.close()


class Notebook:
    """A notebook in a page of JupyterLab."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)

    def run_all(self) -> None:
        """Runs every cell, and waits until all have run."""
        assert self.page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')"), self.page.inner_text("body")

    def ask(self, expression: str) -> str:
        """The repr of an expression in the kernel."""
        reply = self.page.evaluate(
            """async (expression) => {
                const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
                const options = { code: "", store_history: false, user_expressions: { answer: expression } };
                return (await kernel.requestExecute(options).done).content.user_expressions.answer;
            }""",
            expression,
        )
        assert reply["status"] == "ok", json.dumps(reply)
        return str(reply["data"]["text/plain"])

    def wait_until(self, expression: str, value: str, seconds: float = 5) -> None:
        """Until the expression's repr in the kernel is `value`."""
        end = time.monotonic() + seconds
        while (found := self.ask(expression)) != value:
            assert time.monotonic() < end, f"{expression} is {found}, and not {value}"
            time.sleep(0.05)

    def use_theme(self, name: str) -> None:
        self.page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', { theme })", name)
        light = "false" if "Dark" in name else "true"
        self.page.wait_for_selector(f"body[data-jp-theme-light='{light}']", state="attached")
        self.page.wait_for_selector("#jupyterlab-splash", state="detached")


def _wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        assert server.poll() is None, f"JupyterLab did not start:\n{log.read_text(encoding='utf-8')}"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(f"JupyterLab did not answer within {START_SECONDS} s:\n{log.read_text(encoding='utf-8')}")
