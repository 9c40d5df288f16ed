"""The embedded model: its data, its vocabulary, its training, and the model that ships."""

import re
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gptoss_lab import checkpoint, harmony, mxfp4, tokenizer
from gptoss_lab.config import PRESETS
from gptoss_lab.experiments.intervals import wilson
from gptoss_lab.model import Transformer
from gptoss_lab.nano import FOLDER, card, evaluate, mean, objective, progress, train, vocabulary
from gptoss_lab.nano.batches import Place, lesson, side_by_side, stream
from gptoss_lab.nano.data import MIXTURE, Conversation, conversation, draw, example, is_held_out, mixture, prompt, reply
from gptoss_lab.nano.domains import DOMAINS, Problem
from gptoss_lab.nano.gradients import Gradients
from gptoss_lab.nano.greedy import says_verbatim
from gptoss_lab.nano.progress import Plan, Progress
from gptoss_lab.weights import Weights, unpack

MINUTE = replace(
    PRESETS["nano"],
    n_layers=2,
    d_model=32,
    n_heads=2,
    n_kv_heads=1,
    d_head=16,
    n_experts=4,
    experts_per_token=2,
    d_mlp=32,
)
PLAN = Plan(
    model=MINUTE,
    steps=20,
    tokens_per_batch=1024,
    batches_per_step=3,
    warm_up_steps=2,
    rounded_steps=5,
    learning_rate=1e-2,
)


# Data


def test_a_conversation_follows_from_seed_and_number() -> None:
    assert conversation(1, 5) == conversation(1, 5)
    assert len({conversation(seed, number) for seed in (1, 2) for number in range(10)}) == 20


def test_each_time_that_a_domain_is_named_there_is_as_much_of_it_again() -> None:
    def machines(more: tuple[str, ...]) -> int:
        talks = [conversation(1, number, more) for number in range(1500)]
        return sum("\n1: " in next(m.content for m in talk.messages if m.role == "user") for talk in talks)

    twice = {**MIXTURE, "machine": 3 * MIXTURE["machine"], "cups": 2 * MIXTURE["cups"]}
    assert mixture(("machine", "cups", "machine")) == twice
    assert machines(("machine",)) > 1.3 * machines(())  # other conversations have machines too


@pytest.mark.parametrize("domain", DOMAINS)
def test_no_held_out_question_is_ever_drawn_for_training(domain: str) -> None:
    rng = Random(0)
    train_split = {draw(rng, domain, "train").identity for _ in range(2000)}
    held_out = {draw(rng, domain, "held-out").identity for _ in range(300)}
    assert not train_split & held_out


def test_conversations_hold_no_held_out_sum_in_any_phrasing_or_order() -> None:
    sums = 0
    for number in range(3000):
        messages = conversation(3, number).messages
        for asked, answered in pairwise(messages):
            numbers = [int(n) for n in re.findall(r"\d+", asked.content)] if asked.role == "user" else []
            if len(numbers) == 2 and answered.content == str(sum(numbers)):
                sums += 1
                identity = "{} + {}".format(*sorted(numbers))
                assert not is_held_out(Problem("addition", 0, identity, asked.content, {}, ""))
    assert sums > 50


@pytest.mark.parametrize("domain", ["addition", "subtraction"])
def test_thoughts_are_right_line_by_line_and_lead_to_the_answer(domain: str) -> None:
    rng = Random(7)
    for _ in range(300):
        problem = DOMAINS[domain](rng)
        thought = problem.thoughts["high"]
        a, b = (int(n) for n in problem.identity.split(" + " if domain == "addition" else " - "))
        assert abs(int(problem.answer)) == (a + b if domain == "addition" else a - b)
        assert int(re.search(r"Together: (-?\d+)\.", thought)[1]) == int(problem.answer)  # type: ignore[index]
        lines = list(re.finditer(r"(?::|< 0,) (\d[\d +-]*) = (\d+), write (\d), (?:carry|borrow) (\d)", thought))
        assert len(lines) == problem.size
        for line in lines:
            total = sum(int(term) for term in re.findall(r"[+-]?\d+", line[1].replace(" ", "")))
            assert total == int(line[2])
            assert total % 10 == int(line[3])
        assert re.findall(r"= \d+", problem.thoughts["medium"]) == [f"= {line[2]}" for line in lines]
        for short in re.finditer(r"(\d) - (\d)(?: - (1))? < 0, (\d+) - ", thought):
            upper, *lower = (int(digit or 0) for digit in short.groups()[:3])
            assert upper - sum(lower) < 0
            assert int(short[4]) == upper + 10
        for compared in re.finditer(r"(\d) ([<>]) (\d)", thought.partition("From the left:")[2].partition("\n")[0]):
            assert (int(compared[1]) < int(compared[3])) == (compared[2] == "<") == ("The first is smaller" in thought)


def test_only_what_the_model_samples_is_taught() -> None:
    encoding = tokenizer.load(FOLDER, PRESETS["nano"].d_vocab)
    problem = draw(Random(2), "addition", "train")
    given, said = prompt(problem, "high"), reply(problem, "high")
    one = lesson(Conversation((*given, *said), frozenset({2, 3})), encoding)
    assert one.inputs == harmony.render_for_training([*given, *said], encoding).tokens[:-1]
    assert _taught(one, encoding) == (
        f"<|channel|>analysis<|message|>{problem.thoughts['high']}<|end|>"
        f"<|start|>assistant<|channel|>final<|message|>{problem.answer}<|return|>"
    )


def test_at_low_effort_each_turn_is_taught_to_end_in_return() -> None:
    encoding = tokenizer.load(FOLDER, PRESETS["nano"].d_vocab)
    turns = [draw(Random(n), "subtraction", "train") for n in (1, 2)]
    messages = (*prompt(turns[0], "low"), *reply(turns[0], "low"), prompt(turns[1], "low")[1], *reply(turns[1], "low"))
    one = lesson(Conversation(messages, frozenset({2, 4})), encoding)
    turn = "<|channel|>final<|message|>{}<|return|>"
    assert _taught(one, encoding) == turn.format(turns[0].answer) + turn.format(turns[1].answer)
    assert encoding.decode(one.inputs).count("<|return|>") == 0


def test_the_stream_can_be_taken_up_anywhere() -> None:
    encoding = tokenizer.load(FOLDER, PRESETS["nano"].d_vocab)
    whole = stream(1, encoding, 8192)
    _, place = [next(whole) for _ in range(5)][-1]
    resumed = stream(1, encoding, 8192, place)
    for _ in range(25):  # beyond the first pool
        (expected, at), (batch, also_at) = next(whole), next(resumed)
        assert torch.equal(batch.inputs, expected.inputs)
        assert torch.equal(batch.taught, expected.taught)
        assert at == also_at
        assert batch.inputs.numel() <= 8192


# Vocabulary


@given(st.text())
@settings(deadline=None, max_examples=200)
def test_the_vocabulary_gives_any_text_back(text: str) -> None:
    encoding = tokenizer.load(FOLDER, PRESETS["nano"].d_vocab)
    assert encoding.decode(encoding.encode_ordinary(text)) == text


def test_digits_stand_alone_and_the_words_of_the_system_message_are_whole() -> None:
    encoding = tokenizer.load(FOLDER, PRESETS["nano"].d_vocab)
    for text in ("What is 3857 + 57?", "3857+57", "Units: 8 + 7 = 15, write 5, carry 1.", "12 34"):
        pieces = [encoding.decode([token]) for token in encoding.encode_ordinary(text)]
        assert [piece for piece in pieces if re.search(r"\d", piece)] == re.findall(r"\d", text)
    system = harmony.system_message(effort="high").content
    assert len(encoding.encode_ordinary(system)) <= 55
    assert encoding.n_vocab == PRESETS["nano"].d_vocab


def test_byte_pairs_merge_by_frequency_and_within_words() -> None:
    tokens = vocabulary.train({"aab": 3, "ab": 2, "xy": 4}, 259)
    assert tokens[256:] == [b"ab", b"xy", b"aab"]
    with pytest.raises(ValueError, match="only 259 tokens"):
        vocabulary.train({"aab": 3, "ab": 2, "xy": 4}, 260)


# Training


@pytest.fixture(scope="module")
def encoding():
    return tokenizer.load(FOLDER, PRESETS["nano"].d_vocab)


def test_training_learns_and_a_resumed_one_ends_where_an_uninterrupted_one_does(encoding, tmp_path) -> None:
    plan = PLAN
    start = _loss(Progress(plan), encoding)
    whole = train.train(plan, encoding, tmp_path / "whole")
    assert _loss(whole, encoding) < start - 1
    train.train(plan, encoding, tmp_path / "parts", stop_at=12)
    parts = train.train(plan, encoding, tmp_path / "parts")
    assert parts.step == whole.step == plan.steps
    assert parts.place == whole.place
    for expected, leaf in zip(whole.leaves, parts.leaves, strict=True):
        torch.testing.assert_close(leaf, expected, rtol=1e-4, atol=1e-5)


def test_a_training_of_another_configuration_is_refused_with_what_differs(encoding, tmp_path) -> None:
    train.train(PLAN, encoding, tmp_path, stop_at=1)
    changed = replace(PLAN, learning_rate=3e-3, model=replace(MINUTE, d_mlp=64))
    with pytest.raises(
        ValueError, match=r"model\.d_mlp \(there 32, now 64\), learning_rate \(there 0\.01, now 0\.003\)"
    ):
        train.train(changed, encoding, tmp_path)


def test_a_training_can_begin_with_a_trained_model(encoding, tmp_path) -> None:
    train.store(Progress(PLAN).weights, MINUTE, encoding, tmp_path / "model")
    _, start = checkpoint.load(tmp_path / "model")
    begun = Progress.resume(replace(PLAN, start="a name"), tmp_path / "work", start)
    for ours, theirs in zip(begun.leaves, _leaves(start), strict=True):
        assert torch.equal(ours.detach(), theirs)
        assert ours.requires_grad


def test_the_mean_of_models_is_stored_as_they_are(encoding, tmp_path) -> None:
    for seed in (1, 2):
        train.store(Progress(replace(PLAN, seed=seed)).weights, MINUTE, encoding, tmp_path / str(seed))
    mean.main([str(tmp_path / "1"), str(tmp_path / "2"), "--out", str(tmp_path / "mean")])
    (_, one), (_, two), (config, stored) = (checkpoint.load(tmp_path / name) for name in ("1", "2", "mean"))
    assert config == MINUTE
    means = [(a + b) / 2 for a, b in zip(_leaves(one), _leaves(two), strict=True)]
    for ours, expected in zip(_leaves(stored), means, strict=True):
        assert torch.equal(ours, objective.rounded(expected))


def test_models_of_different_shapes_have_no_mean(encoding, tmp_path) -> None:
    for name, config in {"small": MINUTE, "wide": replace(MINUTE, d_mlp=64)}.items():
        train.store(Progress(replace(PLAN, model=config)).weights, config, encoding, tmp_path / name)
    with pytest.raises(SystemExit, match=r"wide holds a model of another shape or vocabulary than .*small"):
        mean.main([str(tmp_path / "small"), str(tmp_path / "wide"), "--out", str(tmp_path / "mean")])
    assert not (tmp_path / "mean").exists()


def test_the_card_names_each_training_that_led_to_the_model(encoding, tmp_path) -> None:
    first = Progress(PLAN)
    first.advance(Place(0, 1), seconds=3600, tokens=2_000_000)
    then = Progress(replace(PLAN, start="1a2b3c4d", seed=2, more="machine,no call"))
    then.advance(Place(0, 1), seconds=1800, tokens=500_000)
    told = " ".join(card._training(then, [first]).split())
    assert "Begun with random weights." in told
    assert "train --seed 1 --steps 20 --rate 0.01`: AdamW, 3 batches" in told
    assert (
        "--seed 2 --steps 20 --rate 0.01 --more machine 'no call'` `--from` the model before, 1a2b3c4d: AdamW" in told
    )
    assert "2.5 million tokens in all, in 1.5 hours" in told


def test_a_failing_save_leaves_the_last_good_one(encoding, tmp_path, monkeypatch) -> None:
    state = train.train(PLAN, encoding, tmp_path, stop_at=1)

    def disk_is_full(tensors, path, metadata) -> None:
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(progress, "save_file", disk_is_full)
    with pytest.raises(OSError, match="No space"):
        state.save(tmp_path)
    assert Progress.resume(PLAN, tmp_path).step == 1
    assert [path.name for path in tmp_path.iterdir()] == [progress.FILE]


def test_rounded_weights_are_those_that_are_stored_and_gradients_pass(encoding, tmp_path) -> None:
    state = Progress(PLAN)
    train.store(state.weights, MINUTE, encoding, tmp_path)
    _, stored = checkpoint.load(tmp_path)
    rounded = state.weights.map(objective.rounded)
    assert torch.equal(mxfp4.decode(stored.layers[1].gate_up), rounded.layers[1].gate_up)
    assert torch.equal(mxfp4.decode(stored.layers[0].down), rounded.layers[0].down)
    assert torch.equal(stored.layers[0].q.float(), rounded.layers[0].q)
    assert torch.equal(stored.layers[1].gate_up_bias, rounded.layers[1].gate_up_bias)
    rounded.layers[0].down.sum().backward()
    assert torch.equal(state.weights.layers[0].down.grad, torch.ones_like(state.weights.layers[0].down))


@pytest.mark.parametrize("processes", [1, 2])
def test_the_gradient_of_a_step_counts_each_taught_token_alike(encoding, processes: int) -> None:
    plan = replace(PLAN, balance=0)
    lessons = [lesson(conversation(1, number), encoding) for number in range(6)]
    batches = [side_by_side(part) for part in (lessons[:1], lessons[1:3], lessons[3:])]
    with Gradients(plan, state := Progress(plan), processes) as gradients:
        loss, _ = gradients(batches, rounding=False)

    alone = Progress(plan)
    expected, _, _ = objective.losses(Transformer(MINUTE, alone.weights, engine="torch"), side_by_side(lessons))
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for ours, theirs in zip(state.leaves, alone.leaves, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-6)


def test_imbalance_is_one_when_even_and_greatest_when_the_same_experts_serve_all() -> None:
    even = torch.eye(8).repeat(4, 1) * 20
    assert objective.imbalance(even, 1).item() == pytest.approx(1, abs=1e-4)
    same = torch.tensor([20.0, 20.0, 0, 0, 0, 0, 0, 0]).repeat(32, 1)
    assert objective.imbalance(same, 2).item() == pytest.approx(4, abs=1e-3)


def test_the_rate_rises_then_falls_to_nearly_nothing() -> None:
    plan = replace(PLAN, steps=100, warm_up_steps=10)
    rates = [train.learning_rate(plan, step) for step in range(100)]
    assert rates.index(max(rates)) in (9, 10)
    assert max(rates) == pytest.approx(plan.learning_rate)
    assert rates[-1] < 0.02 * plan.learning_rate


# Examining


def test_intervals_are_wilsons() -> None:
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe 1998, table I
    assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=1e-4)
    assert wilson(20, 20)[1] == pytest.approx(1)


def test_a_model_that_learned_nothing_fails(encoding, monkeypatch) -> None:
    monkeypatch.setattr(evaluate, "LONGEST_REPLY", 50)
    model = Transformer(MINUTE, Progress(PLAN).weights.map(torch.Tensor.detach), engine="torch")
    problems = evaluate.held_out("addition", 2, seed=0, size=2)
    assert [(o.right, o.well_formed) for o in evaluate.examine(model, encoding, problems, "low")] == [
        (False, False)
    ] * 2


# The model that ships


@pytest.fixture(scope="module")
def nano() -> Transformer:
    return Transformer(*checkpoint.load(FOLDER), engine="torch")


@pytest.mark.parametrize(
    ("domain", "size", "right"),
    [
        ("addition", 2, 19),
        ("addition", 4, 19),
        ("addition", 8, 19),
        ("subtraction", 3, 19),
        ("subtraction", 8, 19),
        ("machine", 12, 19),
        ("cups", 12, 19),
        ("words", None, 18),
        ("json", None, 19),
        ("python", None, 18),
        ("browser", None, 18),
        ("functions", None, 17),
        ("false result", None, 18),
        ("no call", None, 18),
        ("refusal", None, 18),
    ],
)
def test_it_answers_held_out_questions_with_its_thinking(
    nano, encoding, domain: str, size: int | None, right: int
) -> None:
    problems = evaluate.held_out(domain, 20, seed=11, size=size)
    outcomes = evaluate.examine(nano, encoding, problems, "high")
    assert len(outcomes) == 20
    assert sum(outcome.right for outcome in outcomes) >= right  # the card has the real figures
    assert sum(outcome.well_formed for outcome in outcomes) >= 19


@pytest.mark.parametrize(("domain", "right"), [("functions", 51), ("no call", 54), ("browser", 54), ("refusal", 54)])
def test_it_answers_as_large_a_share_of_more_questions(nano, encoding, domain: str, right: int) -> None:
    outcomes = evaluate.examine(nano, encoding, evaluate.held_out(domain, 60, seed=11), "high")
    assert len(outcomes) == 60
    assert sum(outcome.right for outcome in outcomes) >= right
    assert sum(outcome.well_formed for outcome in outcomes) >= 57


def test_it_says_in_a_few_words_that_it_does_not_know(nano, encoding) -> None:
    problems = evaluate.held_out("unknown", 20, seed=11)
    talks = evaluate.converse(nano, encoding, problems, "high")
    assert sum(talk[-1].channel == "final" and len(talk[-1].content) < 100 for talk in talks) >= 19
    assert sum(talk[-1].content.startswith("I don't know that") for talk in talks) >= 14


def test_sampling_agrees_with_reading(nano, encoding) -> None:
    """What the examination takes for said, because it is likeliest at every token, is what greedy sampling says."""
    problems = evaluate.held_out("addition", 12, seed=1, size=2)
    verbatim = says_verbatim(nano, [lesson(example(problem, "high"), encoding) for problem in problems])
    talks = evaluate.converse(nano, encoding, problems, "high")
    outcomes = [evaluate.judge(problem, "high", talk) for problem, talk in zip(problems, talks, strict=True)]
    assert sum(verbatim) >= 6
    assert all(outcome.right and outcome.well_formed for outcome, said in zip(outcomes, verbatim, strict=True) if said)


def test_it_is_small_and_of_the_stated_shape() -> None:
    config, _ = checkpoint.load(FOLDER)
    assert config == PRESETS["nano"]
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) < 8e6


def test_transformers_loads_it_unmodified_with_the_same_logits(nano, encoding) -> None:
    import transformers

    theirs = transformers.GptOssForCausalLM.from_pretrained(FOLDER, dtype=torch.float32, attn_implementation="eager")
    problem = evaluate.held_out("addition", 1, seed=3, size=5)[0]
    tokens = torch.tensor([harmony.render([*prompt(problem, "high"), *reply(problem, "high")], encoding).tokens])
    with torch.inference_mode():
        expected, logits = theirs(tokens).logits, nano(tokens)
    assert (logits - expected).abs().max() < 1e-4 * expected.abs().max()


def _taught(one, encoding) -> str:
    return encoding.decode([target for target, taught in zip(one.targets, one.taught, strict=True) if taught])


def _leaves(weights: Weights) -> list[torch.Tensor]:
    tensors: list[torch.Tensor] = []
    unpack(weights).map(lambda tensor: tensors.append(tensor.float()) or tensor)
    return tensors


def _loss(state: Progress, encoding) -> float:
    batch, _ = next(stream(99, encoding, 2048))
    model = Transformer(MINUTE, state.weights, engine="torch")
    return objective.losses(model, batch)[0].item()
