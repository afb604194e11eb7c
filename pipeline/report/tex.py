"""Text as LaTeX sets it, in any encoding of its fonts."""

_SETS = {
    **{character: f"\\{character}" for character in "%_&#${}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    # After a line's end it would open an option of \\.
    "[": "{[}",
    "±": r"$\pm$",
    "\u00d7": r"$\times$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "\u2212": "$-$",
    "→": r"$\to$",
    "ε": r"$\varepsilon$",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "…": r"\ldots{}",
}


# As wide as it is, or as the page where that is less; needs the package graphicx.
_FITTED = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}"


def fitted(content: str) -> str:
    """What is made smaller where it is wider than the page."""
    return f"{_FITTED}{{{content.strip()}}}"


def escaped(text: str) -> str:
    """Text in which no character is a command."""
    return text.translate({ord(character): as_set for character, as_set in _SETS.items()})
