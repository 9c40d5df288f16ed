"""How kernels are compiled and where the compiled code is kept.

`@kernel(signature)` marks a function that Python calls; `@device` one that kernels call. Kernels take addresses and sizes, so each has one
signature and `prepare()` can compile them all before the first token is asked for. The folder of compiled code carries a hash of this
package's kernel sources: numba itself only notices changes in the file that holds the kernel.
"""

import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numba

from gptoss_lab.ops.target import TARGET

_OPTIONS = {"nogil": True, "boundscheck": False, "error_model": "numpy"}
_kernels: list[tuple[Any, str]] = []

device = numba.njit(forceinline=True, **_OPTIONS)


def kernel(signature: str, parallel: bool = False) -> Callable[[Callable], Any]:
    """Compile the decorated function for `signature` when `prepare` asks for it, or else at its first call."""

    def register(function: Callable) -> Any:
        with _numba_cache_in(cache_folder()) as caching:
            dispatcher = numba.njit(parallel=parallel, cache=caching, **_OPTIONS)(function)
        _kernels.append((dispatcher, signature))
        return dispatcher

    return register


def prepare(progress: bool = True) -> None:
    """Make every kernel ready to launch: load it from the cache, or compile it. A progress bar shows only while something is compiled."""
    waiting = [(dispatcher, signature) for dispatcher, signature in _kernels if not dispatcher.signatures]
    bar = None
    if progress and waiting and not _cached(len(waiting)):
        from tqdm.auto import tqdm

        bar = tqdm(total=len(waiting), desc="Compiling kernels (once on this machine)", unit="kernel", leave=False)
    for dispatcher, signature in waiting:
        dispatcher.compile(signature)
        if bar is not None:
            bar.update()
    if bar is not None:
        bar.close()


@cache
def cache_folder() -> Path | None:
    """The folder for compiled code, or None (after one warning) where it cannot be written."""
    folder = _cache_base() / f"kernels-{_source_hash()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        warnings.warn(
            f"kernels will be compiled again in each process: {folder} cannot be written ({error}); "
            "set NUMBA_CACHE_DIR to a folder that can",
            stacklevel=2,
        )
        return None


def _cache_base() -> Path:
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gptoss_lab"


def _source_hash() -> str:
    digest = hashlib.sha256(repr((numba.__version__, TARGET)).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def _numba_cache_in(folder: Path | None) -> Iterator[bool]:
    """Where numba keeps what is decorated inside: the setting is numba's own, so the user's functions must get it back."""
    before = numba.config.CACHE_DIR
    try:
        if folder is not None:
            numba.config.CACHE_DIR = str(folder)
        yield folder is not None
    finally:
        numba.config.CACHE_DIR = before


def _cached(n_kernels: int) -> bool:
    folder = cache_folder()
    return folder is not None and sum(1 for _ in folder.rglob("*.nbi")) >= n_kernels
