"""Checkpoints in every dialect, against transformers and the format's own library; and what bad ones get."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from small import SMALL, in_transformers, tokens

from gptoss_lab import checkpoint, mxfp4
from gptoss_lab import weights as weights_module
from gptoss_lab.checkpoint import container, hub, reading, residence, writing
from gptoss_lab.checkpoint.__main__ import main
from gptoss_lab.config import PRESETS, ModelConfig
from gptoss_lab.model import Transformer
from gptoss_lab.mxfp4 import Mxfp4
from gptoss_lab.weights import Weights

CONFIG = replace(SMALL, d_mlp=96)  # expert matrices with three unlike sides
INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def weights() -> Weights:
    return weights_module.random(CONFIG, seed=3)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, weights: Weights) -> Path:
    return checkpoint.save(tmp_path_factory.mktemp("saved") / "model", CONFIG, weights)


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A packed checkpoint in the root dialect, one file, to be spoilt."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def flat(weights: Weights) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor with a name, packed ones as two."""
    owners = [("", weights), *((f"{number}.", layer) for number, layer in enumerate(weights.layers))]
    for prefix, owner in owners:
        for field in fields(owner):
            value = getattr(owner, field.name)
            if isinstance(value, Mxfp4):
                yield f"{prefix}{field.name}.blocks", value.blocks
                yield f"{prefix}{field.name}.scales", value.scales
            elif isinstance(value, torch.Tensor):
                yield f"{prefix}{field.name}", value


def assert_same(found: Weights, expected: Weights) -> None:
    found_tensors, expected_tensors = dict(flat(found)), dict(flat(expected))
    assert found_tensors.keys() == expected_tensors.keys()
    for name, tensor in expected_tensors.items():
        assert found_tensors[name].dtype == tensor.dtype, name
        assert torch.equal(found_tensors[name], tensor), name


def in_original_dialect(folder: Path, config: ModelConfig, weights: Weights) -> Path:
    """The same model as OpenAI's own files hold it (names and shapes: openai/gpt-oss, gpt_oss/torch)."""
    tensors = {
        "embedding.weight": weights.embedding,
        "norm.scale": weights.final_norm.bfloat16(),
        "unembedding.weight": weights.unembedding,
    }
    for number, layer in enumerate(weights.layers):
        assert isinstance(layer.gate_up, Mxfp4)
        assert isinstance(layer.down, Mxfp4)
        block = {
            "attn.norm.scale": layer.attn_norm.bfloat16(),
            "attn.qkv.weight": torch.cat((layer.q, layer.k, layer.v)),
            "attn.qkv.bias": torch.cat((layer.q_bias, layer.k_bias, layer.v_bias)).bfloat16(),
            "attn.sinks": layer.sinks.bfloat16(),
            "attn.out.weight": layer.o,
            "attn.out.bias": layer.o_bias.bfloat16(),
            "mlp.norm.scale": layer.mlp_norm.bfloat16(),
            "mlp.gate.weight": layer.router,
            "mlp.gate.bias": layer.router_bias.bfloat16(),
            "mlp.mlp1_weight.blocks": layer.gate_up.blocks,
            "mlp.mlp1_weight.scales": layer.gate_up.scales,
            "mlp.mlp1_bias": layer.gate_up_bias.bfloat16(),
            "mlp.mlp2_weight.blocks": layer.down.blocks,
            "mlp.mlp2_weight.scales": layer.down.scales,
            "mlp.mlp2_bias": layer.down_bias.bfloat16(),
        }
        tensors |= {f"block.{number}.{name}": tensor for name, tensor in block.items()}
    folder.mkdir(parents=True)
    safetensors.torch.save_file(tensors, folder / "model.safetensors")
    shape = {
        "num_hidden_layers": config.n_layers,
        "num_experts": config.n_experts,
        "experts_per_token": config.experts_per_token,
        "vocab_size": config.d_vocab,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_mlp,
        "head_dim": config.d_head,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "sliding_window": config.sliding_window,
        "initial_context_length": config.original_context,
        "rope_theta": config.rope_theta,
        "rope_scaling_factor": config.rope_factor,
        "rope_ntk_alpha": config.rope_beta_slow,
        "rope_ntk_beta": config.rope_beta_fast,
        "swiglu_limit": config.swiglu_limit,
    }
    (folder / "config.json").write_text(json.dumps(shape))
    return folder


# The dialects


def test_what_is_saved_is_loaded(folder: Path, weights: Weights) -> None:
    config, loaded = checkpoint.load(folder)
    assert config == CONFIG
    assert_same(loaded, weights)


def test_vectors_beyond_bfloat16_keep_their_precision(tmp_path: Path, weights: Weights) -> None:
    weights = replace(weights, final_norm=weights.final_norm + 1e-4)
    assert_same(checkpoint.load(checkpoint.save(tmp_path / "model", CONFIG, weights))[1], weights)


def test_plain_experts_are_packed_when_saved(tmp_path: Path) -> None:
    plain = weights_module.random(CONFIG, packed=False, dtype=torch.float32)
    _, loaded = checkpoint.load(checkpoint.save(tmp_path / "model", CONFIG, plain))
    assert_same(loaded, weights_module.pack(plain))


def test_shards_are_written_and_read(tmp_path: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "SHARD_BYTES", 50_000)
    folder = checkpoint.save(tmp_path / "model", CONFIG, weights)
    shards = sorted(folder.glob("*.safetensors"))
    assert len(shards) > 3
    assert shards[0].name == f"model-00001-of-{len(shards):05}.safetensors"
    assert all(shard.stat().st_size < 60_000 for shard in shards)
    assert_same(checkpoint.load(folder)[1], weights)


def test_the_original_dialect_holds_the_same_model(tmp_path: Path, weights: Weights) -> None:
    config, loaded = checkpoint.load(in_original_dialect(tmp_path / "model", CONFIG, weights))
    assert config == CONFIG
    assert_same(loaded, weights)
    assert loaded.layers[0].q.untyped_storage().data_ptr() == loaded.layers[0].v.untyped_storage().data_ptr()


def test_of_a_repository_the_root_is_read_and_original_where_it_is_alone(folder: Path, weights: Weights) -> None:
    other = weights_module.random(CONFIG, seed=4)
    in_original_dialect(folder / "original", CONFIG, other)
    assert_same(checkpoint.load(folder)[1], weights)
    (folder / "model.safetensors").unlink()
    assert_same(checkpoint.load(folder)[1], other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_transformers_unpacked_checkpoint_is_turned(tmp_path: Path, dtype: torch.dtype) -> None:
    plain = weights_module.random(CONFIG, packed=False, dtype=dtype)
    in_transformers(CONFIG, plain).to(dtype).save_pretrained(tmp_path / "model", max_shard_size="200KB")
    assert (tmp_path / "model" / INDEX).is_file()
    config, loaded = checkpoint.load(tmp_path / "model")
    assert config == CONFIG
    assert_same(loaded, plain)
    assert loaded.layers[0].gate_up.is_contiguous()  # type: ignore[union-attr]


def test_transformers_loads_what_is_saved(folder: Path, weights: Weights) -> None:
    theirs = transformers.GptOssForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    expected = in_transformers(CONFIG, weights).state_dict()
    found = theirs.state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name].float(), tensor), name
    prompt = tokens(2, 20, CONFIG)
    ours = Transformer(*checkpoint.load(folder), engine="torch")
    with torch.no_grad():
        logits = theirs.float().eval()(prompt).logits
    assert (ours(prompt) - logits).abs().max() < 1e-4 * logits.abs().max()


def test_config_fields_are_added(tmp_path: Path, weights: Weights) -> None:
    folder = checkpoint.save(tmp_path / "model", CONFIG, weights, config_fields={"eos_token_id": 7})
    written = json.loads((folder / "config.json").read_text())
    assert written["eos_token_id"] == 7
    assert written["quantization_config"]["quant_method"] == "mxfp4"
    assert written["dtype"] == "bfloat16"


# Mapping


def test_matrices_and_experts_are_mapped_and_vectors_are_not(folder: Path) -> None:
    if not Path("/proc/self/maps").is_file():
        pytest.skip("only Linux lists a process's mappings in /proc/self/maps")
    _, loaded = checkpoint.load(folder)
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    ours = [line[0].split("-") for line in lines if line[-1] == str(folder / "model.safetensors")]
    assert ours
    for name, tensor in flat(loaded):
        mapped = any(int(start, 16) <= tensor.data_ptr() < int(end, 16) for start, end in ours)
        assert mapped == (tensor.dtype != torch.float32), name


def test_neither_running_nor_editing_changes_the_file(folder: Path, weights: Weights) -> None:
    before = (folder / "model.safetensors").read_bytes()
    config, loaded = checkpoint.load(folder)
    for engine in ("torch", "numba"):
        Transformer(config, loaded, engine=engine)(tokens(1, 20, config))
    assert_same(loaded, weights)
    loaded.embedding[0] = 7
    assert loaded.embedding[0, 0] == 7
    assert (folder / "model.safetensors").read_bytes() == before
    assert_same(checkpoint.load(folder)[1], weights)


def test_weights_mapped_from_a_checkpoint_can_replace_it(folder: Path, weights: Weights) -> None:
    config, loaded = checkpoint.load(folder)
    checkpoint.save(folder, config, loaded)
    assert_same(loaded, weights)
    assert_same(checkpoint.load(folder)[1], weights)


def test_weights_that_are_read_need_no_file(folder: Path, weights: Weights) -> None:
    _, mapped = checkpoint.load(folder)
    read = checkpoint.reside(mapped)
    for tensor in mapped.embedding, mapped.unembedding, mapped.layers[0].gate_up.blocks:
        tensor.zero_()
    assert_same(read, weights)
    assert all(tensor.data_ptr() % 64 == 0 for _, tensor in flat(read))


def test_weights_that_are_read_have_to_fit(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residence, "free_memory", lambda: 1000)
    with pytest.raises(
        MemoryError, match=r"the weights take 0\.\d GB and 0\.0 GB of memory are free; load them mapped"
    ):
        checkpoint.reside(weights)


def test_a_failed_save_leaves_what_was_there(folder: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(tensor: torch.Tensor) -> memoryview:
        raise OSError("disk full")

    monkeypatch.setattr(container, "tensor_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save(folder, CONFIG, weights_module.random(CONFIG, seed=9))
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert_same(checkpoint.load(folder)[1], weights)


def test_a_new_checkpoint_leaves_no_shards_of_the_old(
    tmp_path: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(writing, "SHARD_BYTES", 50_000)
        folder = checkpoint.save(tmp_path / "model", CONFIG, weights_module.random(CONFIG, seed=8))
    (folder / "vocabulary.json").write_text("{}")
    checkpoint.save(folder, CONFIG, weights)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["config.json", "model.safetensors", "vocabulary.json"]
    assert_same(checkpoint.load(folder)[1], weights)


def test_saving_weights_of_another_shape_is_refused(tmp_path: Path, weights: Weights) -> None:
    with pytest.raises(ValueError, match=r"3 layers; expected n_layers, 2"):
        checkpoint.save(tmp_path / "model", replace(CONFIG, n_layers=2), weights)
    with pytest.raises(ValueError, match=r"layer 0: gate_up has the shape \[8, 192, 64\]; expected \[8, 128, 64\]"):
        checkpoint.save(tmp_path / "model", replace(CONFIG, d_mlp=64), weights)
    with pytest.raises(ValueError, match="float16; a checkpoint holds bfloat16 or float32"):
        checkpoint.save(tmp_path / "model", CONFIG, replace(weights, unembedding=weights.unembedding.half()))
    assert not (tmp_path / "model").exists()


# What bad input gets: one exception of a fitting type that names the file or tensor, what was expected and found.


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """The folder's only tensor file after `change` to its tensors."""
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    change(tensors)
    safetensors.torch.save_file(tensors, folder / "model.safetensors")


def edit_json(path: Path, change: dict) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def truncate(folder: Path, size: int) -> None:
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(size)


def overwrite(folder: Path, position: int, data: bytes) -> None:
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(position)
        file.write(data)


def index_with(folder: Path, file: str) -> None:
    names = safetensors.torch.load_file(folder / "model.safetensors")
    weight_map = dict.fromkeys(names, "model.safetensors") | {"lm_head.weight": file}
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


ROUTER = "model.layers.1.mlp.router.weight"
BLOCKS = "model.layers.1.mlp.experts.down_proj_blocks"

BAD_FOLDERS: dict[str, tuple[Callable[[Path], object], type[Exception], list[str]]] = {
    "no folder": (shutil.rmtree, FileNotFoundError, ["model does not exist"]),
    "truncated data": (
        lambda folder: truncate(folder, 200_000),
        ValueError,
        ["model.safetensors is truncated", "bytes of tensors, found"],
    ),
    "truncated header": (
        lambda folder: truncate(folder, 500),
        ValueError,
        ["model.safetensors is truncated", "expected a header of", "found 492"],
    ),
    "an empty file": (lambda folder: truncate(folder, 0), ValueError, ["model.safetensors is truncated", "0 bytes"]),
    "another format": (
        lambda folder: overwrite(folder, 0, b"GGUF\3\0\0\0"),
        ValueError,
        ["model.safetensors is no safetensors file"],
    ),
    "a pointer to large file storage": (
        lambda folder: overwrite(folder, 0, b"version https://git-lfs.github.com/spec/v1"),
        ValueError,
        ["model.safetensors is a Git LFS pointer", "git lfs pull"],
    ),
    "a corrupt header": (
        lambda folder: overwrite(folder, 8, b"#"),
        ValueError,
        ["model.safetensors is corrupt", "header cannot be read"],
    ),
    "bytes after the end": (
        lambda folder: overwrite(folder, (folder / "model.safetensors").stat().st_size, b"more"),
        ValueError,
        ["model.safetensors is corrupt"],
    ),
    "a missing tensor": (
        lambda folder: rewrite(folder, lambda tensors: tensors.pop(ROUTER)),
        ValueError,
        [f"tensor {ROUTER} is missing", "BF16 or F32 [8, 64]", "model.safetensors"],
    ),
    "a tensor too many": (
        lambda folder: rewrite(folder, lambda tensors: tensors.update(extra=torch.zeros(3))),
        ValueError,
        ["model.safetensors: tensor extra has no place"],
    ),
    "a wrong shape": (
        lambda folder: rewrite(folder, lambda tensors: tensors.update({ROUTER: torch.zeros(8, 63)})),
        ValueError,
        [f"model.safetensors: tensor {ROUTER} is F32 [8, 63]; expected BF16 or F32 [8, 64]"],
    ),
    "a wrong type": (
        lambda folder: rewrite(folder, lambda tensors: tensors.update({BLOCKS: tensors[BLOCKS].view(torch.int8)})),
        ValueError,
        [f"tensor {BLOCKS} is I8 [8, 64, 3, 16]; expected U8 [8, 64, 3, 16]"],
    ),
    "a type that we do not compute in": (
        lambda folder: rewrite(folder, lambda tensors: tensors.update({ROUTER: tensors[ROUTER].half()})),
        ValueError,
        [f"tensor {ROUTER} is F16 [8, 64]; expected BF16 or F32 [8, 64]"],
    ),
    "fewer layers than tensors": (
        lambda folder: edit_json(folder / "config.json", {"num_hidden_layers": 2, "layer_types": None}),
        ValueError,
        ["tensor model.layers.2.", "no place in the model"],
    ),
    "more layers than tensors": (
        lambda folder: edit_json(folder / "config.json", {"num_hidden_layers": 4, "layer_types": None}),
        ValueError,
        ["tensor model.layers.3.input_layernorm.weight is missing"],
    ),
    "experts that do not divide into blocks": (
        lambda folder: edit_json(folder / "config.json", {"intermediate_size": 80}),
        ValueError,
        ["d_mlp (intermediate_size) is 80", "multiple of 32"],
    ),
    "another architecture": (
        lambda folder: edit_json(folder / "config.json", {"model_type": "mixtral"}),
        ValueError,
        ["config.json: model_type is 'mixtral'; expected 'gpt_oss'"],
    ),
    "other tensors altogether": (
        lambda folder: safetensors.torch.save_file({"wte.weight": torch.zeros(3)}, folder / "model.safetensors"),
        ValueError,
        ["expected the tensors of a gpt-oss checkpoint", "found wte.weight"],
    ),
    "no config": (
        lambda folder: (folder / "config.json").unlink(),
        FileNotFoundError,
        ["config.json is missing"],
    ),
    "a config that is not JSON": (
        lambda folder: (folder / "config.json").write_text("{"),
        ValueError,
        ["config.json is not valid JSON"],
    ),
    "a missing shard": (
        lambda folder: index_with(folder, "model-00002-of-00002.safetensors"),
        FileNotFoundError,
        ["model-00002-of-00002.safetensors is missing", "lm_head.weight"],
    ),
    "an index that leads elsewhere": (
        lambda folder: index_with(folder, "../../secrets.safetensors"),
        ValueError,
        [f"{INDEX} names the file '../../secrets.safetensors'", "same folder"],
    ),
    "an index without a map": (
        lambda folder: (folder / INDEX).write_text("[]"),
        ValueError,
        [f"{INDEX}: expected an object weight_map"],
    ),
    "a tensor in two files": (
        lambda folder: shutil.copy(folder / "model.safetensors", folder / "model2.safetensors"),
        ValueError,
        ["stands in more than one file"],
    ),
    "a pickle": (
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        FileNotFoundError,
        ["holds no safetensors file", "pytorch_model.bin", "pickled checkpoints", "never read"],
    ),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_bad_folders_get_one_sentence(case: str, folder: Path) -> None:
    spoil, kind, said = BAD_FOLDERS[case]
    spoil(folder)
    with pytest.raises(kind) as raised:
        checkpoint.load(folder)
    assert type(raised.value) is kind
    assert "\n" not in str(raised.value)
    for part in said:
        assert part in str(raised.value)


def test_a_file_in_place_of_a_folder_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="is a file; expected the folder"):
        checkpoint.load(folder / "model.safetensors")


def test_experts_that_must_be_copied_have_to_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_transformers(CONFIG, weights_module.random(CONFIG)).save_pretrained(tmp_path / "plain")
    packed = checkpoint.save(tmp_path / "packed", CONFIG, weights_module.random(CONFIG))
    assert reading._available_memory() is None or reading._available_memory() > 0  # type: ignore[operator]
    monkeypatch.setattr(reading, "_available_memory", lambda: 1000)
    with pytest.raises(MemoryError, match=r"6 unpacked expert matrices take 0\.\d GB of memory, 0\.0 GB are available"):
        checkpoint.load(tmp_path / "plain")
    checkpoint.load(packed)  # needs none


# The file format, against its own library

entries = st.dictionaries(
    st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8).filter(lambda name: name[0] != "_"),
    st.tuples(st.sampled_from([torch.uint8, torch.bfloat16, torch.float32]), st.lists(st.integers(0, 4), max_size=3)),
    max_size=5,
)


@settings(max_examples=50, deadline=None)
@given(entries)
def test_the_formats_own_library_agrees(tmp_path_factory: pytest.TempPathFactory, described: dict) -> None:
    folder = tmp_path_factory.mktemp("format")
    tensors = {
        name: torch.arange(64)[: torch.Size(shape).numel()].to(dtype).view(shape)
        for name, (dtype, shape) in described.items()
    }
    ours, theirs = folder / "ours.safetensors", folder / "theirs.safetensors"
    made = [container.Entry(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()]
    container.write_tensors(ours, made, lambda entry: [container.tensor_bytes(tensors[entry.name])])
    safetensors.torch.save_file(tensors, theirs)
    for found in (safetensors.torch.load_file(ours), container.map_tensors(ours), container.map_tensors(theirs)):
        assert found.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert found[name].dtype == tensor.dtype
            assert torch.equal(found[name], tensor)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_header_raises_nothing_but_value_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    safetensors.torch.save_file({"a": torch.arange(6.0).view(2, 3), "b": torch.zeros(5, dtype=torch.uint8)}, path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 30))] = data.draw(st.sampled_from(b'0123456789[]{},:"abF \xff'))
    path.write_bytes(content)
    try:
        mapped = container.map_tensors(path)
    except ValueError as error:
        assert "damaged.safetensors" in str(error)
    else:
        assert sum(tensor.nbytes for tensor in mapped.values()) <= len(content)


def by_hand(path: Path, header: dict, data: bytes) -> Path:
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + data)
    return path


@pytest.mark.parametrize("second", [[0, 4], [2, 6], [5, 9]], ids=["the same bytes", "an overlap", "a gap"])
def test_tensors_lie_one_after_the_other(tmp_path: Path, second: list[int]) -> None:
    header = {
        "a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
        "b": {"dtype": "U8", "shape": [4], "data_offsets": second},
    }
    with pytest.raises(ValueError, match=r"is corrupt: b, U8 \[4\], should take bytes 4 to 8"):
        container.map_tensors(by_hand(tmp_path / "odd.safetensors", header, bytes(second[1])))


def test_tensors_at_odd_offsets_are_aligned(tmp_path: Path) -> None:
    header = {
        "a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]},
    }
    data = b"\7" + torch.tensor([1.5, -2.0]).numpy().tobytes()
    path = by_hand(tmp_path / "odd.safetensors", header, data)
    b = container.map_tensors(path)["b"]
    assert b.tolist() == [1.5, -2.0]
    assert b.data_ptr() % 4 == 0


# The hub, without a network

REPOSITORY = "openai/gpt-oss-20b"
COMMIT = "1234567890abcdef1234567890abcdef12345678"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache, and no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def in_cache(cache: Path, commit: str, source: Path, main: bool = True) -> Path:
    """A snapshot as huggingface_hub lays it out: files are links to blobs."""
    repository = cache / "models--openai--gpt-oss-20b"
    snapshot = repository / "snapshots" / commit
    for path in [path for path in source.rglob("*") if path.is_file()]:
        blob = repository / "blobs" / f"{commit[:4]}-{path.name}-{path.parent.name}"
        link = snapshot / path.relative_to(source)
        blob.parent.mkdir(parents=True, exist_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, blob)
        link.symlink_to(blob)
    if main:
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / "main").write_text(commit)
    return snapshot


def test_a_folder_is_found_as_it_is(folder: Path, cache: Path) -> None:
    assert checkpoint.find(folder) == folder
    assert checkpoint.find(str(folder)) == folder


def test_a_cached_repository_is_found(cache: Path, folder: Path, weights: Weights) -> None:
    snapshot = in_cache(cache, COMMIT, folder)
    found = checkpoint.find(REPOSITORY)
    assert found == snapshot
    assert_same(checkpoint.load(found)[1], weights)
    assert checkpoint.find(REPOSITORY, revision=COMMIT) == snapshot
    with pytest.raises(FileNotFoundError):
        checkpoint.find(REPOSITORY, revision="another")


def test_the_pinned_commit_comes_before_main(cache: Path, folder: Path) -> None:
    in_cache(cache, COMMIT, folder)
    pinned = in_cache(cache, hub.PINNED[REPOSITORY], folder, main=False)
    assert checkpoint.find(REPOSITORY) == pinned


def test_a_cache_with_original_alone_will_do(cache: Path, tmp_path: Path, weights: Weights) -> None:
    in_original_dialect(tmp_path / "download" / "original", CONFIG, weights)
    snapshot = in_cache(cache, COMMIT, tmp_path / "download")
    assert checkpoint.find(REPOSITORY) == snapshot / "original"


@pytest.mark.parametrize("missing", ["config.json", "model-00002*", INDEX])
def test_half_a_download_is_not_taken_for_a_checkpoint(
    cache: Path, tmp_path: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr(writing, "SHARD_BYTES", 50_000)
    snapshot = in_cache(cache, COMMIT, checkpoint.save(tmp_path / "model", CONFIG, weights))
    assert checkpoint.find(REPOSITORY) == snapshot
    next(snapshot.glob(missing)).unlink()
    with pytest.raises(FileNotFoundError, match="not in the Hugging Face cache"):
        checkpoint.find(REPOSITORY)
    with pytest.raises(FileNotFoundError, match=f"{COMMIT} holds only part of a checkpoint.*hf download {REPOSITORY}"):
        checkpoint.find(REPOSITORY, revision=COMMIT)


def test_offline_and_absent_says_how_to_get_it(cache: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        checkpoint.find(REPOSITORY)
    said = str(raised.value)
    assert f"hf download {REPOSITORY}" in said
    assert str(cache) in said
    assert "\n" not in said
    with pytest.raises(FileNotFoundError, match="no-such-folder does not exist"):
        checkpoint.find("no-such-folder")


def test_only_the_files_that_serve_are_fetched_at_the_pinned_commit(
    cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    asked = {}

    def download(name: str, revision: str, allow_patterns: list[str]) -> str:
        asked.update(name=name, revision=revision, allow_patterns=allow_patterns)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert checkpoint.find(REPOSITORY) == folder
    assert (asked["name"], asked["revision"]) == (REPOSITORY, hub.PINNED[REPOSITORY])
    published = [
        *(".gitattributes", "LICENSE", "README.md", "chat_template.jinja", "config.json", "generation_config.json"),
        *(f"model-0000{i}-of-00002.safetensors" for i in range(3)),
        *("metal/model.bin", "model.safetensors.index.json", "original/config.json", "original/dtypes.json"),
        *("original/model.safetensors", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"),
    ]
    fetched = set(filter_repo_objects(published, allow_patterns=asked["allow_patterns"]))
    assert fetched == {"config.json", "model.safetensors.index.json", *published[6:9]}


# Random checkpoints


def test_synth_streams_out_a_model_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gptoss_lab.checkpoint.synth.CHUNK_BYTES", 1000)  # many chunks a tensor, and a ragged last one
    assert main(["synth", "--shape", "nano", "--layers", "6", str(tmp_path / "random")]) == 0
    config, loaded = checkpoint.load(tmp_path / "random")
    assert config == replace(PRESETS["nano"], n_layers=6)
    model = Transformer(config, loaded, engine="torch")
    prompt = tokens(1, 64, config)
    logits, seen = model.run_with_cache(prompt)
    assert 0.1 < logits.std() < 10
    for layer in range(config.n_layers):
        assert 0.3 < seen[f"blocks.{layer}.hook_resid_post"].std() < 3
        chosen = seen[f"blocks.{layer}.mlp.hook_expert_indices"]
        assert len(chosen.unique()) > config.n_experts / 2  # routing is spread


def test_synth_gives_the_same_for_a_seed(tmp_path: Path) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert main(["synth", "--shape", "nano", "--layers", "1", "--seed", seed, str(tmp_path / name)]) == 0
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_synth_says_what_is_wrong_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["synth", "--shape", "nano", "--layers", "0", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == "n_layers (num_hidden_layers) is 0; expected a positive integer\n"
    with pytest.raises(ValueError, match="'30b'; expected one of 20b, 120b, nano"):
        checkpoint.synthesise(tmp_path / "out", "30b")


def test_scales_of_random_checkpoints_are_plausible(tmp_path: Path) -> None:
    checkpoint.synthesise(tmp_path / "random", "nano", layers=1)
    layer = checkpoint.load(tmp_path / "random")[1].layers[0]
    assert isinstance(layer.gate_up, Mxfp4)
    typical = mxfp4.decode(layer.gate_up).std() * PRESETS["nano"].d_model ** 0.5
    assert 0.5 < typical < 2
