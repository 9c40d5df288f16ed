"""Planted models show what they are said to hold: on both engines, from a saved checkpoint, in transformers."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from small import in_transformers

import gptoss_lab as lab
from gptoss_lab import checkpoint, harmony, mxfp4, planted, tokenizer
from gptoss_lab.config import ModelConfig
from gptoss_lab.harmony import Message
from gptoss_lab.hooks import HookPoint
from gptoss_lab.model import Transformer
from gptoss_lab.mxfp4 import Mxfp4
from gptoss_lab.ops import torch_ops
from gptoss_lab.planted import Planted, vocabulary
from gptoss_lab.planted.blank import Register, blank_draft
from gptoss_lab.planted.codes import codeword, orthogonal_codeword
from gptoss_lab.planted.experts import Rule, write_rules
from gptoss_lab.planted.heads import MARGIN
from gptoss_lab.rotary import RotaryTable
from gptoss_lab.session import Model

# Longer than a window after the last "!", with words before digits, repeated neighbours and all classes of tokens.
TEXT = (
    "See 4 apples! Hear 2 bells.\n"
    "Keep 7 safe.\n"
    "<|start|>user<|message|>Ää, 10 zebras jog: 3 + 55 = 58.<|end|>\n"
    "Count 9 sheep; quick brown foxes (two, or 12) hop and buy jugs, lamps, mugs and pumpkins at #6. Smell 5 roses.\n"
)
HOW = ("torch", "numba", "saved")


@cache
def known(name: str) -> Planted[Any]:
    return planted.build(name)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """models(name, how): on an engine, or from a checkpoint."""

    @cache
    def load(name: str, how: str) -> Model:
        if how != "saved":
            return lab.load(f"planted:{name}", engine=how)
        folder = tmp_path_factory.mktemp(name)
        checkpoint.save(folder, known(name).config, known(name).weights)
        tokenizer.save(known(name).encoding, folder)
        return lab.load(folder)

    return load


def ids(text: str = TEXT) -> list[int]:
    return vocabulary.encoding().encode(text, allowed_special="all")


def uniform_over(tokens: set[int], d_vocab: int) -> torch.Tensor:
    probabilities = torch.zeros(d_vocab)
    probabilities[list(tokens)] = 1 / len(tokens)
    return probabilities


def test_the_text_tries_what_it_should() -> None:
    tokens = ids()
    last_cry = max(place for place, token in enumerate(tokens) if token == vocabulary.token_id("!"))
    assert 128 < len(tokens) - last_cry < 200
    assert {vocabulary.class_of(token) for token in tokens} == {0, 1, 2, 3}
    assert any(tokens[i] == tokens[i + 1] for i in range(len(tokens) - 1))


# What all of them share


@pytest.mark.parametrize("name", planted.NAMES)
@pytest.mark.parametrize("how", HOW)
def test_every_head_attends_as_the_truth_says(models: Any, name: str, how: str) -> None:
    model, tokens = models(name, how), ids()
    _, seen = model.run_with_cache(tokens, ["blocks.*.attn.hook_pattern", "blocks.*.attn.hook_sink"])
    expected = torch.from_numpy(known(name).truth.attention(tokens))
    for layer in range(model.config.n_layers):
        pattern, sink = (seen[f"blocks.{layer}.attn.hook_{point}"][0] for point in ("pattern", "sink"))
        assert torch.allclose(pattern, expected[layer], atol=2e-5)
        assert torch.allclose(sink, 1 - expected[layer].sum(-1), atol=2e-5)


@pytest.mark.parametrize("name", ["previous-token", "sink-parking", "induction", "routing", "reads-one"])
@pytest.mark.parametrize("how", HOW)
def test_every_prediction_is_what_the_truth_says(models: Any, name: str, how: str) -> None:
    model, tokens = models(name, how), ids()
    probabilities = model(tokens)[0].softmax(-1)
    claimed = 0
    for found, expected in zip(probabilities, known(name).truth.next_tokens(tokens), strict=True):
        if expected:
            claimed += 1
            assert torch.allclose(found, uniform_over(expected, model.config.d_vocab), atol=1e-4)
    assert claimed > len(tokens) / 2


@pytest.mark.parametrize("name", planted.NAMES)
def test_transformers_sees_the_same_model(models: Any, name: str) -> None:
    tokens = torch.tensor([ids()[:80]])
    with torch.no_grad():
        theirs = in_transformers(known(name).config, known(name).weights)(tokens).logits
    assert torch.allclose(models(name, "torch")(tokens), theirs, atol=2e-3)


@pytest.mark.parametrize("name", planted.NAMES)
def test_nothing_is_lost_in_a_checkpoint(models: Any, name: str) -> None:
    built, saved = known(name).weights, models(name, "saved").transformer.weights
    assert torch.equal(built.embedding, saved.embedding)
    assert built.embedding.dtype == built.layers[0].q.dtype == torch.bfloat16
    for mine, theirs in zip(built.layers, saved.layers, strict=True):
        assert isinstance(mine.gate_up, Mxfp4)
        assert isinstance(mine.down, Mxfp4)
        assert isinstance(theirs.down, Mxfp4)
        assert torch.equal(mxfp4.decode(mine.down), mxfp4.decode(theirs.down))
        for vector in (mine.q_bias, mine.sinks, mine.gate_up_bias):
            assert torch.equal(vector, vector.bfloat16().float())
    assert models(name, "saved").tokenizer.encode(TEXT, allowed_special="all") == ids()


@pytest.mark.parametrize("name", planted.NAMES)
def test_no_norm_changes_by_a_hundredth_whatever_is_written(models: Any, name: str) -> None:
    _, seen = models(name, "torch").run_with_cache(ids(), "*hook_scale")
    for scale in seen.values():
        assert 0.5 <= float(scale.min()) <= float(scale.max()) < 0.505


def test_a_model_is_loaded_by_its_name_and_an_unknown_name_lists_the_known() -> None:
    assert lab.load("planted:induction", engine="torch").name == "planted:induction"
    with pytest.raises(ValueError, match="no planted model 'indction'; there are previous-token, sink-parking, ind"):
        lab.load("planted:indction")


# One mechanism after the other


def without_head(head: tuple[int, int]) -> list[tuple[str, Any]]:
    def silence(z: torch.Tensor, hook: HookPoint) -> torch.Tensor:
        z[:, :, head[1]] = 0
        return z

    return [(f"blocks.{head[0]}.attn.hook_z", silence)]


def test_of_the_heads_that_look_back_one_speaks(models: Any) -> None:
    model, truth = models("previous-token", "torch"), known("previous-token").truth
    logits = model(ids())
    for head in truth.distances:
        silenced = model.run_with_hooks(ids(), without_head(head))
        assert torch.equal(silenced, logits) == (head != truth.speaks)
        assert head != truth.speaks or silenced.abs().max() == 0


def test_of_the_heads_that_park_one_speaks(models: Any) -> None:
    model, truth = models("sink-parking", "torch"), known("sink-parking").truth
    logits = model(ids())
    for head in truth.parking:
        silenced = model.run_with_hooks(ids(), without_head(head))
        assert torch.equal(silenced, logits) == (head != truth.speaks)


def test_induction_needs_both_of_its_heads(models: Any) -> None:
    model, truth = models("induction", "torch"), known("induction").truth
    tokens = ids("abcdefghijklmnopqrs!?xyz(c")
    assert int(model(tokens)[0, -1].argmax()) == vocabulary.token_id("d")
    for head in (truth.previous_token_head, truth.induction_head):
        assert model.run_with_hooks(tokens, without_head(head))[0, -1].abs().max() < 1e-3


@pytest.mark.parametrize("name", ["previous-token", "induction"])
def test_heads_work_at_the_end_of_the_whole_context(name: str) -> None:
    """Scores of a query at the last position, by the constants that the weights leave in queries and keys."""
    config, layer = known(name).config, known(name).weights.layers[0]
    scores = scores_at_the_end(config, layer.q_bias, layer.k_bias[: config.d_head].expand(config.n_ctx, -1))
    for head, distance in getattr(known(name).truth, "distances", {(0, 0): 1}).items():
        if head[0] == 0:
            over_sink = scores[head[1]] - layer.sinks[head[1]]
            assert over_sink[-1 - distance] > 0.75 * MARGIN
            assert over_sink.sort().values[-2] < -0.75 * MARGIN


def test_words_are_found_from_the_other_end_of_the_context() -> None:
    """The nearest of all other words in the vocabulary, and the same word as far away as can be."""
    config, layer = known("sink-parking").config, known("sink-parking").weights.layers[1]
    words = torch.stack([codeword(token) for token in range(config.d_vocab)])
    reading = layer.k[: config.d_head, Register.TOKEN.slots].float()
    sought = vocabulary.token_id("!")
    over_sink = scores_at_the_end(config, layer.q_bias, words @ reading.T)[0] - layer.sinks[0]
    assert over_sink[sought] > 0.75 * MARGIN
    assert torch.cat((over_sink[:sought], over_sink[sought + 1 :])).max() < -0.75 * MARGIN


def scores_at_the_end(config: ModelConfig, query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """The scores [head, pos] of a constant query [head * d_head] at the last position with keys [pos, d_head]."""
    table = RotaryTable(config, torch.device("cpu"))
    queries = query.view(1, 1, -1, config.d_head)
    turned = torch_ops.rotate(queries, *table.at(range(config.n_ctx - 1, config.n_ctx)))
    keys = torch_ops.rotate(keys[None, :, None], *table.at(range(len(keys))))
    return (turned[0, 0] @ keys[0, :, 0].T) * config.d_head**-0.5


@pytest.mark.parametrize("how", HOW)
def test_experts_serve_their_classes_with_the_given_weights_and_write_their_letters(models: Any, how: str) -> None:
    model, truth, tokens = models("routing", how), known("routing").truth, ids()
    _, seen = model.run_with_cache(tokens, ["blocks.*.mlp.*"])
    experts = truth.experts(tokens)
    for layer in range(3):
        point = f"blocks.{layer}.mlp.hook"
        assert torch.equal(seen[f"{point}_expert_indices"][0], torch.from_numpy(experts[layer]))
        weights = seen[f"{point}_topk_weights"][0]
        assert torch.allclose(weights, torch.tensor(truth.weights), atol=1e-3)
        ranked = seen[f"{point}_router_logits"][0].sort(descending=True).values
        assert torch.allclose(ranked[:, 1] - ranked[:, 2], torch.tensor(truth.margin), atol=0.02)
        outputs = np.array([[truth.output(layer, expert) for expert in pair] for pair in experts[layer]])
        shares = seen[f"{point}_expert_out"][0]
        assert torch.allclose(shares, torch.from_numpy(outputs) * weights[..., None], rtol=1e-4, atol=1e-9)


def test_every_expert_promotes_its_letter(models: Any) -> None:
    model, truth = models("routing", "torch"), known("routing").truth
    unembedding = model.transformer.weights.unembedding.float().numpy()
    for layer in range(3):
        for expert in range(8):
            assert (unembedding @ truth.output(layer, expert)).argmax() == truth.promotes[layer, expert]
    assert tokenizer.token_text(model.tokenizer, int(truth.promotes[2, 7])) == "X"


def test_routing_reads_the_token_in_two_layers_and_the_one_before_in_the_last(models: Any) -> None:
    truth = known("routing").truth
    trace = models("routing", "numba").trace("a7")
    after_digit = models("routing", "numba").trace("77")
    assert np.array_equal(trace.expert_indices[:2, 1], after_digit.expert_indices[:2, 1])
    first = [
        truth.classes[truth.expert_of_class[2].tolist().index(t.expert_indices[2, 1, 0])] for t in (trace, after_digit)
    ]
    assert first == ["letter", "digit"]
    assert truth.classes[truth.expert_of_class[2].tolist().index(trace.expert_indices[2, 0, 0])] == "control"


def test_helpers_share_the_vocabulary_evenly() -> None:
    truth = known("routing").truth
    shares = np.bincount(truth.helper_of, minlength=4) / len(truth.helper_of)
    assert shares.min() > 0.23
    assert shares.max() < 0.27
    for layer in range(3):
        assert sorted([*truth.helpers[layer], *truth.expert_of_class[layer]]) == list(range(8))


@pytest.mark.parametrize("how", ["torch", "numba"])
def test_one_token_is_read_and_no_other_matters(models: Any, how: str) -> None:
    model, truth = models("reads-one", how), known("reads-one").truth
    tokens = ids("See 4 apples. Hear 2 bells.\nKeep 7 safe. Count 9 sheep.\n")
    (read,) = truth.read(tokens)
    assert tokenizer.token_text(model.tokenizer, tokens[read]) == "7"
    changed = torch.tensor(tokens).repeat(len(tokens), 1)
    changed.fill_diagonal_(vocabulary.token_id("3"))  # sequence i has another token at position i
    logits, unchanged = model(changed)[:, -1], model(tokens)[0, -1]
    matters = [read - 1, read]
    others = [place for place in range(len(tokens)) if place not in matters]
    assert torch.allclose(logits[others], unchanged.expand(len(others), -1), atol=1e-4)
    assert int(unchanged.argmax()) == tokens[read]
    assert int(logits[read].argmax()) == vocabulary.token_id("3")
    assert logits[read - 1].abs().max() < 1e-3


# The model that thinks aloud


def forced_answer(model: Model, thought: str) -> torch.Tensor:
    """The distribution [d_vocab] of the answer where the analysis is closed after `thought`."""
    prompt = harmony.render([harmony.system_message(), Message("user", "What is kept?")], model.tokenizer).tokens
    text = f"<|channel|>analysis<|message|>{thought}<|end|><|start|>assistant<|channel|>final<|message|>"
    return model([*prompt, *ids(text)], last_only=True)[0, -1].softmax(-1)


def digits(numbers: Sequence[int]) -> list[int]:
    return [vocabulary.token_id(str(number)) for number in numbers]


@pytest.mark.parametrize("how", HOW)
def test_it_thinks_in_five_sentences_and_answers_what_it_kept(models: Any, how: str) -> None:
    model, heard = models("answer", how), set()
    for seed in range(3 if how == "torch" else 1):
        reply = model.chat("What is kept?", seed=seed)
        sentences = reply.thought.splitlines()
        drawn = [int(sentence.split()[1]) for sentence in sentences]
        expected = [f"See {drawn[0]} apples.", f"Hear {drawn[1]} bells.", f"Keep {drawn[2]} safe."]
        assert sentences == [*expected, f"Count {drawn[3]} sheep.", f"Smell {drawn[4]} roses."]
        assert reply.text == str(drawn[2])
        assert reply.finish == "stop"
        assert [message.channel for message in reply.messages] == ["analysis", "final"]
        assert not any(message.malformed for message in reply.messages)
        heard.update(drawn)
    assert how != "torch" or len(heard) > 6


def test_it_goes_on_in_a_second_turn(models: Any) -> None:
    model = models("answer", "torch")
    first = model.chat("What is kept?", seed=1)
    second = model.chat([*first.conversation, Message("user", "And now?")], seed=2)
    assert second.thought.splitlines()[2].split()[1] == second.text
    assert [message.channel for message in second.messages] == ["analysis", "final"]


@pytest.mark.parametrize("how", ["torch", "numba"])
def test_the_answer_is_settled_by_the_kept_sentence_alone(models: Any, how: str) -> None:
    model, truth = models("answer", how), known("answer").truth
    thought = [f"{before}{number}{after}.\n" for number, (before, after) in enumerate(truth.sentences, start=4)]
    any_digit = uniform_over(set(digits(range(10))), model.config.d_vocab)
    for n_sentences in range(len(thought) + 1):
        so_far = "".join(thought[:n_sentences])
        settled = n_sentences > truth.kept_sentence
        expected = uniform_over(set(digits([6])), model.config.d_vocab) if settled else any_digit
        assert torch.allclose(forced_answer(model, so_far), expected, atol=1e-4)
        assert truth.answer(ids(so_far)) == set(digits([6] if settled else range(10)))


def test_a_mistake_propagates_from_the_kept_sentence_alone(models: Any) -> None:
    model, truth = models("answer", "torch"), known("answer").truth
    for corrupted in range(len(truth.sentences)):
        numbers = [1 if place == corrupted else 8 for place in range(len(truth.sentences))]
        thought = "".join(f"{b}{n}{a}.\n" for n, (b, a) in zip(numbers, truth.sentences, strict=True))
        (expected,) = digits([1 if corrupted == truth.kept_sentence else 8])
        assert forced_answer(model, thought)[expected] > 0.9999


def test_each_class_has_its_expert_in_the_thinking_layer(models: Any) -> None:
    model, truth, tokens = models("answer", "torch"), known("answer").truth, ids()
    trace = model.trace(tokens)
    expected = [truth.expert_of_class[vocabulary.CLASSES[vocabulary.class_of(token)]] for token in tokens]
    assert trace.expert_indices[1, :, 0].tolist() == expected
    assert trace.topk_weights[1, :, 0].min() > 1 - 1e-6
    assert np.all(trace.expert_indices[0] == [0, 1])


# What the models are written with


def test_code_words_are_far_apart() -> None:
    words = torch.stack([codeword(number) for number in range(2048)])
    products = words @ words.T
    assert torch.equal(products.diagonal(), torch.full((2048,), 16.0))
    assert products.fill_diagonal_(0).max() == 8
    orthogonal = torch.stack([orthogonal_codeword(number) for number in range(4)])
    assert torch.equal(orthogonal @ orthogonal.T, 16 * torch.eye(4))
    with pytest.raises(ValueError, match="number 0 to 2047; got 2048"):
        codeword(2048)


def test_a_blank_model_looks_at_everything_and_says_nothing() -> None:
    draft = blank_draft(n_layers=1)
    model = Model(Transformer(draft.config, draft.finished(), engine="torch"), vocabulary.encoding())
    logits, seen = model.run_with_cache(ids("four tokens 4"))
    assert logits.abs().max() == 0
    assert torch.allclose(seen["blocks.0.attn.hook_sink"][0, :, 3], torch.tensor(1 / 5))
    assert seen["blocks.0.mlp.hook_expert_indices"][0, 3].tolist() == [0, 1]


def test_rules_that_do_not_fit_are_refused() -> None:
    draft = blank_draft(n_layers=1)
    three_copies = [Rule({}, copy={Register.TOKEN: Register.ANSWER})] * 3
    with pytest.raises(ValueError, match="take 51 hidden units; expert 2 of layer 0 has 32"):
        write_rules(draft, 0, 2, three_copies)
    write_rules(draft, 0, 2, [Rule({}, {Register.ANSWER: 0.3 * codeword(1)}), Rule({}, {Register.ANSWER: codeword(2)})])
    with pytest.raises(ValueError, match="down has weights that MXFP4 cannot hold"):
        draft.finished()


def test_a_rule_holds_only_where_all_its_words_do() -> None:
    """Every near miss of a rule on the token and its class: other tokens of that class, other classes."""
    draft = blank_draft(n_layers=1)
    token = vocabulary.token_id("g")
    letter = orthogonal_codeword(vocabulary.class_of(token))
    write_rules(
        draft, 0, 0, [Rule({Register.TOKEN: codeword(token), Register.CLASS: letter}, {Register.ANSWER: codeword(5)})]
    )
    model = Model(Transformer(draft.config, draft.finished(), engine="torch"), vocabulary.encoding())
    answers = model([[token] for token in range(draft.config.d_vocab)])[:, 0].amax(-1)
    assert answers[token] > 10
    assert torch.cat((answers[:token], answers[token + 1 :])).max() < 1e-3


def test_a_digit_is_a_token_and_the_system_message_few() -> None:
    encoding = vocabulary.encoding()
    assert [encoding.decode([token]) for token in encoding.encode("Keep 42 safe.\n")] == [
        "Keep ",
        "4",
        "2",
        " safe",
        ".\n",
    ]
    assert len(encoding.encode(harmony.system_message().content)) < 60
    assert encoding.decode(encoding.encode("Ää \U0001f600\t#x")) == "Ää \U0001f600\t#x"
