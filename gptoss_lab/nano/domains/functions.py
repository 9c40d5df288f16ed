"""Functions that the developer message declares, with names and parameters that may be quite new.

    // Gives a town's wuzel.
    type get_wuzel = (_: {
    town: string,
    blim?: number,
    }) => any;

Asked "What is the wuzel of Paris?", the model goes through the functions until one gives what is asked, and repeats
how that one is declared:

    Asked: the wuzel.
    1 of 3 (read_tomp): the tomp, no.
    2 of 3 (get_wuzel): the wuzel, yes.
    type get_wuzel = (_: {
    town: string,
    blim?: number,
    }

It calls get_wuzel with {"town": "Paris"} and answers what comes back. The numbers tell it which function comes
next, and when none is left. Some functions compute a sum or a product, and are called however easy it is.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from gptoss_lab.harmony import developer_message
from gptoss_lab.nano.domains import words
from gptoss_lab.nano.domains.arithmetic import addition, subtraction
from gptoss_lab.nano.domains.problem import Call, Problem
from gptoss_lab.nano.domains.python import product
from gptoss_lab.nano.domains.unknown import DONT_KNOW
from gptoss_lab.nano.domains.words import made_up, phrases

VERBS = phrases("get | get | find | look_up | fetch | read | ask | query | tell | check | show | list")
THINGS = phrases("""
    town | city | place | country | person | name | street | house | book | pet | plant | star | company | part | user
    product | room | team | word | key
""")
PARAMETERS = phrases("""
    year | day | month | hour | size | number | level | count | limit | page | colour | weight | height | zone | rank
    group | type | unit | code | depth | speed | age
""")
DESCRIPTIONS = phrases("""
    Gives a {thing}'s {what}. | Looks up a {thing}'s {what}. | Takes a {thing}, returns its {what}.
    For any {thing}, its {what}. | A {thing}'s {what}. | Finds a {thing}, tells the {what}.
    Gives the {what} of a {thing}. | Looks up the {what} of a {thing}. | Returns the {what} of a {thing}.
    Get the {what} of a {thing}. | The {what} of a {thing}. | Finds the {what} for any {thing}.
""")
UNDESCRIBED = 0.15
"""How often a function whose name says what it gives has no description."""
QUESTIONS = phrases("""
    What is the {what} of {value}{more}? | What's the {what} of {value}{more}? | Tell me the {what} of {value}{more}.
    Give me the {what} of {value}{more}. | what is the {what} of {value}{more} | Find the {what} of {value}{more}.
    What is the {what} for {thing} {value}{more}? | I need the {what} of {value}{more}.
    Can you tell me the {what} of {value}{more}? | Look up the {what} for {thing} {value}{more}.
    {what} of {value}{more}?
""")
COMPUTING_NAMES = {
    "+": phrases("add | sum | plus | add_numbers | addition | total"),
    "-": phrases("subtract | minus | difference | take_away | subtract_numbers"),
    "*": phrases("multiply | times | product | mul | multiply_numbers"),
}
COMPUTING_DESCRIPTIONS = {
    "+": phrases("Adds two numbers. | The sum of two numbers. | Two numbers' sum. | Gives the sum."),
    "-": phrases("""
        Subtracts the second number from the first. | The difference of two numbers. | Two numbers' difference.
        Gives the difference.
    """),
    "*": phrases("Multiplies two numbers. | The product of two numbers. | Two numbers' product. | Gives the product."),
}
COMPUTED = {"+": "sum", "-": "difference", "*": "product"}
OPERANDS = (("a", "b"), ("x", "y"), ("first", "second"), ("left", "right"), ("n", "m"))

Value = str | int
Declaration = dict[str, Any]


@dataclass(frozen=True)
class Parameter:
    name: str
    value: Value
    """What a question gives for it."""
    required: bool = True


@dataclass(frozen=True)
class Function:
    """A function that gives one thing (`what`): of another, its first parameter, or of two numbers."""

    name: str
    what: str
    description: str
    parameters: tuple[Parameter, ...]

    @property
    def declaration(self) -> Declaration:
        properties = {
            parameter.name: {"type": "number" if isinstance(parameter.value, int) else "string"}
            for parameter in self.parameters
        }
        required = [parameter.name for parameter in self.parameters if parameter.required]
        schema = {"type": "object", "properties": properties, "required": required}
        return {"name": self.name, "description": self.description, "parameters": schema}


def draw(rng: Random) -> Problem:
    return rng.choices((_look_up, compute), weights=(3, 1))[0](rng)


def compute(rng: Random) -> Problem:
    """A sum, difference or product that there is a function for."""
    sign = rng.choice("+-*")
    problem = {"+": addition, "-": subtraction, "*": product}[sign](rng)
    operands = rng.choice((*OPERANDS, (made_up(rng), made_up(rng))))
    parameters = [Parameter(name, value) for name, value in zip(operands, _in_order(problem), strict=True)]
    name = rng.choice((*COMPUTING_NAMES[sign], *COMPUTING_NAMES[sign], made_up(rng)))
    function = Function(name, COMPUTED[sign], rng.choice(COMPUTING_DESCRIPTIONS[sign]), tuple(parameters))
    functions = _among_others(rng, function, name)
    return replace(
        problem,
        domain="functions",
        thoughts={"high": f"The result is {problem.answer}."},
        functions=declarations(functions),
        calls=(_call(functions, function, _result(rng, "result", int(problem.answer))),),
    )


def unmet(rng: Random) -> Problem:
    """A question for a function that is not declared; others are."""
    asked = _drawn_look_up(rng)
    question = _question(rng, asked)
    functions = declared(rng, other_than=asked.what)
    thought = f"{_gone_through(functions, asked.what)}\nNo function gives it."
    return Problem(
        domain="functions",
        size=0,
        identity=f"functions.{asked.name}",
        question=question,
        thoughts={"medium": thought, "high": thought},
        answer=DONT_KNOW,
        functions=declarations(functions),
    )


def declared(rng: Random, other_than: str = "") -> tuple[Function, ...]:
    """One to three functions that a developer may declare, none of which gives one certain thing."""
    drawn = [_drawn_look_up(rng) for _ in range(rng.choice((1, 1, 2, 3)))]
    others = [function for function in drawn if other_than not in (function.what, function.name)]
    return tuple(others) or declared(rng, other_than)


def declarations(functions: Sequence[Function]) -> tuple[Declaration, ...]:
    """What the developer message says of functions."""
    return tuple(function.declaration for function in functions)


def _look_up(rng: Random) -> Problem:
    function = _drawn_look_up(rng)
    told = _value(rng)
    question = _question(rng, function)
    functions = _among_others(rng, function, function.what)
    return Problem(
        domain="functions",
        size=0,
        identity=f"functions.{function.name}",
        question=question,
        thoughts={"high": f"The result is {told}."},
        answer=str(told),
        functions=declarations(functions),
        calls=(_call(functions, function, _result(rng, function.what, told)),),
    )


def _call(functions: Sequence[Function], wanted: Function, result: str) -> Call:
    arguments = {parameter.name: parameter.value for parameter in wanted.parameters if parameter.required}
    thought = f"{_gone_through(functions, wanted.what)}\n{_signature(wanted)}"
    return Call(f"functions.{wanted.name}", json.dumps(arguments), result, {"medium": thought, "high": thought})


def _gone_through(functions: Sequence[Function], asked: str) -> str:
    """What is asked, and each function ("2 of 3 (get_wuzel): the wuzel, yes.") until one gives it."""
    lines = [f"Asked: the {asked}."]
    for number, function in enumerate(functions, start=1):
        verdict = "yes" if function.what == asked else "no"
        lines.append(f"{number} of {len(functions)} ({function.name}): the {function.what}, {verdict}.")
        if verdict == "yes":
            break
    return "\n".join(lines)


def _signature(function: Function) -> str:
    """A function as the developer message declares it, without its description: "type get_wuzel = (_: {...}"."""
    message = developer_message(None, [function.declaration]).content
    return message[message.index("type ") : message.index(") => any;")]


def _drawn_look_up(rng: Random) -> Function:
    what = rng.choice((made_up(rng), rng.choice(words.NOUNS)))
    thing = rng.choice((*[thing for thing in THINGS if thing != what], made_up(rng)))
    names = (f"{rng.choice(VERBS)}_{what}", f"{rng.choice(VERBS)}{what.capitalize()}", what, f"{what}_of_{thing}")
    name = rng.choice((names[0], *names, made_up(rng)))
    described = what not in re.split("_", name) or rng.random() > UNDESCRIBED
    description = rng.choice(DESCRIPTIONS).format(what=what, thing=thing) if described else ""
    return Function(name, what, description, (Parameter(thing, _value(rng, word=0.85)), *_more_parameters(rng, thing)))


def _more_parameters(rng: Random, thing: str) -> list[Parameter]:
    """None, one or two, which a question need not give."""
    names = [rng.choice((made_up(rng), rng.choice(PARAMETERS))) for _ in range(rng.choice((0, 0, 0, 1, 1, 2)))]
    return [Parameter(name, _value(rng), required=rng.random() < 0.8) for name in dict.fromkeys(names) if name != thing]


def _value(rng: Random, word: float = 0.4) -> Value:
    """A word with a capital letter, with the chance `word`, or a number."""
    if rng.random() < word:
        return rng.choice((rng.choice(words.NAMES), rng.choice(words.PROPER_PLACES), made_up(rng).capitalize()))
    return rng.randrange(10 ** rng.randint(1, 5))


def _question(rng: Random, function: Function) -> str:
    first, *others = [parameter for parameter in function.parameters if parameter.required]
    rng.shuffle(others)
    listed = " and ".join(f"{parameter.name} {parameter.value}" for parameter in others)
    more = rng.choice((" with {}", ", {}", " and {}", " at {}")).format(listed) if listed else ""
    return rng.choice(QUESTIONS).format(what=function.what, thing=first.name, value=first.value, more=more)


def _in_order(problem: Problem) -> list[int]:
    """The two numbers of a problem, the one to be subtracted last."""
    a, b = map(int, re.findall(r"\d+", problem.question))
    return [b, a] if b - a == int(problem.answer) else [a, b]


def _among_others(rng: Random, function: Function, what: str) -> tuple[Function, ...]:
    """A function and up to three more, which give something else, in any order."""
    others = declared(rng, other_than=what) if rng.random() < 0.6 else ()
    return tuple(rng.sample([function, *others], k=1 + len(others)))


def _result(rng: Random, what: str, value: Value) -> str:
    """What a function may say."""
    said = rng.choice(({what: value}, {"result": value}, {"value": value}, value))
    return said if isinstance(said, str) and rng.random() < 0.5 else json.dumps(said)
