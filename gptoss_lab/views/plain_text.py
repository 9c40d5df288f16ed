"""Text as it is: characters that hide, or that turn their neighbours round, are written out by number.

A model may write a right-to-left override or a zero-width space, and a reader should see that it did. Nothing here
makes markup: whoever puts the result on a page escapes it there.
"""

import unicodedata

# Drawn as nothing, or as a gap, though Unicode files them under letters, marks and symbols.
_UNSEEN = {
    "\u034f",
    "\u115f",
    "\u1160",
    "\u17b4",
    "\u17b5",
    "\u2800",
    "\u3164",
    "\uffa0",
    *map(chr, range(0x180B, 0x1810)),
    *map(chr, range(0xFE00, 0xFE10)),
    *map(chr, range(0xE0100, 0xE01F0)),
}
_SIGNS = {"\n": "↵", "\t": "⇥", "\r": "␍"}


def visible(text: str) -> str:
    """The text with every hidden character as its number, `⟨U+202E⟩`; plain spaces, tabs and line breaks stay.

    Joiners and variation selectors stay inside an emoji, where they are part of one picture.
    """
    if all(letter in "\n\t" or _is_seen(letter) for letter in set(text)):  # few letters, and nearly always
        return text
    return "".join(
        letter if letter in "\n\t" or _is_seen(letter) or _is_inside_emoji(text, place) else _number(letter)
        for place, letter in enumerate(text)
    )


def quoted(text: str) -> str:
    """One line in which nothing is hidden: `␣` for a space, `↵` for a line break, `⇥` for a tab, else numbers."""
    if text.isascii() and text.isprintable():
        return text.replace(" ", "␣")
    return "".join("␣" if letter == " " else _SIGNS.get(letter) or _seen(letter) for letter in text)


def as_token(text: str) -> str:
    """A token as it stands in a strip of tokens: as `quoted`, but spaces beside other text stay spaces."""
    if text.isascii() and text.isprintable() and not text.isspace():
        return text
    return quoted(text) if not text.strip(" ") else "".join(_SIGNS.get(letter) or _seen(letter) for letter in text)


def _seen(letter: str) -> str:
    return letter if _is_seen(letter) else _number(letter)


def _is_seen(letter: str) -> bool:
    # Python calls a character printable unless Unicode files it under Other (control, format, ...) or Separator.
    return letter.isprintable() and letter not in _UNSEEN


def _is_inside_emoji(text: str, place: int) -> bool:
    return (
        text[place] in "\u200d\ufe0f"
        and place > 0
        and not text[place - 1].isascii()
        and unicodedata.category(text[place - 1]) in ("So", "Sk", "Mn")
    )


def _number(letter: str) -> str:
    return f"⟨U+{ord(letter):04X}⟩"
