"""Messages, and how the two that open a conversation are worded."""

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from gptoss_lab.harmony.typescript import Function, Namespace, comment, tools_section

Effort = Literal["low", "medium", "high"]
BuiltInTool = Literal["browser", "python"]


@dataclass(frozen=True)
class Message:
    """One message of a conversation."""

    role: str
    """system, developer, user, assistant, or the name of the tool that speaks, such as python or functions.add."""
    content: str
    channel: str | None = None
    """analysis, commentary or final, for what the assistant says and for what tools answer it."""
    recipient: str | None = None
    """The tool that is called, or assistant in a tool's answer."""
    content_type: str | None = None
    """As it stands in the header: json, code or, if the model bound itself to it, <|constrain|>json."""
    malformed: str | None = None
    """The header's text, if it holds more or less than the fields above can say; they are then a best guess."""
    complete: bool = True
    """False if the message was broken off: a parser has not seen its end."""

    def __post_init__(self) -> None:
        if not (isinstance(self.role, str) and isinstance(self.content, str)):
            raise TypeError(f"a message's role and content are text, and these are {self.role!r} and {self.content!r}")


def system_message(
    effort: Effort | None = "medium",
    current_date: str | datetime.date | None = None,
    tools: Sequence[BuiltInTool] = (),
    *,
    identity: str | None = "You are ChatGPT, a large language model trained by OpenAI.",
    knowledge_cutoff: str | None = "2024-06",
) -> Message:
    """The system message that gpt-oss was trained on. What is None is left out.

    The line on calls to functions is not part of it: `render` adds that where a developer message defines functions.

    Raises ValueError for an effort or a tool that the format does not know, ImportError if tools are asked for and
    openai-harmony, which holds their texts, is not installed.
    """
    if effort not in ("low", "medium", "high", None):
        raise ValueError(f"effort is low, medium or high, not {effort!r}")
    preamble = [
        identity,
        f"Knowledge cutoff: {knowledge_cutoff}" if knowledge_cutoff is not None else None,
        f"Current date: {current_date}" if current_date is not None else None,
    ]
    sections = [
        "\n".join(line for line in preamble if line is not None),
        f"Reasoning: {effort}" if effort is not None else "",
        tools_section([_built_in(tool) for tool in sorted(set(tools))]),
        "# Valid channels: analysis, commentary, final. Channel must be included for every message.",
    ]
    return Message("system", "\n\n".join(filter(None, sections)))


def developer_message(
    instructions: str | None = None,
    functions: Sequence[Mapping[str, Any]] = (),
    response_formats: Sequence[Mapping[str, Any]] = (),
) -> Message:
    """What other formats call the system prompt, with the functions that the model may call and the forms of answers.

    functions: mappings with name, description and parameters (a JSON schema; absent or None: the function takes none).
    response_formats: mappings with name, description and schema. OpenAI's API wraps both, as
    {"type": "function", "function": {...}}; these are understood too.

    Raises ValueError for a mapping without a name, or with a schema that JSON cannot say.
    """
    sections = []
    if instructions is not None:
        sections += ["# Instructions", instructions]
    if functions:
        sections.append(tools_section([Namespace("functions", functions=tuple(map(_function, functions)))]))
    if response_formats:
        sections += ["# Response Formats", *map(_response_format, response_formats)]
    return Message("developer", "\n\n".join(sections))


def tool_result(call: Message, content: str) -> Message:
    """The answer to a call: from the tool that it addressed, to the assistant, on the call's own channel."""
    if call.recipient is None:
        raise ValueError(f"only a message with a recipient is a call, and this one has none: {call!r}")
    return Message(call.recipient, content, channel=call.channel, recipient="assistant")


def _built_in(tool: str) -> Namespace:
    if tool not in ("browser", "python"):
        raise ValueError(f"the built-in tools are browser and python, not {tool!r}; functions go to developer_message")
    try:
        config = getattr(import_module("openai_harmony").ToolNamespaceConfig, tool)()
    except ImportError as error:
        raise ImportError(
            f"the text that describes the {tool} tool comes from openai-harmony: pip install openai-harmony"
        ) from error
    functions = tuple(Function(each.name, each.description, each.parameters) for each in config.tools)
    return Namespace(config.name, config.description, functions)


def _function(given: Mapping[str, Any]) -> Function:
    inner = given.get("function", given)
    return Function(_name(inner), inner.get("description") or "", _plain_json(inner.get("parameters"), inner))


def _response_format(given: Mapping[str, Any]) -> str:
    inner = given.get("json_schema", given)
    schema = json.dumps(_plain_json(inner.get("schema", {}), inner), ensure_ascii=False, separators=(",", ":"))
    return "\n".join([f"## {_name(inner)}\n", *comment(inner.get("description") or ""), schema])


def _name(given: Mapping[str, Any]) -> str:
    name = given.get("name")
    if not isinstance(name, str) or len(name.split()) != 1:
        raise ValueError(f"a function or response format needs a name of one word, and this has {name!r}: {given!r}")
    return name


def _plain_json(schema: Any, owner: Mapping[str, Any]) -> Any:
    """The schema as it is once sent as JSON: tuples are lists, keys are strings."""
    try:
        return json.loads(json.dumps(schema, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"the schema of {owner.get('name')!r} cannot be written as JSON: {error}") from error
