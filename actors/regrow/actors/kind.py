"""How the actors of one class are kept."""

import msgspec

from regrow.actors.actor import Actor
from regrow.actors.per_key import PerKey
from regrow.actors.policy import Policy


class Kind(msgspec.Struct, frozen=True):
    """How the actors of one class are kept. Made by ``System`` from a plain class, or given to it to say more.

    Give all but the actor by name.
    """

    actor: type[Actor]
    policy: Policy = Policy()
    active_max: int = 1_000
    """Actors of this kind that handle messages at once; the others wait with their mail."""
    idle_max: int = 10_000
    """Idle actors kept in memory; the longest idle one is dropped and comes back from its log."""
    idle_after_s: float = 300.0
    """How long an idle actor stays in memory; then its log is made short and it is dropped."""
    intensity: PerKey = PerKey()
    """Restarts of one actor, which are attempts at its turns that raised and are tried again. One that is restarted more often,
    whose turn was given up, or that cannot go on, is failing until a turn ends well: its restarts wait longer each time, by the
    policy's backoff, from one message to the next, and nobody else is concerned. Being throttled, a full mailbox and an
    unreachable store do not count."""
    fails_max_ratio: float = 0.5
    """The share of its actors at work that may be failing, above 0. When more are, and at least ``FAILING_MIN``, the kind dies
    of ``KindFailing``: its supervisor restarts it, all its actors come back from their logs, and past the supervisor's
    intensity the node stops. Half, for what fails most of the actors is no matter of single ones. 1.0: never."""

    def __post_init__(self) -> None:
        if not 0.0 < self.fails_max_ratio <= 1.0:
            raise ValueError(f"Kind(fails_max_ratio={self.fails_max_ratio}): give a share above 0.0, at most 1.0")

    @property
    def pinned(self) -> tuple[str, ...]:
        """Keys of actors that live as long as their node has them."""
        return ()


class Singleton(Kind, frozen=True):
    """One actor that lives from the start of the node that has its shard, without a message: ``Singleton(Coordinator)``.

    It is read from its log, and its ``on_start`` runs, when the node starts, after each of its deaths, and where its shard goes;
    it is never dropped for being idle. Other keys of its class are actors like any other.
    """

    key: str = "main"

    @property
    def pinned(self) -> tuple[str, ...]:
        return (self.key,)
