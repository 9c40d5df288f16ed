"""llama.cpp's own benchmark on the same machine, where somebody has it."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class Rates(NamedTuple):
    """Tokens a second: of prompts, by their length, and of decoding."""

    prefill: dict[int, float]
    decode: float


@dataclass(frozen=True)
class LlamaCpp:
    """program: its `llama-bench`. model: a GGUF file of the same shape."""

    program: Path
    model: Path

    def rates(self, prompts: Sequence[int], n_decoded: int, threads: int) -> Rates:
        """How fast it reads prompts of these lengths and then decodes, weights read into memory: its best mode.

        They are read past the system's file cache, lest they drive from it the model that they are compared with.

        Raises ValueError, with what it said, where it does not run to its end.
        """
        lengths = ",".join(map(str, prompts))
        options = {"-m": self.model, "-p": lengths, "-n": n_decoded, "-t": threads, "-r": 1, "-fa": 1, "-lm": "dio"}
        command = [str(self.program), "-o", "jsonl", *(str(word) for pair in options.items() for word in pair)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode:
            raise ValueError(f"{self.program} ended with {run.returncode}: {run.stderr.strip()[-300:]}")
        rows = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
        prefill = {row["n_prompt"]: row["avg_ts"] for row in rows if row["n_prompt"]}
        return Rates(prefill, next(row["avg_ts"] for row in rows if row["n_gen"]))
