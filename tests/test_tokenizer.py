"""Vocabularies: where gpt-oss's is found, and how a model folder carries its own."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from gptoss_lab import tokenizer

VARIABLES = ("TIKTOKEN_ENCODINGS_BASE", "TIKTOKEN_RS_CACHE_DIR", "TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR")
BYTES = {bytes([byte]): byte for byte in range(256)}
STAND_IN = b"".join(b"%s %d\n" % (base64.b64encode(token), rank) for token, rank in BYTES.items())


def tiny(**changes: object) -> tiktoken.Encoding:
    """Bytes, a few merges and harmony's control tokens, with a gap between."""
    names = sorted(tokenizer.HARMONY_CONTROL_TOKENS)
    parts = {
        "pat_str": r"\s?\S+|\s+",
        "mergeable_ranks": {**BYTES, b"th": 256, b"the": 257, "é".encode(): 258},
        "special_tokens": {name: 300 + i for i, name in enumerate(names)},
    }
    return tiktoken.Encoding("tiny", **{**parts, **changes})


# --- a folder's own vocabulary ---


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    encoding = tiny()
    path = tokenizer.save(encoding, tmp_path / "model")
    loaded = tokenizer.load(path.parent, d_vocab=512)
    assert loaded._mergeable_ranks == encoding._mergeable_ranks
    assert loaded._special_tokens == encoding._special_tokens
    assert loaded._pat_str == encoding._pat_str
    assert loaded.name == "tiny"
    assert loaded.encode("the thé<|end|>", allowed_special="all")[-1] == encoding.encode_single_token("<|end|>")
    assert [each.name for each in path.parent.iterdir()] == ["vocabulary.json"]


def test_the_file_is_plain_ascii(tmp_path: Path) -> None:
    content = tokenizer.save(tiny(), tmp_path).read_bytes()
    assert content.isascii()
    assert json.loads(content)["tokens"][256:] == ["th", "the", "Ã©"]


def test_ids_that_skip_numbers_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must have the ids 0 to 256"):
        tokenizer.save(tiny(mergeable_ranks={**BYTES, b"th": 299}), tmp_path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"pattern": None}, "'pattern' is missing"),
        ({"tokens": None}, "'tokens' is missing"),
        ({"pattern": "(unclosed"}, "."),
        ({"tokens": "th"}, "every single byte must be a token"),
        ({"tokens": [chr(byte) for byte in range(256)] + ["th", "th"]}, "occurs twice"),
        ({"tokens": [chr(byte) for byte in range(256)] + ["\u0101"]}, "latin-1"),
        ({"tokens": [*range(256)]}, "int"),
        ({"special_tokens": {"<|end|>": 300, "<|call|>": 300}}, "distinct ids from 259 on"),
        ({"special_tokens": {"<|end|>": 5}}, "distinct ids from 259 on"),
        ({"special_tokens": {"<|end|>": "300"}}, "distinct ids from 259 on"),
        ({"special_tokens": {"<|end|>": 2**40}}, "."),
    ],
)
def test_a_corrupt_file_gets_one_clear_error(tmp_path: Path, change: dict, complaint: str) -> None:
    path = tokenizer.save(tiny(), tmp_path)
    content = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    with pytest.raises(ValueError, match=f"vocabulary.json is not a vocabulary .*{complaint}"):
        tokenizer.load(tmp_path, d_vocab=512)


@pytest.mark.parametrize("content", [b"", b'{"pattern": ', b"\xff\xfe", b"[]", b"7", b"[" * 100_000])
def test_a_file_that_is_no_json_object_gets_one_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "vocabulary.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"vocabulary\.json is not a vocabulary"):
        tokenizer.load(tmp_path, d_vocab=512)


def test_a_vocabulary_larger_than_the_model_is_refused(tmp_path: Path) -> None:
    tokenizer.save(tiny(), tmp_path)
    with pytest.raises(ValueError, match="token id 306, but the model's ids end at 299"):
        tokenizer.load(tmp_path, d_vocab=300)


def test_a_small_model_without_a_vocabulary_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no vocabulary\.json, and its model's 640 tokens"):
        tokenizer.load(tmp_path, d_vocab=640)


# --- single tokens ---


def test_text_of_single_tokens() -> None:
    encoding = tiny()
    assert tokenizer.token_text(encoding, 257) == "the"
    assert tokenizer.token_text(encoding, 258) == "é"
    assert tokenizer.token_text(encoding, 0xC3) == "\N{REPLACEMENT CHARACTER}"
    assert tokenizer.token_text(encoding, encoding.encode_single_token("<|call|>")) == "<|call|>"
    for nobodys in (299, 307, 10**9, 2**40, -1):
        assert tokenizer.token_text(encoding, nobodys) == "\N{REPLACEMENT CHARACTER}"


def test_a_vocabulary_without_control_tokens_is_told_which() -> None:
    assert tokenizer.control_ids(tiny())["<|call|>"] == 300
    with pytest.raises(ValueError, match=r"tiny lacks harmony's control tokens <\|call\|>, <\|channel\|>"):
        tokenizer.control_ids(tiny(special_tokens={"<|end|>": 300}))


# --- where o200k_base.tiktoken is looked for; a small file stands in for it ---


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[bytes]:
    """Makes 256 bytes the vocabulary that is sought, and its places empty ones."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tokenizer.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    monkeypatch.setattr(tokenizer, "O200K_SHA256", hashlib.sha256(STAND_IN).hexdigest())
    tokenizer.o200k_harmony.cache_clear()
    yield STAND_IN
    tokenizer.o200k_harmony.cache_clear()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> bytes:
        raise OSError("no network")

    monkeypatch.setattr(tokenizer, "_fetch", refuse)


# The SHA-1 of the file's address, which both libraries use for a name.
CACHED = "fb374d419588a4632f3f557e76b4b70aebbca790"


@pytest.mark.parametrize(
    ("variable", "place"),
    [
        ("TIKTOKEN_ENCODINGS_BASE", "folder/o200k_base.tiktoken"),
        ("TIKTOKEN_RS_CACHE_DIR", f"folder/{CACHED}"),
        ("TIKTOKEN_CACHE_DIR", f"folder/{CACHED}"),
        ("DATA_GYM_CACHE_DIR", f"folder/{CACHED}"),
        (None, f"temporary/data-gym-cache/{CACHED}"),
        (None, f"temporary/tiktoken-rs-cache/{CACHED}"),
        (None, "cache/gptoss-lab/o200k_base.tiktoken"),
    ],
)
@pytest.mark.usefixtures("offline")
def test_found_where_the_libraries_keep_it(
    variable: str | None, place: str, stand_in: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError):
        tokenizer.o200k_harmony()
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "folder"))
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_bytes(stand_in)
    encoding = tokenizer.load(tmp_path, d_vocab=201088)
    assert encoding.n_vocab == 201088
    assert encoding.encode("é") == list("é".encode())


@pytest.mark.usefixtures("offline")
def test_offline_one_sentence_says_how_to_get_it(
    stand_in: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIKTOKEN_ENCODINGS_BASE", str(tmp_path))
    (tmp_path / "o200k_base.tiktoken").write_bytes(stand_in[:-1])
    with pytest.raises(FileNotFoundError) as caught:
        tokenizer.o200k_harmony()
    message = str(caught.value)
    assert "\n" not in message
    for part in ("no network", tokenizer.O200K_URL, "TIKTOKEN_ENCODINGS_BASE", str(tmp_path / "o200k_base.tiktoken")):
        assert part in message


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HTTPServer]:
    """Serves its attribute `content` at O200K_URL and counts the requests."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.requests += 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(server.content)))
            self.end_headers()
            self.wfile.write(server.content)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.requests = STAND_IN, 0
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(tokenizer, "O200K_URL", f"http://127.0.0.1:{server.server_port}/o200k_base.tiktoken")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.usefixtures("stand_in")
def test_fetched_once_with_a_bar(server: HTTPServer, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    tokenizer.o200k_harmony()
    tokenizer.o200k_harmony.cache_clear()
    assert tokenizer.o200k_harmony().n_vocab == 201088
    assert server.requests == 1
    assert "Fetching the vocabulary" in capsys.readouterr().err
    assert [each.name for each in (tmp_path / "cache" / "gptoss-lab").iterdir()] == ["o200k_base.tiktoken"]


@pytest.mark.usefixtures("stand_in")
def test_what_is_fetched_must_have_the_right_hash(server: HTTPServer, tmp_path: Path) -> None:
    server.content = STAND_IN + b"\n"
    with pytest.raises(FileNotFoundError, match="hash is wrong"):
        tokenizer.o200k_harmony()
    assert not (tmp_path / "cache").exists()


# --- the real vocabulary, against openai-harmony's ---


@pytest.fixture(scope="module")
def o200k_and_oracle(tmp_path_factory: pytest.TempPathFactory) -> tuple:
    openai_harmony = pytest.importorskip("openai_harmony")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer, "_fetch", lambda: (_ for _ in ()).throw(OSError("tests fetch nothing")))
        try:
            ours, data = tokenizer.o200k_harmony(), tokenizer._o200k_base()
        except FileNotFoundError as error:
            pytest.skip(str(error))
        folder = tmp_path_factory.mktemp("vocabulary")
        (folder / "o200k_base.tiktoken").write_bytes(data)
        patch.setenv("TIKTOKEN_ENCODINGS_BASE", str(folder))
        return ours, openai_harmony.load_harmony_encoding("HarmonyGptOss")


def test_special_tokens_are_openai_harmonys(o200k_and_oracle: tuple) -> None:
    ours, theirs = o200k_and_oracle
    assert ours.n_vocab == 201088
    assert ours.special_tokens_set == theirs.special_tokens_set - {"<|reserved_201088|>"}
    for name in ours.special_tokens_set:
        assert [ours.encode_single_token(name)] == theirs.encode(name, allowed_special="all")
    for token in range(199990, 201088):
        assert tokenizer.token_text(ours, token) == theirs.decode([token])


@given(st.text())
def test_text_becomes_the_same_tokens(o200k_and_oracle: tuple, text: str) -> None:
    ours, theirs = o200k_and_oracle
    assert ours.encode_ordinary(text) == theirs.encode(text, disallowed_special=())
