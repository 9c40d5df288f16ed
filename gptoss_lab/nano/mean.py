"""The mean of trained models, which is often better than each of them (model soups, arXiv 2203.05482).

    python -m gptoss_lab.nano.mean FOLDER FOLDER ... --out FOLDER

The models should come from one training, or from trainings that went on from one another.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from gptoss_lab import checkpoint, tokenizer
from gptoss_lab.nano.train import store
from gptoss_lab.weights import Weights, unpack


def mean(models: Sequence[Weights]) -> Weights:
    """Each weight's mean, in float32."""
    tensors = [_tensors(model) for model in models]
    means = (torch.stack(those).mean(dim=0) for those in zip(*tensors, strict=True))
    return unpack(models[0]).map(lambda _: next(means))


def _tensors(weights: Weights) -> list[torch.Tensor]:
    """All of them, in the order of `Weights.map`."""
    found: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        found.append(tensor.float())
        return tensor

    unpack(weights).map(keep)
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m gptoss_lab.nano.mean", description="Write the mean of embedded models."
    )
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="folder of a trained model")
    parser.add_argument("--out", type=Path, required=True, help="folder for the mean")
    options = parser.parse_args(arguments)
    try:
        _store_mean(options.folders, options.out)
    except (ValueError, OSError) as error:
        sys.exit(str(error))


def _store_mean(folders: Sequence[Path], out: Path) -> None:
    configs, models = zip(*map(checkpoint.load, folders), strict=True)
    encodings = [tokenizer.load(folder, config.d_vocab) for folder, config in zip(folders, configs, strict=True)]
    for folder, config, encoding in zip(folders, configs, encodings, strict=True):
        if (config, encoding._mergeable_ranks) != (configs[0], encodings[0]._mergeable_ranks):
            raise ValueError(
                f"{folder} holds a model of another shape or vocabulary than {folders[0]}: "
                "expected models of which one was begun with the other, or both with a third"
            )
    store(mean(models), configs[0], encodings[0], out)


if __name__ == "__main__":
    main()
