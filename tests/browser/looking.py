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
