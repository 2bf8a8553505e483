"""From an exception to what it means: rules that are asked in order, and the first one that knows decides."""

from collections.abc import Callable, Iterator
from typing import cast

import msgspec

from regrow.actors.errors import DEFECT
from regrow.actors.failure_kind import (
    CORRUPT_CONTEXT,
    INFRASTRUCTURE,
    NETWORK,
    QUOTA,
    REJECTED,
    SEMANTIC,
    THROTTLED,
    Diagnosis,
)
from regrow.actors.failure_rules import named_failure, own_failure, system_failure
from regrow.actors.http_failure import coded_failure, http_failure

Rule = Callable[[BaseException], Diagnosis | None]
"""What an exception means, or None where the rule does not know it."""

RULES: tuple[Rule, ...] = (own_failure, http_failure, coded_failure, named_failure, system_failure)
_GRAVEST = (DEFECT, REJECTED, QUOTA, CORRUPT_CONTEXT, SEMANTIC, INFRASTRUCTURE, NETWORK, THROTTLED)
_DEPTH_MAX = 8
"""Causes of causes that are looked at."""


class Classifier(msgspec.Struct, frozen=True):
    """Says what exceptions mean: ``Classifier()(error)``.

    What no rule knows means what the exception means that it was raised from (``raise … from error``), else ``defect``. Of a
    group it is the gravest of its members': who would try again tries all of them.
    """

    rules: tuple[Rule, ...] = RULES
    """Asked in this order; one that raises ends the classification with its exception."""

    def first(self, rules: tuple[Rule, ...]) -> "Classifier":
        """The same, with these asked before the others."""
        return Classifier((*rules, *self.rules)) if rules else self

    def __call__(self, error: BaseException) -> Diagnosis:
        for each in _behind(error):
            if isinstance(each, BaseExceptionGroup):
                return self._gravest(cast(BaseExceptionGroup[BaseException], each))
            for rule in self.rules:
                found = rule(each)
                if found is not None:
                    return found
        return Diagnosis(DEFECT)

    def _gravest(self, group: BaseExceptionGroup[BaseException]) -> Diagnosis:
        found = [self(each) for each in group.exceptions]
        worst = min(found, key=lambda each: _GRAVEST.index(each.kind) if each.kind in _GRAVEST else -1)
        waits = [each.retry_after_s for each in found if each.kind == worst.kind and each.retry_after_s is not None]
        return Diagnosis(worst.kind, max(waits, default=None))


classify = Classifier()
"""With the rules that regrow brings."""


def _behind(error: BaseException) -> Iterator[BaseException]:
    """The exception, and those that it was raised from."""
    each: BaseException | None = error
    for _ in range(_DEPTH_MAX):
        if each is None:
            return
        yield each
        each = each.__cause__
