"""Three nats-servers on loopback as one cluster, and the promises of the bus on replicated streams (R3).

Each fact is one line: a name, figures, and whether the promise holds. Servers are killed, stopped in the middle of a write and
started again; what the bus said was stored must be there once, in order, and nothing else.

    python bench/three_servers.py --seed 1

It ends by itself, in about two minutes and at the latest after ``--limit-s``; its servers die with it. Exits 1 when a promise does not hold.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError

from regrow.bus import Address, BusError, Delivery, NatsBus, RequestTimeout, StaleWriter, encode, open_bus
from regrow.bus.api import APPEND_IN_FLIGHT, WRONG_LAST_SEQUENCE, WRONG_LAST_SEQUENCE_UNKNOWN
from regrow.bus.guard import GuardedProcess
from regrow.bus.headers import fence
from regrow.bus.server import find_binary
from regrow.bus.subjects import BOXES, SHARDS, log_number

SERVERS = 3
APP = "three"
ALICE = Address("counter", "alice")
CALL_S = 20.0
READY_S = 60.0
STALE = frozenset({WRONG_LAST_SEQUENCE, WRONG_LAST_SEQUENCE_UNKNOWN, APPEND_IN_FLIGHT})
NO_SUCH_REPLICAS = 10134

Fact = Callable[["Cluster"], Awaitable[bool]]


class Cluster:
    """The servers, each with a guard that stops it when this process is gone."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.draw = random.Random(seed)
        self._folder = folder
        self._ports = free_ports(2 * SERVERS)
        self._children: dict[int, GuardedProcess] = {}

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        try:
            for number in range(SERVERS):
                self.start(number)
            yield
        finally:
            for child in self._children.values():
                await child.stop()

    def start(self, number: int) -> None:
        """Starts a server, on the store that it had before if it had one."""
        store = self._folder / f"s{number}"
        store.mkdir(exist_ok=True)
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in self._ports[SERVERS:])
        config = store / "server.conf"
        config.write_text(
            f"server_name: s{number}\nhost: 127.0.0.1\nport: {self._ports[number]}\n"
            f'log_file: "{store}/server.log"\n'
            f'jetstream {{ store_dir: "{store}", max_file_store: {1 << 40} }}\n'
            f"cluster {{ name: three, host: 127.0.0.1, port: {self._ports[SERVERS + number]}, routes: [{routes}] }}\n"
        )
        with (store / "lock").open("w") as lock:
            command = [str(find_binary()), "-c", str(config)]
            self._children[number] = GuardedProcess(command, keep=lock.fileno(), errors=store / "server.err")

    async def kill(self, number: int) -> None:
        """Kills a server; it is gone when this returns."""
        child = self._children.pop(number)
        os.kill(child.pid, signal.SIGKILL)
        await child.exited.wait()
        await child.stop()

    def pause(self, number: int) -> None:
        """Stops a server where it is; it comes back as if it had slept."""
        os.kill(self._children[number].pid, signal.SIGSTOP)

    def resume(self, number: int) -> None:
        os.kill(self._children[number].pid, signal.SIGCONT)

    @asynccontextmanager
    async def client(self, *numbers: int) -> AsyncGenerator[Client]:
        """A connection to any of the servers named, or of all."""

        async def ignore(_: Exception) -> None:
            return

        client = await nats.connect(
            [f"nats://127.0.0.1:{self._ports[number]}" for number in numbers or range(SERVERS)],
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.05,
            ping_interval=1,
            error_cb=ignore,
        )
        try:
            yield client
        finally:
            await client.close()

    @asynccontextmanager
    async def bus(self, *numbers: int) -> AsyncGenerator[tuple[NatsBus, Client]]:
        """A node's bus on a connection of its own."""
        async with self.client(*numbers) as client, open_bus(client, APP) as bus:
            yield bus, client


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


async def call(
    client: Client, subject: str, body: object = b"", headers: dict[str, str] | None = None
) -> dict[str, Any]:
    """The server's JSON answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await client.request(subject, data, timeout=CALL_S, headers=headers)
    fields: dict[str, Any] = json.loads(answer.data)
    return fields


def code(answer: dict[str, Any]) -> int:
    """The error's number, 0 where the server agreed."""
    return int(answer.get("error", {}).get("err_code", 0))


async def leader(client: Client, stream: str) -> int:
    """The number of the server that leads a stream, as soon as there is one."""
    while True:
        try:
            found = (await call(client, f"$JS.API.STREAM.INFO.{stream}")).get("cluster", {}).get("leader")
        except NatsError:
            found = None
        if found:
            return int(str(found)[1:])
        await asyncio.sleep(0.05)


async def wait_whole(client: Client) -> None:
    """Returns when every stream has a leader and two followers that are up to date."""
    async with asyncio.timeout(READY_S):
        while True:
            try:
                page = await call(client, "$JS.API.STREAM.LIST")
            except NatsError:
                page = {}
            streams: list[dict[str, Any]] = page.get("streams") or []
            clusters: list[dict[str, Any]] = [each.get("cluster", {}) for each in streams]
            followers: list[dict[str, Any]] = []
            for cluster in clusters:
                followers += cluster.get("replicas") or []
            if (
                streams
                and all(each.get("leader") for each in clusters)
                and len(followers) == 2 * len(streams)
                and all(each.get("current") and not each.get("offline") for each in followers)
            ):
                return
            await asyncio.sleep(0.1)


def say(name: str, holds: bool, **figures: object) -> bool:
    """One line for one fact; whether it holds."""
    told = " ".join(f"{key}={value}" for key, value in figures.items())
    print(f"{'holds' if holds else 'BROKEN':6} {name}: {told}", flush=True)  # noqa: T201 # a script prints
    return holds


def record(rid: str) -> bytes:
    return encode({"rid": rid})


async def writes(bus: NatsBus, address: Address, count: int, name: str = "r") -> list[tuple[str, int]]:
    """Appends one record after the other; ids and sequences as the bus gave them."""
    found = await bus.log.read(address)
    last = found[-1].sequence if found else 0
    done: list[tuple[str, int]] = []
    for number in range(count):
        rid = f"{name}.{address.key}.{number}"
        last = await bus.log.append(address, record(rid), rid=rid, after=last)
        done.append((rid, last))
    return done


async def stored(bus: NatsBus, address: Address) -> list[tuple[str, int]]:
    """Ids and sequences in a log."""
    return [(json.loads(each.data)["rid"], each.sequence) for each in await bus.log.read(address)]


# The facts


async def streams_are_made(cluster: Cluster) -> bool:
    """All streams of an application, with three replicas each."""
    async with cluster.client() as client:
        began = time.monotonic()
        while True:
            try:
                async with open_bus(client, APP, create=True, replicas=SERVERS):
                    break
            except BusError:
                if time.monotonic() - began > READY_S:
                    raise
                await asyncio.sleep(0.2)  # the three have not found each other yet
        await wait_whole(client)
        ready_s = time.monotonic() - began
        streams = (await call(client, "$JS.API.STREAM.LIST"))["streams"]
        replicas = {each["config"]["num_replicas"] for each in streams}
        leaders = [sum(each["cluster"]["leader"] == f"s{n}" for each in streams) for n in range(SERVERS)]
    return say(
        "streams are made", replicas == {SERVERS}, streams=len(streams), ready_s=f"{ready_s:.1f}", leaders=leaders
    )


async def an_append_costs(cluster: Cluster) -> bool:
    """Appends of one actor in series, and of many at once."""
    async with cluster.bus() as (bus, _):
        took: list[float] = []
        last = 0
        for number in range(300):
            began = time.perf_counter()
            last = await bus.log.append(Address("cost", "a"), record(f"{number}"), rid=f"{number}", after=last)
            took.append(time.perf_counter() - began)
        began = time.perf_counter()
        many = [Address("cost", f"m{number}") for number in range(300)]
        await asyncio.gather(*(writes(bus, each, 10) for each in many))
        rate = 3_000 / (time.perf_counter() - began)
    p50_us = statistics.median(took) * 1e6
    return say("an append costs", True, p50_us=f"{p50_us:.0f}", appends_per_s_of_300=f"{rate:.0f}")


async def what_is_in_flight_is_refused(cluster: Cluster) -> bool:
    """Many writers with the same fence at once: one wins, the others get one of three numbers, never an acceptance."""
    counts: dict[int, int] = {}
    wins: list[int] = []
    async with cluster.client() as client:
        for attempt in range(50):
            subject = f"rg.{APP}.evt.0.flight.{attempt}"
            answers = await asyncio.gather(*(call(client, subject, record(f"{n}"), fence(0)) for n in range(20)))
            for each in answers:
                counts[code(each)] = counts.get(code(each), 0) + 1
            wins.append(sum(code(each) == 0 for each in answers))
    holds = set(wins) == {1} and set(counts) - {0} <= STALE
    return say("of writers at once one wins", holds, rounds=len(wins), answers=dict(sorted(counts.items())))


async def racing_nodes_agree(cluster: Cluster) -> bool:
    """Three nodes, each on another server, append to one log through the bus; the numbers in flight end as StaleWriter or as mine."""
    address = Address("race", "a")
    accepted: list[tuple[str, int]] = []
    lost = 0

    async def write(number: int) -> None:
        nonlocal lost
        async with cluster.bus(number) as (bus, _):
            for attempt in range(40):
                found = await bus.log.read(address)
                rid = f"{number}.{attempt}"
                try:
                    last = found[-1].sequence if found else 0
                    accepted.append((rid, await bus.log.append(address, record(rid), rid=rid, after=last)))
                except StaleWriter:
                    lost += 1

    await asyncio.gather(*(write(number) for number in range(SERVERS)))
    async with cluster.bus() as (bus, client):
        await wait_whole(client)
        found = await stored(bus, address)
    holds = found == sorted(accepted, key=lambda each: each[1])
    return say("racing nodes agree with the log", holds, accepted=len(accepted), stale=lost, stored=len(found))


async def the_id_is_looked_at_before_the_fence(cluster: Cluster) -> bool:
    """Why logs carry no Nats-Msg-Id: replicated, a stale append with a known id is told that it was stored."""
    async with cluster.client() as client:
        subject = f"rg.{APP}.evt.1.ids.a"
        first = await call(client, subject, record("1"), {**fence(0), "Nats-Msg-Id": "x"})
        again = await call(client, subject, record("1"), {**fence(0), "Nats-Msg-Id": "x"})
        plain = await call(client, subject, record("1"), fence(0))
    holds = bool(first.get("seq") and again.get("duplicate")) and code(plain) in STALE
    return say("the server looks at the id before the fence", holds, with_id=again, without_id=code(plain))


async def a_takeover_is_fast_enough(cluster: Cluster) -> bool:
    """All shards of both mailboxes from nobody, then from a node that is alive, with mail that waits."""
    first: asyncio.Queue[Delivery] = asyncio.Queue()
    second: asyncio.Queue[Delivery] = asyncio.Queue()
    lost: asyncio.Queue[int] = asyncio.Queue()
    addresses = [Address("mail", f"{number}") for number in range(200)]
    async with cluster.bus(0) as (one, client), cluster.bus(1) as (other, _):
        await asyncio.gather(*(one.mail.post(BOXES[n % 2], each, b"%d" % n) for n, each in enumerate(addresses)))
        began = time.monotonic()
        async with one.mail.serve(first.put_nowait, lost.put_nowait):
            fresh_s = time.monotonic() - began
            for _ in addresses:
                await first.get()
            mail_s = time.monotonic() - began
            began = time.monotonic()
            async with other.mail.serve(second.put_nowait, lambda _: None):
                taken_s = time.monotonic() - began
                got = {(await second.get()).body for _ in addresses}
                again_s = time.monotonic() - began
                shards = {await lost.get() for _ in range(SHARDS)}
        config = {"name": "r1", "durable_name": "r1", "ack_policy": "explicit", "num_replicas": 1}
        stream = one.subjects.mail_stream("in")
        body = {"stream_name": stream, "config": {**config, "filter_subject": one.subjects.stored("in", 0)}}
        single = await call(client, f"$JS.API.CONSUMER.CREATE.{stream}.r1.{one.subjects.stored('in', 0)}", body)
    holds = len(got) == len(addresses) and len(shards) == SHARDS and code(single) == NO_SUCH_REPLICAS
    return say(
        "a takeover brings all mail again",
        holds,
        consumers=2 * SHARDS,
        from_nobody_s=f"{fresh_s:.2f}",
        first_mail_all_s=f"{mail_s:.2f}",
        from_a_node_s=f"{taken_s:.2f}",
        mail_again_s=f"{again_s:.2f}",
        r1_consumer_refused_with=code(single),
    )


async def a_killed_leader_loses_and_doubles_nothing(cluster: Cluster) -> bool:
    """The leader of the log's stream is killed while many append to it; it comes back, and the next one is killed."""
    number = log_number(ALICE)
    many = [each for each in (Address("kill", f"{n}") for n in range(2_000)) if log_number(each) == number][:40]
    longest_s = 0.0

    async def write(bus: NatsBus, address: Address, name: str) -> list[tuple[str, int]]:
        nonlocal longest_s
        found = await stored(bus, address)
        last = found[-1][1] if found else 0
        done: list[tuple[str, int]] = []
        for count in range(30):
            rid, began = f"{name}.{count}", time.monotonic()
            last = await bus.log.append(address, record(rid), rid=rid, after=last)
            longest_s = max(longest_s, time.monotonic() - began)
            done.append((rid, last))
        return done

    expected: dict[Address, list[tuple[str, int]]] = {each: [] for each in many}
    killed: list[int] = []
    async with cluster.bus() as (bus, client):
        stream = bus.subjects.log_stream(number)
        for name in ("first", "second"):
            writers = {each: asyncio.ensure_future(write(bus, each, name)) for each in many}
            await bus.log.append(Address("kill", name), record(name), rid=name, after=0)
            victim = await leader(client, stream)
            await cluster.kill(victim)
            killed.append(victim)
            for each, writer in writers.items():
                expected[each] += await writer
            cluster.start(victim)
            await wait_whole(client)
        wrong = [each for each in many if await stored(bus, each) != expected[each]]
    appends = sum(map(len, expected.values()))
    return say(
        "a killed leader loses and doubles nothing",
        not wrong,
        killed=killed,
        appends=appends,
        wrong=len(wrong),
        longest_append_s=f"{longest_s:.2f}",
    )


async def mail_goes_on_when_a_leader_is_killed(cluster: Cluster) -> bool:
    """The mailbox's leader dies; each message comes to this service in order. An acknowledgement that the dead leader had is
    lost without a word, so its message stays in the mailbox, and comes again at the next takeover."""
    inbox: asyncio.Queue[Delivery] = asyncio.Queue()
    lost: list[int] = []
    address = Address("mail", "through")
    count = 60
    async with cluster.bus() as (bus, client), cluster.bus() as (sender, _):
        state = f"$JS.API.STREAM.INFO.{bus.subjects.mail_stream('act')}"
        async with bus.mail.serve(inbox.put_nowait, lost.append):
            reading = asyncio.ensure_future(read_mail(inbox, address, count))
            await post_all(sender, address, range(count // 3))
            victim = await leader(client, bus.subjects.mail_stream("act"))
            await cluster.kill(victim)
            began = time.monotonic()
            await post_all(sender, address, range(count // 3, count))
            posted_s = time.monotonic() - began
            got = await reading
            through_s = time.monotonic() - began
            cluster.start(victim)
            await wait_whole(client)
        left = int((await call(client, state))["state"]["messages"])
        starts = await take_the_rest(bus, client)
    holds = list(dict.fromkeys(got)) == list(range(count)) and not lost
    return say(
        "mail goes on when a leader is killed",
        holds,
        messages=len(set(got)),
        delivered=len(got),
        posted_s=f"{posted_s:.2f}",
        through_s=f"{through_s:.2f}",
        acknowledgements_lost=left,
        starts_of_the_next_service=starts,
    )


async def take_the_rest(bus: NatsBus, client: Client) -> int:
    """Serves anew until the mailbox is empty; how often a service had to be started, for a consumer without a leader is in
    the way and whoever starts is told of it."""
    inbox: asyncio.Queue[Delivery] = asyncio.Queue()
    state = f"$JS.API.STREAM.INFO.{bus.subjects.mail_stream('act')}"
    starts = 0
    while True:
        starts += 1
        try:
            async with bus.mail.serve(inbox.put_nowait, lambda _: None):
                while (await call(client, state))["state"]["messages"]:
                    while not inbox.empty():
                        await inbox.get_nowait().ack()
                return starts
        except RequestTimeout:
            continue


async def post_all(bus: NatsBus, address: Address, numbers: range) -> None:
    """Posts one after the other; what may not have been stored goes out under the same id again."""
    for number in numbers:
        while True:
            try:
                await bus.mail.post("act", address, b"%d" % number, message_id=f"{bus.epoch}.t.{number}")
                break
            except BusError:
                await asyncio.sleep(0.1)


async def read_mail(inbox: asyncio.Queue[Delivery], address: Address, count: int) -> list[int]:
    """Acknowledges everything until that many messages of one actor have come; their numbers, as they came."""
    got: list[int] = []
    while len(set(got)) < count:
        delivery = await inbox.get()
        if delivery.address == address:
            got.append(int(delivery.body))
        await delivery.ack()
    return got


async def a_reader_behind_proves_nothing(cluster: Cluster) -> bool:
    """A follower that slept answers a read with an old log, or none; whoever believes it cannot append."""
    address = Address("behind", "a")
    async with cluster.bus() as (probe, client):
        stream = probe.subjects.log_stream(log_number(address))
        last = await probe.log.append(address, record("0"), rid="0", after=0)
        head = await leader(client, stream)
    sleeper = next(number for number in range(SERVERS) if number != head)
    behind = believed = refused = reads = 0
    async with cluster.bus(head) as (writer, client), cluster.client(sleeper) as near:
        for attempt in range(1, 16):
            cluster.pause(sleeper)
            try:
                for part in range(20):
                    rid = f"{attempt}.{part}"
                    last = await writer.log.append(address, record(rid), rid=rid, after=last)
            finally:
                cluster.resume(sleeper)
            body = json.dumps({"last_by_subj": writer.subjects.log(address)}).encode()
            while True:
                try:
                    answer = await near.request(f"$JS.API.DIRECT.GET.{stream}", body, timeout=1)
                    break
                except NatsError:
                    continue
            reads += 1
            seen = int((answer.headers or {}).get("Nats-Sequence", "0"))
            if seen == last:
                continue
            behind += 1
            stale = await call(client, writer.subjects.log(address), record("stale"), fence(seen))
            believed += code(stale) == 0
            refused += code(stale) in STALE
        async with cluster.bus(sleeper) as (late, late_client):
            await wait_whole(late_client)
            found = await stored(late, address)
    holds = believed == 0 and refused == behind and found[-1][1] == last and len(found) == 301
    return say("a reader behind proves nothing", holds, reads=reads, behind=behind, refused=refused, stored=len(found))


async def without_a_majority_nothing_is_accepted(cluster: Cluster) -> bool:
    """One server of three is left: its append waits, reads may still be answered; with a second one the append is decided."""
    address = Address("alone", "a")
    async with cluster.bus() as (probe, client):
        head = await leader(client, probe.subjects.log_stream(log_number(address)))
    others = [number for number in range(SERVERS) if number != head]
    async with cluster.bus(head) as (bus, client):
        last = await bus.log.append(address, record("1"), rid="1", after=0)
        for number in others:
            await cluster.kill(number)
        append = asyncio.ensure_future(bus.log.append(address, record("2"), rid="2", after=last))
        answered = 0
        began = time.monotonic()
        while time.monotonic() - began < 3:
            body = json.dumps({"last_by_subj": bus.subjects.log(address)}).encode()
            try:
                answer = await client.request(
                    f"$JS.API.DIRECT.GET.{bus.subjects.log_stream(log_number(address))}", body, timeout=0.5
                )
                answered += bool(answer.data)
            except NatsError:
                pass
            await asyncio.sleep(0.1)
        waited = not append.done()
        began = time.monotonic()
        for number in others:
            cluster.start(number)
        sequence = await append
        decided_s = time.monotonic() - began
        await wait_whole(client)
        found = await stored(bus, address)
    holds = waited and found == [("1", last), ("2", sequence)]
    return say(
        "without a majority nothing is accepted",
        holds,
        append_waited=waited,
        reads_answered_meanwhile=answered,
        decided_after_s=f"{decided_s:.2f}",
        stored=len(found),
    )


FACTS: tuple[Fact, ...] = (
    streams_are_made,
    an_append_costs,
    what_is_in_flight_is_refused,
    racing_nodes_agree,
    the_id_is_looked_at_before_the_fence,
    a_takeover_is_fast_enough,
    a_killed_leader_loses_and_doubles_nothing,
    mail_goes_on_when_a_leader_is_killed,
    a_reader_behind_proves_nothing,
    without_a_majority_nothing_is_accepted,
)


async def run(folder: Path, seed: int, limit_s: float) -> bool:
    """Whether every promise holds."""
    cluster = Cluster(folder, seed)
    async with asyncio.timeout(limit_s), AsyncExitStack() as stack:
        await stack.enter_async_context(cluster.running())
        return all([await fact(cluster) for fact in FACTS])


def main() -> int:
    """Runs the facts and prints them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit-s", type=float, default=240.0)
    chosen = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="regrow-three-") as folder:
        holds = asyncio.run(run(Path(folder), chosen.seed, chosen.limit_s))
    say("all", holds, seconds=f"{time.monotonic() - began:.0f}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
