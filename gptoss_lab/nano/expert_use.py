"""What the model's experts are for: whom each serves, and what is lost without it.

    python -m gptoss_lab.nano.expert_use [FOLDER]

Counted where the model speaks, on held-out questions at high effort. A control stands beside each figure: the same
count with the domains exchanged among the conversations, the same loss without another expert that has as much to do.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np
import pandas as pd
import tiktoken
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from gptoss_lab import checkpoint, edits, tokenizer
from gptoss_lab.analyses.routing import mutual_information
from gptoss_lab.model import Transformer
from gptoss_lab.nano import FOLDER
from gptoss_lab.nano.batches import lesson, side_by_side
from gptoss_lab.nano.data import example
from gptoss_lab.nano.domains import DOMAINS, Problem
from gptoss_lab.nano.evaluate import examine, held_out

ROWS = 32  # conversations that are read together
PERMUTATIONS = 200


@dataclass(frozen=True)
class Served:
    """The positions from which the model speaks, and the experts that they chose."""

    tokens: NDArray[np.int64]  # [pos]
    documents: NDArray[np.int64]  # [pos], which conversation each belongs to
    domains: NDArray[np.int64]  # [document], in the order of DOMAINS
    chosen: NDArray[np.int64]  # [layer, pos, k]
    n_experts: int

    def choices(self) -> NDArray[np.int64]:
        """How often each conversation chose each expert, [document, layer, expert]."""
        n_layers, n_documents = len(self.chosen), len(self.domains)
        cells = (self.documents[None, :, None] * n_layers + np.arange(n_layers)[:, None, None]) * self.n_experts
        counts = np.bincount((cells + self.chosen).ravel(), minlength=n_documents * n_layers * self.n_experts)
        return counts.reshape(n_documents, n_layers, self.n_experts)


def served(model: Transformer, encoding: tiktoken.Encoding, questions: int, seed: int = 0) -> Served:
    """What serves the replies to `questions` held-out questions of each domain, or as many as there are."""
    problems = [(n, problem) for n, domain in enumerate(DOMAINS) for problem in held_out(domain, questions, seed)]
    tokens, documents, chosen = [], [], []
    for first in tqdm(range(0, len(problems), ROWS), desc="Reading", unit="batch"):
        batch = side_by_side([lesson(example(p, "high"), encoding) for _, p in problems[first : first + ROWS]])
        with torch.inference_mode():
            _, seen = model.run_with_cache(batch.inputs, "blocks.*.mlp.hook_expert_indices")
        row, position = batch.taught.nonzero(as_tuple=True)
        tokens.append(batch.inputs[row, position].numpy())
        documents.append(first + row.numpy())
        chosen.append(torch.stack([indices[row, position] for indices in seen.values()]).numpy())
    return Served(
        np.concatenate(tokens),
        np.concatenate(documents),
        np.array([domain for domain, _ in problems]),
        np.concatenate(chosen, axis=1),
        model.config.n_experts,
    )


def uses(of: Served, encoding: tiktoken.Encoding, seed: int = 0) -> pd.DataFrame:
    """What each expert is used for: a row for each layer and expert.

    Columns: load, its share of the layer's choices (1 is the even share; every domain counts alike); domain, the one
    that chooses it most beyond the others; lift, how much more often that domain chooses it than all do; control, the
    lift that 19 in 20 permutations of the domains stay under; tokens, those that it is most typical of.
    """
    choices = of.choices()
    lifts, load = _lifts(choices, of.domains)
    rng = np.random.default_rng(seed)
    permuted = [_lifts(choices, rng.permutation(of.domains))[0].max(axis=0) for _ in range(PERMUTATIONS)]
    control = np.quantile(permuted, 0.95, axis=0)
    names = list(DOMAINS)
    rows = [
        {
            "layer": layer,
            "expert": expert,
            "load": load[layer, expert] * of.n_experts,
            "domain": names[lifts[:, layer, expert].argmax()],
            "lift": lifts[:, layer, expert].max(),
            "control": control[layer, expert],
            "tokens": [encoding.decode([token]) for token in _typical_tokens(of, layer, expert)],
        }
        for layer in range(len(of.chosen))
        for expert in range(of.n_experts)
    ]
    return pd.DataFrame(rows)


def information(of: Served, seed: int = 0) -> pd.DataFrame:
    """What an expert tells of the domain that the token before it does not: see `mutual_information`."""
    domains = of.domains[of.documents]
    return mutual_information(
        of.chosen, domains, given=of.tokens, groups=of.documents, permutations=PERMUTATIONS // 4, seed=seed
    )


def losses(model: Transformer, encoding: tiktoken.Encoding, of: Served, questions: int, seed: int = 0) -> pd.DataFrame:
    """What is lost without the expert that serves a domain most: a row for each domain.

    Columns: domain, layer, expert, other (an expert of the same layer that has about as much to do in all and serves
    this domain no more than others), right (share of right answers), without_it, without_other, and the further loss,
    without_other - without_it, with the ends of its 95 % interval, low and high.
    """
    rows = []
    for domain in tqdm(DOMAINS, desc="Masking experts", unit="domain"):
        problems = held_out(domain, questions, seed + 1)
        layer, expert, other = specialist(of, list(DOMAINS).index(domain))
        right, without_it, without_other = (
            _right(model, encoding, problems, masked) for masked in ((), ((layer, expert),), ((layer, other),))
        )
        further = without_other - without_it
        half = 1.96 * further.std(ddof=1) / sqrt(len(further))
        rows.append(
            {
                "domain": domain,
                "layer": layer,
                "expert": expert,
                "other": other,
                "right": right.mean(),
                "without_it": without_it.mean(),
                "without_other": without_other.mean(),
                "further_loss": further.mean(),
                "low": further.mean() - half,
                "high": further.mean() + half,
            }
        )
    return pd.DataFrame(rows)


def specialist(of: Served, domain: int) -> tuple[int, int, int]:
    """Layer and expert that a domain chooses most beyond all domains together, and another of that layer: the one of
    the nearest load among those that it chooses no more than all do.
    """
    share, load = _shares(of.choices(), of.domains)
    beyond = share[domain] - load
    layer, expert = np.unravel_index(beyond.argmax(), beyond.shape)
    distance = np.where(beyond[layer] <= 0, np.abs(load[layer] - load[layer, expert]), np.inf)
    return int(layer), int(expert), int(distance.argmin())


def _right(
    model: Transformer, encoding: tiktoken.Encoding, problems: Sequence[Problem], masked: Sequence[tuple[int, int]]
) -> NDArray[np.float64]:
    """1 for each problem that is answered rightly with some experts, (layer, expert), masked; 0 for the others."""
    changes = [edits.mask_expert(expert, layer) for layer, expert in masked]
    with model.hooks(edits.fwd_hooks(changes, model.config)):
        return np.array([outcome.right for outcome in examine(model, encoding, problems, "high")], dtype=float)


def _lifts(choices: NDArray[np.int64], domains: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How much more often each domain chooses an expert than all do, [domain, layer, expert], and how often all do."""
    share, load = _shares(choices, domains)
    return share / np.maximum(load, 1e-9), load


def _shares(choices: NDArray[np.int64], domains: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each expert's share of a layer's choices in each domain, [domain, layer, expert], and their mean."""
    of_domain = np.stack([choices[domains == domain].sum(axis=0) for domain in np.unique(domains)])
    share = of_domain / of_domain.sum(axis=-1, keepdims=True)
    return share, share.mean(axis=0)


def _typical_tokens(of: Served, layer: int, expert: int, n: int = 4, at_least: int = 20) -> NDArray[np.int64]:
    """The tokens whose every occurrence goes to the expert most often; rare ones do not count."""
    n_tokens = int(of.tokens.max()) + 1
    occurrences = np.bincount(of.tokens, minlength=n_tokens)
    to_expert = np.bincount(of.tokens[(of.chosen[layer] == expert).any(axis=-1)], minlength=n_tokens)
    share = np.where(occurrences >= at_least, to_expert / np.maximum(occurrences, 1), 0)
    return np.lexsort((-to_expert, -share))[:n]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m gptoss_lab.nano.expert_use", description="Examine what a model's experts are used for."
    )
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER, help="a checkpoint (default: the embedded)")
    parser.add_argument("--questions", type=int, default=100, help="of each domain (default: 100)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    config, weights = checkpoint.load(options.folder)
    encoding = tokenizer.load(options.folder, config.d_vocab)
    model = Transformer(config, weights, engine="torch")
    of = served(model, encoding, options.questions, options.seed)
    with pd.option_context("display.precision", 3):
        print(uses(of, encoding, options.seed).to_string())
        print(information(of, options.seed).to_string())
        print(losses(model, encoding, of, options.questions, options.seed).to_string())


if __name__ == "__main__":
    main()
