"""The command line, `gptoss-lab`: notebooks, a question in the terminal, a checkpoint's verdict, a machine's speed.

What goes wrong is told in one line and ends in exit status 2; an interruption ends in 130, without a word.
Each command imports what it needs when it runs, so that help comes at once.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from gptoss_lab import __version__

EMBEDDED = Path(__file__).parent / "nano"
COPIES = Path("~/gptoss-notebooks")  # where a wheel's notebooks are copied to; a checkout's are opened where they lie

EXAMPLES = """\
examples:
  gptoss-lab                                   open the notebooks in JupyterLab
  gptoss-lab ask "What is 38 + 57?"            ask the embedded model
  gptoss-lab verify openai/gpt-oss-20b         does this checkpoint run as it should?
  gptoss-lab bench --shape 20b --layers 8      how fast would a third of gpt-oss-20b run here?

elsewhere:
  python -m gptoss_lab.checkpoint synth --shape 20b OUT    write a random checkpoint, for benchmarks
  python -m gptoss_lab.nano.train --help                   train the embedded model anew
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status; 1 is a checkpoint that failed its verification."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a narrow encoding is no reason to stop
    options = _parser().parse_args(argv)
    try:
        status: int = options.command(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader went away, as `head` does: keep Python's exit from writing there again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if options.traceback:
            raise
        from gptoss_lab.views.plain_text import visible

        print(visible(f"gptoss-lab: {_line(error)}"), file=sys.stderr)
        return 2


def open_notebooks(options: argparse.Namespace) -> int:
    """Put the notebooks where their reader may write, compile the kernels, start JupyterLab."""
    folder = _notebooks_folder(options.folder)
    # In a process of its own: the server has no use for torch, and a kernel that does not compile must not stop it.
    if subprocess.run([sys.executable, "-m", "gptoss_lab", "prepare"], check=False).returncode == 130:
        return 130

    # A kernel of the user's that is also called python3 would run some other Python, without this package in it.
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    _check_kernel()
    from jupyterlab.labapp import LabApp

    print("JupyterLab starts; Ctrl-C twice stops it.", flush=True)
    LabApp.launch_instance(_server_arguments(folder, options.port, options.browser))
    return 0


def ask(options: argparse.Namespace) -> int:
    """Stream one answer into the terminal, then say how it was routed."""
    if not options.question.strip():
        raise ValueError('the question is empty; ask something, as in: gptoss-lab ask "What is 38 + 57?"')
    from gptoss_lab.session import load
    from gptoss_lab.terminal import Transcript, afterword, routing_summary

    model = load(options.model)
    transcript = Transcript(sys.stdout)
    try:
        reply = model.chat(
            options.question,
            effort=options.effort,
            max_new_tokens=options.max_new_tokens,
            temperature=options.temperature,
            top_p=options.top_p,
            seed=options.seed,
            on_token=transcript,
            record=("routing",),
        )
    finally:
        transcript.close()
    for line in afterword(reply):
        print("\n" + line)
    if reply.trace is not None:
        print("\n" + routing_summary(reply.trace, sys.stdout.encoding))
    return 0


def verify(options: argparse.Namespace) -> int:
    """Say what a checkpoint is and whether it runs as it should; 1 where it does not."""
    from gptoss_lab.verify import verify
    from gptoss_lab.views.plain_text import visible

    return 0 if verify(options.path, say=lambda line: print(visible(line), flush=True)) else 1


def bench(options: argparse.Namespace) -> int:
    """Measure how fast this machine runs a model, and print a table or JSON."""
    import json
    import tempfile

    from gptoss_lab import bench, checkpoint
    from gptoss_lab.ops.threads import set_threads

    if (options.llama_bench is None) != (options.gguf is None):
        raise ValueError("--llama-bench and --gguf go together: the program, and the model for it")
    if options.layers is not None and not options.shape:
        raise ValueError("--layers is for --shape: it says how many layers of that shape to make")
    if options.threads is not None:
        set_threads(options.threads)
    llama = bench.LlamaCpp(options.llama_bench, options.gguf) if options.llama_bench else None
    with tempfile.TemporaryDirectory() as temporary:
        if options.shape:
            folder = Path(temporary) / "model"
            checkpoint.synthesise(folder, options.shape, layers=options.layers)
        else:
            folder = checkpoint.find(options.model) if options.model else EMBEDDED
        figures = bench.measure_checkpoint(folder, llama, options.rounds, options.dense, options.mmap)
    print(json.dumps(figures.to_dict()) if options.json else bench.table(figures))
    return 0


def prepare(options: argparse.Namespace) -> int:
    """Compile the kernels now, with a progress bar, unless they are compiled."""
    from gptoss_lab.ops import numba_ops

    numba_ops.prepare()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gptoss-lab",
        description="gpt-oss on an ordinary CPU, with everything visible. Without a command: open the notebooks.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=open_notebooks)
    parser.add_argument("--version", action="version", version=f"gptoss-lab {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error arose, not its message alone")
    parser.add_argument(
        "--no-browser", dest="browser", action="store_false", help="print JupyterLab's address, open nothing"
    )
    parser.add_argument(
        "--port", type=_port, default=8888, help="JupyterLab's port (default: 8888, or the next free one)"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        help=f"where to keep your copies of the notebooks (default: {COPIES}; in a checkout its own notebooks/)",
    )
    commands = parser.add_subparsers(title="commands", metavar="")

    asking = commands.add_parser("ask", help="ask a model something, here in the terminal")
    asking.set_defaults(command=ask)
    asking.add_argument("question")
    asking.add_argument("--model", metavar="PATH", help="a folder or a name on the hub (default: the embedded model)")
    asking.add_argument("--effort", choices=("low", "medium", "high"), default="medium", help="how long to think")
    asking.add_argument(
        "--max-new-tokens", type=int, default=1024, metavar="N", help="stop after so many (default: 1024)"
    )
    asking.add_argument(
        "--temperature", type=float, default=1.0, metavar="T", help="0 always takes the likeliest token"
    )
    asking.add_argument("--top-p", type=float, default=1.0, metavar="P", help="sample from the likeliest tokens alone")
    asking.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same answer")

    verifying = commands.add_parser("verify", help="check a checkpoint: its files, its names, both engines")
    verifying.set_defaults(command=verify)
    verifying.add_argument("path", help="a folder or a name on the hub")

    benching = commands.add_parser("bench", help="measure how fast this machine runs a model")
    benching.set_defaults(command=bench)
    of = benching.add_mutually_exclusive_group()
    of.add_argument("model", nargs="?", help="a folder or a name on the hub (default: the embedded model)")
    of.add_argument("--shape", choices=("20b", "120b", "nano"), help="a random model of this shape instead")
    benching.add_argument("--layers", type=int, metavar="N", help="with --shape: so many layers of it")
    benching.add_argument("--dense", choices=("int8",), help="the weights outside the experts in eight bits")
    benching.add_argument("--no-mmap", dest="mmap", action="store_false", help="read the weights, rather than map them")
    benching.add_argument("--threads", type=int, metavar="N", help="compute with so many (default: all cores)")
    benching.add_argument("--rounds", type=int, default=5, metavar="N", help="measure so many times (default: 5)")
    benching.add_argument("--json", action="store_true", help="print the figures as JSON")
    benching.add_argument("--llama-bench", type=Path, metavar="PROGRAM", help="llama.cpp's benchmark, to run beside")
    benching.add_argument("--gguf", type=Path, metavar="FILE", help="what that should run: a model of the same shape")

    preparing = commands.add_parser("prepare", help="compile the kernels now, so that nothing waits for them later")
    preparing.set_defaults(command=prepare)
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"a port is a number from 1 to 65535, not {text!r}")
    return int(text)


def _notebooks_folder(wanted: Path | None) -> Path:
    from gptoss_lab import handout

    source, writable = handout.shipped()
    if writable and wanted is None:
        return source
    folder = (wanted or COPIES).expanduser().resolve()
    done = handout.hand_out(source, folder)
    print(f"The notebooks are in {folder}.")
    if done.updated:
        print(f"Brought up to date: {', '.join(done.updated)}.")
    for changed, new in done.beside:
        print(f"You have changed {changed}, so it stays as it is; the new version is beside it, {new}.")
    return folder


def _server_arguments(folder: Path, port: int, browser: bool) -> list[str]:
    arguments = [
        f"--ServerApp.root_dir={folder}",
        f"--ServerApp.port={port}",
        "--ServerApp.log_level=WARN",  # the address is logged as critical, and little else matters
        "--LabApp.log_level=WARN",
        "--LabApp.default_url=/lab/tree/00_start_here.ipynb",
        # Nothing is asked of the network, and no question about news stands before the first notebook.
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.extension_manager=readonly",
    ]
    if not browser or not _can_open_browser():
        arguments.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--allow-root")  # usual in containers; the server listens on this machine alone, with a token
    return arguments


def _can_open_browser() -> bool:
    """Whether a browser would come up as a window; one that runs in the terminal would take it over."""
    if sys.platform in ("darwin", "win32") or "BROWSER" in os.environ:
        return True
    return "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ


def _check_kernel() -> None:
    """Say so where the notebooks' kernel would be another Python than this one."""
    from jupyter_client.kernelspec import KernelSpecManager

    program = Path(KernelSpecManager().get_kernel_spec("python3").argv[0])
    if program.is_absolute() and program.parent.resolve() != Path(sys.executable).parent.resolve():
        print(
            f"gptoss-lab: the kernel python3 is {program}, which may lack this package; "
            f"mend it with: {sys.executable} -m ipykernel install --sys-prefix",
            file=sys.stderr,
        )


def _line(error: Exception) -> str:
    """What went wrong, on one line. Where the message cannot stand alone, the type goes before it."""
    message = " ".join(str(error.args[0] if isinstance(error, KeyError) and error.args else error).split())
    deliberate = (ValueError, TypeError, LookupError, OSError, MemoryError, RuntimeError)
    if isinstance(error, deliberate) and " " in message:
        return message
    return f"{type(error).__name__}: {message} (gptoss-lab --traceback ... shows where)"
