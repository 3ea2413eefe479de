"""Which subjects a consumer filters: what it has already, and what this process needs of it.

Knows the grammar of subjects; knows no connection.
"""

from collections.abc import Iterable


def united(*lists: Iterable[str]) -> list[str]:
    """All that the filters of `lists` let through, without those that another one covers: the server refuses these."""
    filters = {filter_ for list_ in lists for filter_ in list_}
    return sorted(
        one for one in filters if not any(_covers(other, one) for other in filters - {one})
    )


def _covers(wide: str, narrow: str) -> bool:
    """Whether each subject that `narrow` matches is matched by `wide` too."""
    wide_parts, narrow_parts = wide.split("."), narrow.split(".")
    for place, part in enumerate(wide_parts):
        if part == ">":
            return len(narrow_parts) > place
        if place >= len(narrow_parts) or narrow_parts[place] == ">":
            return False
        if part not in {"*", narrow_parts[place]}:
            return False
    return len(wide_parts) == len(narrow_parts)
