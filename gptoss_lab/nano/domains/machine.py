"""Register machines: a short program whose jumps depend on what the registers hold.

    Run this program. It counts modulo 10.
    Start with x 3 y 5 z 0.
    1: x += y
    2: z += 4
    3: if z < x go to 1
    4: stop
    What is x?

At high effort there is a line for every step that is executed, 8 to 20 of them, and one for the stop:

    1: x += y, 3 + 5 = 8; x 8 y 5 z 0
    2: z += 4, 0 + 4 = 4; x 8 y 5 z 4
    3: if z < x go to 1, 4 < 8, yes; x 8 y 5 z 4
    ...
    4: stop; x 3

At medium effort there are the line numbers and what the registers hold, "1: 850, 2: 854, 3: 854, ...".
"""

import operator
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from random import Random
from typing import NamedTuple

from gptoss_lab.nano.domains.problem import Problem
from gptoss_lab.nano.domains.serial import STEPS, Serial, Step

QUESTIONS = (
    "Run this program. It counts modulo 10.\n{program}\nWhat is {asked}?",
    "Run this program, modulo 10.\n{program}\nWhat is {asked} at the end?",
    "This program counts modulo 10.\n{program}\nWhat is {asked} when it stops?",
    "What is {asked} when this program stops? It counts modulo 10.\n{program}",
    "Find {asked}. All counting is modulo 10.\n{program}",
    "{program}\nWhat is {asked}, counting modulo 10?",
)

REGISTERS = "xyz"
MOST_ROUNDS = 4
"""How often one line may be executed."""
SIGNS = {"=": lambda held, given: given, "+=": operator.add, "-=": operator.sub}
RELATIONS = {"<": operator.lt, ">": operator.gt, "=": operator.eq}

State = tuple[int, ...]
"""What each register holds: one digit."""


class Assignment(NamedTuple):
    register: str
    sign: str
    operand: str

    def __str__(self) -> str:
        return f"{self.register} {self.sign} {self.operand}"


class Jump(NamedTuple):
    left: str
    relation: str
    right: str
    to: int

    def __str__(self) -> str:
        return f"if {self.left} {self.relation} {self.right} go to {self.to}"


Instruction = Assignment | Jump


class Machine(NamedTuple):
    start: State
    program: tuple[Instruction, ...]
    """From line 1 on. The line after the last one stops."""
    asked: str

    def __str__(self) -> str:
        numbered = [f"{number}: {line}" for number, line in enumerate((*self.program, "stop"), 1)]
        return "\n".join([f"Start with {_spelt(self.start)}.", *numbered])


def draw(rng: Random) -> Problem:
    drawn = _drawn_machine(rng)
    *executed, stop = execute(drawn)
    states = [f"{step.label}: {''.join(re.findall('[0-9]', step.state))}" for step in executed]
    return Problem(
        domain="machine",
        size=len(executed),
        identity=f"{drawn}\n{drawn.asked}",
        question=rng.choice(QUESTIONS).format(program=drawn, asked=drawn.asked),
        thoughts={"high": "\n".join(map(str, [*executed, stop])), "medium": ", ".join(states) + "."},
        answer=stop.state[-1],
    )


def execute(machine: Machine, after: Step | None = None) -> Iterator[Step]:
    """The steps from the first on, or those after a given one, whatever its state. There may be no end to them."""
    at, state = 1, machine.start
    if after is not None:
        at, state = int(after.label), _state(after.state)
        instruction = machine.program[at - 1]
        at = instruction.to if isinstance(instruction, Jump) and after.holds else at + 1
    for line, holds, now in _run(machine.program, at, state):
        instruction = machine.program[line - 1]
        yield Step(str(line), str(instruction), holds, _spelt(now), _working(instruction, state))
        state = now
    yield Step(str(len(machine.program) + 1), "stop", None, f"{machine.asked} {_value(machine.asked, state)}")


def read(question: str) -> Machine:
    """The machine that a question is about, in whatever words it is asked."""
    start = re.search(r"^Start with (.+)\.$", question, re.MULTILINE)
    asked = re.search(r"\b(?:What is|Find) ([xyz])\b", question)
    if not (start and asked):
        raise ValueError(f"a question about a machine says what it starts with and what is asked, not {question!r}")
    lines = re.findall(r"^\d: ((?:[xyz]|if) .+)$", question, re.MULTILINE)
    return Machine(_state(start[1]), tuple(map(_instruction, lines)), asked[1])


SERIAL = Serial(lambda question, after: execute(read(question), after), digits="0123456789")


def _run(program: tuple[Instruction, ...], at: int, state: State) -> Iterator[tuple[int, bool | None, State]]:
    """For each step its line, whether its condition holds, and the state after it."""
    while at <= len(program):
        instruction = program[at - 1]
        if isinstance(instruction, Jump):
            relation = RELATIONS[instruction.relation]
            holds = relation(_value(instruction.left, state), _value(instruction.right, state))
            yield at, holds, state
            at = instruction.to if holds else at + 1
        else:
            place = REGISTERS.index(instruction.register)
            value = SIGNS[instruction.sign](state[place], _value(instruction.operand, state)) % 10
            state = (*state[:place], value, *state[place + 1 :])
            yield at, None, state
            at += 1


def _working(instruction: Instruction, state: State) -> str | None:
    """An instruction with what is held in the place of names: "4 < 8", "3 + 5 = 8"; None where it says it all.

    Whether two numbers are equal is worked out, "4 - 8 = 6": the model did not learn to see it.
    """
    if isinstance(instruction, Jump):
        left, right = _value(instruction.left, state), _value(instruction.right, state)
        if instruction.relation == "=":
            return f"{left} - {right} = {(left - right) % 10}"
        return f"{left} {instruction.relation} {right}"
    if instruction.sign == "=":
        return None
    held, given = _value(instruction.register, state), _value(instruction.operand, state)
    return f"{held} {instruction.sign[0]} {given} = {SIGNS[instruction.sign](held, given) % 10}"


def _drawn_machine(rng: Random) -> Machine:
    """A machine that stops in time, has jumped and gone by a jump, and does not go round in one place.

    What is asked is what changed most often.
    """
    while True:
        start = tuple(rng.randrange(10) for _ in REGISTERS)
        n_lines = rng.randint(4, 8)
        program = tuple(_drawn_instruction(rng, line, n_lines) for line in range(1, n_lines + 1))
        run = list(islice(_run(program, 1, start), STEPS.stop))
        rounds = Counter(line for line, _, _ in run)
        if (
            len(run) in STEPS
            and {True, False} <= {holds for _, holds, _ in run}
            and max(rounds.values()) <= MOST_ROUNDS
        ):
            changes = Counter(getattr(program[line - 1], "register", None) for line, _, _ in run)
            asked = max(REGISTERS, key=lambda name: (changes[name], rng.random()))
            return Machine(start, program, asked)


def _drawn_instruction(rng: Random, line: int, n_lines: int) -> Instruction:
    register, other = rng.sample(REGISTERS, 2)
    digit = str(rng.randint(1, 9))
    if rng.random() < 0.3:
        to = rng.choice([target for target in range(1, n_lines + 2) if target not in (line, line + 1)])
        return Jump(register, rng.choice("<>="), rng.choice((other, digit)), to)
    sign = rng.choice(("=", "+=", "+=", "+=", "-=", "-=", "-="))
    return Assignment(register, sign, other if sign == "=" else rng.choice((other, digit)))


def _instruction(text: str) -> Instruction:
    words = text.split()
    return Jump(words[1], words[2], words[3], int(words[-1])) if words[0] == "if" else Assignment(*words)


def _value(operand: str, state: State) -> int:
    return int(operand) if operand.isdigit() else state[REGISTERS.index(operand)]


def _spelt(state: State) -> str:
    return " ".join(f"{name} {value}" for name, value in zip(REGISTERS, state, strict=True))


def _state(spelt: str) -> State:
    return tuple(map(int, spelt.split()[1::2]))
