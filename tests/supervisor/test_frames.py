"""Errors of earlier deaths let go of what they held."""

import gc
import weakref

from regrow.supervisor.frames import forget_frames


class Held:
    """Something in a frame."""


def raised(error: BaseException, *, cause: BaseException | None = None) -> "weakref.ref[Held]":
    """Gives the error a traceback whose frame holds something, and watches that."""
    held = Held()
    watched = weakref.ref(held)
    try:
        raise error from cause
    except BaseException:  # it is kept by who called
        return watched


def test_an_error_lets_go_of_its_frames() -> None:
    error = ValueError("first")
    watched = raised(error)
    assert watched() is not None
    forget_frames(error)
    assert watched() is None
    assert (str(error), error.__traceback__) == ("first", None)


def test_so_do_the_errors_behind_it_and_those_in_a_group_also_in_a_circle() -> None:
    inner, outer, member = ValueError(), KeyError(), OSError()
    watched = [raised(inner), raised(outer, cause=inner), raised(member)]
    group = ExceptionGroup("several", [outer, member])
    watched.append(raised(group))
    inner.__context__ = group
    forget_frames(group)
    gc.collect()
    assert [one() for one in watched] == [None] * 4


def test_a_death_without_an_error_holds_nothing() -> None:
    forget_frames(None)
