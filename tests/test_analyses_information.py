"""Mutual information of experts and text: known where it is planted, nothing where there is nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from traces import ADDITION, conversation

import gptoss_lab as lab
from gptoss_lab import planted
from gptoss_lab.analyses import routing

TEXT = "See 4 apples! Hear 2 bells.\nKeep 7 safe.\n10 zebras jog: 3 + 55 = 58. Count 9 sheep; quick brown foxes hop.\n"


def entropy(labels: np.ndarray) -> float:
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    return float(-(shares * np.log2(shares)).sum())


@pytest.fixture(scope="module")
def read() -> lab.Trace:
    return lab.load("planted:routing", engine="torch").trace(TEXT * 6)


def test_planted_routing_knows_the_class_and_beyond_the_token_only_what_is_planted(read: lab.Trace) -> None:
    truth = planted.build("routing").truth
    own = truth.class_of[read.token_ids]
    before = np.concatenate(([0], own[:-1]))
    first = read.expert_indices[:, :, 0]

    of_class = routing.mutual_information(first, own, permutations=20)
    np.testing.assert_allclose(of_class.information[:2], entropy(own), rtol=1e-6)
    np.testing.assert_allclose(of_class.entropy, entropy(own))
    assert (of_class.p[:2] == 1 / 21).all()
    assert (of_class.control < 0.1).all()

    beyond_the_token = routing.mutual_information(first, own, given=read.token_ids, permutations=20)
    np.testing.assert_allclose(beyond_the_token.information, 0, atol=1e-9)

    of_the_last = routing.mutual_information(first, before, given=read.token_ids, permutations=20)
    np.testing.assert_allclose(of_the_last.information[:2], 0, atol=1e-9)
    assert of_the_last.information[2] == pytest.approx(of_the_last.entropy[2])
    assert of_the_last.corrected[2] > 0.5 * of_the_last.entropy[2] > 0.05
    assert of_the_last.p[2] == 1 / 21


def test_what_is_known_is_found_within_its_interval_most_of_the_time() -> None:
    joint = np.array([[0.3, 0.1, 0.05], [0.05, 0.1, 0.4]])  # [label, expert]
    independent = joint.sum(1, keepdims=True) * joint.sum(0)
    truth = float((joint * np.log2(joint / independent)).sum())
    found, n = [], 1000
    for seed in range(40):
        drawn = np.random.default_rng(seed).choice(6, size=n, p=joint.ravel())
        found.append(routing.mutual_information((drawn % 3)[None], drawn // 3, permutations=20, seed=seed).iloc[0])
    covered = np.mean([row.low <= truth <= row.high for row in found])
    assert covered >= 0.85
    assert np.mean([row.corrected for row in found]) == pytest.approx(truth, abs=0.01)
    assert np.mean([row.information for row in found]) > np.mean([row.corrected for row in found])


def test_experts_chosen_by_lot_know_nothing_however_little_text_there_is() -> None:
    found = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        experts = np.argsort(rng.random((2, 60, 16)), axis=2)[:, :, :4]
        labels, tokens = rng.integers(3, size=60), rng.integers(10, size=60)
        found += [
            routing.mutual_information(experts, labels, permutations=30, seed=seed),
            routing.mutual_information(experts, labels, given=tokens, permutations=30, seed=seed),
        ]
    plain = np.mean([table.information.mean() for table in found])
    corrected = np.mean([table.corrected.mean() for table in found])
    assert plain > 0.05
    assert abs(corrected) < 0.05 * plain
    assert 0.3 < np.mean([table.p.mean() for table in found]) < 0.7
    beyond = np.mean([(table.information > table.control_high).mean() for table in found])
    assert beyond < 0.12


def test_documents_with_habits_of_their_own_are_no_independent_witnesses() -> None:
    """Each document prefers some expert, and has one label, which has nothing to do with it."""
    surprised = {"tokens": 0, "documents": 0}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        documents = np.repeat(np.arange(12), 50)
        labels = rng.permutation(np.repeat([0, 1, 2], 4))[documents]
        habit = rng.integers(8, size=12)[documents]
        experts = np.where(rng.random(600) < 0.5, habit, rng.integers(8, size=600))[None]
        by_tokens = routing.mutual_information(experts, labels, permutations=40, seed=seed)
        by_documents = routing.mutual_information(experts, labels, groups=documents, permutations=40, seed=seed)
        surprised["tokens"] += by_tokens.p[0] < 0.05
        surprised["documents"] += by_documents.p[0] < 0.05
        width = {
            "tokens": by_tokens.high[0] - by_tokens.low[0],
            "documents": by_documents.high[0] - by_documents.low[0],
        }
        assert width["documents"] > width["tokens"]
    assert surprised["tokens"] == 20
    assert surprised["documents"] <= 3


def test_pieces_are_exchanged_whole_and_within_tokens_alike() -> None:
    """Experts say which document it is, and documents have a label each: nothing is left once documents are exchanged
    among few, and something where there are many."""
    documents = np.repeat(np.arange(4), 10)
    labels = documents % 2
    table = routing.mutual_information(documents[None], labels, groups=documents, permutations=50)
    assert table.information[0] == pytest.approx(1)
    np.testing.assert_allclose(table.control, 1)  # whatever document has which label, the expert knows it
    tokens = np.tile([0, 1], 20)
    experts = np.random.default_rng(0).integers(4, size=(1, 40))
    alone = routing.mutual_information(experts, tokens, given=tokens, permutations=5)
    assert alone.information[0] == 0 == alone.entropy[0]
    assert (alone.control == 0).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.booleans(), st.booleans())
def test_information_is_that_of_a_slow_count(seed: int, n: int, conditional: bool, several: bool) -> None:
    rng = np.random.default_rng(seed)
    experts = np.argsort(rng.random((1, n, 5)), axis=2)[:, :, : 3 if several else 1]
    labels, tokens = rng.integers(3, size=n), rng.integers(3, size=n)
    table = routing.mutual_information(experts, labels, given=tokens if conditional else None, permutations=2)
    samples = [
        (int(tokens[place]) if conditional else 0, int(labels[place]), int(expert))
        for place in range(n)
        for expert in experts[0, place]
    ]

    def share(*parts: int, of: tuple[int, ...]) -> float:
        return sum(tuple(sample[part] for part in parts) == of for sample in samples) / len(samples)

    expected = 0.0
    for sample in set(samples):
        token, label, expert = sample
        ratio = share(0, 1, 2, of=sample) * share(0, of=(token,))
        ratio /= share(0, 1, of=(token, label)) * share(0, 2, of=(token, expert))
        expected += share(0, 1, 2, of=sample) * np.log2(ratio)
    assert table.information[0] == pytest.approx(expected, abs=1e-9)


def test_many_traces_are_pooled() -> None:
    traces = [conversation(seed=seed) for seed in range(6)]
    pool = routing.pool(traces, by="channel")
    n = [int((routing.content(trace) & routing.reply(trace)).sum()) for trace in traces]
    assert pool.experts.shape == (4, sum(n), 2)
    assert np.bincount(pool.documents).tolist() == n
    assert set(pool.labels) == {"analysis", "final"}
    table = routing.mutual_information(
        pool.experts, pool.labels, given=pool.tokens, groups=pool.documents, permutations=10
    )
    assert table.layer.tolist() == [0, 1, 2, 3]
    digits = routing.pool(traces, by="class", where=routing.content)
    of_class = routing.mutual_information(digits.experts, digits.labels == "digit", permutations=10)
    assert of_class.corrected.idxmax() == 0
    assert len(ADDITION) == 4


def test_the_same_seed_gives_the_same_control() -> None:
    rng = np.random.default_rng(0)
    experts, labels = rng.integers(4, size=(2, 50)), rng.integers(2, size=50)
    one, other, third = (routing.mutual_information(experts, labels, permutations=5, seed=seed) for seed in (1, 1, 2))
    assert one.equals(other)
    assert not one.equals(third)


def test_what_does_not_fit_together_is_refused() -> None:
    experts = np.zeros((1, 5), dtype=int)
    with pytest.raises(ValueError, match=r"experts: expected integers \[layer, pos, rank\], found float64 of \(5,\)"):
        routing.mutual_information(np.zeros(5), np.zeros(5))
    with pytest.raises(ValueError, match=r"labels: expected 5 values, one a token; found shape \(4,\)"):
        routing.mutual_information(experts, np.zeros(4))
    with pytest.raises(ValueError, match="groups: there is only one"):
        routing.mutual_information(experts, np.zeros(5), groups=np.zeros(5))
    with pytest.raises(ValueError, match="there are no traces"):
        routing.pool([])
