"""Tools as the model reads them: JSON schemas in a TypeScript-like form.

The models saw exactly this form in training, so it is openai-harmony's to the byte, oddities included: an enum's
default stands without quotation marks, an object's description is repeated inside it, anyOf is any.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any


@dataclass(frozen=True)
class Function:
    name: str
    description: str = ""
    parameters: Mapping[str, Any] | None = None
    """A JSON schema; None if it takes nothing."""


@dataclass(frozen=True)
class Namespace:
    name: str
    description: str | None = None
    functions: tuple[Function, ...] = ()


def tools_section(namespaces: Sequence[Namespace]) -> str:
    """The part of a system or developer message that describes tools; empty if there are none."""
    return "\n\n".join(["# Tools", *map(_namespace, namespaces)]) if namespaces else ""


def comment(text: str) -> list[str]:
    return [f"// {line}" for line in _lines(text)]


def type_of(schema: Any, indent: str = "") -> str:
    """The type that a JSON schema describes. Whatever the form has no words for is `any`."""
    if not isinstance(schema, Mapping):
        return "any"
    if isinstance(variants := schema.get("oneOf"), list):
        return "".join(f"\n{indent} | {_top_variant(variant, indent)}" for variant in variants)
    match schema.get("type"):
        case list(names):
            return " | ".join(_SCALARS.get(name, name) for name in names if isinstance(name, str)) or "any"
        case "object":
            return _object(schema, indent)
        case "array":
            return f"{type_of(schema['items'], indent)}[]" if "items" in schema else "Array<any>"
        case "string":
            return " | ".join(f'"{value}"' for value in _enum(schema) if isinstance(value, str)) or "string"
        case str(name) if name in _SCALARS:
            return _SCALARS[name]
    return "any"


_SCALARS = {"number": "number", "integer": "number", "boolean": "boolean"}


def _namespace(namespace: Namespace) -> str:
    lines = [f"## {namespace.name}\n"]
    if not namespace.functions:
        return "\n".join(lines + _lines(namespace.description or ""))
    lines += comment(namespace.description or "")
    lines.append(f"namespace {namespace.name} {{\n")
    for function in namespace.functions:
        argument = f"_: {type_of(function.parameters)}" if function.parameters is not None else ""
        lines += [*comment(function.description), f"type {function.name} = ({argument}) => any;\n"]
    lines.append(f"}} // namespace {namespace.name}")
    return "\n".join(lines)


def _object(schema: Mapping[str, Any], indent: str) -> str:
    lines = [f"{indent}// {_text(schema, 'description')}"] if _text(schema, "description") is not None else []
    lines.append("{")
    properties, required = schema.get("properties"), schema.get("required")
    if isinstance(properties, Mapping):
        for name, value in properties.items():
            mark = "" if isinstance(required, list) and name in required else "?"
            lines += _property(f"{indent}{name}{mark}:", value if isinstance(value, Mapping) else {}, indent)
    lines.append(f"{indent}}}")
    return "\n".join(lines)


def _property(start: str, schema: Mapping[str, Any], indent: str) -> Iterator[str]:
    """The lines of one property; start is its indented name and colon."""
    if (title := _text(schema, "title")) is not None:
        yield f"{indent}// {title}"
        yield f"{indent}//"
    description = _text(schema, "description")
    if description is not None and "oneOf" not in schema:
        yield f"{indent}// {description}"
    if isinstance(examples := schema.get("examples"), list) and examples:
        yield f"{indent}// Examples:"
        yield from (f'{indent}// - "{example}"' for example in examples if isinstance(example, str))
    if isinstance(variants := schema.get("oneOf"), list):
        yield from _union_property(start, schema, variants, indent)
    else:
        remarks = _default(schema) if "oneOf" not in schema else []
        yield f"{start} {_nullable(schema, indent + '    ')}," + _trailing(remarks)


def _union_property(start: str, schema: Mapping[str, Any], variants: list[Any], indent: str) -> Iterator[str]:
    """A property that is one of several types. Its description stands above, or nowhere if the first variant has it."""
    description = _text(schema, "description")
    described = description is not None and not (variants and _text(variants[0], "description") == description)
    if described:
        yield f"{indent}// {description}"
    yield from (f"{indent}// {remark}" for remark in _default(schema))
    yield start
    for position, variant in enumerate(variants):
        own = _text(variant, "description")
        repeats = own == description or (position == 0 and described)
        remarks = ([] if own is None or repeats else [own]) + _default(variant)
        yield f"{indent} | {_nullable(variant, indent + '   ')}" + _trailing(remarks)
    yield f"{indent},"


def _top_variant(schema: Any, indent: str) -> str:
    """A variant of a oneOf that is no property's; here openai-harmony writes an enum's default as JSON."""
    description = _text(schema, "description")
    remarks = [] if description is None else [description]
    if _enum(schema) and isinstance(schema.get("default"), str):
        remarks.append(f"default: {_json(schema['default'])}")
    else:
        remarks += _default(schema)
    return _nullable(schema, indent + "   ") + _trailing(remarks)


def _nullable(schema: Any, indent: str) -> str:
    type_ = type_of(schema, indent)
    nullable = isinstance(schema, Mapping) and schema.get("nullable") is True
    return f"{type_} | null" if nullable and "null" not in type_ else type_


def _trailing(remarks: list[str]) -> str:
    return f" // {' '.join(remarks)}" if remarks else ""


def _default(schema: Any) -> list[str]:
    if not isinstance(schema, Mapping) or "default" not in schema:
        return []
    value = schema["default"]
    if not isinstance(value, str):
        return [f"default: {_json(value)}"]
    return [f"default: {value}" if _enum(schema) else f'default: "{value}"']


def _enum(schema: Any) -> list[Any]:
    values = schema.get("enum") if isinstance(schema, Mapping) else None
    return values if isinstance(values, list) else []


def _text(schema: Any, key: str) -> str | None:
    value = schema.get(key) if isinstance(schema, Mapping) else None
    return value if isinstance(value, str) else None


def _lines(text: str) -> list[str]:
    """Lines as Rust counts them: a line feed ends one, with or without a carriage return."""
    lines = re.split(r"\r?\n", text)
    return lines if lines[-1] else lines[:-1]


def _json(value: Any) -> str:
    """Compact JSON, with floats as Rust's serde_json writes them."""
    match value:
        case dict():
            return "{" + ",".join(f"{_json(key)}:{_json(inner)}" for key, inner in value.items()) + "}"
        case list():
            return "[" + ",".join(map(_json, value)) + "]"
        case bool() | None | str():
            return json.dumps(value, ensure_ascii=False)
        case int() if -(2**63) <= value < 2**64:
            return str(value)
        case _:
            return _float(float(value))


def _float(value: float) -> str:
    """Rust writes exponents below 1e-5, where Python does below 1e-4, and pads none with a zero."""
    mantissa, _, exponent = repr(value).partition("e")
    if not exponent:
        return mantissa
    return f"{Decimal(repr(value)):f}" if int(exponent) == -5 else f"{mantissa}e{int(exponent)}"
