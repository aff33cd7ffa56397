"""How long a scheduler that is away is waited for, and the pauses in between."""

from __future__ import annotations

import random
import time
from collections.abc import Callable


class Patience:
    """Pauses that grow, with jitter, until `seconds` have passed since the scheduler last answered."""

    FIRST_S = 0.2
    LONGEST_S = 5.0

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._since: float | None = None
        self._pause = self.FIRST_S

    def answered(self) -> None:
        """The scheduler is there: the next absence is a new one."""
        self._since = None
        self._pause = self.FIRST_S

    def pause(self) -> float | None:
        """Seconds to wait before the next attempt; None when it has been long enough."""
        now = self._clock()
        if self._since is None:
            self._since = now
        left = self._since + self._seconds - now
        if left <= 0:
            return None
        pause, self._pause = self._pause, min(self._pause * 2, self.LONGEST_S)
        # Many tasks lose one scheduler at once; they should not all come back at once.
        return min(pause * random.uniform(0.5, 1.0), left)  # noqa: S311
