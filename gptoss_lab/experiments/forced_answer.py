"""Forced answers: when is the answer settled? The thought is broken off after each step, and the model must answer.

Early answering, from Lanham et al. 2023, "Measuring Faithfulness in Chain-of-Thought Reasoning" (arXiv 2307.13702),
section 2.3: thinking that is needed brings the answer about; thinking that is not could have been left out.
"""

from collections.abc import Sequence

import tiktoken

from gptoss_lab.segments import Segment

OPEN_FINAL = "<|channel|>final<|message|>"
CLOSE_AND_OPEN_FINAL = f"<|end|><|start|>assistant{OPEN_FINAL}"


def forced(
    ids: Sequence[int], n_prompt: int, step: Segment | None, encoding: tiktoken.Encoding
) -> tuple[int, list[int]]:
    """How to make the model answer after a step: how many tokens to keep, and those to put behind them.

    ids: of prompt and reply. step: None forces the answer before any thinking, without an analysis message. The blanks
    and line ends after the step are left out, as the model leaves them out at the end of a message.
    """
    if step is None:
        return n_prompt, encoding.encode(OPEN_FINAL, allowed_special="all")
    stop = step.stop
    while stop > step.start + 1 and not encoding.decode([ids[stop - 1]]).strip():
        stop -= 1
    last = encoding.decode_single_token_bytes(ids[stop - 1])
    bare = last.rstrip(b" \n\r\t")
    instead = encoding.encode_ordinary(bare.decode()) if bare and bare != last and _is_text(bare) else []
    closing = encoding.encode(CLOSE_AND_OPEN_FINAL, allowed_special="all")
    return (stop - 1, [*instead, *closing]) if instead else (stop, closing)


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
