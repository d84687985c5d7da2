from datetime import timedelta

class ExpirationTimer:
    duration: timedelta | None
    def __init__(self, duration: timedelta | float | None, timeoutDelta: timedelta | None = None) -> None: ...
