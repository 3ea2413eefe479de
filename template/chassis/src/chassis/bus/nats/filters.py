"""The subjects that a consumer filters: its present ones, and the ones that this process needs.

Knows the grammar of subjects; knows no connection.
"""

from collections.abc import Iterable


def united(*lists: Iterable[str]) -> list[str]:
    """The filters of all `lists`, without any that another covers: the server refuses overlaps."""
    filters = {filter_ for list_ in lists for filter_ in list_}
    return sorted(
        one for one in filters if not any(_covers(other, one) for other in filters - {one})
    )


def _covers(wide: str, narrow: str) -> bool:
    """Whether `wide` matches each subject that `narrow` matches."""
    wide_parts, narrow_parts = wide.split("."), narrow.split(".")
    for place, part in enumerate(wide_parts):
        if part == ">":
            return len(narrow_parts) > place
        if place >= len(narrow_parts) or narrow_parts[place] == ">":
            return False
        if part not in {"*", narrow_parts[place]}:
            return False
    return len(wide_parts) == len(narrow_parts)
