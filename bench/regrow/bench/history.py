"""Whether what clients saw of an application and what it holds in the end fit together: pure, from records to findings.

An actor applies operations one after the other and keeps, in this order, the id of each with its result. So its own list is the
only order that has to be explained. It must hold every acknowledged operation once and nothing that nobody sent; an operation
that was acknowledged before another one began must stand before it; each result must be what the operations before it make of
it; and every answer must be the state right behind its own operation. That is more than linearizability of the answers alone
(Herlihy and Wing 1990), and it needs no search: the order is given.

Times are seconds of one clock that all who note them share.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from regrow.bench.verbs import Effect, Operation, effects_of, fold, is_query

FindingKind = Literal[
    "lost", "doubled", "reordered", "unfounded", "misplaced", "refused", "wrong_result", "wrong_reply", "stale_read",
    "early_read", "log_differs", "dead_letter", "mail_left",
]  # fmt: skip


class Applied(msgspec.Struct, frozen=True, array_like=True):
    """One operation in an actor's list."""

    op: str
    result: int


class Final(msgspec.Struct, frozen=True):
    """What one actor holds in the end."""

    actor: str
    value: int
    applied: tuple[Applied, ...]
    logged: tuple[Applied, ...] | None = None
    """The same list by a reading of its event log; None where that was not read."""


class History(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of one run."""

    operations: tuple[Operation, ...]
    finals: tuple[Final, ...]
    dead_letters: tuple[str, ...] = ()
    """What each of them says."""
    mail_left: int = 0
    """Messages that were never done with."""
    stale_s: float = 0.0
    """How old the state may be that a query shows, in seconds: 0 while never more than one process serves."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that must not be."""

    kind: FindingKind
    actor: str
    op: str
    message: str


def check(history: History) -> tuple[Finding, ...]:
    """Everything that does not fit; empty when all does."""
    return tuple(_Check(history).findings())


class _Check:
    """The tables that the single checks look things up in."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._sent = {operation.id: operation for operation in history.operations}
        self._finals = {final.actor: final for final in history.finals}
        self._effects: dict[str, Effect] = {}
        self._places: dict[str, list[tuple[str, int]]] = {}
        for final in history.finals:
            for index, each in enumerate(final.applied):
                self._places.setdefault(each.op, []).append((final.actor, index))
        for operation in history.operations:
            self._effects.update((effect.id, effect) for effect in effects_of(operation))

    def findings(self) -> Iterator[Finding]:
        for final in self._history.finals:
            yield from self._entries(final)
            yield from self._order(final)
            yield from self._results(final)
        for operation in self._history.operations:
            yield from self._outcome(operation)
            yield from self._consequences(operation)
        yield from self._effects_in_order()
        yield from self._reads_in_order()
        for letter in self._history.dead_letters:
            yield Finding("dead_letter", "", "", letter)
        if self._history.mail_left:
            yield Finding("mail_left", "", "", f"{self._history.mail_left} messages are still in the mailboxes")

    def _entries(self, final: Final) -> Iterator[Finding]:
        """Every entry was sent, to this actor, and is the only one of its id."""
        seen: dict[str, int] = {}
        for index, each in enumerate(final.applied):
            known = self._sent.get(each.op) or self._effects.get(each.op)
            if each.op in seen:
                yield Finding("doubled", final.actor, each.op, f"applied as entry {seen[each.op]} and again as {index}")
            elif known is None:
                yield Finding("unfounded", final.actor, each.op, "applied, and nobody sent it")
            elif known.actor != final.actor:
                yield Finding("misplaced", final.actor, each.op, f"applied here, and was sent to {known.actor}")
            seen.setdefault(each.op, index)
        if final.logged is not None and final.logged != final.applied:
            yield Finding("log_differs", final.actor, "", _difference(final.logged, final.applied))

    def _order(self, final: Final) -> Iterator[Finding]:
        """What was acknowledged before another operation began stands before it."""
        latest: Operation | None = None
        for each in final.applied:
            operation = self._sent.get(each.op)
            if operation is None:
                continue
            if latest is not None and operation.ended_s is not None and operation.ended_s < latest.invoked_s:
                late_s = latest.invoked_s - operation.ended_s
                yield Finding(
                    "reordered",
                    final.actor,
                    each.op,
                    f"applied after {latest.id}, which began {late_s:.3f} s after this one was acknowledged",
                )
            if latest is None or operation.invoked_s > latest.invoked_s:
                latest = operation

    def _results(self, final: Final) -> Iterator[Finding]:
        """Each result follows from the entries before it; the value in the end from all of them."""
        value = 0
        for index, each in enumerate(final.applied):
            known = self._sent.get(each.op) or self._effects.get(each.op)
            if known is None:
                continue
            value, expected = fold(known.verb, known.argument, value)
            if expected is None:
                expected = self._answer_inside(known)
            if expected is not None and each.result != expected:
                yield Finding(
                    "wrong_result", final.actor, each.op, f"entry {index} says {each.result} instead of {expected}"
                )
        if value != final.value:
            yield Finding("wrong_result", final.actor, "", f"the value in the end is {final.value} instead of {value}")

    def _answer_inside(self, asker: Operation | Effect) -> int | None:
        """What the actor asked by this operation's turn noted as its result."""
        asked = [effect for effect in effects_of(asker) if effect.asked] if isinstance(asker, Operation) else []
        places = self._places.get(asked[0].id, []) if asked else []
        return self._finals[places[0][0]].applied[places[0][1]].result if places else None

    def _outcome(self, operation: Operation) -> Iterator[Finding]:
        """What the client was told of one operation holds."""
        if is_query(operation.verb):
            yield from self._query(operation)
            return
        index = next((at for actor, at in self._places.get(operation.id, ()) if actor == operation.actor), None)
        if index is None:
            if operation.outcome == "acked":
                yield Finding("lost", operation.actor, operation.id, f"{operation.verb} was acknowledged, not applied")
            return
        if operation.outcome == "refused":
            yield Finding("refused", operation.actor, operation.id, f"{operation.verb} was refused, yet applied")
        if operation.reply is None:
            return
        result = self._finals[operation.actor].applied[index].result
        if (operation.reply.version, operation.reply.result) != (index + 1, result):
            yield Finding(
                "wrong_reply",
                operation.actor,
                operation.id,
                f"answered {operation.reply.result} at version {operation.reply.version}; "
                f"the list says {result} at version {index + 1}",
            )

    def _query(self, query: Operation) -> Iterator[Finding]:
        """A query shows what the entries up to some version make, none of which began after it."""
        if query.reply is None:
            return
        final = self._finals.get(query.actor)
        applied = final.applied if final is not None else ()
        if query.reply.version > len(applied):
            yield Finding("early_read", query.actor, query.id, f"saw version {query.reply.version} of {len(applied)}")
            return
        value = 0
        for each in applied[: query.reply.version]:
            known = self._sent.get(each.op) or self._effects.get(each.op)
            if known is not None:
                value, _ = fold(known.verb, known.argument, value)
        if value != query.reply.result:
            yield Finding(
                "wrong_reply",
                query.actor,
                query.id,
                f"saw {query.reply.result} at version {query.reply.version}, which is {value}",
            )
        newest = self._sent.get(applied[query.reply.version - 1].op) if query.reply.version else None
        if newest is not None and query.ended_s is not None and newest.invoked_s > query.ended_s:
            yield Finding("early_read", query.actor, query.id, f"saw {newest.id}, which began later")

    def _consequences(self, operation: Operation) -> Iterator[Finding]:
        """What a turn sent or asked arrived when the turn is recorded, and, a question apart, only then."""
        applied = operation.id in self._places
        for effect in effects_of(operation):
            arrived = effect.id in self._places
            if applied and not arrived:
                yield Finding(
                    "lost", effect.actor, effect.id, f"{operation.actor} sent it ({effect.verb}), and it never came"
                )
            elif arrived and not applied and not effect.asked:
                yield Finding(
                    "unfounded", effect.actor, effect.id, f"came from {operation.actor}, whose turn is not recorded"
                )

    def _effects_in_order(self) -> Iterator[Finding]:
        """What one actor sent another one came in the order of the turns that sent it."""
        causes = {effect.id: (operation, at) for operation in self._history.operations
                  for at, effect in enumerate(effects_of(operation))}  # fmt: skip
        for final in self._history.finals:
            furthest: dict[tuple[str, str], tuple[int, int, str]] = {}
            for each in dict.fromkeys(entry.op for entry in final.applied):
                cause = causes.get(each)
                places = self._places.get(cause[0].id) if cause is not None else None
                if cause is None or places is None or not self._effects[each].ordered:
                    continue
                here = (places[0][1], cause[1], each)
                line = (cause[0].actor, self._effects[each].verb)
                if here < furthest.get(line, here):
                    yield Finding(
                        "reordered",
                        final.actor,
                        each,
                        f"came after {furthest[line][2]}, which {cause[0].actor} sent later",
                    )
                furthest[line] = max(here, furthest.get(line, here))

    def _reads_in_order(self) -> Iterator[Finding]:
        """An answer shows no version older than one that was answered before its operation began."""
        by_actor: dict[str, list[Operation]] = {}
        for operation in self._history.operations:
            if operation.reply is not None and operation.ended_s is not None:
                by_actor.setdefault(operation.actor, []).append(operation)
        for answered in by_actor.values():
            yield from _stale(answered, self._history.stale_s)


def _stale(answered: list[Operation], stale_s: float) -> Iterator[Finding]:
    """Sweeps over the beginnings, beside the ends, both in the order of time."""
    ends = sorted((each for each in answered if each.ended_s is not None), key=lambda each: each.ended_s or 0.0)
    newest: dict[bool, tuple[int, str]] = {True: (0, ""), False: (0, "")}
    taken = {True: 0, False: 0}
    for each in sorted(answered, key=lambda each: each.invoked_s):
        query = is_query(each.verb)
        horizon = each.invoked_s - (stale_s if query else 0.0)
        while taken[query] < len(ends) and (ends[taken[query]].ended_s or 0.0) < horizon:
            seen = ends[taken[query]]
            if seen.reply is not None:
                newest[query] = max(newest[query], (seen.reply.version, seen.id))
            taken[query] += 1
        assert each.reply is not None
        if each.reply.version < newest[query][0] + (not query and newest[query][0] > 0):
            version, op = newest[query]
            yield Finding(
                "stale_read",
                each.actor,
                each.id,
                f"answered version {each.reply.version} after {op} had been answered version {version}",
            )


def _difference(logged: Iterable[Applied], applied: Iterable[Applied]) -> str:
    """Where the two lists part."""
    first, second = list(logged), list(applied)
    at = next((at for at, (left, right) in enumerate(zip(first, second, strict=False)) if left != right), None)
    if at is None:
        return f"the log makes {len(first)} entries, the actor answers {len(second)}"
    return f"the log makes {first[at]} of entry {at}, the actor answers {second[at]}"
