"""How large an event may be. Knows a number of bytes; knows no bus that takes them."""

from chassis.bus import Unpublishable


class TooLarge(Unpublishable):
    """The encoded event is larger than CHASSIS_MAX_BODY_BYTES."""


def check_size(type_: str, size: int, limit: int) -> None:
    """Raises TooLarge when `size` bytes are more than `limit`."""
    if size > limit:
        raise TooLarge(
            f"{type_} has {size} bytes, at most {limit} allowed (CHASSIS_MAX_BODY_BYTES): "
            "publish a reference to the data instead"
        )
