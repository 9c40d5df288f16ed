"""A thought lab's desk in a notebook: watch the model think, stop it, branch with a click, change steps, keep it."""

import html
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ipywidgets

from gptoss_lab.harmony import StreamParser
from gptoss_lab.segments import Segment, step_of
from gptoss_lab.thought.lab import ThoughtLab, load_thoughts
from gptoss_lab.thought.monitors import Alarm, Monitor
from gptoss_lab.thought.tree import Branch
from gptoss_lab.views.controls import controls_row, toggle_buttons
from gptoss_lab.views.difference_view import DifferenceView
from gptoss_lab.views.live_thought import LiveThought
from gptoss_lab.views.plain_text import visible
from gptoss_lab.views.thought_view import ThoughtView

EFFORTS = ["low", "medium", "high"]
_HINT = "Click a token: the sentence that it belongs to stands here, to be changed."
_WIDE = {"description_width": "initial"}


class ThoughtDesk(ThoughtView):
    """The branches of a thought lab, and what makes more of them.

    `thoughts` is the lab, which may be used from other cells too: the desk shows what they did when they have run. What
    is clicked stands in `branch`, `pinned` and `selection`; see `ThoughtView`. The model thinks in a thread of its own,
    so that Stop and the notebook work meanwhile; `wait()` waits for it.

    A lab that was opened without its model can be read here, and not continued.

    monitors: they read along with all that is thought here; where one speaks up, the thought stops there, and the desk
        says why. Go on continues it. See `thought.monitors`.
    """

    def __init__(self, thoughts: ThoughtLab, monitors: Sequence[Monitor] = ()) -> None:
        self.monitors = tuple(monitors)
        self.stream = LiveThought()
        self.buttons = {
            name: ipywidgets.Button(description=words, tooltip=hint, layout={"width": "auto"})
            for name, (words, hint) in _BUTTONS.items()
        }
        self.buttons["think"].button_style = "primary"
        self.effort = toggle_buttons("Effort", EFFORTS, value=thoughts.settings.effort)
        self.step = ipywidgets.Textarea(
            placeholder=_HINT, rows=2, style=_WIDE, layout={"flex": "1 1 420px", "max_width": "760px"}
        )
        self.keep = ipywidgets.Checkbox(False, description="keep what follows in the message", indent=False)
        self.other = ipywidgets.Dropdown(description="Beside branch", style=_WIDE, layout={"width": "auto"})
        self.path = ipywidgets.Text("thought.json", description="File", style=_WIDE, layout={"width": "240px"})
        self.message = ipywidgets.HTML()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._busy = False
        super().__init__(thoughts, *self._rows(), live=thoughts._model is not None)
        self._alone: tuple[ipywidgets.Widget, ...] = self.children
        for name, button in self.buttons.items():
            button.on_click(self._on_click(name))
        self.map.observe(lambda _: self._follow(), ["branch", "pinned", "data"])
        self.map.observe(self._on_taken, "taken")
        self._follow()
        _after_each_cell(self)

    def refresh(self, chosen: int | None = None) -> None:
        super().refresh(chosen)
        numbers = [branch.number for branch in self.map.branches]
        if list(self.other.options) != numbers:
            value = self.other.value
            self.other.options = numbers
            self.other.value = value if value in numbers else next(iter(numbers), None)

    # What a click starts, and a caller may wait for

    def do(self, make: Callable[[], Branch]) -> None:
        """Makes a branch, in a thread of its own, and goes on with it to its end; `make` must not continue it.

        Raises ValueError while the model is thinking.
        """
        if self._busy:
            raise ValueError("the model is thinking: wait for it, or press Stop")
        self._say("")
        self._stop.clear()
        self._set_busy(True)
        self._thread = threading.Thread(target=self._work, args=(make,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends what is being generated; Go on continues it."""
        self._stop.set()

    def wait(self, timeout: float | None = None) -> None:
        """Until the model has come to an end and its branch is shown."""
        if self._thread is not None:
            self._thread.join(timeout)

    @property
    def busy(self) -> bool:
        """Whether the model is thinking."""
        return self._busy

    def _work(self, make: Callable[[], Branch]) -> None:
        try:
            self._continue(make().number)
        except Exception as error:  # a thread has nobody above it to tell
            self._say(f"This did not work. {type(error).__name__}: {error}")
            self.stream.finish("")
        finally:
            self._set_busy(False)

    def _continue(self, number: int) -> None:
        branch = self.thoughts[number]
        self.refresh(number)
        parser = StreamParser(self.thoughts.model.tokenizer)
        self.stream.start(parser, branch.n_prompt, branch.tokens[branch.n_prompt :])
        known = len(self.thoughts.alarms)
        try:
            for token in self.thoughts.stream(number, should_stop=self._stop.is_set, monitors=self.monitors):
                self.stream.push(token)
        finally:
            self.refresh(number)  # what has been streamed stands in the view now
            self.stream.finish(f"Branch {number} {visible(self.thoughts[number].status)}.")
            self._say(" ".join(_alarm_words(alarm) for alarm in self.thoughts.alarms[known:]))

    # The buttons

    def _press_think(self) -> None:
        """Begins, or goes on with the chosen branch."""
        number = self.map.branch
        self.do(self._first if number is None else lambda: self.thoughts[number])

    def _first(self) -> Branch:
        return self.thoughts.run(should_stop=lambda: True)  # which makes it, and leaves the rest to the stream

    def _press_halt(self) -> None:
        self.stop()

    def _press_effort(self) -> None:
        number, effort = self.map.branch, self.effort.value
        self.do(lambda: self.thoughts.change(effort=effort, of=number, go_on=False))

    def _press_anew(self) -> None:
        at, number = self.map.pinned, self.map.branch
        if at is not None:
            self.do(lambda: self.thoughts.branch(at, of=number, go_on=False))

    def _take(self, at: int, choice: int) -> None:
        number = self.map.branch
        assert number is not None, "an alternative of no branch"
        token = self.thoughts[number].tokens[at].alternatives[choice].id
        self.do(lambda: self.thoughts.branch(at, token, of=number, go_on=False))

    def _on_click(self, name: str) -> Callable[[ipywidgets.Button], None]:
        do = getattr(self, f"_press_{name}")
        return lambda _: self._try(do)

    def _on_taken(self, change: dict[str, Any]) -> None:
        if change["new"] is not None:
            self._try(lambda: self._take(*change["new"][:2]))

    def _press_replace(self) -> None:
        text = self.step.value  # as it is now: the branch is made in another thread
        self._change_step(lambda step, **how: self.thoughts.edit(step, text, **how))

    def _press_insert(self) -> None:
        text = self.step.value
        self._change_step(lambda step, **how: self.thoughts.insert(step, text, **how))

    def _press_delete(self) -> None:
        self._change_step(self.thoughts.delete)

    def _press_answer(self) -> None:
        step, number = self._chosen_step(), self.map.branch
        if step is not None:
            self.do(lambda: self.thoughts.truncate(step, of=number, go_on=False))

    def _change_step(self, change: Callable[..., Branch]) -> None:
        step, number, rest = self._chosen_step(), self.map.branch, "keep" if self.keep.value else "anew"
        if step is not None:
            self.do(lambda: change(step, of=number, rest=rest, go_on=False))

    def _press_compare(self) -> None:
        if self.map.branch is not None and self.other.value is not None:
            self.children = (*self._alone, DifferenceView(self.thoughts.compare(self.other.value, self.map.branch)))

    def _press_save(self) -> None:
        path = self.thoughts.save(self.path.value)
        self._say(f"Saved {len(self.thoughts)} branches to {path}.")

    def _press_reopen(self) -> None:
        if self._busy:
            raise ValueError("the model is thinking: wait for it, or press Stop")
        self.thoughts = load_thoughts(self.path.value, self.thoughts._model)
        self.map.branch, self.children = None, self._alone
        self.refresh()
        self._say(f"Opened {self.path.value}: {len(self.thoughts)} branches.")

    def _press_export(self) -> None:
        path = self.to_html(Path(self.path.value).with_suffix(".html"))
        self._say(f"Wrote {path}: it opens in any browser, without Python and without a network.")

    # What the controls show

    def _rows(self) -> list[ipywidgets.Widget]:
        buttons = self.buttons
        rows = (
            (buttons["think"], buttons["halt"], self.effort, buttons["effort"]),
            (self.step,),
            (buttons["replace"], buttons["insert"], buttons["delete"], self.keep, buttons["answer"], buttons["anew"]),
            (self.other, buttons["compare"]),
            (self.path, buttons["save"], buttons["reopen"], buttons["export"]),
        )
        return [controls_row(*rows[0]), self.stream, *(controls_row(*row) for row in rows[1:]), self.message]

    def _chosen_step(self) -> Segment | None:
        if self.map.branch is None or self.map.pinned is None:
            return None
        return step_of(self.thoughts[self.map.branch].steps, self.map.pinned)

    def _follow(self) -> None:
        """The controls say what they would do."""
        step = self._chosen_step()
        self.step.description = "Step" if step is None else f"Step {step.number}"
        self.step.value = "" if step is None else step.text.strip()
        self._enable()

    def _enable(self) -> None:
        """Those that can do nothing are grey."""
        step, none_yet = self._chosen_step(), self.map.branch is None
        self.buttons["think"].description = "Think" if none_yet else "Go on"
        free = not self._busy and self.thoughts._model is not None
        for name in ("replace", "insert", "delete", "answer"):
            self.buttons[name].disabled = not free or step is None
        self.step.disabled = self.keep.disabled = step is None
        self.buttons["anew"].disabled = not free or self.map.pinned is None
        self.buttons["effort"].disabled = not free or none_yet
        self.buttons["think"].disabled = not free
        self.buttons["compare"].disabled = self._busy or none_yet
        self.buttons["halt"].disabled = not self._busy

    def _set_busy(self, busy: bool) -> None:
        self._busy = busy
        self._enable()

    def _try(self, do: Callable[[], None]) -> None:
        """A button has nobody above it to tell."""
        try:
            do()
        except (ValueError, OSError) as error:
            self._say(f"This did not work. {error}")

    def _say(self, words: str) -> None:
        self.message.value = f'<div class="gptoss" role="status">{html.escape(visible(words))}</div>'


_BUTTONS = {
    "think": ("Think", "begin, or go on with a branch that was stopped"),
    "halt": ("Stop", "stop generating; Go on continues"),
    "effort": ("Think again at this effort", "a branch from the start, at the effort on the left"),
    "replace": ("Replace", "put this text in the step's place and go on from there"),
    "insert": ("Insert after", "put this text after the step and go on from there"),
    "delete": ("Delete", "leave the step out and go on from there"),
    "answer": ("Answer now", "end the thought after this step and let the model answer"),
    "anew": ("Draw anew from here", "go on from the clicked token with other luck"),
    "compare": ("Compare", "show the chosen branch and the one on the left side by side, below"),
    "save": ("Save", "write the whole tree to the file"),
    "reopen": ("Reopen", "show the tree that the file holds"),
    "export": ("Export to HTML", "write what is shown to a page that opens offline"),
}


def _alarm_words(alarm: Alarm) -> str:
    return f"{alarm.monitor} stopped branch {alarm.branch} at position {alarm.position}: {alarm.words}."


def _after_each_cell(desk: ThoughtDesk) -> None:
    """Shows what a cell did to the lab when it has run; where there is no notebook, nobody asks."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None:
        return
    known = weakref.ref(desk)

    def look(*_: Any) -> None:
        shown = known()
        if shown is None:
            shell.events.unregister("post_run_cell", look)
        elif not shown.busy and shown.thoughts.branches != shown.map.branches:
            shown.refresh()

    shell.events.register("post_run_cell", look)
