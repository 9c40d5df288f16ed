"""The notebooks, handed out: a folder in which people may write, whatever the package does later.

In a checkout that folder is the checkout's own. A wheel carries the notebooks inside the package, where nobody should
edit; they are copied out, and a copy that its owner has changed is never written over.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

RECORD = ".gptoss-lab.json"  # in the folder: which version of each file was last put there, as SHA-256


@dataclass
class HandedOut:
    """What `hand_out` did, as paths below the folder."""

    added: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    beside: list[tuple[str, str]] = field(default_factory=list)  # the changed file, and the new version's name


def shipped() -> tuple[Path, bool]:
    """Where the notebooks came to lie with this installation, and whether people may work right there (a checkout)."""
    package = Path(__file__).resolve().parent
    checkout = package.parent / "notebooks"
    if checkout.is_dir() and (package.parent / "pyproject.toml").is_file():
        return checkout, True
    installed = package / "notebooks"
    if installed.is_dir():
        return installed, False
    raise FileNotFoundError(
        f"gptoss-lab came without its notebooks: neither {checkout} nor {installed} is there; install it again"
    )


def hand_out(source: Path, folder: Path) -> HandedOut:
    """Copy the notebooks in `source` to `folder`; keep what was changed there.

    A missing file is copied. One that still is what an earlier call put there gets the new version. One that its owner
    changed stays, and a version that they have not seen goes beside it: `lesson.new.ipynb`, then `lesson.new2.ipynb`.

    Raises OSError where the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = _read_record(folder / RECORD)
    done = HandedOut()
    for path in _files(source):
        _hand_out_file(path, path.relative_to(source), folder, record, done)
    _write(folder / RECORD, json.dumps(record, indent=1, sort_keys=True).encode())
    return done


def _hand_out_file(path: Path, name: Path, folder: Path, record: dict[str, str], done: HandedOut) -> None:
    offered = path.read_bytes()
    version = _digest(offered)
    for place in _places(name):
        target, key = folder / place, place.as_posix()
        seen = record.get(key) == version
        present = _digest(target.read_bytes()) if target.exists() else None
        dismissed = present is None and seen and place != name
        changed = present is not None and present not in (version, record.get(key))
        if dismissed or (changed and seen):
            return
        if changed:
            continue
        record[key] = version
        if present != version:
            _write(target, offered)
            if place != name:
                done.beside.append((name.as_posix(), key))
            else:
                (done.added if present is None else done.updated).append(key)
        return


def _places(name: Path) -> Iterator[Path]:
    """Where a file may go, in order of preference: its own name, then new, new2, ... beside it."""
    yield name
    for number in count(1):
        yield name.with_name(f"{name.stem}.new{number if number > 1 else ''}{name.suffix}")


def _files(source: Path) -> list[Path]:
    inside = (path for path in source.rglob("*") if path.is_file())
    return sorted(p for p in inside if not any(part.startswith((".", "__")) for part in p.relative_to(source).parts))


def _read_record(path: Path) -> dict[str, str]:
    """The record, or nothing where it is missing or spoilt: then every file that differs counts as changed."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    if not isinstance(record, dict):
        return {}
    return {key: value for key, value in record.items() if isinstance(value, str)}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(target: Path, content: bytes) -> None:
    """All of it or nothing: a half-written notebook would count as changed ever after."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        draft.write_bytes(content)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
