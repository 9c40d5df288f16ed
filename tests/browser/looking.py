"""What tests look for on a page."""

from typing import Any

# Text, its colour and what lies behind it, for every element with text of its own; colours as the browser paints them.
_CONTRASTS = """
(root) => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const painted = (...layers) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const layer of layers) { canvas.fillStyle = layer; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    const layers = [];
    for (let each = element; each; each = each.parentElement) layers.unshift(getComputedStyle(each).backgroundColor);
    return ["white", ...layers];
  };
  const found = [];
  for (const element of document.querySelectorAll(`${root} *`)) {
    const text = [...element.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data).join("").trim();
    const style = getComputedStyle(element);
    if (!text || !element.checkVisibility() || element.closest("svg") || parseFloat(style.fontSize) === 0) continue;
    const layers = behind(element);
    const [a, b] = [luminance(painted(...layers)), luminance(painted(...layers, style.color))];
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), text.slice(0, 40), element.className]);
  }
  return found;
}
"""

AA = 4.5


def assert_readable(page: Any, root: str) -> None:
    """All text below `root` stands out from what is behind it by WCAG's AA, 4.5 to 1."""
    found = page.evaluate(_CONTRASTS, root)
    assert len(found) > 20, "no text to look at"
    faint = [(round(ratio, 2), text, name) for ratio, text, name in found if ratio < AA]
    assert not faint, faint


def assert_nothing_ran(page: Any) -> None:
    """No text became markup: the hostile names would have made elements and called alert."""
    assert page.evaluate("window.alerts ?? []") == []

    assert page.locator("img[src='x']").count() == 0


# Ends in null, since playwright calls a function that it is given.
WATCH_ALERTS = "window.alerts = []; window.alert = (what) => window.alerts.push(what); null"


# What pointing at an element costs the page, layout included; when the next frame comes is the machine's affair.
_HOVER = """
(selector) => {
  const all = [...document.querySelectorAll(selector)];
  const costs = [];
  for (let turn = 0; turn < 20; turn++) {
    const before = performance.now();
    all[Math.floor((turn * all.length) / 20)].dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
    document.body.getBoundingClientRect();
    costs.push(performance.now() - before);
  }
  return costs.sort((one, other) => one - other)[10];
}
"""


def hover_ms(page: Any, selector: str) -> float:
    """Milliseconds that the page takes to answer to the pointer, the median over twenty elements."""
    return float(page.evaluate(_HOVER, selector))


def load_ms(page: Any) -> float:
    """Milliseconds that the page's own thread works until it has been loaded, drawn and painted.

    Time on the processor, not on the clock: others may be busy on the machine.
    """
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.reload()
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    metrics = session.send("Performance.getMetrics")["metrics"]
    return 1000 * float(next(each["value"] for each in metrics if each["name"] == "TaskDuration"))
