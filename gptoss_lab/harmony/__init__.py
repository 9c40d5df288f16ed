"""Harmony, the format of gpt-oss's conversations: messages to tokens and back, with a span for every token.

    <|start|>ROLE to=RECIPIENT<|channel|>CHANNEL CONTENT_TYPE<|message|>CONTENT<|end|>

Everything but role and content is optional. A message of the assistant to a tool ends in <|call|>, the last of a reply
in <|return|>. Source: OpenAI, "Harmony response format" (github.com/openai/harmony, docs/format.md); conversations
become the same tokens as with openai-harmony. Any vocabulary serves that has harmony's control tokens.
"""

from gptoss_lab.harmony.messages import Effort, Message, developer_message, system_message, tool_result
from gptoss_lab.harmony.parsing import Parsed, StreamParser, parse
from gptoss_lab.harmony.rendering import Rendered, render, render_for_training
from gptoss_lab.harmony.spans import Section, Span

__all__ = [
    "Effort",
    "Message",
    "Parsed",
    "Rendered",
    "Section",
    "Span",
    "StreamParser",
    "developer_message",
    "parse",
    "render",
    "render_for_training",
    "system_message",
    "tool_result",
]
