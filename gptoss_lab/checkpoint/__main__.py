"""`python -m gptoss_lab.checkpoint synth --shape 20b [--layers N] [--seed S] OUT`."""

import argparse
import sys

from gptoss_lab.checkpoint.synth import synthesise
from gptoss_lab.config import PRESETS


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m gptoss_lab.checkpoint", description="Work on checkpoint folders.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    synth = commands.add_parser("synth", help="write a random checkpoint of a published model's shape")
    synth.add_argument("out", metavar="OUT", help="the folder to write")
    synth.add_argument("--shape", choices=PRESETS, default="20b")
    synth.add_argument("--layers", type=int, metavar="N", help="shorten the model to N layers")
    synth.add_argument("--seed", type=int, default=0, metavar="S")
    chosen = parser.parse_args(arguments)
    try:
        synthesise(chosen.out, chosen.shape, layers=chosen.layers, seed=chosen.seed)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
