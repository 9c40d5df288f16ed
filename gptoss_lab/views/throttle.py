"""Not too often, and never too late: what changes with every token is shown now and then, its last state always."""

import threading
import time
from collections.abc import Callable

SHORTEST_PAUSE = 0.08
"""Seconds between two updates: at most 12.5 a second, which reads as a flow and leaves the time to the model."""


class Throttle:
    """Called whenever something has changed; calls `show` at most once a pause.

    What comes too soon is shown from a timer when the pause is over, so that nothing stays unseen where a stream
    stalls. `show` returns the seconds until the next time, `SHORTEST_PAUSE` where it has nothing to say about them; it
    runs in whichever thread it falls to, never in two at once.
    """

    def __init__(self, show: Callable[[], float | None]) -> None:
        self._show = show
        self._lock = threading.RLock()
        self._timer: threading.Timer | None = None
        self._next = 0.0

    def __call__(self) -> None:
        if self._timer is not None:
            return  # it will show this too
        wait = self._next - time.monotonic()
        if wait > 0:
            self._timer = threading.Timer(wait, self._show_late)
            self._timer.daemon = True
            self._timer.start()
        else:
            self._show_now()

    def flush(self) -> None:
        """Shows what there is now."""
        with self._lock:
            self.stop()
            self._show_now()

    def stop(self) -> None:
        """What has come too soon is not shown any more, and what comes next is shown at once."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._next = None, 0.0

    def _show_late(self) -> None:
        with self._lock:
            if self._timer is not threading.current_thread():
                return  # cancelled while it waited for the lock
            self._timer = None
            self._show_now()

    def _show_now(self) -> None:
        with self._lock:
            self._next = time.monotonic() + (self._show() or SHORTEST_PAUSE)
