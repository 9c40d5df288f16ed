"""Vocabularies, all as `tiktoken.Encoding`: gpt-oss's own, and those that small models carry in their folders.

A model folder may hold a `vocabulary.json`, a plain JSON object:

    pattern         the regular expression that splits text before byte pairs are merged
    tokens          the byte-pair tokens in the order of their ids, which is also the order of merging; each character
                    of a string stands for the byte of the same number, so "Ã©" are the two bytes of "é" in UTF-8
    special_tokens  names and ids of the control tokens

A folder without one is taken to use `o200k_harmony`, if the model's vocabulary has that size.
"""

import base64
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import tiktoken

O200K_URL = "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"
O200K_SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
O200K_HARMONY_SIZE = 201088
VOCABULARY_FILE = "vocabulary.json"

HARMONY_CONTROL_TOKENS = {
    "<|return|>": 200002,
    "<|constrain|>": 200003,
    "<|channel|>": 200005,
    "<|start|>": 200006,
    "<|end|>": 200007,
    "<|message|>": 200008,
    "<|call|>": 200012,
}
"""What harmony writes conversations with. The ids are o200k_harmony's; another vocabulary has its own."""


@cache
def o200k_harmony() -> tiktoken.Encoding:
    """The vocabulary of gpt-oss-20b and gpt-oss-120b, as openai-harmony defines it (201,088 ids).

    Reads o200k_base.tiktoken from where tiktoken or openai-harmony keep it, or else fetches it once (3.6 MB).

    Raises FileNotFoundError where it is neither at hand nor to be had.
    """
    control_tokens = {"<|startoftext|>": 199998, "<|endoftext|>": 199999, **HARMONY_CONTROL_TOKENS}
    lines = _o200k_base().splitlines()
    # openai-harmony reserves one more, 201088, for which the models have no embedding. tiktoken's encoding of the same
    # name has <|endofprompt|> among these; openai-harmony, and so this one, has not.
    reserved = set(range(199998, O200K_HARMONY_SIZE)) - set(control_tokens.values())
    return tiktoken.Encoding(
        "o200k_harmony",
        pat_str=O200K_PATTERN,
        mergeable_ranks={base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines)},
        special_tokens=control_tokens | {f"<|reserved_{token}|>": token for token in sorted(reserved)},
    )


def load(folder: str | os.PathLike[str], d_vocab: int) -> tiktoken.Encoding:
    """The vocabulary of the model in a folder: its own, or o200k_harmony where the model has that many tokens.

    Raises FileNotFoundError if the folder has none and the size is another, ValueError if its file is corrupt or has
    ids for which the model has no embedding.
    """
    path = Path(folder) / VOCABULARY_FILE
    if path.is_file():
        encoding = _read(path)
        if encoding.n_vocab > d_vocab:
            raise ValueError(f"{path} has token id {encoding.n_vocab - 1}, but the model's ids end at {d_vocab - 1}")
        return encoding
    if d_vocab == O200K_HARMONY_SIZE:
        return o200k_harmony()
    raise FileNotFoundError(
        f"{folder} has no {VOCABULARY_FILE}, and its model's {d_vocab} tokens are not the {O200K_HARMONY_SIZE} of "
        "o200k_harmony: write its vocabulary there with gptoss_lab.tokenizer.save"
    )


def save(encoding: tiktoken.Encoding, folder: str | os.PathLike[str]) -> Path:
    """Writes a vocabulary into a model's folder, for `load`. Returns the file's path.

    Raises ValueError if the ids of the byte-pair tokens do not count up from 0.
    """
    ranks = encoding._mergeable_ranks  # tiktoken has no public names for these two and the pattern
    tokens = sorted(ranks, key=ranks.__getitem__)
    if [ranks[token] for token in tokens] != list(range(len(tokens))):
        raise ValueError(f"the byte-pair tokens of {encoding.name} must have the ids 0 to {len(tokens) - 1}")
    content = {
        "name": encoding.name,
        "pattern": encoding._pat_str,
        "special_tokens": encoding._special_tokens,
        "tokens": [token.decode("latin-1") for token in tokens],
    }
    path = Path(folder) / VOCABULARY_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_whole(path, json.dumps(content, indent=0).encode())
    return path


def control_ids(encoding: tiktoken.Encoding) -> dict[str, int]:
    """Harmony's control tokens and their ids in a vocabulary. Raises ValueError if one is lacking."""
    if lacking := HARMONY_CONTROL_TOKENS.keys() - encoding.special_tokens_set:
        raise ValueError(f"the vocabulary {encoding.name} lacks harmony's control tokens {', '.join(sorted(lacking))}")
    return {name: encoding.encode_single_token(name) for name in HARMONY_CONTROL_TOKENS}


def token_bytes(encoding: tiktoken.Encoding, token: int) -> bytes:
    """The bytes that a token stands for; those of the replacement character for an id without one."""
    try:
        return encoding.decode_single_token_bytes(token)
    except (KeyError, OverflowError):
        return "\N{REPLACEMENT CHARACTER}".encode()


def token_text(encoding: tiktoken.Encoding, token: int) -> str:
    """A token by itself, for display: bytes that are not whole characters are shown as replacement characters."""
    return token_bytes(encoding, token).decode(errors="replace")


# The split of o200k_base, as OpenAI's tiktoken publishes it: words with a leading sign and an English contraction, in
# lower or mixed case and in upper case; up to three digits; punctuation; line ends; blanks.
O200K_PATTERN = "|".join(
    [
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)


def _o200k_base() -> bytes:
    """The content of o200k_base.tiktoken: a line for each token, its bytes in base64 and its id."""
    damaged = []
    for path in _places():
        if path.is_file():
            data = path.read_bytes()
            if _is_o200k(data):
                return data
            damaged.append(str(path))
    try:
        data = _fetch()
    except OSError as error:
        found = f" (what {' and '.join(damaged)} holds is something else)" if damaged else ""
        raise FileNotFoundError(
            f"the vocabulary o200k_base.tiktoken is not on this machine{found} and could not be fetched ({error}): "
            f"download {O200K_URL} elsewhere, and set the environment variable TIKTOKEN_ENCODINGS_BASE to its folder"
        ) from error
    with suppress(OSError):  # a home that cannot be written to costs a download each time, no more
        _write_whole(_own_cache(), data)
    return data


def _is_o200k(data: bytes) -> bool:
    return hashlib.sha256(data).hexdigest() == O200K_SHA256


def _places() -> Iterator[Path]:
    """Where the file may already be. Both libraries name a cached file by the SHA-1 of its address."""
    temporary = Path(tempfile.gettempdir())
    cached_name = hashlib.sha1(O200K_URL.encode(), usedforsecurity=False).hexdigest()
    if folder := os.environ.get("TIKTOKEN_ENCODINGS_BASE"):
        yield Path(folder) / "o200k_base.tiktoken"
    yield Path(os.environ.get("TIKTOKEN_RS_CACHE_DIR") or temporary / "tiktoken-rs-cache") / cached_name
    tiktoken_folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR"))
    yield Path(tiktoken_folder or temporary / "data-gym-cache") / cached_name
    yield _own_cache()


def _own_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gptoss-lab" / "o200k_base.tiktoken"


def _fetch() -> bytes:
    """Downloads o200k_base.tiktoken with a progress bar. Raises OSError, also if what came is something else."""
    import requests  # tiktoken brings it
    from tqdm.auto import tqdm

    data = bytearray()
    with requests.get(O200K_URL, stream=True, timeout=30) as response:
        response.raise_for_status()
        size = int(response.headers.get("Content-Length", 0)) or None
        with tqdm(desc="Fetching the vocabulary", total=size, unit="B", unit_scale=True) as bar:
            for piece in response.iter_content(1 << 16):
                data += piece
                bar.update(len(piece))
    if not _is_o200k(bytes(data)):
        raise OSError("what was sent is not the expected file: its hash is wrong")
    return bytes(data)


def _write_whole(path: Path, data: bytes) -> None:
    """Puts a file in place at once, so that nobody ever reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        unfinished = Path(file.name)
    try:
        unfinished.write_bytes(data)
        unfinished.chmod(0o644)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _read(path: Path) -> tiktoken.Encoding:
    try:
        content = json.loads(path.read_bytes())
        tokens = [token.encode("latin-1") for token in content["tokens"]]
        special_tokens = dict(content["special_tokens"])
        _check(tokens, special_tokens)
        return tiktoken.Encoding(
            str(content.get("name", path.parent.name)),
            pat_str=content["pattern"],
            mergeable_ranks={token: rank for rank, token in enumerate(tokens)},
            special_tokens=special_tokens,
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path} is not a vocabulary as gptoss_lab.tokenizer.save writes it: {reason}") from error


def _check(tokens: list[bytes], special_tokens: dict[str, Any]) -> None:
    if len(set(tokens)) != len(tokens):
        raise ValueError("a byte-pair token occurs twice")
    if absent := {bytes([byte]) for byte in range(256)}.difference(tokens):
        raise ValueError(f"every single byte must be a token, and {min(absent)!r} is none")
    ids = list(special_tokens.values())
    if not all(type(token) is int and token >= len(tokens) for token in ids) or len(set(ids)) != len(ids):
        raise ValueError(f"the special tokens must have distinct ids from {len(tokens)} on")
