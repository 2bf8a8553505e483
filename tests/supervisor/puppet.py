"""A child that a test plays."""

import asyncio

from regrow.supervisor import Backoff, BackoffRule, ChildSpec, RestartRule, Start

AT_ONCE = Backoff(first_s=0)


class Puppet:
    """A child that does what the test says; all puppets of a test tell one story of who came and went."""

    def __init__(self, name: str, story: list[str]) -> None:
        self.name = name
        self.failing = False  # at the next start, before it is ready
        self.starts: list[Start] = []
        self._story = story
        self._came = asyncio.Event()
        self._fate: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, start: Start) -> None:
        self._fate = asyncio.get_running_loop().create_future()
        self._story.append(f"{self.name} came")
        self.starts.append(start)
        self._came.set()
        if self.failing:
            self._story.append(f"{self.name} failed")
            raise OSError("no port")
        start.ready()
        try:
            await self._fate
        finally:
            self._story.append(f"{self.name} went")

    def finish(self) -> None:
        self._fate.set_result(None)

    def crash(self, error: Exception) -> None:
        self._fate.set_exception(error)

    async def wait_came(self, times: int) -> None:
        while len(self.starts) < times:
            self._came.clear()
            await self._came.wait()

    def spec(
        self, restart: RestartRule = "permanent", backoff: BackoffRule = AT_ONCE, *, significant: bool = False
    ) -> ChildSpec:
        return ChildSpec(id=self.name, run=self.run, restart=restart, backoff=backoff, significant=significant)


def puppets(names: str, story: list[str]) -> list[Puppet]:
    return [Puppet(name, story) for name in names]


def now() -> float:
    return asyncio.get_running_loop().time()


async def settle() -> None:
    """Let everything happen that needs no time, and a hundredth of a second's worth of what does."""
    await asyncio.sleep(0.01)
