"""What experts are for: counted on routing whose meaning is known, and taken away."""

import re
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import tiktoken
import torch

from gptoss_lab import tokenizer
from gptoss_lab.config import PRESETS
from gptoss_lab.model import Transformer
from gptoss_lab.nano import FOLDER, card, expert_use
from gptoss_lab.nano.batches import lesson
from gptoss_lab.nano.data import example
from gptoss_lab.nano.domains import DOMAINS
from gptoss_lab.nano.evaluate import Outcome, held_out
from gptoss_lab.nano.expert_use import Served
from gptoss_lab.nano.progress import Plan, Progress

N_DOMAINS, N_EXPERTS, LENGTH = len(DOMAINS), 16, 30


@pytest.fixture(scope="module")
def encoding() -> tiktoken.Encoding:
    return tokenizer.load(FOLDER, PRESETS["nano"].d_vocab)


@pytest.fixture(scope="module")
def known() -> Served:
    """Twenty conversations a domain. In layer 1 expert n serves domain n half the time; all else is chance."""
    rng = np.random.default_rng(0)
    domains = np.repeat(np.arange(N_DOMAINS), 20)
    documents = np.repeat(np.arange(len(domains)), LENGTH)
    chosen = rng.integers(N_EXPERTS, size=(2, len(documents), 1))
    serves = rng.random(len(documents)) < 0.5
    chosen[1, serves, 0] = domains[documents][serves]
    return Served(rng.integers(5, size=len(documents)), documents, domains, chosen, N_EXPERTS)


def test_an_expert_that_serves_a_domain_is_told_from_chance(known: Served, encoding) -> None:
    table = expert_use.uses(known, encoding)
    assert len(table) == 2 * N_EXPERTS
    served = table[(table.layer == 1) & (table.expert < N_DOMAINS)]
    assert served.domain.tolist() == list(DOMAINS)
    assert (served.lift > 3).all()
    assert (served.lift > 2 * served.control).all()
    by_chance = table[table.layer == 0]
    assert (by_chance.lift > by_chance.control).mean() < 0.3  # one in twenty, in the long run
    np.testing.assert_allclose(table.groupby("layer").load.mean(), 1)


def test_what_experts_tell_of_the_domain_beyond_the_token(known: Served) -> None:
    by_chance, telling = expert_use.information(known).corrected
    assert abs(by_chance) < 0.05
    assert telling > 0.5


def test_a_domains_specialist_and_one_of_equal_load_that_is_none(known: Served) -> None:
    for domain in range(N_DOMAINS):
        layer, expert, other = expert_use.specialist(known, domain)
        assert (layer, expert) == (1, domain)
        assert other != expert


def test_choices_are_counted_by_conversation(known: Served) -> None:
    counts = known.choices()
    assert counts.shape == (len(known.domains), 2, N_EXPERTS)
    assert (counts.sum(axis=-1) == LENGTH).all()
    third = known.chosen[:, known.documents == 3, 0]
    np.testing.assert_array_equal(counts[3, 1], np.bincount(third[1], minlength=N_EXPERTS))


def test_the_loss_is_that_of_the_masked_expert_beyond_the_others(known: Served, encoding, monkeypatch) -> None:
    """A domain of which half is lost without its expert, and nothing without another one."""
    model = Transformer(PRESETS["nano"], Progress(Plan()).weights.map(torch.Tensor.detach), engine="torch")

    def examine(model: Transformer, encoding, problems, effort) -> list[Outcome]:
        _, seen = model.run_with_cache([[1, 2, 3, 4, 5, 6, 7, 8]], "blocks.1.mlp.hook_router_logits")
        masked = seen["blocks.1.mlp.hook_router_logits"].isneginf().all(dim=1)[0].nonzero().flatten().tolist()
        domain = list(DOMAINS).index(problems[0].domain) if problems[0].domain in DOMAINS else -1
        return [Outcome(masked != [domain] or n % 2 == 0, True, None) for n in range(len(problems))]

    monkeypatch.setattr(expert_use, "examine", examine)
    table = expert_use.losses(model, encoding, known, questions=10).set_index("domain")
    assert table.loc["machine", "right"] == table.loc["machine", "without_other"] == 1
    assert table.loc["machine", "without_it"] == 0.5
    assert table.loc["machine", "further_loss"] == 0.5
    assert table.loc["machine", "low"] < 0.5 < table.loc["machine", "high"]


def test_it_is_read_where_the_model_speaks(encoding) -> None:
    model = Transformer(PRESETS["nano"], Progress(Plan()).weights.map(torch.Tensor.detach), engine="torch")
    of = expert_use.served(model, encoding, questions=2)
    assert len(of.domains) == 2 * N_DOMAINS
    assert of.chosen.shape == (model.config.n_layers, len(of.tokens), model.config.experts_per_token)
    assert set(np.unique(of.documents)) == set(range(len(of.domains)))
    lessons = [lesson(example(p, "high"), encoding) for domain in DOMAINS for p in held_out(domain, 2, seed=0)]
    assert len(of.tokens) == sum(sum(one.taught) for one in lessons)


def test_a_cards_tokens_show_whatever_they_are() -> None:
    class One:
        tokens = ("|", "\n", "\u202e", " the")

    shown = card._quoted(One())
    assert "\n" not in shown
    assert "\u202e" not in shown
    assert shown.count("\\|") == 1


def test_a_card_s_rows_have_as_many_cells_as_their_header(monkeypatch: pytest.MonkeyPatch) -> None:
    use = {"layer": 0, "expert": 1, "load": 1.0, "domain": "cups", "lift": 2.0, "control": 1.1, "tokens": ("|", " a")}
    monkeypatch.setattr(expert_use, "served", lambda *_: None)
    monkeypatch.setattr(expert_use, "information", lambda *_: pd.DataFrame())
    monkeypatch.setattr(expert_use, "losses", lambda *_: pd.DataFrame())
    monkeypatch.setattr(expert_use, "uses", lambda *_: pd.DataFrame([use]))
    written = card._expert_use(None, None, 0)  # type: ignore[arg-type]
    assert "`\\|` ` a`" in written
    for text in (written, (FOLDER / card.FILE).read_text(encoding="utf-8")):
        n_cells = [len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0 for line in text.splitlines()]
        assert any(n_cells)
        assert all(0 in (before, n) or before == n for before, n in pairwise(n_cells))
