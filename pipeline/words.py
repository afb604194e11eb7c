"""Numbers as people read them: durations, sizes, and how many there are of something."""


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    if seconds < 99.5:
        return f"{seconds:.2g} s"
    if seconds < 99.5 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def size(n_bytes: float) -> str:
    """Bytes in the unit that suits them."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.3g} {unit}"
    return f"{n_bytes:.0f} B"


def plural(n: int, noun: str) -> str:
    """How many there are: 1 pair of classes, 2,000 pairs of classes."""
    head, of, rest = noun.partition(" of ")
    ending = "" if n == 1 else "es" if head.endswith("ch") else "s"
    return f"{n:,} {head}{ending}{of}{rest}"
