"""Checkpoints: safetensors files as named tensors, and back.

    config, weights = checkpoint.load(folder)         # mapped, checked, experts still packed
    weights = checkpoint.reside(weights)              # read into memory instead, all of it
    folder = checkpoint.find("openai/gpt-oss-20b")    # a folder, the Hugging Face cache, or the hub
    checkpoint.save(folder, config, weights)          # the root dialect, packed

`python -m gptoss_lab.checkpoint synth --shape 20b OUT` writes a random one of a published model's shape.
"""

from gptoss_lab.checkpoint.hub import find
from gptoss_lab.checkpoint.reading import load
from gptoss_lab.checkpoint.residence import reside
from gptoss_lab.checkpoint.synth import synthesise
from gptoss_lab.checkpoint.writing import save

__all__ = ["find", "load", "reside", "save", "synthesise"]
