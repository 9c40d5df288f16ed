"""Shows what the embedded model learns from: problems of a domain as conversations, in harmony's own form.

python -m gptoss_lab.nano.show machine --effort high -n 3
"""

import argparse
from random import Random

from gptoss_lab import tokenizer
from gptoss_lab.config import PRESETS
from gptoss_lab.nano import FOLDER
from gptoss_lab.nano.batches import lesson
from gptoss_lab.nano.data import draw, example
from gptoss_lab.nano.domains import DOMAINS


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m gptoss_lab.nano.show", description="Show problems of a domain.")
    parser.add_argument("domain", choices=list(DOMAINS))
    parser.add_argument("--effort", choices=("low", "medium", "high"), default="high")
    parser.add_argument("-n", type=int, default=3, help="how many (default: 3)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--held-out", action="store_true", help="those kept for examination, not those for training")
    options = parser.parse_args(arguments)
    encoding = tokenizer.load(FOLDER, PRESETS["nano"].d_vocab)
    rng = Random(options.seed)
    for number in range(1, options.n + 1):
        problem = draw(rng, options.domain, "held-out" if options.held_out else "train")
        one = lesson(example(problem, options.effort), encoding)
        text = encoding.decode([*one.inputs, one.targets[-1]])
        print(f"--- {number}: {len(one.inputs) + 1} tokens, {sum(one.taught)} of them sampled")
        print(text.replace("<|start|>", "\n<|start|>"), "\n")


if __name__ == "__main__":
    main()
