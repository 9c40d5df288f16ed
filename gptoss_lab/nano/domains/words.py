"""Words and phrases that questions are made of, and a way to fill a template with them."""

import re
from collections.abc import Callable
from random import Random


def fill(rng: Random, template: str, fillers: dict[str, Callable[[Random], str]]) -> str:
    """The template with each {kind} in it replaced by what that kind's filler draws, anew each time."""
    return re.sub(r"\{(\w+)\}", lambda match: fillers[match[1]](rng), template)


def phrases(text: str) -> list[str]:
    """The phrases of a text that parts them by upright strokes and line ends."""
    return [phrase.strip() for phrase in re.split(r"[|\n]", text) if phrase.strip()]


def _words(text: str) -> list[str]:
    """One word after another; an underscore is a space within one."""
    return [word.replace("_", " ") for word in text.split()]


NAMES = _words("""
    Ada Anna Ben Carl Clara Emma Eva Felix Hans Ida Ivan Jane Kim Leo Lin Maria Max Mei Nora Omar Otto Paul Rosa Sam
    Tom Yuki
""")

PLACES = _words("""
    Africa America Asia Berlin Brazil Canada China Egypt England Europe France Germany Greece India Italy Japan
    Kenya London Mexico Paris Peru Poland Rome Russia Spain Sweden Tokyo Turkey the_sea the_moon the_city the_garden
    the_house the_forest the_world the_school
""")

PROPER_PLACES = [place for place in PLACES if place[0].isupper()]

NOUNS = _words("""
    answer apple army atom attention author ball bank bird boat body book bottle box boy bread brain bridge brother
    cake capital car cat cell chair chemistry child church city cloud code coffee colour computer cook country cup
    day dog door dream ear earth egg electron energy engine equation expert eye face family farm father fear film
    fire fish flower food force forest friend function game garden gas girl glass god gold grammar gravity green
    hand head heart history home horse hour house idea island joke key king knife lake language law layer leaf
    letter library life light lion list love machine magic man map market mathematics matter meaning meat memory
    milk mind minute model money month moon morning mother mountain mouse music name neuron news night number ocean
    oil paper park party peace people phone picture plan plane planet plant poem poet president price problem
    program queen question rain recipe red reason religion river road robot room rose sailor salt school science sea
    season secret sentence ship shoe sister sky sleep snow soldier song soul soup space star state stone story
    street sugar summer sun table teacher time token tomato tower town train transformer travel tree triangle truth
    uncle universe value village voice wall war water weather week wheel wind window winter wolf woman word work
    world year
""")

ADJECTIVES = _words("""
    bad beautiful big black blue bright clean cold cool dark dead deep dry early easy empty famous fast free full
    funny good great green happy hard heavy high hot important kind large late light little long new nice old open
    poor quick quiet red rich right round sad short simple slow small soft strange strong sweet tall tired true warm
    white wild wise wrong young
""")

VERBS = _words("""
    answer ask become believe break bring build buy call change choose close come cook count cut describe draw drink
    drive eat explain fall feel find fly forget get give go grow have hear help hold keep know learn leave like live
    look lose love make mean meet move open paint pay play prove read remember ride run say see sell send show sing
    sit sleep solve speak spend stand stop study swim take talk teach tell think throw translate travel try turn
    understand use wait walk want watch wear win work write
""")

LITTLE_WORDS = _words("""
    a about after all also always and another any are as at be because before between both but by can could did do
    does each every for from had has he her here his how I if in into is it its just made many me more most much
    must my never no not now of on one only or other our out over please same she should so some such than that the
    their them then there they this those through to too two under until up us very was we well were what when where
    which while who why will with without would yes you your
""")

LANGUAGES = _words("""
    Chinese Dutch English French German Greek Hindi Italian Japanese Latin Polish Portuguese Russian Spanish Swedish
    Turkish
""")

NUMBER_WORDS = _words("""
    zero one two three four five six seven eight nine ten eleven twelve twenty thirty fifty a_hundred a_thousand
""")

ONSETS = _words("b bl br d dr f fl fr g gl gr h j k kl kr l m n p pl pr qu r s sh sk sl sp st t th tr v w y z")
CODAS = (*[""] * 16, *_words("b ck d ft g k l m mp n nd ng nt p r s sh st t x"))


def made_up(rng: Random) -> str:
    """A word that nobody has seen, of two syllables or three."""
    return "".join(
        rng.choice(ONSETS) + rng.choice("aeiou") + rng.choice(CODAS) for _ in range(rng.choice((2, 2, 2, 3)))
    )
