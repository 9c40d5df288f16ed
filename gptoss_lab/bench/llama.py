"""llama.cpp's own benchmark on the same machine, where somebody has it."""

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil


class Test(NamedTuple):
    """What it has measured: a prompt of so many tokens, or so many tokens decoded; the other is 0."""

    n_prompt: int
    n_decoded: int
    tok_s: float


@dataclass(frozen=True)
class LlamaCpp:
    """program: its `llama-bench`. model: a GGUF file of the same shape."""

    program: Path
    model: Path

    def tests(self, prompts: Sequence[int], decoded: Sequence[int], threads: int) -> Iterator[Test]:
        """Prompts of these lengths, then so many tokens decoded, each time as it is found. After each it stands still
        until the next is asked for: meanwhile something else may be measured.

        Weights are read into memory, its best mode; and past the system's file cache, lest they drive from it what
        they are compared with. Raises ValueError, with what it said, where it does not run to its end.
        """
        options = {"-m": self.model, "-t": threads, "-r": 1, "-fa": 1, "-lm": "dio"}
        options |= {"-p": ",".join(map(str, prompts)), "-n": ",".join(map(str, decoded))}
        command = [str(self.program), "-o", "jsonl", *(str(word) for pair in options.items() for word in pair)]
        with (
            tempfile.TemporaryFile("w+") as said,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True) as program,
        ):
            try:
                assert program.stdout is not None
                for line in program.stdout:
                    if line.startswith("{"):
                        yield from _standing_still(psutil.Process(program.pid), json.loads(line))
                if program.wait():
                    said.seek(0)
                    raise ValueError(f"{self.program} ended with {program.returncode}: {said.read().strip()[-300:]}")
            finally:
                program.kill()


def _standing_still(program: psutil.Process, row: dict) -> Iterator[Test]:
    program.suspend()
    yield Test(row["n_prompt"], row["n_gen"], row["avg_ts"])
    program.resume()
