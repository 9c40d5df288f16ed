"""Where a model's checkpoint lies: a folder, the Hugging Face cache, or else the hub, from which it is fetched."""

import logging
import re
from pathlib import Path

from gptoss_lab.checkpoint.reading import INDEX, is_whole

# Of the published repositories, the revisions that this package was written against.
PINNED = {
    "openai/gpt-oss-20b": "6cee5e81ee83917806bbde320786a8fb61efebee",
    "openai/gpt-oss-120b": "b5c939de8f754692c1647ca79fbf85e8c1e70f8a",
}

# The repositories also hold original/ and metal/, two more copies of the same weights. A pattern's * matches a / too.
SERVING_FILES = ["config.json", "vocabulary.json", INDEX, "model.safetensors", "model-*.safetensors"]

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_log = logging.getLogger(__name__)


def find(name_or_path: str | Path, revision: str | None = None) -> Path:
    """The folder of a checkpoint: `name_or_path` itself, or the snapshot of a repository such as openai/gpt-oss-20b.

    A repository is looked for in the Hugging Face cache (where `HF_HOME` and `HF_HUB_CACHE` put it) and otherwise
    fetched from the hub, only the files that serve, with progress bars. Without a `revision`, a published model comes
    at a pinned commit, or at the one that the cache holds already; any other from its main branch. The snapshot's
    folder is named by its commit.

    Raises FileNotFoundError, saying how to get it, where it is neither at hand nor within reach.
    """
    path = Path(name_or_path).expanduser()
    name = str(name_or_path)
    if path.exists():
        return path
    if not _REPOSITORY.fullmatch(name):
        raise FileNotFoundError(f"{name} does not exist; expected a folder, or a repository such as openai/gpt-oss-20b")
    for candidate in [revision] if revision else [PINNED.get(name, "main"), "main"]:
        cached = _cached(name, candidate)
        if cached is not None:
            return cached
    return _fetch(name, revision or PINNED.get(name, "main"))


def _cached(name: str, revision: str) -> Path | None:
    """The folder in the cache, if a whole checkpoint is in it; an interrupted download leaves part of one."""
    from huggingface_hub import try_to_load_from_cache

    for config_file in ("config.json", "original/config.json"):
        config = try_to_load_from_cache(name, config_file, revision=revision)
        if isinstance(config, str) and is_whole(Path(config).parent):
            return Path(config).parent
    return None


def _fetch(name: str, revision: str) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=SERVING_FILES))
    except LocalEntryNotFoundError:
        where = f"is not in the Hugging Face cache ({constants.HF_HUB_CACHE}), and the hub cannot be reached"
        raise FileNotFoundError(f"{name} {where}: {_how_to_get(name)}") from None
    except RevisionNotFoundError:
        raise FileNotFoundError(f"{name} has no revision {revision!r} on the Hugging Face hub") from None
    except RepositoryNotFoundError:
        raise FileNotFoundError(
            f"the Hugging Face hub has no repository {name}, or shows it to its members only"
        ) from None
    if not is_whole(folder):  # offline, what is left of an interrupted download comes back without a word
        raise FileNotFoundError(
            f"{folder} holds only part of a checkpoint, and no more can be had: {_how_to_get(name)}"
        )
    _log.info("fetched %s at commit %s", name, folder.name)
    return folder


def _how_to_get(name: str) -> str:
    command = f"hf download {name} --exclude 'original/*' --exclude 'metal/*'"
    return f"run `{command}` where the hub can be reached, or give a folder instead"
