"""From what people give to tokens: prompts, the replies to them, and right answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gptoss_lab.harmony import Message, render
from gptoss_lab.reply import Reply
from gptoss_lab.session import Model

Prompt = str | Sequence[Message] | Reply
"""A question, a conversation, or a reply with its prompt."""


@dataclass(frozen=True)
class Text:
    """A prompt in tokens, ready to be answered, with what is known of its reply."""

    prompt: list[int]
    reply: list[int] | None = None
    """None where the model is to answer."""
    answer: str = ""
    """The right answer, where answers are judged."""


def texts_of(model: Model, prompts: Any) -> list[Text]:
    """One or several prompts. Raises ValueError where there are none, and for a reply without tokens."""
    if isinstance(prompts, (str, Reply)) or _is_conversation(prompts):
        prompts = [prompts]
    texts = [_text(model, prompt) for prompt in prompts]
    if not texts:
        raise ValueError("there are no prompts: give at least one")
    return texts


def questions_of(model: Model, pairs: Any) -> list[Text]:
    """One or several pairs of a prompt and its right answer. Raises ValueError for anything else."""
    pairs = [pairs] if _is_pair(pairs) else list(pairs)
    if wrong := [pair for pair in pairs if not _is_pair(pair)]:
        raise ValueError(f"expected pairs of a prompt and its right answer; got {str(wrong[0])[:200]!r}")
    if not pairs:
        raise ValueError("there are no prompts: give at least one, with its right answer")
    return [Text(_text(model, prompt).prompt, answer=answer) for prompt, answer in pairs]


def _text(model: Model, prompt: Prompt) -> Text:
    if isinstance(prompt, Reply):
        if not prompt.tokens:
            raise ValueError("a reply without tokens was given: there is nothing to look at in it")
        return Text(prompt.prompt_tokens, prompt.tokens)
    if not isinstance(prompt, str) and not _is_conversation(prompt):
        raise ValueError(f"a prompt is a question, messages or a reply; got {str(prompt)[:200]!r}")
    messages = model.conversation(prompt)
    n_asked = max(n for n, message in enumerate(messages, start=1) if message.role != "assistant")
    asked = render(messages[:n_asked], model.tokenizer, drop_analysis=False).tokens
    if n_asked == len(messages):
        return Text(asked)
    whole = render(messages, model.tokenizer, for_completion=False, drop_analysis=False).tokens
    return Text(whole[: len(asked)], whole[len(asked) :])


def _is_conversation(given: Any) -> bool:
    return isinstance(given, (list, tuple)) and len(given) > 0 and all(isinstance(one, Message) for one in given)


def _is_pair(given: Any) -> bool:
    return (
        isinstance(given, tuple)
        and len(given) == 2
        and isinstance(given[1], str)
        and (isinstance(given[0], (str, Reply)) or _is_conversation(given[0]))
    )
