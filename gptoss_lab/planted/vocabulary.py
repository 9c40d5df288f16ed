"""The planted models' vocabulary: single bytes, the words of harmony's system message, the words they say, controls.

A digit is always a token by itself, and the blank before a digit belongs to the word before it ("Keep 7" is "Keep " and
"7"), so that "the token after a word" is the number that a reader sees there.
"""

from functools import cache

import regex  # type: ignore[import-untyped]  # tiktoken brings it
import tiktoken

from gptoss_lab.harmony import system_message
from gptoss_lab.tokenizer import HARMONY_CONTROL_TOKENS, token_text

PATTERN = "|".join(
    [
        r"\p{N}",
        r"\p{L}+ (?=\p{N})",  # takes no blank before it: "Keep " is the same token at a line's beginning and within
        r" ?\p{L}++(?! \p{N})",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)
CONTROL_TOKENS = ("<|startoftext|>", "<|endoftext|>", *HARMONY_CONTROL_TOKENS)
ROLES_AND_CHANNELS = ("system", "developer", "user", "assistant", "analysis", "commentary", "final")

SENTENCES = (
    ("See ", " apples"),
    ("Hear ", " bells"),
    ("Keep ", " safe"),
    ("Count ", " sheep"),
    ("Smell ", " roses"),
)
"""What stands before and after the digit in each sentence that the planted models know."""

FULL_STOP = ".\n"
MARKER = "Keep "
"""The word whose number is to be kept in mind."""

CLASSES = ("control", "digit", "letter", "punctuation")
"""Classes of tokens. A word counts as letters, a blank and a line's end as punctuation."""


@cache
def encoding() -> tiktoken.Encoding:
    """Every byte and every word of the above, with harmony's control tokens."""
    opening = [system_message(effort).content for effort in ("low", "medium", "high")]
    sentences = [f"{before}7{after}{FULL_STOP}" for before, after in SENTENCES]
    words = [word.encode() for text in [*ROLES_AND_CHANNELS, *opening, *sentences] for word in _words(text)]
    tokens = list(dict.fromkeys([*(bytes([byte]) for byte in range(256)), *words]))
    return tiktoken.Encoding(
        "planted",
        pat_str=PATTERN,
        mergeable_ranks={token: rank for rank, token in enumerate(tokens)},
        special_tokens={name: len(tokens) + number for number, name in enumerate(CONTROL_TOKENS)},
    )


def token_id(text: str) -> int:
    """The id of a token, given by its text."""
    return encoding().encode_single_token(text)


def class_of(token: int) -> int:
    """A token's class: its number in `CLASSES`."""
    if encoding().is_special_token(token):
        return CLASSES.index("control")
    text = token_text(encoding(), token).strip()
    if text.isdigit():
        return CLASSES.index("digit")
    part_of_a_letter = text == "\N{REPLACEMENT CHARACTER}"  # a byte that is no character by itself
    return CLASSES.index("letter" if text.isalpha() or part_of_a_letter else "punctuation")


def _words(text: str) -> list[str]:
    return regex.findall(PATTERN, text)
