"""What an error of long ago still holds on to."""

from typing import cast


def forget_frames(error: BaseException | None) -> None:
    """Drops the tracebacks of an error, of those behind it, and of those in its group.

    A traceback holds the frames of the child that raised it, those hold what the child was told when it started,
    and that holds the error before: without this every death would keep all the earlier ones alive.
    """
    if error is None:
        return
    error.__traceback__ = None
    if error.__cause__ is None and error.__context__ is None and not isinstance(error, BaseExceptionGroup):
        return
    seen: set[BaseException] = set()
    behind: list[BaseException | None] = [error]
    while behind:
        found = behind.pop()
        if found is None or found in seen:
            continue
        seen.add(found)
        found.__traceback__ = None
        behind += (found.__cause__, found.__context__)
        if isinstance(found, BaseExceptionGroup):
            behind += cast(BaseExceptionGroup[BaseException], found).exceptions
