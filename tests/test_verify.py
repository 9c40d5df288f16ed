"""`gptoss-lab verify` on sound checkpoints and on such as have something wrong with them."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tiktoken
import torch
from small import SMALL, in_transformers

from gptoss_lab import checkpoint, cli, tokenizer
from gptoss_lab import weights as weights_module
from gptoss_lab.config import PRESETS
from gptoss_lab.model import Transformer
from gptoss_lab.mxfp4 import Mxfp4
from gptoss_lab.ops import numba_ops
from gptoss_lab.verify import PROMPT, TOLERANCE, compare, parameters, verify
from gptoss_lab.weights import Weights

BYTES = tiktoken.Encoding(
    "bytes",
    pat_str=r"[\s\S]",
    mergeable_ranks={bytes([byte]): byte for byte in range(256)},
    special_tokens={name: 256 + i for i, name in enumerate(tokenizer.HARMONY_CONTROL_TOKENS)},
)
CONFIG = replace(SMALL, d_vocab=270, n_layers=2)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify") / "model"
    checkpoint.save(folder, CONFIG, weights_module.random(CONFIG))
    tokenizer.save(BYTES, folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A sound checkpoint with a vocabulary, to spoil."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def report(path: Path) -> tuple[bool, str]:
    lines: list[str] = []
    sound = verify(path, lines.append)
    return sound, "\n".join(lines)


def test_a_sound_checkpoint_is_described_and_passes(folder: Path) -> None:
    sound, said = report(folder)
    assert sound
    assert said.endswith("Verdict: sound. Not checked: files.")
    digest = hashlib.sha256((folder / "vocabulary.json").read_bytes()).hexdigest()
    for part in (
        str(folder),
        "root, experts packed in MXFP4, 1 file, 0.3 MB",
        "of its own: 2 layers of width 64",
        "8 experts of which 2 serve a token, 270 tokens",
        "every number is finite",
        digest,
        "numba and torch agree in all 2 layers",
        f"after {PROMPT!r} it expects ",
    ):
        assert part in said


def test_without_a_vocabulary_the_rest_is_checked(folder: Path) -> None:
    (folder / "vocabulary.json").unlink()
    sound, said = report(folder)
    assert sound
    assert said.endswith("Verdict: sound. Not checked: files, vocabulary.")
    assert "numba and torch agree" in said


def test_an_unpacked_checkpoint_passes(tmp_path: Path) -> None:
    in_transformers(CONFIG, weights_module.random(CONFIG)).save_pretrained(tmp_path / "plain")
    sound, said = report(tmp_path / "plain")
    assert sound
    assert "root, experts not packed" in said


def test_the_published_parameter_counts() -> None:
    """gpt-oss model card (arXiv 2508.10925), table 1: 20.91 and 116.83 billion, active 3.61 and 5.13."""
    for name, total, active in (("20b", 20.91, 3.61), ("120b", 116.83, 5.13)):
        found = [round(n / 1e9, 2) for n in parameters(PRESETS[name])]
        assert found == [total, active]


def with_nan(weights: Weights) -> Weights:
    router = weights.layers[1].router.clone()
    router[2, 3] = torch.nan
    return replace(weights, layers=(weights.layers[0], replace(weights.layers[1], router=router)))


def with_nan_scale(weights: Weights) -> Weights:
    down = weights.layers[0].down
    assert isinstance(down, Mxfp4)
    scales = down.scales.clone()
    scales[1, 2, 0] = 255  # E8M0's NaN
    return replace(weights, layers=(replace(weights.layers[0], down=Mxfp4(down.blocks, scales)), weights.layers[1]))


@pytest.mark.parametrize(
    ("spoil", "tensor"),
    [(with_nan, "model.layers.1.mlp.router.weight"), (with_nan_scale, "model.layers.0.mlp.experts.down_proj_scales")],
)
def test_what_is_no_number_is_named(folder: Path, spoil: Callable[[Weights], Weights], tensor: str) -> None:
    checkpoint.save(folder, CONFIG, spoil(checkpoint.load(folder)[1]))
    sound, said = report(folder)
    assert not sound
    assert f"✗ values      {tensor} holds what is no finite number" in said
    assert "Verdict: not sound; look at values" in said


@pytest.mark.parametrize("operation", ["linear", "attention", "expert_shares"])
def test_engines_that_disagree_are_told_on(folder: Path, monkeypatch: pytest.MonkeyPatch, operation: str) -> None:
    right = getattr(numba_ops, operation)
    monkeypatch.setattr(numba_ops, operation, lambda *arguments: right(*arguments) * 1.001)
    sound, said = report(folder)
    assert not sound
    assert "✗ engines     numba and torch differ by" in said
    assert said.endswith("Verdict: not sound; look at engines.")


def test_each_layer_answers_for_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = numba_ops.expert_shares
    calls: list[int] = []

    def wrong_in_layer_zero(*arguments):
        calls.append(1)
        return right(*arguments) * (1.01 if len(calls) == 1 else 1)

    monkeypatch.setattr(numba_ops, "expert_shares", wrong_in_layer_zero)
    config, weights = checkpoint.load(folder)
    reference, other = (Transformer(config, weights, engine=engine) for engine in ("torch", "numba"))
    _, apart = compare(reference, other, list(b"any ids will do"))
    assert [point for point, difference in apart if difference > TOLERANCE] == ["blocks.0.hook_mlp_out"]
    assert len(apart) == 3 * config.n_layers + 1


def as_in_the_hub_cache(folder: Path, blobs: Path) -> None:
    """The folder's tensor file replaced by a link to a blob that is named by its SHA-256."""
    file = folder / "model.safetensors"
    blobs.mkdir()
    blob = blobs / hashlib.sha256(file.read_bytes()).hexdigest()
    shutil.move(file, blob)
    file.symlink_to(blob)


def test_a_damaged_download_is_told_from_a_whole_one(folder: Path, tmp_path: Path) -> None:
    as_in_the_hub_cache(folder, tmp_path / "blobs")
    sound, said = report(folder)
    assert sound
    assert said.endswith("Verdict: sound.")
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-1000, 2)
        byte = file.read(1)
        file.seek(-1000, 2)
        file.write(bytes([byte[0] ^ 1]))
    sound, said = report(folder)
    assert not sound
    assert "✗ files       model.safetensors: not the SHA-256 of the hub" in said


def test_a_corrupt_vocabulary_is_found(folder: Path) -> None:
    (folder / "vocabulary.json").write_text("{}")
    sound, said = report(folder)
    assert not sound
    assert "✗ vocabulary" in said


def test_what_cannot_be_loaded_gets_a_verdict_and_the_reason(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["verify", str(folder)]) == 0
    assert "Verdict: sound." in capsys.readouterr().out
    (folder / "model.safetensors").write_bytes(b"short")
    assert cli.main(["verify", str(folder)]) == 2
    printed = capsys.readouterr()
    assert printed.out == "Verdict: this cannot be used.\n"
    assert "model.safetensors is truncated" in printed.err
