"""What people type: `load()` a model, then chat with it, generate, trace."""

import contextlib
import contextvars
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import tiktoken
import torch
from torch import Tensor

from gptoss_lab import __version__, checkpoint, harmony, planted, tokenizer
from gptoss_lab.cache import KVCache
from gptoss_lab.config import ModelConfig
from gptoss_lab.edits import Edit, Edits, describe, flat, fwd_hooks, to_json
from gptoss_lab.generate import Generation, Generator, Sampled
from gptoss_lab.harmony import Message, StreamParser
from gptoss_lab.harmony.messages import Effort
from gptoss_lab.hooks import ActivationCache, NamesFilter
from gptoss_lab.live import LiveDisplay, StreamedToken, live_display
from gptoss_lab.model import Dense, FwdHooks, Tokens, Transformer, never
from gptoss_lab.ops import Precision
from gptoss_lab.paging import warn_of_paging
from gptoss_lab.recording import Record, Recorder, record_of, say_cost
from gptoss_lab.reply import Reply
from gptoss_lab.trace import Trace
from gptoss_lab.tracing import N_ALTERNATIVES, Guesses, assemble, guesses_of_generation, guesses_of_pass, holds

NANO = Path(__file__).parent / "nano"
"""The embedded model's folder."""

PLANTED = "planted:"
"""What the name of a planted model begins with."""

CHAT_TOKENS = 2048
"""How long a chat's reply may get where nobody says."""


def load(
    name_or_path: str | os.PathLike[str] | None = None,
    *,
    engine: str | None = None,
    device: torch.device | str = "cpu",
    threads: int | None = None,
    revision: str | None = None,
    precision: Precision = "float32",
    dense: Dense | None = None,
    mmap: bool = True,
) -> "Model":
    """A model, ready to use: the embedded one, a folder, or a repository such as "openai/gpt-oss-20b".

    "planted:induction" and its like are models whose weights are written down, with a known mechanism inside; see
    `gptoss_lab.planted`.

    engine: "numba" (the default on a CPU) or "torch" (any device, differentiable).
    threads: how many threads compute; all cores where not given.
    revision: a repository's commit, branch or tag; the one that this package was tested with where not given.
    precision: "bfloat16" reads prompts about twice as fast on a CPU with AVX512_BF16, to about three digits; see
        `gptoss_lab.model.Transformer`.
    dense: "int8" keeps a copy of the weights outside the experts in eight bits: tokens come about a third faster; see
        there too.

    mmap: True maps a checkpoint's files into memory: loading costs next to nothing. False reads them, in a second for
        each GB or longer, into as much memory as they are large, in large pages where the system has them. A CPU for
        which pages are slow to find, on a virtual machine that is, then decodes about 7 % faster.

    Experts stay packed either way. Kernels are compiled on first use on a machine, with a progress bar.

    Raises FileNotFoundError where there is no such checkpoint, and ValueError for one that is damaged or of another
    architecture; the message names file, tensor, what was expected and what was found. Raises ValueError, naming those
    that there are, for a planted model that there is not; and for a precision that this CPU does not offer. Raises
    MemoryError where weights that are to be read do not fit.
    """
    name = "nano" if name_or_path is None else os.fspath(name_or_path)
    if name.startswith(PLANTED):
        known = planted.build(name.removeprefix(PLANTED))
        config, weights, encoding = known.config, known.weights, known.encoding
    else:
        folder = NANO if name_or_path is None else checkpoint.find(name, revision)
        config, weights = checkpoint.load(folder)
        if mmap:
            warn_of_paging(config, weights, folder)
        else:
            weights = checkpoint.reside(weights)
        encoding = tokenizer.load(folder, config.d_vocab)
    if threads is not None:
        from gptoss_lab.ops.threads import set_threads

        set_threads(threads)
    transformer = Transformer(config, weights, engine, device, precision, dense)
    if transformer.engine == "numba":
        from gptoss_lab.ops import numba_ops

        numba_ops.prepare()
    return Model(transformer, encoding, name)


class Model:
    """A `Transformer`, its tokenizer, and the verbs."""

    def __init__(
        self,
        transformer: Transformer,
        encoding: tiktoken.Encoding,
        name: str = "",
        provenance: Mapping[str, str] | None = None,
    ):
        self.transformer = transformer
        self.tokenizer = encoding
        self.name = name
        self.provenance = dict(provenance or {})
        """What tells this model's checkpoint from others; it travels with every trace."""
        self._edits: contextvars.ContextVar[tuple[Edit, ...]] = contextvars.ContextVar("edits")

    def __repr__(self) -> str:
        c = self.config
        return (
            f"<gptoss_lab model {self.name!r}: {c.n_layers} layers, d_model {c.d_model}, "
            f"{c.n_experts} experts of which {c.experts_per_token} serve a token, engine {self.transformer.engine}>"
        )

    @property
    def config(self) -> ModelConfig:
        return self.transformer.config

    # Runs on tokens: as Transformer has them

    def __call__(self, tokens: Tokens, cache: KVCache | Sequence[KVCache] | None = None, **options: Any) -> Tensor:
        """Logits, float32 [batch, pos, d_vocab]; see `Transformer.__call__`."""
        return self.transformer(tokens, cache, **options)

    def run_with_cache(
        self, tokens: Tokens, names_filter: NamesFilter = None, cache: KVCache | None = None
    ) -> tuple[Tensor, ActivationCache]:
        """Logits and what passed at the selected hook points; see `Transformer.run_with_cache`."""
        return self.transformer.run_with_cache(tokens, names_filter, cache)

    def run_with_hooks(self, tokens: Tokens, fwd_hooks: FwdHooks, cache: KVCache | None = None) -> Tensor:
        """Logits of a run with hooks; see `Transformer.run_with_hooks`."""
        return self.transformer.run_with_hooks(tokens, fwd_hooks, cache)

    def hooks(self, fwd_hooks: FwdHooks) -> AbstractContextManager[Transformer]:
        """Hooks active within a `with` block, while generating too; see `Transformer.hooks`."""
        return self.transformer.hooks(fwd_hooks)

    @property
    def edits(self) -> tuple[Edit, ...]:
        """The interventions that are active, in this thread."""
        return self._edits.get(())

    @contextlib.contextmanager
    def edit(self, *changes: Edits) -> Iterator["Model"]:
        """Interventions that are active in every run within the `with` block, while generating too.

        changes: edits, or sequences of them; see `gptoss_lab.edits`. Blocks may be nested: their edits then act as if
            all were given at once, in the innermost block.

        Raises ValueError, before anything runs, for edits that this model cannot carry out or that contradict each
        other or those of an outer block.
        """
        together = (*self.edits, *flat(changes))
        hooks = fwd_hooks(together, self.config, self.tokenizer, lambda: self._edits.get(()) is together)
        token = self._edits.set(together)
        try:
            with self.hooks(hooks):
                yield self
        finally:
            self._edits.reset(token)

    def generate(
        self,
        tokens: Tokens,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int | None = None,
        stop: Sequence[int] | None = None,
        *,
        stream: bool = False,
        cache: KVCache | None = None,
        should_stop: Callable[[], bool] = never,
    ) -> Generation | Iterator[Sampled]:
        """New tokens after a prompt: a `Generation`, or with stream=True an iterator over each as it is sampled.

        stop: ids that end it; harmony's <|return|> and <|call|> where not given. See `gptoss_lab.generate.Generator`.
        """
        generator = Generator(
            self.transformer,
            tokens,
            max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            stop=self._ends_of_reply() if stop is None else stop,
            cache=cache,
            should_stop=should_stop,
        )
        if stream:
            return iter(generator)
        for _ in generator:
            pass
        return generator.result

    # Conversation

    def chat(
        self,
        prompt: str | Sequence[Message],
        effort: Effort = "medium",
        *,
        instructions: str | None = None,
        max_new_tokens: int | None = None,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int | None = None,
        record: Record | Sequence[str] = (),
        on_token: Callable[[StreamedToken], None] | None = None,
        should_stop: Callable[[], bool] = never,
        display: bool | None = None,
    ) -> Reply:
        """Asks the model; streams into the notebook cell, channel by channel, where there is one.

        prompt: a question, or the messages so far. A system message (`harmony.system_message(effort)`) is put before
            them where they have none.
        instructions: a developer message.
        max_new_tokens: 2,048 where not given, or what the context leaves.
        record: ("routing",) keeps how every token was routed, in `reply.trace`; "attention", "residual", "experts",
            "lens" and "z" keep more, a `Record` chooses layers and heads and says what each of them is.
        on_token: called with every token as it comes. should_stop: ends the reply where it says yes.
        display: whether to stream into the cell; where not given, in a notebook and without `on_token`.

        Raises ValueError for an empty question, and what `Generator` and `harmony.render` raise.
        """
        conversation = self.conversation(prompt, effort, instructions)
        rendered = harmony.render(conversation, self.tokenizer)
        n_prompt = len(rendered.tokens)
        if max_new_tokens is None:
            max_new_tokens = max(1, min(CHAT_TOKENS, self.config.n_ctx - n_prompt))
        recorder = self._recorder(record, n_prompt + max_new_tokens) if record else None
        generator = Generator(
            self.transformer,
            rendered.tokens,
            max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            stop=self._ends_of_reply(),
            n_alternatives=N_ALTERNATIVES if recorder else 0,
            should_stop=should_stop,
        )
        parser = StreamParser(self.tokenizer, messages_so_far=len(conversation))
        live = live_display(on_token is None if display is None else display)
        started = time.perf_counter()
        with self.hooks(recorder.fwd_hooks if recorder else []):
            self._stream(generator, parser, on_token, live)
            seconds = time.perf_counter() - started
            if recorder:
                generator.run_last()
        reply = Reply(
            messages=parser.messages,
            conversation=[*conversation, *parser.messages],
            tokens=generator.result.tokens,
            spans=parser.spans,
            logprobs=generator.result.logprobs,
            prompt_tokens=rendered.tokens,
            prompt_spans=rendered.spans,
            finish=generator.result.finish,
            seconds=seconds,
            shown_in_cell=live.cell,
            edits=describe(self.edits),
        )
        if recorder is None or not reply.tokens:
            return reply
        sampling = {"temperature": temperature, "top_p": top_p, "seed": seed, "effort": effort}
        guesses = guesses_of_generation(generator.result, n_prompt)
        return replace(reply, trace=self._trace_of(reply, recorder, guesses, sampling=json.dumps(sampling)))

    def trace(
        self, of: Reply | str | Sequence[Message] | Sequence[int], record: Record | Sequence[str] = ("routing",)
    ) -> Trace:
        """What the model does with a reply and its prompt, a text, messages, or tokens: one pass over all of it.

        record: as in `chat`. A reply that was recorded while it was generated gives what was recorded then, where that
            holds all that is asked for, and unless other edits are active.
        Warns where the recording may take a gigabyte or more. Raises ValueError for nothing at all, for what cannot be
        recorded, and what `Transformer` raises for tokens.
        """
        if (
            isinstance(of, Reply)
            and of.trace is not None
            and holds(of.trace, record_of(record, self.config), self.config)
            and self._edited_likewise(of.trace)
        ):
            return of.trace
        reply = of if isinstance(of, Reply) else self._as_prompt(of)
        tokens = [*reply.prompt_tokens, *reply.tokens]
        recorder = self._recorder(record, len(tokens))
        last = f"blocks.{self.config.n_layers - 1}.hook_resid_post"
        final_residual: list[Tensor] = []
        keep_last = (last, lambda tensor, hook: final_residual.append(tensor))
        with self.hooks([*recorder.fwd_hooks, keep_last]):
            self.transformer(tokens, last_only=True)
        guesses = guesses_of_pass(self.transformer, final_residual[0], tokens)
        return self._trace_of(reply, recorder, guesses)

    def conversation(
        self, prompt: str | Sequence[Message], effort: Effort = "medium", instructions: str | None = None
    ) -> list[Message]:
        """The messages that `chat` renders: a prompt with the opening that it lacks. ValueError if it is empty."""
        if isinstance(prompt, str):
            if not prompt.strip():
                raise ValueError("the question is empty: ask something")
            messages = [Message("user", prompt)]
        else:
            messages = list(prompt)
        opening = [] if any(message.role == "system" for message in messages) else [harmony.system_message(effort)]
        if instructions is not None:
            opening.append(harmony.developer_message(instructions))
        return [*opening, *messages]

    # Helpers

    def _stream(
        self,
        generator: Generator,
        parser: StreamParser,
        on_token: Callable[[StreamedToken], None] | None,
        live: LiveDisplay,
    ) -> None:
        """Runs the generator to its end, showing each token as it comes; an interrupt closes what is shown."""
        status = "interrupted"
        try:
            for sampled in generator:
                span = parser.push(sampled.token)
                if on_token:
                    text = parser.delta if span.section == "content" else self._text(sampled.token)
                    on_token(StreamedToken(sampled.token, text, span, sampled.logprob))
                live.update(parser)
            status = generator.result.finish
        finally:
            live.close(status)

    def _as_prompt(self, of: str | Sequence[Message] | Sequence[int]) -> Reply:
        """Text, messages or tokens as a prompt that nothing answers."""
        messages = [item for item in of if isinstance(item, Message)]
        if messages:
            rendered = harmony.render(messages, self.tokenizer, for_completion=False)
            return Reply([], messages, [], [], [], rendered.tokens, rendered.spans, finish="stop")
        if isinstance(of, str):
            tokens = self.tokenizer.encode(of, allowed_special="all")
        else:
            tokens = [int(cast(int, item)) for item in of]
        parsed = harmony.parse(tokens, self.tokenizer)
        return Reply([], parsed.messages, [], [], [], tokens, parsed.spans, finish="stop")

    def _recorder(self, record: Record | Sequence[str], n_tokens: int) -> Recorder:
        wanted = record_of(record, self.config)
        say_cost(wanted, self.config, n_tokens)
        return Recorder(wanted, self.config, self.transformer.unembed)

    def _trace_of(self, reply: Reply, recorder: Recorder, guesses: Guesses, **provenance: str) -> Trace:
        return assemble(
            recorder,
            [*reply.prompt_tokens, *reply.tokens],
            [*reply.prompt_spans, *reply.spans],
            len(reply.prompt_tokens),
            guesses,
            self.tokenizer,
            self.name,
            {"kit": __version__, "model": self.name, **self.provenance, **self._edits_in_force(), **provenance},
        )

    def _edits_in_force(self) -> dict[str, str]:
        """What a trace's provenance says of the active edits, for `edits.from_json`: nothing where there are none."""
        return {"edits": to_json(self.edits)} if self.edits else {}

    def _edited_likewise(self, trace: Trace) -> bool:
        return trace.provenance.get("edits") == self._edits_in_force().get("edits")

    def _text(self, token: int) -> str:
        return tokenizer.token_text(self.tokenizer, token)

    def _ends_of_reply(self) -> list[int]:
        controls = tokenizer.control_ids(self.tokenizer)
        return [controls["<|return|>"], controls["<|call|>"]]
