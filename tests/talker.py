"""A stand-in for a model: it says what it was told to say, a token at a time, as `Model.chat` would."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import traces

from gptoss_lab.harmony import Message
from gptoss_lab.live import StreamedToken
from gptoss_lab.reply import Reply


class Talker:
    """Answers every question with the same turns; `pause` is in seconds, before each token."""

    def __init__(self, turns: Sequence[traces.Turn] = traces.ADDITION, pause: float = 0.0) -> None:
        self.turns, self.pause = turns, pause
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def chat(
        self,
        question: str,
        *,
        on_token: Callable[[StreamedToken], None],
        should_stop: Callable[[], bool],
        **options: Any,
    ) -> Reply:
        self.asked.append((question, options))
        trace = traces.conversation(self.turns)
        said, finish = trace.n_prompt, "stop"
        for place in range(trace.n_prompt, len(trace.token_ids)):
            if should_stop():
                finish = "interrupted"
                break
            time.sleep(self.pause)
            text, span = trace.texts[place], trace.spans[place]
            on_token(StreamedToken(int(trace.token_ids[place]), text, span, float(trace.logprobs[place])))
            said = place + 1
        return Reply(
            messages=[
                Message(role, content, channel, recipient)
                for role, channel, recipient, content in self.turns
                if role == "assistant"
            ],
            conversation=[],
            tokens=trace.token_ids[trace.n_prompt : said].tolist(),
            spans=trace.spans[trace.n_prompt : said],
            logprobs=trace.logprobs[trace.n_prompt : said].tolist(),
            prompt_tokens=trace.token_ids[: trace.n_prompt].tolist(),
            prompt_spans=trace.spans[: trace.n_prompt],
            finish=finish,
            seconds=0.5,
            trace=trace,
        )


class Broken:
    """A model whose chat always fails."""

    def chat(self, question: str, **options: Any) -> Reply:
        raise ValueError(f"cannot answer {question!r}")
