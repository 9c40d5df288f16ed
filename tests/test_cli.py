"""`gptoss-lab`: what it prints, how it fails, how it is stopped."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import tiktoken
import torch
from small import SMALL

from gptoss_lab import __version__, checkpoint, cli, handout, session, tokenizer, weights
from gptoss_lab.cli import main

BYTES = 256
CONTROLS = {name: BYTES + number for number, name in enumerate(tokenizer.HARMONY_CONTROL_TOKENS)}
CONFIG = replace(SMALL, d_vocab=BYTES + len(CONTROLS), n_ctx=4096, original_context=512)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model whose tokens are bytes: it writes escapes and their kin, and never ends its reply."""
    made = weights.random(CONFIG, seed=0)
    unembedding = made.unembedding * 4
    unembedding[BYTES:] = 0
    unembedding[CONTROLS["<|message|>"]] = made.unembedding[0] * 20  # its headers soon end
    unembedding[0x1B] = made.unembedding[1] * 20
    folder = tmp_path_factory.mktemp("bytes")
    checkpoint.save(folder, CONFIG, replace(made, unembedding=unembedding))
    vocabulary = {bytes([byte]): byte for byte in range(BYTES)}
    tokenizer.save(
        tiktoken.Encoding("bytes", pat_str=".|\n", mergeable_ranks=vocabulary, special_tokens=CONTROLS), folder
    )
    return folder


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """The same, to be spoilt."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_the_embedded_model_thinks_answers_and_is_accounted_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "What is 38 + 57?", "--effort", "high", "--temperature", "0"]) == 0
    thought, answer, routing = re.split(r"\n\n(?=\[final\]|Routing)", capsys.readouterr().out)
    assert thought.startswith("[analysis]\n")
    assert "95" in answer
    assert "busiest in analysis" in routing
    assert "busiest in final" in routing


def test_nothing_that_a_model_writes_reaches_the_terminal_raw(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _ask(folder, "--max-new-tokens", "300", "--seed", "1") == 0
    out = capsys.readouterr().out
    assert "⟨U+001B⟩" in out
    assert re.sub(r"[\n\t]", "", out).isprintable()
    assert "Broken off here" in out
    assert "Routing: " in out


def test_a_seed_makes_it_repeat_itself(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for seed in ("3", "3", "4"):
        assert _ask(folder, "--max-new-tokens", "20", "--seed", seed) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != said[2]


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for flag, expected in (("--version", __version__), ("--help", "gptoss-lab verify")):
        with pytest.raises(SystemExit) as stop:
            main([flag])
        assert stop.value.code == 0
        assert expected in capsys.readouterr().out


# What goes wrong


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--temperature", "-1"], "temperature"),
        (["--top-p", "0"], "top_p"),
        (["--max-new-tokens", "0"], "max_new_tokens"),
    ],
)
def test_an_argument_out_of_range_is_named(folder: Path, arguments: list[str], expected: str, capsys) -> None:
    _expect_one_line(["ask", "hi", "--model", str(folder), *arguments], expected, capsys)


def test_an_empty_question_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _expect_one_line(["ask", " \n", "--model", str(folder)], "question is empty", capsys)


def test_a_question_longer_than_the_context_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _expect_one_line(["ask", "a" * CONFIG.n_ctx, "--model", str(folder)], str(CONFIG.n_ctx), capsys)


@pytest.mark.parametrize("command", ["ask", "verify"])
def test_a_checkpoint_that_is_not_there_is_named(command: str, tmp_path: Path, capsys) -> None:
    missing = str(tmp_path / "nowhere")
    _expect_one_line(["ask", "hi", "--model", missing] if command == "ask" else ["verify", missing], missing, capsys)


def _truncate(folder: Path) -> str:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    return "model.safetensors"


def _corrupt(folder: Path) -> str:
    (folder / "model.safetensors").write_bytes(b"\xff" * 4096)
    return "model.safetensors"


def _another_architecture(folder: Path) -> str:
    _edit_json(folder / "config.json", architectures=["LlamaForCausalLM"], model_type="llama")
    return "llama"


def _another_width(folder: Path) -> str:
    _edit_json(folder / "config.json", intermediate_size=CONFIG.d_mlp * 2)
    return "gate_up_proj"


def _no_config(folder: Path) -> str:
    (folder / "config.json").unlink()
    return "config.json"


def _no_weights(folder: Path) -> str:
    (folder / "model.safetensors").unlink()
    return "safetensors"


def _spoilt_vocabulary(folder: Path) -> str:
    (folder / "vocabulary.json").write_text("{}")
    return "vocabulary.json"


def _tensor_left_out(folder: Path) -> str:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.self_attn.sinks"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return "model.layers.1.self_attn.sinks"


def _tensor_of_another_type(folder: Path) -> str:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"].to(torch.int32)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return "model.norm.weight"


@pytest.mark.parametrize(
    "spoil",
    [
        _truncate,
        _corrupt,
        _another_architecture,
        _another_width,
        _no_config,
        _no_weights,
        _spoilt_vocabulary,
        _tensor_left_out,
        _tensor_of_another_type,
    ],
)
def test_a_spoilt_checkpoint_is_told_in_one_line(spoil, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = spoil(copy)
    _expect_one_line(["ask", "hi", "--model", str(copy)], expected, capsys)


def test_an_error_message_is_not_obeyed_either(capsys: pytest.CaptureFixture[str]) -> None:
    _expect_one_line(["verify", "no\x1b[31m\r\nwhere"], "no⟨U+001B⟩[31m", capsys)


def test_an_error_that_nobody_foresaw_says_its_type(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(session, "load", _raise(KeyError("norm")))
    _expect_one_line(["ask", "hi"], "KeyError: norm (gptoss-lab --traceback", capsys)
    with pytest.raises(KeyError):
        main(["--traceback", "ask", "hi"])


def test_wrong_usage_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["ask"], ["ask", "hi", "--effort", "enormous"], ["explain"], ["--port", "99999"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith("gptoss-lab")


# How it is stopped


def test_an_interruption_while_loading_ends_without_a_word(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(session, "load", _raise(KeyboardInterrupt()))
    assert main(["ask", "hi"]) == 130
    assert capsys.readouterr() == ("", "")


def test_ctrl_c_stops_an_answer(endless: subprocess.Popen) -> None:
    endless.send_signal(signal.SIGINT)
    _, errors = endless.communicate(timeout=10)
    assert errors == b""
    assert endless.returncode == 130


def test_a_reader_that_goes_away_stops_an_answer(endless: subprocess.Popen) -> None:
    endless.stdout.close()
    errors = endless.stderr.read()
    assert endless.wait(10) == 0
    assert errors == b""


@pytest.fixture
def endless(folder: Path) -> Iterator[subprocess.Popen]:
    """A process that has begun an answer of thousands of tokens, in an encoding without most characters."""
    arguments = ["ask", "hi", "--model", str(folder), "--seed", "1", "--max-new-tokens", "3900"]
    process = _start(arguments, PYTHONIOENCODING="ascii")
    process.stdout.read(1)
    yield process
    process.kill()
    process.communicate()


# JupyterLab


def test_it_opens_jupyterlab_on_the_notebooks_with_this_python(tmp_path: Path, repository: Path) -> None:
    mine = tmp_path / "mine"
    process = _start(["--no-browser", "--port", str(_free_port()), "--folder", str(mine)], stderr=subprocess.STDOUT)
    try:
        base, token = _address(process)
        names = {entry["name"] for entry in _get(f"{base}/api/contents?token={token}")["content"]}
        assert names == {path.name for path in (repository / "notebooks").iterdir() if not path.name.startswith(".")}
        specs = _get(f"{base}/api/kernelspecs?token={token}")
        program = specs["kernelspecs"][specs["default"]]["spec"]["argv"][0]
        assert program.startswith("python") or Path(program).parent == Path(sys.executable).parent
        assert (mine / "00_start_here.ipynb").is_file()
        process.terminate()
        rest = process.communicate(timeout=30)[0]
        assert b"Traceback" not in rest
    finally:
        process.kill()


def test_a_kernel_of_another_python_is_pointed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    cli._check_kernel()
    assert capsys.readouterr().err == ""
    kernel = tmp_path / "kernels" / "python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(
        json.dumps({"argv": ["/elsewhere/bin/python", "-m", "ipykernel_launcher"], "display_name": "Python 3"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    cli._check_kernel()
    assert "/elsewhere/bin/python" in capsys.readouterr().err


def test_a_browser_is_opened_only_where_it_gets_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for variable in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(variable, raising=False)
    assert "--no-browser" in cli._server_arguments(Path("notebooks"), 8888, browser=True)
    monkeypatch.setenv("DISPLAY", ":0")
    assert "--no-browser" not in cli._server_arguments(Path("notebooks"), 8888, browser=True)
    assert "--no-browser" in cli._server_arguments(Path("notebooks"), 8888, browser=False)


def test_a_checkouts_notebooks_open_where_they_lie(repository: Path) -> None:
    assert cli._notebooks_folder(None) == repository / "notebooks"


def test_a_wheels_notebooks_go_to_a_folder_of_the_users(home: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    monkeypatch.setattr(handout, "shipped", lambda: (shipped, False))
    for text in ("first", "second", "third"):
        (shipped / "lesson.ipynb").write_text(text)
        assert cli._notebooks_folder(None) == home / "gptoss-notebooks"
        if text == "second":
            (home / "gptoss-notebooks" / "lesson.ipynb").write_text("mine")
    assert (home / "gptoss-notebooks" / "lesson.ipynb").read_text() == "mine"
    said = capsys.readouterr().out
    assert "Brought up to date: lesson.ipynb." in said
    assert (
        "You have changed lesson.ipynb, so it stays as it is; the new version is beside it, lesson.new.ipynb." in said
    )


def _ask(folder: Path, *options: str) -> int:
    return main(["ask", "hi", "--model", str(folder), *options])


def _expect_one_line(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("gptoss-lab: ")
    assert expected in err


def _raise(error: BaseException):
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def _edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _start(arguments: list[str], stderr: int = subprocess.PIPE, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "gptoss_lab", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=os.environ | environment,
        preexec_fn=_heed_interruptions,
    )


def _heed_interruptions() -> None:
    """Whoever starts tests in the background may have them ignore interruptions, and children do as their parents."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _address(process: subprocess.Popen) -> tuple[str, str]:
    """The server's address and token, from what it prints."""
    printed = []
    for line in process.stdout:
        printed.append(line.decode())
        if found := re.search(r"(http://127\.0\.0\.1:\d+)/lab\S*\?token=(\w+)", printed[-1]):
            return found.group(1), found.group(2)
    pytest.fail("JupyterLab printed no address:\n" + "".join(printed))


def _get(address: str) -> dict:
    for _ in range(50):
        try:
            with urllib.request.urlopen(address) as answer:
                return json.load(answer)
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"no answer from {address.partition('?')[0]}")
