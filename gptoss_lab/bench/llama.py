"""llama.cpp's own benchmark on the same machine, where somebody has it."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LlamaCpp:
    """program: its `llama-bench`. model: a GGUF file of the same shape."""

    program: Path
    model: Path

    def rates(self, n_prompt: int, n_decoded: int, threads: int) -> tuple[float, float]:
        """Tokens a second of prefill and of decode, weights read into memory: its best mode.

        Raises ValueError, with what it said, where it does not run to its end.
        """
        options = {"-m": self.model, "-p": n_prompt, "-n": n_decoded, "-t": threads, "-r": 1, "-fa": 1, "-lm": "none"}
        command = [str(self.program), "-o", "jsonl", *(str(word) for pair in options.items() for word in pair)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode:
            raise ValueError(f"{self.program} ended with {run.returncode}: {run.stderr.strip()[-300:]}")
        rows = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
        prefill, decode = (next(row["avg_ts"] for row in rows if row[kind]) for kind in ("n_prompt", "n_gen"))
        return prefill, decode
