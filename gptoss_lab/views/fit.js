/* Tells plotly when a chart's place has got another width: its widget may draw before it has a place, 700 pixels wide,
   and afterwards listens to the window alone. */

export function render({ el }) {
  const widths = new WeakMap();
  const observer = new ResizeObserver((entries) => {
    const changed = entries.filter(({ target, contentRect }) => widths.get(target) !== contentRect.width);
    changed.forEach(({ target, contentRect }) => widths.set(target, contentRect.width));
    if (changed.length) window.dispatchEvent(new Event("resize"));
  });
  const observe = (event) => observer.observe(event.detail.element);
  document.addEventListener("plotlywidget-after-render", observe);
  observer.observe(el);
  return () => {
    document.removeEventListener("plotlywidget-after-render", observe);
    observer.disconnect();
  };
}

export default { render };
