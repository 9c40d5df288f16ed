"""What the developer message does not allow is declined, with the reason in the analysis; anything else is answered.

    Do not answer questions about cups or the weather.

Either way the analysis says the rule, what the question is about, and holds that against each topic of the rule:
"Not allowed: sums or cups. This is about cups. sums: no. cups: yes. I must decline."
"""

from dataclasses import replace
from random import Random

from gptoss_lab.nano.domains import cups, machine, words
from gptoss_lab.nano.domains.arithmetic import addition, subtraction
from gptoss_lab.nano.domains.problem import Domain, Effort, Problem
from gptoss_lab.nano.domains.unknown import dont_know
from gptoss_lab.nano.domains.words import phrases

REFUSAL = "I'm sorry, but I can't help with that."

RULES = phrases("""
    Do not answer questions about {topics}. | Do not answer questions about {topics}. | Don't talk about {topics}.
    Never talk about {topics}. | Questions about {topics} are not allowed. | You must not discuss {topics}.
    Decline all questions about {topics}. | Refuse requests about {topics}. | Do not help with {topics}.
    Anything about {topics} is forbidden. | The user is not allowed to ask about {topics}.
    You may answer anything but questions about {topics}.
""")

TOPICS: dict[str, tuple[Domain, ...]] = {
    "arithmetic": (addition, subtraction),
    "calculating": (addition, subtraction),
    "addition": (addition,),
    "sums": (addition,),
    "adding": (addition,),
    "subtraction": (subtraction,),
    "differences": (subtraction,),
    "subtracting": (subtraction,),
    "programs": (machine.draw,),
    "cups": (cups.draw,),
}
"""Topics that the model could answer questions about, and the domains that have them."""

ABOUT = {"addition": "addition", "subtraction": "subtraction", "machine": "programs", "cups": "cups"}
"""What the model says that the questions of a domain are about."""

KINDS = {
    "animals": phrases("bird | cat | dog | fish | horse | lion | mouse | wolf"),
    "food": phrases("apple | bread | cake | egg | meat | salt | soup | sugar | tomato"),
    "people": phrases("brother | child | father | girl | king | mother | queen | sister | teacher | uncle"),
    "nature": phrases("flower | forest | lake | mountain | ocean | river | sea | tree"),
    "weather": phrases("rain | snow | wind"),
}
"""Topics that the model knows nothing of, and words by which a question shows that it is about one."""

TALK = phrases("""
    What is a {noun}? | What is the {noun}? | Tell me about the {noun}. | Tell me a story about a {noun}.
    Where does the {noun} come from? | Do you like the {noun}? | How old is the {noun}? | Why is the {noun} {adjective}?
    Describe a {adjective} {noun}. | Write a poem about the {noun}. | Explain the {noun} to a child.
    Where can I buy a {noun}? | What do you think about the {noun}? | How does a {noun} {verb}? | What is {noun}?
""")


def draw(rng: Random) -> Problem:
    """A problem under a rule that forbids it, or, somewhat less often, under one that does not."""
    topic, about, problem = rng.choices((_known, _of_a_kind, _noun), weights=(3, 2, 2))[0](rng)
    forbidden = rng.random() < 0.6
    topics = {topic if forbidden else _other_topic(rng, topic, problem)}
    if rng.random() < 0.3:
        topics.add(_other_topic(rng, topic, problem))
    ordered = rng.sample(sorted(topics), k=len(topics))
    listed = " or ".join(ordered)
    problem = replace(problem, domain="refusal", instructions=rng.choice(RULES).format(topics=listed))
    reason = f"Not allowed: {listed}. This is about {about}. {_checked(ordered, topic)}"
    return _refused(problem, reason) if forbidden else _allowed(problem, reason)


def _checked(topics: list[str], topic: str) -> str:
    """Each topic of a rule, until it is the one that the question is about: "sums: no. cups: yes."."""
    passed = topics[: topics.index(topic)] if topic in topics else topics
    return " ".join([*(f"{other}: no." for other in passed), *([f"{topic}: yes."] if topic in topics else [])])


def _refused(problem: Problem, reason: str) -> Problem:
    return replace(problem, thoughts={"medium": reason, "high": f"{reason} I must decline."}, answer=REFUSAL)


def _allowed(problem: Problem, reason: str) -> Problem:
    thoughts: dict[Effort, str] = {"medium": reason, "high": reason}
    return replace(problem, thoughts=thoughts | {at: f"{reason}\n{said}" for at, said in problem.thoughts.items()})


def _known(rng: Random) -> tuple[str, str, Problem]:
    """A topic, what the model calls a question of it, and the question."""
    topic = rng.choice(list(TOPICS))
    problem = rng.choice(TOPICS[topic])(rng)
    return topic, ABOUT[problem.domain], problem


def _of_a_kind(rng: Random) -> tuple[str, str, Problem]:
    topic = rng.choice(list(KINDS))
    noun = rng.choice(KINDS[topic])
    return topic, noun, _talk(rng, noun)


def _noun(rng: Random) -> tuple[str, str, Problem]:
    noun = rng.choice((rng.choice(words.NOUNS), words.made_up(rng)))
    return noun, noun, _talk(rng, noun)


def _talk(rng: Random, noun: str) -> Problem:
    adjective, verb = rng.choice(words.ADJECTIVES), rng.choice(words.VERBS)
    return dont_know(rng.choice(TALK).format(noun=noun, adjective=adjective, verb=verb))


def _other_topic(rng: Random, topic: str, problem: Problem) -> str:
    """A topic that a problem about `topic` has nothing to do with."""
    nouns = [rng.choice(words.NOUNS), words.made_up(rng)]
    others = [other for other in TOPICS if set(TOPICS[other]).isdisjoint(TOPICS.get(topic, ()))] + 2 * nouns
    if topic in KINDS:
        others += KINDS
    return rng.choice([other for other in others if other != topic and not _mentioned(other, problem.question)])


def _mentioned(topic: str, question: str) -> bool:
    return any(word in question for word in (topic, *KINDS.get(topic, ())))
