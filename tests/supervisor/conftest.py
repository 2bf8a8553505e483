"""Every coroutine test here runs in virtual time: seconds of shutdown and backoff pass at once, and exactly."""

import asyncio
import selectors
from collections.abc import Mapping

import pytest


class JumpingSelector(selectors.SelectSelector):
    """Instead of waiting for a timer it moves the clock to it; waiting for nothing is an error, not a hang."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("every task waits and no timer is set: nothing can happen any more")
            self.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self, jumping: JumpingSelector | None = None) -> None:
        self._jumping = jumping or JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


@pytest.hookimpl
def pytest_asyncio_loop_factories() -> Mapping[str, type[asyncio.AbstractEventLoop]]:
    return {"virtual": VirtualTimeLoop}


@pytest.fixture
def story() -> list[str]:
    """What the puppets of a test tell of who came and went."""
    return []
