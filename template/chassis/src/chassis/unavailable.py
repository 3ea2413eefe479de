"""What a caller can wait for: the broker or the store is away."""


class Unavailable(ConnectionError):
    """The broker or the store did not confirm. The operation may have taken effect.

    Doing it again is safe under the same id or key.
    """
