"""A training on its way: its plan, its weights and optimiser, where it stands, and how it survives an interruption."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from gptoss_lab import weights
from gptoss_lab.config import PRESETS, ModelConfig
from gptoss_lab.nano.batches import BEGINNING, Place
from gptoss_lab.weights import Weights

FILE = "training.safetensors"


@dataclass(frozen=True)
class Plan:
    """Everything that decides how a training goes: two of one plan end in the same model."""

    model: ModelConfig = PRESETS["nano"]
    data: str = ""
    """A fingerprint of conversations and vocabulary; see `fingerprint`."""
    start: str = ""
    """A fingerprint of the model that it begins with; none for random weights."""
    seed: int = 1
    more: str = ""
    """Domains of which there is as much again, each time that they are named, with commas between them."""
    steps: int = 24_000
    tokens_per_batch: int = 2560
    batches_per_step: int = 2
    learning_rate: float = 1.5e-3
    warm_up_steps: int = 100
    weight_decay: float = 0.05
    balance: float = 0.01
    """Weight of the routers' load-balancing loss."""
    rounded_steps: int = 2400
    """The last steps, in which weights are rounded as the checkpoint stores them."""

    @property
    def more_of(self) -> tuple[str, ...]:
        """The domains that `more` names."""
        return tuple(self.more.split(",")) if self.more else ()

    def to_dict(self) -> dict[str, Any]:
        """One level deep, for comparing and for the card."""
        plan = asdict(self)
        return {f"model.{name}": value for name, value in plan.pop("model").items()} | plan

    @classmethod
    def from_dict(cls, plan: dict[str, Any]) -> "Plan":
        """The plan that `to_dict` wrote down."""
        model = {name.removeprefix("model."): value for name, value in plan.items() if name.startswith("model.")}
        rest = {name: value for name, value in plan.items() if not name.startswith("model.")}
        return cls(model=ModelConfig(**model), **rest)


class Progress:
    """Weights as float32 leaves, AdamW's moments, and the place in the stream of data."""

    def __init__(self, plan: Plan, start: Weights | None = None):
        """start: what to begin with; random weights where not given."""
        self.plan = plan
        self.leaves: list[Tensor] = []
        start = start or weights.random(plan.model, plan.seed, packed=False)
        self.weights = weights.unpack(start).map(self._leaf)
        self.optimizer = _optimizer(plan, self.leaves)
        self.step = 0
        self.place = BEGINNING
        self.seconds = 0.0
        self.tokens = 0

    @property
    def speed(self) -> float:
        """Tokens a second, padding included, since the beginning."""
        return self.tokens / self.seconds if self.seconds else 0.0

    def advance(self, place: Place, seconds: float, tokens: int) -> None:
        """Counts a step that has been taken."""
        self.step += 1
        self.place = place
        self.seconds += seconds
        self.tokens += tokens

    def save(self, folder: Path) -> None:
        """Puts the whole state into one file at once: an interrupt or a full disk leaves the file that stood there."""
        counts = {"step": self.step, "place": self.place, "seconds": self.seconds, "tokens": self.tokens}
        header = {"plan": json.dumps(self.plan.to_dict()), "counts": json.dumps(counts)}
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f"{FILE}.partial"
        try:
            save_file(self._tensors(), partial, metadata=header)
            partial.replace(folder / FILE)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def resume(cls, plan: Plan, folder: Path, start: Weights | None = None) -> "Progress":
        """The training that `folder` holds, or a new one from `start` where it holds none.

        Raises ValueError, naming what differs, where it holds a training of another plan.
        """
        progress = cls(plan, start)
        if not (folder / FILE).exists():
            return progress
        with safe_open(folder / FILE, "pt") as file:
            header = file.metadata()
            _check_same(plan.to_dict(), json.loads(header["plan"]), folder)
            for name, tensor in progress._tensors().items():
                tensor.copy_(file.get_tensor(name))
        counts = json.loads(header["counts"])
        progress.step, progress.place = counts["step"], Place(*counts["place"])
        progress.seconds, progress.tokens = counts["seconds"], counts["tokens"]
        return progress

    @classmethod
    def read(cls, folder: Path) -> "Progress":
        """The training that `folder` holds. Raises FileNotFoundError where it holds none."""
        if not (folder / FILE).exists():
            raise FileNotFoundError(f"{folder} holds no {FILE}: expected the --work folder of a training")
        with safe_open(folder / FILE, "pt") as file:
            return cls.resume(Plan.from_dict(json.loads(file.metadata()["plan"])), folder)

    def _leaf(self, tensor: Tensor) -> Tensor:
        self.leaves.append(tensor.float().clone().requires_grad_())
        return self.leaves[-1]

    def _tensors(self) -> dict[str, Tensor]:
        """Weights and moments, by name; the same memory, so that they can be read into."""
        state = self.optimizer.state
        return {f"{number:04}.weight": leaf.detach() for number, leaf in enumerate(self.leaves)} | {
            f"{number:04}.{moment}": state[leaf][moment]
            for number, leaf in enumerate(self.leaves)
            for moment in ("step", "exp_avg", "exp_avg_sq")
        }


def _optimizer(plan: Plan, leaves: list[Tensor]) -> torch.optim.AdamW:
    """AdamW with its moments in place from the start, so that they can be saved and read before the first step."""
    groups = [
        {"params": [leaf for leaf in leaves if leaf.dim() > 1], "weight_decay": plan.weight_decay},
        {"params": [leaf for leaf in leaves if leaf.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=plan.learning_rate, betas=(0.9, 0.98), fused=True)
    for leaf in leaves:
        moments = {"exp_avg": torch.zeros_like(leaf), "exp_avg_sq": torch.zeros_like(leaf)}
        optimizer.state[leaf] = {"step": torch.tensor(0.0), **moments}
    return optimizer


def _check_same(plan: dict[str, Any], held: dict[str, Any], folder: Path) -> None:
    names = [name for name in plan | held if plan.get(name) != held.get(name)]
    if names:
        differences = ", ".join(f"{name} (there {held.get(name)!r}, now {plan.get(name)!r})" for name in names)
        raise ValueError(
            f"{folder} holds a training of another configuration: it differs in {differences}. "
            "Ask for what it was begun with, or give another folder with --work"
        )
