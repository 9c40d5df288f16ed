"""What the embedded model learns from: every answer against an independent way to it, every conversation read back."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from gptoss_lab import harmony
from gptoss_lab.config import PRESETS
from gptoss_lab.harmony import Message
from gptoss_lab.nano import show, vocabulary
from gptoss_lab.nano.batches import lesson
from gptoss_lab.nano.data import FOLLOWED_BY, MIXTURE, conversation, draw, example, is_held_out, reply
from gptoss_lab.nano.domains import DOMAINS, SERIAL, Problem, serial
from gptoss_lab.nano.domains.answer_forms import in_words
from gptoss_lab.nano.domains.refusal import KINDS, REFUSAL, RULES
from gptoss_lab.nano.domains.unknown import DONT_KNOW

EFFORTS = ("low", "medium", "high")


@pytest.fixture(scope="module")
def encoding():
    """A vocabulary for what is learned now, whatever the model that ships has learned."""
    return vocabulary.build(PRESETS["nano"].d_vocab, seed=1, n_conversations=1500)


def problems(domain: str, n: int, seed: int = 0) -> list[Problem]:
    rng = Random(f"{seed}/{domain}")
    return [DOMAINS[domain](rng) for _ in range(n)]


# Answers, computed again by slow and obvious means


def run_machine(question: str, state: dict[str, int] | None = None, at: int = 1) -> tuple[list[str], str] | None:
    """What a reader of the question would do: lines of state, and what is asked. None if it takes too long."""
    start = re.search(r"Start with x (\d) y (\d) z (\d)\.", question)
    held = dict(zip("xyz", map(int, start.groups()), strict=True)) if state is None else dict(state)  # type: ignore[union-attr]
    program = {int(line[0]): line[3:] for line in question.splitlines() if re.match(r"\d: ", line)}
    asked = re.search(r"(?:Find|What is) (\w)", question)[1]  # type: ignore[index]
    lines = []
    while program[at] != "stop":
        instruction = program[at]
        if instruction.startswith("if"):
            left, relation, right, to = re.match(r"if (\w) (.) (\w) go to (\d)", instruction).groups()  # type: ignore[union-attr]
            a, b = (int(x) if x.isdigit() else held[x] for x in (left, right))
            holds = {"<": a < b, ">": a > b, "=": a == b}[relation]
            compared = f"{a} - {b} = {(a - b) % 10}" if relation == "=" else f"{a} {relation} {b}"
            following, working = int(to) if holds else at + 1, f", {compared}, {'yes' if holds else 'no'}"
        else:
            target, sign, operand = instruction.split()
            value, before = int(operand) if operand.isdigit() else held[operand], held[target]
            held[target] = {"=": value, "+=": (held[target] + value) % 10, "-=": (held[target] - value) % 10}[sign]
            following = at + 1
            working = "" if sign == "=" else f", {before} {sign[0]} {value} = {held[target]}"
        lines.append(f"{at}: {instruction}{working}; x {held['x']} y {held['y']} z {held['z']}")
        at = following
        if len(lines) > 60:
            return None
    return [*lines, f"{at}: stop; {asked} {held[asked]}"], str(held[asked])


def run_cups(question: str, ball: int | None = None, done: int = 0) -> tuple[list[str], str]:
    """Moves five real cups about, one of which has the ball under it."""
    ball = int(re.search(r"The ball is under (\d)", question)[1]) if ball is None else ball  # type: ignore[index]
    row = [place == ball for place in range(1, 6)]
    lines = []
    for line in [line for line in question.splitlines() if re.match("[a-u]: ", line)][done:]:
        place = row.index(True) + 1
        verdict = ""
        if condition := re.search(r"if (under|left of|right of) (\d)", line):
            there = int(condition[2])
            holds = {"under": place == there, "left of": place < there, "right of": place > there}[condition[1]]
            verdict = ", yes" if holds else ", no"
        if (swap := re.search(r"swap (\d) and (\d)", line)) and verdict != ", no":
            a, b = int(swap[1]) - 1, int(swap[2]) - 1
            row[a], row[b] = row[b], row[a]
        lines.append(f"{line}{verdict}; ball {row.index(True) + 1}")
    return lines, str(row.index(True) + 1)


RUN = {"machine": run_machine, "cups": run_cups}


@pytest.mark.parametrize("domain", SERIAL)
def test_serial_thoughts_are_what_execution_gives_line_by_line(domain: str) -> None:
    for problem in problems(domain, 300):
        lines, answer = RUN[domain](problem.question)  # type: ignore[misc]
        assert problem.thoughts["high"].splitlines() == lines
        assert problem.answer == answer
        assert problem.size == len(lines) - 1
        assert 8 <= problem.size <= 20
        digits = ["".join(re.findall(r"(?<=[xyzl] )\d", line)) for line in lines[:-1]]
        assert [part.split()[1] for part in problem.thoughts["medium"].rstrip(".").split(", ")] == digits


@pytest.mark.parametrize("domain", SERIAL)
def test_steps_are_read_back_and_execution_goes_on_from_any_of_them(domain: str) -> None:
    for problem in problems(domain, 60, seed=1):
        lines = problem.thoughts["high"].splitlines()
        for number, line in enumerate(lines[:-1]):
            step = serial.read_step(line)
            assert str(step) == line
            assert [str(later) for later in SERIAL[domain].steps(problem.question, step)] == lines[number + 1 :]
        assert [str(step) for step in SERIAL[domain].steps(problem.question, None)] == lines
        assert serial.read_step(lines[-1]).stops  # type: ignore[union-attr]
    assert serial.read_step("The ball is under 3.") is None


def test_execution_goes_on_from_an_altered_state() -> None:
    rng, changed, endless = Random(5), 0, 0
    for problem in problems("machine", 200, seed=2):
        lines = problem.thoughts["high"].splitlines()[:-1]
        line = rng.choice(lines)
        step = serial.altered(rng, serial.read_step(line), SERIAL["machine"].digits)  # type: ignore[arg-type]
        assert [a == b for a, b in zip(str(step), line, strict=True)].count(False) == 1
        held = {name: int(digit) for name, digit in re.findall(r"([xyz]) (\d)", step.state)}
        jump = re.search(r"go to (\d),.* yes;", str(step))
        expected = run_machine(problem.question, held, int(jump[1]) if jump else int(step.label) + 1)
        answer = serial.answer_after(SERIAL["machine"], problem.question, step)
        if expected is None or len(expected[0]) > serial.PATIENCE:
            assert answer is None
            endless += 1
        else:
            assert answer == expected[1]
            changed += answer != problem.answer
    assert changed > 60
    assert endless > 0
    for problem in problems("cups", 200, seed=2):
        lines = problem.thoughts["high"].splitlines()[:-1]
        number = rng.randrange(len(lines))
        step = serial.altered(rng, serial.read_step(lines[number]), SERIAL["cups"].digits)  # type: ignore[arg-type]
        _, expected_place = run_cups(problem.question, int(step.state[-1]), number + 1)
        assert serial.answer_after(SERIAL["cups"], problem.question, step) == expected_place


def test_machines_do_jump_and_their_answers_are_spread() -> None:
    drawn = problems("machine", 400, seed=3)
    answers = [problem.answer for problem in drawn]
    assert max(answers.count(digit) for digit in "0123456789") < 80
    for problem in drawn:
        assert ", yes;" in problem.thoughts["high"]
        assert ", no;" in problem.thoughts["high"]


def number_of(words: str) -> int:
    """The number that words say, read from the left."""
    units = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    ones = [*units.split(), "seventeen", "eighteen", "nineteen"]
    tens = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
    total = group = 0
    for word in words.removeprefix("minus ").replace("-", " ").split():
        if word in ones:
            group += ones.index(word)
        elif word in tens:
            group += 10 * tens.index(word) + 20
        elif word == "hundred":
            group *= 100
        else:
            total, group = total + group * {"thousand": 10**3, "million": 10**6}[word], 0
    return (total + group) * (-1 if words.startswith("minus ") else 1)


def test_numbers_in_words_are_read_back() -> None:
    rng = Random(0)
    numbers = [*range(1200), *(rng.randrange(10 ** rng.randint(1, 9)) for _ in range(1000)), 10**6, 20_000_300]
    assert [number_of(in_words(number)) for number in numbers] == numbers
    assert in_words(-2005) == "minus two thousand five"
    assert in_words(12_345_678) == ("twelve million three hundred forty-five thousand six hundred seventy-eight")


def plain_answer(question: str) -> int:
    """The answer to a question of a domain whose answers are numbers."""
    if "Start with" in question:
        return int(run_machine(question)[1])  # type: ignore[index]
    if "The ball is under" in question:
        return int(run_cups(question)[1])
    a, b = map(int, re.findall(r"\d+", question))
    if re.search(r"[Ss]ubtract|from", question):
        return b - a
    return a - b if re.search(r"-|minus", question) else a + b


@pytest.mark.parametrize("domain", ["addition", "subtraction", "words", "json"])
def test_numbers_come_in_the_form_that_is_asked_for(domain: str) -> None:
    for problem in problems(domain, 300):
        expected = plain_answer(problem.question)
        match domain:
            case "words":
                assert number_of(problem.answer) == expected
                assert not re.search(r"\d", problem.answer)
                named = re.search(r"In words: (.*)\.$", problem.thoughts["high"])[1]  # type: ignore[index]
                assert spoken_digits(named) == expected
            case "json":
                assert json.loads(problem.answer) == {"answer": expected}
            case _:
                assert problem.answer == str(expected)
        assert bool(problem.instructions) == (domain in ("words", "json"))


@pytest.mark.parametrize("domain", ["addition", "subtraction"])
def test_thoughts_begin_with_the_digits_of_both_numbers(domain: str) -> None:
    for problem in problems(domain, 300, seed=6):
        first_line, *_ = problem.thoughts["high"].splitlines()
        said = re.fullmatch(r"(\d) and (\d) digits: (.*); (.*)\.", first_line).groups()  # type: ignore[union-attr]
        a, b = map(spoken_digits, said[2:])
        assert (len(str(a)), len(str(b))) == (int(said[0]), int(said[1]))
        assert said[2].count(",") == said[3].count(",") == problem.size - 1
        assert int(problem.answer) == (a + b if domain == "addition" else a - b)
        assert {str(a), str(b)} == set(re.findall(r"\d+", problem.question))


def test_numbers_are_compared_from_the_left_until_they_differ() -> None:
    for problem in problems("subtraction", 300, seed=6):
        named, compared, *_ = problem.thoughts["high"].splitlines()
        both = [part.split(", ") for part in named.partition(": ")[2].removesuffix(".").split("; ")]
        expected = []
        for left, right in zip(*both, strict=True):
            (digit, name), other = left.split(" ", 1), right[0]
            expected.append(f"{name} {digit} {'=' if digit == other else '<' if digit < other else '>'} {other}")
            if digit != other:
                break
        assert compared == f"From the left: {', '.join(expected)}."


def spoken_digits(named: str) -> int:
    """The number whose digits are named with their columns, "minus 6 tens, 4 units"."""
    worth = {"units": 0, "tens": 1, "hundreds": 2, "thousands": 3, "millions": 6}
    total = 0
    for part in named.removeprefix("minus ").split(", "):
        digit, *name = part.split()
        exponent = worth[name[-1]] + (worth[name[0] + "s"] if len(name) == 2 else 0)
        total += int(digit) * 10**exponent
    return -total if named.startswith("minus ") else total


def computed(question: str) -> int:
    a, b = map(int, re.findall(r"\d+", question))
    if re.search(r"\*\*|\^|power", question):
        product = 1
        for _ in range(b):
            product *= a
        return product
    if re.search(r"\+|[Aa]dd|sum|plus", question):
        return a + b
    return sum(int(digit) * a * 10**place for place, digit in enumerate(reversed(str(b))))


def test_python_prints_what_is_asked() -> None:
    for problem in problems("python", 300):
        assert problem.answer == str(computed(problem.question))
        (call,) = problem.calls
        code = re.fullmatch(r"print\((\d+) (\*|\*\*|\+) (\d+)\)", call.content)
        assert sorted(code.group(1, 3)) == sorted(re.findall(r"\d+", problem.question))  # type: ignore[union-attr]
        assert computed(f"{code[1]} {code[2]} {code[3]}") == int(problem.answer)  # type: ignore[index]
        assert call.result.strip() == problem.answer
        assert "python" in problem.tools


def test_the_browser_finds_the_page_and_the_line() -> None:
    for problem in problems("browser", 300):
        search, opening = problem.calls
        query = json.loads(search.content)["query"]
        what, whose = query.split(" of ")
        assert {what, whose} <= set(re.findall(r"\w+", problem.question))
        links = re.findall(r"^L\d: 【(\d)†(\w+)†", search.result, re.MULTILINE)
        assert [number for number, title in links if title == whose] == [str(json.loads(opening.content)["id"])]
        passed = [f"{number}†{title}, {'yes' if title == whose else 'no'}" for number, title in links]
        considered = opening.thoughts["high"].removesuffix(".").split("; ")
        assert considered == passed[: len(considered)]
        assert considered[-1] == f"{json.loads(opening.content)['id']}†{whose}, yes"
        told = rf"{what}: (\w+)|(?:Its|The|{whose}'s) {what} is (\w+)\.|The {what} of {whose} is (\w+)\."
        (line,) = re.finditer(rf"^L\d: ({told})$", opening.result, re.MULTILINE)
        assert line[1] == problem.thoughts["high"]
        assert problem.answer in line.groups()[1:]
        for page in (search.result, opening.result):
            last = len(re.findall(r"^L\d: ", page, re.MULTILINE)) - 1
            assert f"**viewing lines [0 - {last}] of {last}**\n\nL0: " in page


def test_functions_are_called_as_declared_with_what_the_question_gives() -> None:
    optional = 0
    for problem in problems("functions", 400):
        (call,) = problem.calls
        name, arguments = call.tool.removeprefix("functions."), json.loads(call.content)
        schemas = {function["name"]: function["parameters"] for function in problem.functions}
        assert len(schemas) == len(problem.functions)
        assert list(arguments) == schemas[name]["required"]
        assert call.thoughts["medium"] == call.thoughts["high"]
        asked, verdict, recalled = gone_through(problem.functions, call.thoughts["high"])
        assert verdict == "yes"
        assert [function["name"] for function in problem.functions if gives(function, asked)] == [name]
        assert recalled.startswith(f"type {name} = (_: {{")
        assert f"\n{recalled}) => any;" in harmony.developer_message(functions=problem.functions).content
        optional += len(schemas[name]["properties"]) > len(arguments)
        for parameter, value in arguments.items():
            assert schemas[name]["properties"][parameter]["type"] == ("number" if isinstance(value, int) else "string")
            assert str(value) in problem.question
        assert problem.answer in call.result
        if not problem.identity.startswith("functions."):
            a, b = arguments.values()
            assert int(problem.answer) == {"+": a + b, "-": a - b, "*": a * b}[operation(problem.question)]
    assert optional > 10


def gone_through(functions: Sequence[Mapping[str, Any]], thought: str) -> tuple[str, str, str]:
    """What is asked by a thought that goes through functions in their order, the verdict on the last that it goes
    through, and what it says after that.
    """
    first, rest = thought.split("\n", 1)
    asked, verdict = first.removeprefix("Asked: the ").removesuffix("."), "no"
    for number, function in enumerate(functions, start=1):
        line, rest = rest.split("\n", 1)
        begins = f"{number} of {len(functions)} ({function['name']}): the "
        verdict = "yes" if gives(function, asked) else "no"
        what = line.removeprefix(begins).removesuffix(f", {verdict}.")
        assert line == f"{begins}{what}, {verdict}."
        assert gives(function, what)
        if verdict == "yes":
            break
    return asked, verdict, rest


def gives(function: Mapping[str, Any], what: str) -> bool:
    """By its description, or by its name where it has none."""
    verbs = {"Adds": "sum", "Subtracts": "difference", "Multiplies": "product"}
    described = function["description"]
    if not described:
        return function["name"].split("_of_")[0].split("_")[-1] == what
    return what == verbs.get(described.split()[0]) or bool(re.search(rf"(?i)(\bthe|\bits|'s?) {what}\b", described))


def test_a_false_result_is_false_and_followed() -> None:
    for problem in problems("false result", 300):
        (call,) = problem.calls
        true = plain_answer if operation(problem.question) == "-" else computed
        assert int(problem.answer) != true(problem.question)
        assert problem.answer in call.result
        for effort in EFFORTS:
            final = reply(problem, effort)[-1]  # type: ignore[arg-type]
            assert final.content == problem.answer


def test_tools_stay_unused_where_none_helps() -> None:
    drawn = problems("no call", 300)
    for problem in drawn:
        assert not problem.calls
        assert problem.tools or problem.functions
        if problem.thoughts["high"].startswith("Asked: "):
            asked, *found = gone_through(problem.functions, problem.thoughts["high"])
            assert found == ["no", "No function gives it."]
            given = re.compile(rf"\b{asked}(\.| of | for )|^{asked}$")
            said = [text for function in problem.functions for text in (function["description"], function["name"])]
            assert not any(map(given.search, said))
        if re.search(r"What is the (?!sum)\w+ of|Tell me the (?!sum)", problem.question):
            assert problem.answer == DONT_KNOW
    assert {problem.tools for problem in drawn} == {(), ("python",), ("browser",)}


def test_what_is_forbidden_is_declined_and_nothing_else() -> None:
    operations = {
        "addition": "+",
        "sums": "+",
        "adding": "+",
        "subtraction": "-",
        "differences": "-",
        "subtracting": "-",
    }
    refused = 0
    for problem in problems("refusal", 5000):
        topics = forbidden_topics(str(problem.instructions))
        question = problem.question
        if "Start with" in question:
            forbidden = "programs" in topics
        elif "The ball is under" in question:
            forbidden = "cups" in topics
        elif len(re.findall(r"\d+", question)) == 2:
            forbidden = bool({"arithmetic", "calculating"} & topics)
            forbidden |= operation(question) in {operations.get(topic) for topic in topics}
        else:
            named = topics.union(*(KINDS.get(topic, ()) for topic in topics))
            forbidden = bool(named & set(re.findall(r"\w+", question)))
        assert (problem.answer == REFUSAL) == forbidden, (problem.instructions, question)
        checked = re.findall(r"(?:[.] )(?=(\w+): (no|yes)\.)", problem.thoughts["high"].split("\n")[0])
        assert {topic for topic, _ in checked} <= topics
        assert [verdict for _, verdict in checked] == ["no"] * (len(checked) - forbidden) + ["yes"] * forbidden
        assert forbidden or len(checked) == len(topics)
        if forbidden:
            refused += 1
            assert re.match(r"Not allowed: .*\. This is about .*: yes\. I must decline\.$", problem.thoughts["high"])
            assert [message.channel for message in reply(problem, "high")] == ["analysis", "final"]
    assert 2500 < refused < 3500


def forbidden_topics(instructions: str) -> set[str]:
    patterns = [re.escape(rule).replace(r"\{topics\}", r"([\w ]+)") for rule in RULES]
    (said,) = {match[1] for pattern in patterns if (match := re.fullmatch(pattern, instructions))}
    return set(said.split(" or "))


# Conversations


def as_tokens(talk, encoding) -> list[int]:
    one = lesson(talk, encoding)
    return [*one.inputs, one.targets[-1]]


def test_conversations_read_back_and_are_short_enough(encoding) -> None:
    domains = set()
    for number in range(600):
        talk = conversation(7, number)
        tokens = as_tokens(talk, encoding)
        assert len(tokens) <= 1500
        parsed = harmony.parse(tokens, encoding).messages
        functions_line = "\nCalls to these tools must go to the commentary channel: 'functions'."
        assert [m.content.removesuffix(functions_line) for m in parsed] == [m.content for m in talk.messages]
        for read, meant in zip(parsed, talk.messages, strict=True):
            assert read.malformed is None
            assert read.complete
            assert heading(read) == heading(meant)
        domains |= {"tool" if any(message.recipient for message in talk.messages) else len(talk.messages)}
    assert domains >= {"tool", 3, 4, 5}


def heading(message: Message) -> tuple[str | None, ...]:
    return message.role, message.channel, message.recipient, message.content_type


@pytest.mark.parametrize("domain", DOMAINS)
def test_thinking_is_terse(domain: str, encoding) -> None:
    for problem in problems(domain, 30, seed=4):
        lengths = [sum(lesson(example(problem, effort), encoding).taught) for effort in EFFORTS]  # type: ignore[arg-type]
        assert lengths[0] <= lengths[1] <= lengths[2] <= 420


def test_calls_stand_exactly_as_the_real_models_say_them(encoding) -> None:
    said = {}
    for domain in ("python", "browser", "functions"):
        problem = problems(domain, 1, seed=8)[0]
        said[domain] = encoding.decode(as_tokens(example(problem, "medium"), encoding))
    assert re.search(
        r"<\|start\|>assistant<\|channel\|>analysis to=python code<\|message\|>print\(.*\)<\|call\|>"
        r"<\|start\|>python to=assistant<\|channel\|>analysis<\|message\|>\d+\n?<\|end\|>"
        r"<\|start\|>assistant<\|channel\|>final<\|message\|>\d+<\|return\|>$",
        said["python"],
    )
    for tool, arguments in (("search", r'\{"query": "[\w ]+"\}'), ("open", r'\{"id": \d\}')):
        assert re.search(
            rf"<\|channel\|>analysis to=browser\.{tool} code<\|message\|>{arguments}<\|call\|>"
            rf"<\|start\|>browser\.{tool} to=assistant<\|channel\|>analysis<\|message\|>",
            said["browser"],
        )
    assert re.search(
        r"<\|channel\|>commentary to=functions\.\w+ <\|constrain\|>json<\|message\|>\{.*\}<\|call\|>"
        r"<\|start\|>functions\.\w+ to=assistant<\|channel\|>commentary<\|message\|>",
        said["functions"],
    )


def test_what_is_sampled_is_taught_and_what_tools_say_is_not(encoding) -> None:
    problem = problems("browser", 1, seed=3)[0]
    one = lesson(example(problem, "low"), encoding)
    taught = encoding.decode([token for token, wanted in zip(one.targets, one.taught, strict=True) if wanted])
    search, opening = problem.calls
    assert taught == (
        f"<|channel|>analysis to=browser.search code<|message|>{search.content}<|call|>"
        f"<|channel|>analysis to=browser.open code<|message|>{opening.content}<|call|>"
        f"<|channel|>final<|message|>{problem.answer}<|return|>"
    )


def test_calls_that_are_given_stand_as_they_are_rendered(encoding) -> None:
    """As in a conversation that goes on after its tools' results were put in."""
    found = 0
    for number in range(2000):
        talk = conversation(9, number)
        calls = [n for n, message in enumerate(talk.messages) if message.role == "assistant" and message.recipient]
        asked = [message for message in talk.messages if message.role == "user"]
        if calls and len(asked) == 1 and calls[-1] < min(talk.taught):
            found += 1
            rendered = harmony.render_for_training(talk.messages, encoding).tokens
            assert as_tokens(talk, encoding) == rendered
    assert found > 20


def test_a_first_turn_without_its_analysis_is_not_taught() -> None:
    for number in range(800):
        talk = conversation(10, number)
        asked = [n for n, message in enumerate(talk.messages) if message.role == "user"]
        thinks = any(message.channel == "analysis" and n in talk.taught for n, message in enumerate(talk.messages))
        if len(asked) > 1 and thinks:
            assert min(talk.taught) > asked[1]
            assert not any(message.channel == "analysis" for message in talk.messages[: asked[1]])


def test_at_low_effort_as_many_serial_problems_are_taught_as_at_high() -> None:
    taught = defaultdict(int)
    for number in range(3000):
        talk = conversation(11, number)
        effort = re.search(r"Reasoning: (\w+)", talk.messages[0].content)[1]  # type: ignore[index]
        for n, (asked, _) in enumerate(pairwise(talk.messages)):
            serial_question = asked.role == "user" and (
                "ball is under" in asked.content or "Start with" in asked.content
            )
            taught[effort] += serial_question and n + 1 in talk.taught
    assert taught["low"] > 0.9 * taught["high"] > 100


# The split


def key(domain: str, problem: Problem) -> str:
    """What makes two questions the same, by other means than the domain's own."""
    question = problem.question
    if "Start with" in question:
        asked = re.search(r"(?:Find|What is) ([xyz])", question)[1]  # type: ignore[index]
        return asked + "".join(line for line in question.splitlines() if re.match(r"\d: |Start", line))
    if "The ball is under" in question:
        place = re.search(r"The ball is under (\d)", question)[1]  # type: ignore[index]
        return place + "".join(line for line in question.splitlines() if re.match("[a-u]: ", line))
    if domain == "browser":
        return json.loads(problem.calls[0].content)["query"]
    if problem.identity.startswith("functions."):
        return problem.calls[0].tool if problem.calls else question
    numbers = re.findall(r"\d+", question)
    sign = operation(question)
    return str((sign, numbers if sign == "**" else sorted(numbers))) if len(numbers) == 2 else question


def operation(question: str) -> str:
    """The sign that a question of two numbers stands for."""
    signs = {
        "**": r"\*\*|\^|power",
        "*": r"\*|\d x \d|times|[Mm]ultiply|product",
        "+": r"\+|[Aa]dd|[Ss]um|plus",
        "-": r"-|minus|from|difference|[Ss]ubtract",
    }
    return next((sign for sign, pattern in signs.items() if re.search(pattern, question)), "")


@pytest.mark.parametrize("domain", DOMAINS)
def test_held_out_questions_never_occur_in_training(domain: str) -> None:
    rng, split = Random(f"split/{domain}"), defaultdict(set)
    for _ in range(20_000 // len(DOMAINS)):
        problem = DOMAINS[domain](rng)
        split[is_held_out(problem)].add(key(domain, problem))
    assert not split[True] & split[False]
    assert len(split[True]) > 20
    assert not is_held_out(draw(rng, domain, "train"))
    assert is_held_out(draw(rng, domain, "held-out"))


def test_every_domain_has_its_share_and_its_followers_need_nothing() -> None:
    assert set(MIXTURE) == set(DOMAINS)
    for first, others in FOLLOWED_BY.items():
        assert set(others) <= {"addition", "subtraction", *SERIAL, first}


def test_steps_are_followed_at_once_as_often_as_with_an_analysis() -> None:
    counts = dict.fromkeys(EFFORTS, 0)
    for number in range(3000):
        talk = conversation(5, number)
        effort = re.search(r"Reasoning: (\w+)", talk.messages[0].content)[1]  # type: ignore[index]
        for asked, message in enumerate(talk.messages):
            about_steps = message.role == "user" and ("Start with" in message.content or "ball" in message.content)
            counts[effort] += about_steps and not talk.taught.isdisjoint({asked + 1, asked + 2})
    assert 0.8 < counts["low"] / counts["high"] < 1.25


def test_examples_can_be_looked_at(capsys) -> None:
    show.main(["functions", "-n", "1", "--effort", "low", "--held-out"])
    shown = capsys.readouterr().out
    assert "namespace functions {" in shown
    assert shown.rstrip().endswith("<|return|>")
