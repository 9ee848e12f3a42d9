"""When what has to be over once a worker was told to stop: one deadline for all of it, and its parts. Pure.

What is not done by then is no loss: the dispatcher rescues the jobs of a worker that is silent for twenty seconds, and
answers that were paid for and not stored lie in the journal.
"""

from __future__ import annotations

from dataclasses import dataclass

KILLED_AFTER_S = 30.0
"""From SIGTERM to SIGKILL: what Kubernetes waits where nobody says otherwise; docker-compose.yml and `assayline up` do
the same."""
GONE_WITHIN_S = 29.0
"""From SIGTERM to the end of a worker, whatever hangs: a second before it would be killed."""
GRACE_S = 20.0
"""For open calls, where nobody says otherwise: what the other parts leave of it."""


@dataclass(frozen=True, slots=True)
class Departure:
    """The parts of a worker's end, in seconds, one after the other. A longer grace puts the deadline off by as much.

    Attributes:
        grace_s: for open calls, before they are cancelled; what ends in it is written in it, too.
        writes_s: for the writes then under way. With Postgres well they take milliseconds; this is for one that is
            away for a moment, or a row that a web app has locked (2 s, then the write is tried again).
        cut_s: for what still runs then to let go of its connection.
        hand_back_s: for the one statement that hands the jobs back.
        last_words_s: for taking the worker off the list, and whatever else closes.
    """

    grace_s: float = GRACE_S
    writes_s: float = 4.0
    cut_s: float = 1.0
    hand_back_s: float = 2.0
    last_words_s: float = 2.0

    @property
    def written_s(self) -> float:
        """From the beginning until no write is waited for any more."""
        return self.grace_s + self.writes_s

    @property
    def cut_off_s(self) -> float:
        """Until nothing runs any more."""
        return self.written_s + self.cut_s

    @property
    def handed_back_s(self) -> float:
        """Until all is handed back, or is left to the dispatcher."""
        return self.cut_off_s + self.hand_back_s

    @property
    def gone_s(self) -> float:
        """Until the process has ended."""
        return self.handed_back_s + self.last_words_s


AT_ONCE = Departure(grace_s=0.0)
"""For a worker that ends by itself: nobody waits for calls."""
