"""The embedded model's vocabulary: a byte-level byte-pair encoding, trained on the model's own conversations.

Small enough that embeddings do not outweigh the model, and fitted to what it reads: the words of the system message
are one token each, and every digit stands alone, so that a column of a sum is a token of each number.

Byte-pair encoding: Sennrich, Haddow and Birch, arXiv 1508.07909; on bytes: GPT-2 (Radford et al. 2019, section 2.2).
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise

import regex  # type: ignore[import-untyped]  # tiktoken brings it
import tiktoken
from tqdm.auto import tqdm

from gptoss_lab import harmony
from gptoss_lab.nano.data import conversation
from gptoss_lab.tokenizer import HARMONY_CONTROL_TOKENS

# A digit; a word or a run of signs with the blank before it, and with the blank after it where a digit follows (so that
# the blank is no token of its own and the digit is the same token everywhere); line ends; other blanks. What is to be
# copied should be the same tokens wherever it stands: so the blank is parted from a name, which has a capital letter,
# and from the name of a function where that is declared.
PATTERN = "|".join(
    [
        r"\p{N}",
        r" (?=\p{Lu})",
        r"(?<=\btype) (?=\w)",
        r" ?\p{L}+(?: (?=\p{N}))?",
        r" ?[^\s\p{L}\p{N}]+(?:[\r\n]+| (?=\p{N}))?",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)
CONTROL_TOKENS = ("<|startoftext|>", "<|endoftext|>", *HARMONY_CONTROL_TOKENS)

Word = tuple[bytes, ...]


def build(d_vocab: int, seed: int, n_conversations: int = 10_000) -> tiktoken.Encoding:
    """A vocabulary of `d_vocab` tokens for the conversations of a seed.

    Raises ValueError where their text has too few pairs to merge for so many tokens.
    """
    words = Counter(word for text in _texts(seed, n_conversations) for word in regex.findall(PATTERN, text))
    return _encoding(train(words, d_vocab - len(CONTROL_TOKENS)))


def train(words: dict[str, int], n_tokens: int) -> list[bytes]:
    """The bytes, then the merged pairs in order of merging: the most frequent pair each time, the smaller of two
    equals.

    words: how often each piece of text occurs; pairs never reach across pieces.
    """
    tokens = [bytes([byte]) for byte in range(256)]
    split = {word: tuple(bytes([byte]) for byte in word.encode()) for word in words}
    counts: Counter[tuple[bytes, bytes]] = Counter()
    where: defaultdict[tuple[bytes, bytes], set[str]] = defaultdict(set)

    def count(word: str, sign: int) -> None:
        for pair in _pairs(split[word]):
            counts[pair] += sign * words[word]
            where[pair].add(word)

    for word in words:
        count(word, +1)
    for _ in tqdm(range(n_tokens - len(tokens)), desc="Training the vocabulary", unit="merge"):
        best = max(counts, key=lambda pair: (counts[pair], pair), default=None)
        if best is None or counts[best] < 1:
            raise ValueError(f"the text has only {len(tokens)} tokens to find, not {n_tokens}: give more text")
        tokens.append(best[0] + best[1])
        for word in where.pop(best):
            count(word, -1)
            split[word] = _merged(split[word], best)
            count(word, +1)
        del counts[best]
    return tokens


def _texts(seed: int, n_conversations: int) -> Iterator[str]:
    """What stands between the control tokens of rendered conversations."""
    single_bytes = _encoding([bytes([byte]) for byte in range(256)])
    control = re.compile("|".join(map(re.escape, CONTROL_TOKENS)))
    for number in range(n_conversations):
        messages = conversation(seed, number).messages
        tokens = harmony.render(messages, single_bytes, for_completion=False, drop_analysis=False).tokens
        yield from filter(None, control.split(single_bytes.decode(tokens)))


def _encoding(tokens: list[bytes]) -> tiktoken.Encoding:
    return tiktoken.Encoding(
        "nano",
        pat_str=PATTERN,
        mergeable_ranks={token: rank for rank, token in enumerate(tokens)},
        special_tokens={name: len(tokens) + n for n, name in enumerate(CONTROL_TOKENS)},
    )


def _pairs(word: Word) -> Iterable[tuple[bytes, bytes]]:
    return pairwise(word)


def _merged(word: Word, pair: tuple[bytes, bytes]) -> Word:
    merged, position = [], 0
    while position < len(word):
        width = 2 if word[position : position + 2] == pair else 1
        merged.append(b"".join(word[position : position + width]))
        position += width
    return tuple(merged)
