"""The embedded model: a gpt-oss in miniature, with all that made it.

`domains/` are the tasks that it learns, `data` mixes them into harmony conversations, `vocabulary` makes its tokens,
`train` its weights, `evaluate` measures it. The trained files lie in this folder, `FOLDER`, as one checkpoint.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
