"""How kernels are compiled and where the compiled code is kept.

A kernel is a function (thread, share, n_shares, job): one share of a job, done by a thread, which may have memory of
its own. A job is a NamedTuple of integers (addresses, sizes, flags) and floats, which a kernel finds in memory. So all
kernels have one signature, none depends on the type of an array, and `prepare` can compile them all before the first
token is asked for.

The folder of compiled code carries a hash of the sources beside this file: numba by itself notices only changes in the
file that holds a kernel.
"""

import hashlib
import os
import struct
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from gptoss_lab.ops.target import TARGET

_OPTIONS = {"boundscheck": False, "error_model": "numpy"}
_SIGNATURE = types.void(*[types.int64] * 4)
_compilable: list["Kernel | ParallelLoop"] = []
_compiling = threading.RLock()

device = numba.njit(inline="always", **_OPTIONS)
"""Marks a function that kernels call. It becomes part of them before anything is compiled."""
inner_loop = numba.njit(forceinline=True, **_OPTIONS)
"""Marks one that is compiled by itself first: quicker, where it has much inside and is called from several places."""


class Kernel:
    """A function (thread, share, n_shares, address of a job), compiled when it is first needed."""

    seconds = 1.0
    """That compiling takes, about."""

    def __init__(self, function: Callable[[int, int, int, int], None]):
        self._function = function
        _compilable.append(self)

    @cached_property
    def address(self) -> int:
        """Where the machine code is."""
        return self._compiled.address

    @cached_property
    def run(self) -> Callable[[int, int, int, int], None]:
        """The compiled function; it lets go of the GIL."""
        return self._compiled.ctypes

    @cached_property
    def _compiled(self) -> Any:
        with _caching() as caching:
            return numba.cfunc(_SIGNATURE, cache=caching, **_OPTIONS)(self._function)


class ParallelLoop:
    """A function of integers with a prange, compiled when it is first needed."""

    seconds = 1.0

    def __init__(self, function: Callable[..., None]):
        self._function = function
        _compilable.append(self)

    @cached_property
    def run(self) -> Callable[..., None]:
        signature = types.void(*[types.int64] * self._function.__code__.co_argcount)
        with _caching() as caching:
            return numba.njit(signature, parallel=True, nogil=True, cache=caching, **_OPTIONS)(self._function)


def takes_seconds(seconds: float) -> Callable[[Kernel], Kernel]:
    """Marks a kernel that takes long to compile: about so many seconds."""

    def mark(kernel: Kernel) -> Kernel:
        kernel.seconds = seconds
        return kernel

    return mark


def job_reader(job: type) -> Any:
    """A function for kernels: from the address of a packed job, the job."""
    kinds = [types.float64 if kind is float else types.int64 for kind in job.__annotations__.values()]
    tuple_type = types.NamedTuple(kinds, job)

    @intrinsic
    def read(typingctx, address):
        def codegen(context, builder, _, values):
            word = ir.IntType(64)
            fields = []
            for i, kind in enumerate(kinds):
                at = builder.add(values[0], word(8 * i))
                fields.append(builder.load(builder.inttoptr(at, context.get_value_type(kind).as_pointer())))
            return context.make_tuple(builder, tuple_type, fields)

        return tuple_type(types.int64), codegen

    return read


def packer(job: type) -> struct.Struct:
    """How a job's fields lie in memory: 8 bytes each."""
    return struct.Struct("".join("d" if kind is float else "q" for kind in job.__annotations__.values()))


def prepare(progress: bool = True) -> None:
    """Makes every kernel ready: loads it from the cache, or compiles it. While something is compiled, another process
    helps, and a progress bar shows.
    """
    waiting: Iterable = [one for one in _longest_first() if "run" not in vars(one)]
    if _cached(len(_compilable)):
        _make_ready(waiting)
        return
    if progress:
        from tqdm.auto import tqdm

        waiting = tqdm(waiting, desc="Compiling kernels (once on this machine)", leave=False)
    with _helper():
        _make_ready(waiting)


def help_to_prepare() -> None:
    """What the other process does: the same, but the kernel that takes longest comes last. What one of the two has put
    into the cache, the other finds there.
    """
    longest, *others = _longest_first()
    _make_ready([*others, longest])


def _longest_first() -> list["Kernel | ParallelLoop"]:
    return sorted(_compilable, key=lambda one: one.seconds, reverse=True)


def _make_ready(kernels: Iterable["Kernel | ParallelLoop"]) -> None:
    for kernel in kernels:
        kernel.run  # noqa: B018


@contextmanager
def _helper() -> Iterator[None]:
    """Another process that compiles, where there is a core for it; it ends with this context."""
    if not sys.executable or cache_folder() is None or numba.config.NUMBA_DEFAULT_NUM_THREADS < 2:
        yield
        return
    helper = subprocess.Popen(
        # -P and the path: it finds modules where this process does.
        [sys.executable, "-P", "-c", "from gptoss_lab.ops import compile, numba_ops; compile.help_to_prepare()"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        helper.kill()
        helper.wait()


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
def _caching() -> Iterator[bool]:
    """Makes numba keep what is compiled inside in our folder: the setting is the user's, so it is put back."""
    folder = cache_folder()
    with _compiling:
        before = numba.config.CACHE_DIR
        try:
            if folder is not None:
                numba.config.CACHE_DIR = str(folder)
            yield folder is not None
        finally:
            numba.config.CACHE_DIR = before


def _cached(n: int) -> bool:
    folder = cache_folder()
    return folder is not None and sum(1 for _ in folder.rglob("*.nbi")) >= n
