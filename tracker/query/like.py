"""SQL's LIKE in Python, in time that grows with the length of text and pattern, never with the number of wildcards.

A regular expression backtracks: `%a%a%a%z` against a long text of `a` would take for ever. Here all ways to match are
followed at once, one bit each (the Shift-And algorithm of Baeza-Yates and Gonnet, with a loop at each `%`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import lru_cache

Matcher = Callable[[str], bool]


@lru_cache(maxsize=256)
def matcher(pattern: str, *, ignore_case: bool = False) -> Matcher:
    """Whether a whole text matches `pattern`: `%` stands for any characters, `_` for one, nothing escapes them.

    With `ignore_case` both are compared in lower case, as ILIKE does in the store.
    """
    if ignore_case:
        pattern = pattern.lower()
    masks: defaultdict[str, int] = defaultdict(int)
    any_one = loops = length = 0
    for character in pattern:
        if character == "%":
            loops |= 1 << length
            continue
        if character == "_":
            any_one |= 1 << length
        else:
            masks[character] |= 1 << length
        length += 1
    accepts = {character: mask | any_one for character, mask in masks.items()}
    matched = 1 << length

    def matches(text: str) -> bool:
        reached = 1  # bit i: the first i characters of the pattern match what was read
        for character in text.lower() if ignore_case else text:
            reached = (reached & accepts.get(character, any_one)) << 1 | reached & loops
            if not reached:
                return False
        return bool(reached & matched)

    return matches
