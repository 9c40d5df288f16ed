"""The few phrases that the edits' descriptions share."""

from collections.abc import Sequence


def listed(parts: Sequence[object]) -> str:
    """ "1", "1 and 2", "1, 2 and 3"."""
    words = [str(part) for part in parts]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def counted(noun: str, numbers: Sequence[int] | None) -> str:
    """ "expert 7", "experts 3 and 5", "every expert"."""
    if numbers is None:
        return f"every {noun}"
    return f"{noun}{'' if len(numbers) == 1 else 's'} {listed(numbers)}"


def is_or_are(numbers: Sequence[int] | None) -> str:
    return "are" if numbers is not None and len(numbers) > 1 else "is"
