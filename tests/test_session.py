"""Chatting, generating and tracing with a small random model whose vocabulary is bytes."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small import BYTES, SMALL

import gptoss_lab as lab
from gptoss_lab import checkpoint, tokenizer
from gptoss_lab import weights as weights_module
from gptoss_lab.harmony import Message
from gptoss_lab.hooks import HookPoint
from gptoss_lab.live import StreamedToken
from gptoss_lab.model import Transformer
from gptoss_lab.session import Model

RECORDED = ("routing",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bytes-model")
    config = replace(SMALL, d_vocab=264, n_layers=2, n_ctx=2048)
    checkpoint.save(folder, config, weights_module.random(config, seed=7))
    tokenizer.save(BYTES, folder)
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return lab.load(folder)


def test_weights_may_be_read_into_memory(folder: Path, model: Model) -> None:
    read = lab.load(folder, mmap=False)
    assert torch.equal(read([1, 2, 3]), model([1, 2, 3]))

    def lie_together(weights: weights_module.Weights) -> bool:
        """As read weights do; mapped matrices lie in their file, and vectors are copies."""
        embedding, norm = (tensor.untyped_storage().data_ptr() for tensor in (weights.embedding, weights.final_norm))
        return embedding == norm

    assert lie_together(read.transformer.weights)
    assert not lie_together(model.transformer.weights)


def scripted(model: Model, text: str) -> Model:
    """The same model made to say `text`: a hook on the last residual puts one token's unembedding there."""
    tokens = iter(BYTES.encode(text, allowed_special="all"))
    config = model.config
    generator = torch.Generator().manual_seed(0)
    unembedding = torch.randn(config.d_vocab, config.d_model, generator=generator).sign()
    weights = model.transformer.weights
    transformer = Transformer(config, replace(weights, unembedding=unembedding))
    spoken = Model(transformer, BYTES, "scripted")

    def say(tensor: torch.Tensor, hook: HookPoint) -> torch.Tensor:
        return tensor.index_copy(1, torch.tensor([tensor.shape[1] - 1]), unembedding[next(tokens)][None, None])

    plain_hooks = transformer.hooks
    spoken.hooks = lambda fwd_hooks: plain_hooks([*fwd_hooks, ("ln_final.hook_normalized", say)])  # type: ignore[method-assign]
    return spoken


SAID = (
    "<|channel|>analysis<|message|>8 + 7 = 15 é<|end|>"
    "<|start|>assistant<|channel|>final<|message|>95 <b>bold</b><|return|>"
)


def test_a_loaded_model_says_what_it_is_and_answers_with_well_formed_fields(model: Model) -> None:
    assert "2 layers, d_model 64, 8 experts of which 2 serve a token, engine numba" in repr(model)
    reply = model.chat("What is 38 + 57?", max_new_tokens=30, seed=3, record=RECORDED)
    assert len(reply.tokens) == len(reply.spans) == len(reply.logprobs) == 30
    assert reply.finish == "length"
    assert BYTES.decode(reply.prompt_tokens).endswith("What is 38 + 57?<|end|><|start|>assistant")
    assert "Reasoning: medium" in BYTES.decode(reply.prompt_tokens)
    assert all(logprob <= 0 for logprob in reply.logprobs)
    again = model.chat("What is 38 + 57?", max_new_tokens=30, seed=3)
    assert again.tokens == reply.tokens
    assert again.trace is None


def test_a_reply_tells_thought_from_answer_and_shows_what_was_written_as_text(model: Model) -> None:
    heard: list[StreamedToken] = []
    spoken = scripted(model, SAID + "é" * 9)
    reply = spoken.chat("What?", temperature=0, on_token=heard.append)
    assert (reply.text, reply.thought) == ("95 <b>bold</b>", "8 + 7 = 15 é")
    assert str(reply) == reply.text
    assert reply.finish == "stop"
    assert [message.channel for message in reply.messages] == ["analysis", "final"]
    assert reply.conversation[-3:] == [Message("user", "What?"), *reply.messages]
    assert "".join(token.text for token in heard) == SAID
    assert [token.token for token in heard] == reply.tokens
    assert "<b>bold" not in reply._repr_html_()
    assert "&lt;b&gt;bold" in reply._repr_html_()


def test_a_trace_recorded_while_generating_equals_one_pass_over_it(model: Model) -> None:
    reply = model.chat("Hello", max_new_tokens=40, seed=1, record=RECORDED)
    recorded = reply.trace
    assert recorded is not None
    assert model.trace(reply) is recorded
    traced = model.trace([*reply.prompt_tokens, *reply.tokens])
    assert np.array_equal(recorded.token_ids, traced.token_ids)
    np.testing.assert_allclose(recorded.router_logits, traced.router_logits, atol=1e-4)
    clear = recorded.margins() > 1e-5
    assert np.array_equal(recorded.expert_indices[clear], traced.expert_indices[clear])
    assert recorded.n_prompt == len(reply.prompt_tokens)
    assert np.isnan(recorded.logprobs[: recorded.n_prompt]).all()
    np.testing.assert_allclose(recorded.logprobs[recorded.n_prompt :], np.float32(reply.logprobs))
    np.testing.assert_allclose(traced.logprobs[recorded.n_prompt :], np.float32(reply.logprobs), atol=1e-4)
    assert np.array_equal(recorded.alternatives[recorded.n_prompt :, 0], traced.alternatives[recorded.n_prompt :, 0])
    assert len(recorded.texts) == len(recorded.spans) == len(recorded.token_ids)


def test_the_routing_table_has_a_row_for_every_choice_and_its_margin(model: Model) -> None:
    trace = model.trace([Message("user", "Hello"), Message("assistant", "Hi", channel="final")])
    table = trace.routing()
    assert len(table) == 2 * len(trace.token_ids) * 2
    row = table[(table.layer == 1) & (table.position == 5) & (table["rank"] == 0)].iloc[0]
    logits = trace.router_logits[1, 5]
    ordered = np.sort(logits)[::-1]
    assert row.expert == logits.argmax()
    assert row.margin == pytest.approx(ordered[1] - ordered[2])
    assert row.token == trace.token_ids[5]
    sums = table.groupby(["layer", "position"]).weight.sum()
    np.testing.assert_allclose(sums, 1, atol=1e-5)
    assert set(table.role) == {"user", "assistant"}
    np.testing.assert_allclose(trace.dense_weights().sum(axis=-1), 1, atol=1e-5)


def test_texts_and_tokens_are_traced_as_given(model: Model) -> None:
    text = "<|start|>user<|message|>Hi<|end|>"
    assert model.trace(text).texts == [*("<|start|>",), *"user", "<|message|>", "H", "i", "<|end|>"]
    assert np.array_equal(model.trace(text).token_ids, model.trace(BYTES.encode(text, allowed_special="all")).token_ids)
    with pytest.raises(ValueError, match="empty"):
        model.trace("")


def test_a_system_message_of_ones_own_stays_and_instructions_become_a_developer_message(model: Model) -> None:
    own = [Message("system", "Be brief."), Message("user", "Hi")]
    assert BYTES.decode(model.chat(own, max_new_tokens=1).prompt_tokens).startswith(
        "<|start|>system<|message|>Be brief.<|end|><|start|>user"
    )
    told = BYTES.decode(model.chat("Hi", "low", instructions="In words.", max_new_tokens=1).prompt_tokens)
    assert "Reasoning: low" in told
    assert "<|start|>developer<|message|># Instructions\n\nIn words.<|end|><|start|>user" in told


def test_generate_plain_and_streaming(model: Model) -> None:
    plain = model.generate([1, 2, 3], 8, seed=4)
    streamed = [sampled.token for sampled in model.generate([1, 2, 3], 8, seed=4, stream=True)]
    assert plain.tokens == streamed
    stopped = model.generate([1, 2, 3], 8, seed=4, stop=[plain.tokens[3]])
    assert stopped.finish == "stop"


def test_hooks_act_in_a_chat(model: Model) -> None:
    with model.hooks([("blocks.*.mlp.hook_router_logits", lambda t, hook: t.index_fill(-1, torch.tensor([2]), -1e9))]):
        reply = model.chat("Hi", max_new_tokens=10, seed=1, record=RECORDED)
    assert reply.trace is not None
    assert not (reply.trace.expert_indices == 2).any()


def test_stopping_a_chat_from_another_thread_keeps_what_was_said(model: Model) -> None:
    stop = threading.Event()
    reply = model.chat(
        "Hi", max_new_tokens=500, seed=1, record=RECORDED, should_stop=stop.is_set, on_token=lambda token: stop.set()
    )
    assert reply.finish == "interrupted"
    assert len(reply.tokens) == 1
    assert reply.trace is not None
    assert not reply.messages[-1].complete
    assert model.chat("Hi", max_new_tokens=3, seed=1).finish == "length"


def test_an_interrupt_in_a_chat_leaves_the_model_usable(model: Model) -> None:
    def interrupt(token: StreamedToken) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.chat("Hi", on_token=interrupt)
    assert model.chat("Hi", max_new_tokens=3, seed=1).finish == "length"


def test_two_threads_at_once_get_what_each_gets_alone(model: Model) -> None:
    alone = [model.chat("Hello there", max_new_tokens=25, seed=seed).tokens for seed in range(4)]
    together: dict[int, list[int]] = {}

    def chat(seed: int) -> None:
        together[seed] = model.chat("Hello there", max_new_tokens=25, seed=seed).tokens

    threads = [threading.Thread(target=chat, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[seed] for seed in range(4)] == alone


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.chat("  "), "question is empty"),
        (lambda model: model.chat("Hi", effort="extreme"), "low, medium or high"),
        (lambda model: model.chat("Hi", record=("smell",)), "'smell'"),
        (lambda model: model.chat("Hi " * 2000), "of 2048"),
        (lambda model: model.generate([300], 4), "from 0 to 263; got 300"),
    ],
)
def test_bad_calls_are_refused_by_name(model: Model, call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(model)


def test_loading_what_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        lab.load(tmp_path / "nowhere")
