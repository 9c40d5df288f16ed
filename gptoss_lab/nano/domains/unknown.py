"""Whatever lies outside of the other domains: a short, well-formed answer that says so, never an endless reply.

The questions need variety rather than sense. They are greetings, arithmetic of a kind that is not learned (so that a
number in a question is no invitation), facts that only a browser could tell, sentences put together from lists, words
in no order, and noise.
"""

import string
from collections.abc import Callable
from random import Random

from gptoss_lab.nano.domains import words
from gptoss_lab.nano.domains.arithmetic import MAX_DIGITS
from gptoss_lab.nano.domains.browser import unknown_fact
from gptoss_lab.nano.domains.problem import Domain, Problem
from gptoss_lab.nano.domains.words import fill, phrases

DONT_KNOW = "I don't know that."


def draw(rng: Random) -> Problem:
    kinds = (_talk, _other_arithmetic, unknown_fact, _foreign, _word_salad, _noise)
    draws = (greeting, *map(_without_answer, kinds))
    return rng.choices(draws, weights=(3, 8, 8, 3, 2, 3, 2))[0](rng)


def greeting(rng: Random) -> Problem:
    answer = rng.choice(list(GREETINGS))
    return _problem(rng.choice(GREETINGS[answer]), answer, "That is talk.", "I can reply.")


def dont_know(question: str) -> Problem:
    """A question that has no answer but that."""
    return _problem(question, DONT_KNOW, "That is none of my tasks.", "I have not learned that.")


def _problem(question: str, answer: str, kind: str, verdict: str) -> Problem:
    return Problem(
        domain="unknown",
        size=0,
        identity=question,
        question=question,
        thoughts={"medium": verdict, "high": f"{kind} {verdict}"},
        answer=answer,
    )


def _without_answer(question: Callable[[Random], str]) -> Domain:
    return lambda rng: dont_know(question(rng))


def _talk(rng: Random) -> str:
    sentences = rng.choices(SENTENCES, k=rng.choice((1, 1, 1, 2, 3)))
    return " ".join(fill(rng, sentence, FILLERS) for sentence in sentences)


def _other_arithmetic(rng: Random) -> str:
    return fill(rng, rng.choice(OTHER_ARITHMETIC), FILLERS)


def _foreign(rng: Random) -> str:
    return " ".join(rng.sample(FOREIGN, k=rng.choice((1, 1, 2))))


def _word_salad(rng: Random) -> str:
    mixed = words.NOUNS + words.ADJECTIVES + words.VERBS + 3 * words.LITTLE_WORDS
    text = rng.choice((" ", " ", " ", ", ", "\n")).join(rng.choices(mixed, k=rng.randint(1, 20)))
    return rng.choice((text, text.capitalize() + rng.choice(".?!")))


def _noise(rng: Random) -> str:
    """Anything but two numbers with a sign between them, which digits and signs would come to now and then."""
    alphabet = rng.choice(
        (ASCII, string.ascii_lowercase + " ", "+-*/=() " + string.digits, UNICODE, rng.choice(".?!-+=~"))
    )
    start = "" if alphabet in (ASCII, UNICODE) else rng.choice("~:;!")
    return start + "".join(rng.choices(alphabet, k=rng.randint(0, 24)))


ASCII = string.printable
# A sample of what two, three and four bytes of UTF-8 can say: letters of many scripts, signs, pictures.
_CODE_POINTS = ((0xC0, 0x250, 5), (0x390, 0x450, 5), (0x5D0, 0x5EA, 3), (0x4E00, 0x9000, 499), (0x1F300, 0x1F640, 41))
UNICODE = "".join(chr(point) for block in _CODE_POINTS for point in range(*block))

FILLERS: dict[str, Callable[[Random], str]] = {
    "adjective": lambda rng: rng.choice(words.ADJECTIVES),
    "digit": lambda rng: str(rng.randint(1, 9)),
    "language": lambda rng: rng.choice(words.LANGUAGES),
    "long": lambda rng: str(rng.randint(10**MAX_DIGITS, 10 ** rng.randint(MAX_DIGITS + 1, MAX_DIGITS + 6))),
    "name": lambda rng: rng.choice(words.NAMES),
    "noun": lambda rng: rng.choice(words.NOUNS),
    "number": lambda rng: str(rng.randint(0, 10 ** rng.randint(1, MAX_DIGITS) - 1)),
    "number_word": lambda rng: rng.choice(words.NUMBER_WORDS),
    "place": lambda rng: rng.choice(words.PLACES),
    "verb": lambda rng: rng.choice(words.VERBS),
    "year": lambda rng: str(rng.randint(1000, 2030)),
}

GREETINGS = {
    "Hello! Ask me to add two numbers.": phrases("""
        Hello | Hello! | hello | Hello there | Hello there! | Hi | Hi! | hi | Hi there! | hi there | Hey | hey
        Hey! | Good morning | Good morning! | Good evening | Good evening. | Good day! | Greetings | Greetings!
        hello? | Hello, model.
    """),
    "You are welcome.": phrases("""
        Thanks | Thanks! | thanks | Thank you | Thank you! | Thank you. | thank you | Thank you very much!
        Many thanks. | Thanks a lot! | Great, thanks. | Good, thank you. | Well done! | Well done. | Good job!
        Nice! | Great!
    """),
    "Goodbye!": phrases("""
        Bye | Bye! | bye | Goodbye | Goodbye! | Goodbye. | See you later. | See you! | Good night! | Good night
    """),
    "I am nano, a small model. I can add and subtract, follow programs and cups, and use tools.": phrases("""
        Who are you? | who are you | What are you? | what are you | What is your name? | What's your name?
        Tell me about yourself. | What can you do? | what can you do | What do you know? | Can you help me? | Help
        help | Help me. | How do you work? | Are you a model? | Are you ChatGPT? | Introduce yourself.
        Which model are you? | What are you able to do?
    """),
}

SENTENCES = phrases("""
    What is {noun}? | What is the {noun}? | What is a {adjective} {noun}? | What is the capital of {place}?
    What is the meaning of {noun}? | What is the {noun} of {place}?
    What is the difference between a {noun} and a {noun}? | What is the weather like in {place}?
    What do you think about {noun}? | What happened in {place} in {year}? | What time is it? | What day is it today?
    what is {noun} | Who is {name}? | Who wrote the {noun}? | Who is the president of {place}?
    Who won the {noun} in {year}? | Who was {name} of {place}? | Where is {place}? | Where is my {noun}?
    Where can I buy a {adjective} {noun}? | Where does the {noun} come from? | When did {name} {verb} the {noun}?
    When is the next {noun}? | When was the {noun} made? | Why is the {noun} {adjective}? | Why do people {verb}?
    Why does a {noun} {verb}? | How do I {verb} a {noun}? | How does a {noun} {verb}? | How are you?
    How many people live in {place}? | How many days are in a {noun}? | How many letters are in {noun}?
    How old is {name}? | How far is it from {place} to {place}? | How big is {place}? | how to {verb} {noun}
    Is the {noun} {adjective}? | Is {place} {adjective}? | Are you {adjective}? | Do you like {noun}?
    Do you {verb}? | Can you {verb} a {noun}? | Can a {noun} {verb}? | Will it rain in {place}?
    Does {name} {verb} in {place}? | Did the {noun} {verb}? | Should I {verb} the {noun}? | Tell me a joke.
    Tell me a story about a {noun}. | Tell me about {place}. | Tell me something {adjective}.
    Tell me about the {noun}. | Write a poem about {noun}. | Write a {adjective} story about {name} and the {noun}.
    Write a function to {verb} a {noun}. | Write a song. | Write python code to {verb} a {noun}. | Explain {noun}.
    Explain the {noun} to a child. | Explain why the {noun} is {adjective}. | Describe a {adjective} {noun}.
    Describe {place}. | Give me a recipe for {noun} soup. | Give me a list of {adjective} things.
    Give me {digit} ideas for a {noun}. | Name {digit} cities in {place}. | Name a {adjective} {noun}.
    List the planets. | Translate the {noun} into {language}. | Translate to {language}: the {noun} is {adjective}.
    Say {noun} in {language}. | How do you say {noun} in {language}? | Do you speak {language}? | Spell {noun}.
    Summarise the {noun} of {place}. | Let's {verb}. | Let's play a {noun}. | I {verb} the {noun}.
    I am {adjective}. | I am {name} from {place}. | I like {noun}. | My {noun} is {adjective}. | My name is {name}.
    The {noun} is {adjective}. | The {adjective} {noun} and the {noun} {verb} in {place}.
    {name} and {name} {verb} in {place}. | {name} has {number} {noun}s. What does {name} {verb}?
    Please {verb} the {adjective} {noun}. | Imagine a {adjective} {noun}. | Repeat after me: {noun} {noun} {noun}.
    Count to {number}. | Think about {noun}. | Ignore the {noun}. | {noun} | {noun}? | {adjective} {noun} | {place}
    {name} | {verb} | {verb} {noun} | {noun} {noun} | yes | no | ok | Why? | test
    If the {noun} is {adjective}, what is the {noun}? | Is it true that {place} has a {adjective} {noun}?
    Which {noun} is {adjective}?
""")

# Numbers that are not asked to be added or subtracted, or not in a way that is learned.
OTHER_ARITHMETIC = phrases("""
    What is {number} * {number}? | What is {number} times {number}? | {number} * {number} | {number} x {number} = ?
    {number}*{number} | Multiply {number} by {number}. | Multiply {number} and {number}.
    Calculate {number} * {number}. | Compute {number} times {number}. | What is {number} / {number}?
    What is {number} divided by {number}? | {number} / {number} = ? | Divide {number} by {number}.
    {number}/{number} | What is {number} + {number} + {number}? | {number} + {number} + {number}
    Add {number}, {number} and {number}. | {number}+{number}+{number}= | {number} - {number} - {number}
    {number} + {number} - {number} = ? | What is {number} + {number} * {number}? | {number} - {number} * {number}
    What is {number} ^ {digit}? | What is {number} squared? | {number} ** {digit}
    What is the square root of {number}? | sqrt({number}) | What is {number}.{digit} + {number}.{digit}?
    {number}.{digit} - {number}.{number} | Add {number}.{digit} and {number}. | {number} % {digit}
    What is -{number} + {number}? | -{number} - {number} | Is {number} larger than {number}? | Is {number} prime?
    {number} > {number} | What is {number}? | {number} | {number} {number} | {number}? | {number} + | {number} - | +
    - | + {number} | = {number} | {number} = | Write {number} in words. | Write {number} in {language}.
    How many digits does {number} have? | Factor {number}. | Double {number}. | What comes after {number}?
    Count from {digit} to {number}. | Solve x + {number} = {number}. | x - {number} = {number}
    What is x + {number}? | What is {number_word} plus {number_word}? | What is {number_word} times {number_word}?
    Add {number_word} and {number_word}. | What is {number} + {number_word}? | What is {number} percent of {number}?
    What is {number} in binary? | What happened in {year}? | What is {long} + {long}? | What is {long} - {long}?
    {long} + {number} = ? | Add {number} and {long}. | {long} | Subtract {number} from {long}.
    What is {number} {noun}s + {number} {noun}s? | Add {noun} and {noun}. | Add {number} to the {noun}.
    What is {noun} + {noun}? | Subtract the {noun}. | What is the sum of {noun} and {number}?
    {number} and {number} | {name} has {number} {noun}s. | Sort {number}, {number}, {number}.
""")

FOREIGN = phrases("""
    Wie geht es dir? | Was ist das? | Guten Tag! | Wer bist du? | Erzähl mir einen Witz. | Wo ist der Bahnhof?
    Ich möchte ein Bier. | Bonjour, comment ça va ? | Qu'est-ce que c'est ? | Où est la gare ?
    Raconte-moi une histoire. | Je ne sais pas. | Quelle heure est-il ? | ¿Cómo estás? | ¿Qué es esto?
    ¿Dónde está la biblioteca? | Cuéntame un chiste. | Buenos días | No lo sé. | Ciao, come stai?
    Che cos'è questo? | Как дела? | Что это такое? | Привет! | Расскажи сказку. | 你好 | 这是什么? | 今天天气怎么样?
    讲个故事吧。 | こんにちは | これは何ですか。 | 元気ですか? | 안녕하세요
    이것은 무엇입니까? | नमस्ते | यह क्या है? | مرحبا | ما هذا؟ | שלום | Γειά σου
    Hej, hur mår du? | Hoe gaat het? | Jak się masz? | Olá, tudo bem? | Nasılsın? | Cogito, ergo sum. | Salve! | 🙂
    👍 | 🎉🎉 | ❤️
""")
