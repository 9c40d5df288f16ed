"""A box to ask something else: question, effort, Ask and Stop, the reply as it is written, and its routing."""

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ipywidgets

from gptoss_lab.views.controls import controls_row, toggle_buttons
from gptoss_lab.views.routing_view import RoutingView
from gptoss_lab.views.stream import LiveReply

if TYPE_CHECKING:
    from gptoss_lab.live import StreamedToken
    from gptoss_lab.reply import Reply
    from gptoss_lab.session import Model


def ask(model: "Model", question: str = "", effort: str = "high") -> "AskBox":
    """A box that asks `model`, and shows reply and routing below itself; what is asked again replaces them."""
    return AskBox(model, question, effort)


_BUTTON = {"width": "80px"}


class AskBox(ipywidgets.VBox):
    """`question` and `effort` are the inputs; `reply` is the last reply, `routing` the view of its routing."""

    def __init__(self, model: "Model", question: str = "", effort: str = "high") -> None:
        self.reply: Reply | None = None
        self.routing: RoutingView | None = None
        self.question = ipywidgets.Text(
            question,
            placeholder="What is 246 + 135?",
            description="Question",
            style={"description_width": "initial"},
            layout={"flex": "1 1 260px", "max_width": "480px"},
        )
        self.effort = toggle_buttons("Effort", ["low", "medium", "high"], value=effort)
        self.ask_button = ipywidgets.Button(description="Ask", button_style="primary", layout=_BUTTON)
        self.stop_button = ipywidgets.Button(description="Stop", disabled=True, layout=_BUTTON)
        self.stream = LiveReply()
        self._model = model
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        inputs = controls_row(self.question, self.effort, self.ask_button, self.stop_button)
        self._asking = inputs, self.stream
        super().__init__(self._asking)
        self.ask_button.on_click(lambda _: self.ask())
        self.stop_button.on_click(lambda _: self.stop())
        self.question.on_msg(self._on_enter)

    def ask(self) -> None:
        """Asks what stands in the box; the answer comes in a thread of its own, so that Stop and the notebook work."""
        question = self.question.value.strip() or self.question.placeholder
        if self._thread is not None and self._thread.is_alive():
            return
        self._stop.clear()
        self._set_busy(True)
        self.stream.start()
        self._thread = threading.Thread(target=self._answer, args=(question, self.effort.value), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the reply that is being written."""
        self._stop.set()

    def wait(self, timeout: float | None = None) -> None:
        """Until the reply has ended and its routing is shown."""
        if self._thread is not None:
            self._thread.join(timeout)

    def _answer(self, question: str, effort: Any) -> None:
        draft = _Draft(self.stream)
        try:
            self.reply = self._model.chat(
                question,
                effort=effort,
                record=("routing",),
                on_token=draft.add,
                should_stop=self._stop.is_set,
                display=False,
            )
            self.stream.update(self.reply.messages)
            self.stream.finish(self.reply.finish)
            self._show_routing(self.reply)
        except Exception as error:  # a thread has nobody above it to tell
            self.stream.finish(f"This did not work. {type(error).__name__}: {error}")
        finally:
            self._set_busy(False)

    def _show_routing(self, reply: "Reply") -> None:
        if reply.trace is None:
            return
        if self.routing is not None:
            self.routing.show(reply.trace)
            return
        self.routing = RoutingView(reply.trace)
        self.children = (*self._asking, self.routing)

    def _set_busy(self, busy: bool) -> None:
        self.ask_button.disabled = busy
        self.stop_button.disabled = not busy

    def _on_enter(self, _: object, content: dict[str, Any], __: object) -> None:
        if content.get("event") == "submit":
            self.ask()


@dataclass
class _Written:
    """A message so far."""

    role: str
    channel: str | None
    recipient: str | None
    content: str = ""


class _Draft:
    """The messages of a reply as its tokens come."""

    def __init__(self, stream: LiveReply) -> None:
        self._stream = stream
        self._messages: dict[int, _Written] = {}

    def add(self, token: "StreamedToken") -> None:
        span = token.span
        if span.section != "content":
            return
        message = self._messages.setdefault(span.message, _Written(span.role, span.channel, span.recipient))
        message.content += token.text
        self._stream.update(list(self._messages.values()))
