"""The command line: `gptoss-lab`."""


def main() -> int:
    raise SystemExit("gptoss-lab: not written yet")
