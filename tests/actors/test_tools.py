"""The policies of tools, and what a handler sees of a failure. A kill is the host's end; ``RAN`` is the witness of bodies."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from regrow.actors import (
    Actor,
    ActorError,
    Administration,
    AskFailed,
    AskTimeout,
    DefinitionError,
    Event,
    Kind,
    Message,
    NotApproved,
    NotDone,
    OutcomeUnknown,
    Policy,
    Retry,
    StepFailed,
    System,
    command,
    current_step,
    event,
    step,
    tool,
)
from regrow.actors.errors import Failure
from regrow.actors.records import Checkpoint, Entry, Record, Snapshot, Started, Steps
from regrow.actors.records import Step as Recorded
from regrow.actors.retry import DECLARED
from regrow.bus import Address, Bus, MemoryBus, decode
from regrow.supervisor import Backoff

pytestmark = pytest.mark.asyncio

OpenBus = Callable[[], Awaitable[Bus]]

RAN: list[str] = []
SEEN: list[Any] = []
"""What the handlers of the running test have noted."""
KEYS: list[str] = []
HELD: dict[str, asyncio.Event] = {}
"""What is named here announces itself and then waits for ever."""
AT_ONCE = Backoff(first_s=0.0)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    for each in (RAN, SEEN, KEYS, HELD):
        each.clear()
    yield


class NoRoute(Exception):
    pass


class Receipt(msgspec.Struct):
    order: str
    cents: int


async def witnessed(name: str) -> None:
    context = current_step()
    if context is not None:
        KEYS.append(context.idempotency_key)
        name = f"{name} {context.attempt}" if context.attempt > 1 else name
    RAN.append(name)
    if name in HELD:
        HELD[name].set()
        await asyncio.Event().wait()


@tool
async def work(name: str) -> str:
    await witnessed(name)
    return name.upper()


@tool(raises=(NoRoute,))
async def route(name: str) -> str:
    await witnessed(name)
    raise NoRoute("closed", 3) if name == "declared" else KeyError(name)


@tool
async def lies(name: str) -> list[Receipt]:
    return [Receipt("a", 1), Receipt("b", name)]  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@tool(retry=Retry(attempts=4, backoff=AT_ONCE, non_retryable=(LookupError,)), raises=(NoRoute,))
async def flaky(name: str, good_at: int) -> int:
    await witnessed(name)
    context = current_step()
    attempt = context.attempt if context is not None else 0
    if name == "missing":
        raise KeyError(name)
    if attempt < good_at:
        raise ConnectionError(f"attempt {attempt}")
    return attempt


@tool(effect="once")
async def charge(order: str) -> Receipt:
    await witnessed(order)
    if order == "broke":
        raise ConnectionError("no answer")
    return Receipt(order, 5)


async def look_up(order: str) -> Receipt:
    RAN.append(f"look up {order}")
    if order == "never came":
        raise NotDone("no such charge")
    if order == "nobody answers":
        raise ConnectionError("down")
    return Receipt(order, 7)


@tool(effect="once", verify=look_up)
async def pay(order: str) -> Receipt:
    await witnessed(order)
    return Receipt(order, 5)


@tool(effect="once", retry=Retry(attempts=2, backoff=AT_ONCE))
async def insist(order: str) -> str:
    await witnessed(order)
    raise ConnectionError("refused before anything was done")


@tool(approve=True)
async def deploy(what: str) -> str:
    await witnessed(what)
    return what.upper()


@tool(redact=("token",))
async def login(user: str, token: str) -> str:
    await witnessed(f"{user} with {token}")
    return user


class Run(Message[list[str]]):
    how: str


class Did(Event):
    what: list[str]


class Idle(Message[None]):
    pass


class Holder(Actor):
    @command
    async def idle(self, msg: Idle) -> None:
        await asyncio.Event().wait()


class Worker(Actor):
    done: list[str] = []

    @command
    async def run(self, msg: Run) -> list[str]:
        result = await HOW[msg.how](self)
        self.emit(Did(what=result))
        return result

    @event
    def did(self, fact: Did) -> None:
        self.done = fact.what


HOW: dict[str, Callable[[Worker], Awaitable[list[str]]]] = {}


def plan(how: Callable[[Worker], Awaitable[list[str]]]) -> Callable[[Worker], Awaitable[list[str]]]:
    """A handler's body that a message can name."""
    HOW[how.__name__] = how
    return how


class Human:
    """Says yes to all but what is called no."""

    async def approve(self, tool: str, arguments: dict[str, Any], actor: str) -> bool:
        RAN.append(f"approve {tool} {arguments} for {actor}")
        if arguments["what"] == "nobody":
            raise ConnectionError("nobody is there")
        return bool(arguments["what"] != "no")


def system(app_name: str) -> System:
    policy = Policy(backoff=AT_ONCE, mend_after_s=3600.0)
    return System(app_name, actors=[Kind(actor=Worker, policy=policy), Holder], ports={"human": Human()}).checked()


async def entries(bus: Bus, key: str = "a") -> list[Entry]:
    return [
        entry
        for stored in await bus.log.read(Address("worker", key))
        for entry in decode(stored.data, Record, "record").entries
    ]


async def recorded(bus: Bus) -> list[Recorded]:
    return [each for entry in await entries(bus) if isinstance(entry, Steps) for each in entry.steps]


@asynccontextmanager
async def killed_at(bus: Bus, app_name: str, name: str, how: str) -> AsyncGenerator[asyncio.Task[list[str]]]:
    """Runs a turn until a body of that name waits, and ends its host there; then nothing of that name waits any more."""
    HELD[name] = asyncio.Event()
    async with system(app_name).host(bus) as node:
        asked = asyncio.create_task(node.ref(Worker, "a").ask(Run(how=how)))
        await HELD[name].wait()
    del HELD[name]
    yield asked
    asked.cancel()


async def host_until(bus: Bus, app_name: str, name: str) -> None:
    """One more life of the same turn, until a body of that name waits."""
    HELD[name] = asyncio.Event()
    async with system(app_name).host(bus):
        await HELD[name].wait()
    del HELD[name]


# Once


@plan
async def charges(actor: Worker) -> list[str]:
    try:
        return [str(await charge("order")), await work("z")]
    except OutcomeUnknown as unknown:
        return [unknown.tool, unknown.key, str(unknown), await work("z")]


async def test_a_tool_that_runs_once_never_runs_again_after_a_kill(open_another: OpenBus, app_name: str) -> None:
    bus = await open_another()
    async with killed_at(bus, app_name, "order", "charges") as asked:
        assert [type(each).__name__ for each in await entries(bus)] == ["Begun", "Started"]
        await host_until(await open_another(), app_name, "z")
        async with system(app_name).host(await open_another()):
            name, key, message, z = await asked
    assert (name, z) == ("charge", "Z")
    assert key.startswith("/charge/")
    assert "charge may run only once, was begun, and its outcome is unknown" in message
    assert RAN == ["order", "z", "z"]


async def test_a_tool_that_runs_once_and_ended_answers_from_the_log(open_another: OpenBus, app_name: str) -> None:
    bus = await open_another()
    async with killed_at(bus, app_name, "z", "charges") as asked, system(app_name).host(await open_another()):
        assert await asked == ["Receipt(order='order', cents=5)", "Z"]
    assert RAN == ["order", "z", "z"]


@plan
async def pays(actor: Worker) -> list[str]:
    seen = [str(await pay("order"))]
    return [*seen, str(await pay("never came")), str(await pay("nobody answers"))]


async def test_what_verify_knows_decides(open_another: OpenBus, app_name: str) -> None:
    bus = await open_another()
    async with killed_at(bus, app_name, "order", "pays") as asked:
        await host_until(await open_another(), app_name, "never came")
        await host_until(await open_another(), app_name, "nobody answers")
        async with system(app_name).host(await open_another()):
            sentence = r"OutcomeUnknown: pay may .* and verify failed \(ConnectionError: down\)"
            with pytest.raises(AskFailed, match=sentence):
                await asked
    lives = [
        "order",
        "look up order, never came",
        "look up never came, never came, nobody answers",
        "look up nobody answers",
    ]
    assert ", ".join(RAN) == ", ".join(lives)
    assert bytes((await recorded(bus))[0].outcome.value) == b'{"order":"order","cents":7}'


@plan
async def goes_broke(actor: Worker) -> list[str]:
    return [str(await charge("broke"))]


async def test_its_exception_is_its_outcome_however_often_the_turn_is_tried(bus: Bus, app_name: str) -> None:
    async with system(app_name).host(bus) as node:
        with pytest.raises(AskFailed, match="ConnectionError: no answer"):
            await node.ref(Worker, "a").ask(Run(how="goes_broke"))
    assert RAN == ["broke"]


@plan
async def insists(actor: Worker) -> list[str]:
    try:
        return [await insist("order")]
    except StepFailed as failed:
        return [str(failed)]


async def test_it_runs_again_after_an_exception_where_its_retry_says_so(bus: Bus, app_name: str) -> None:
    async with system(app_name).host(bus) as node:
        await node.ref(Worker, "a").ask(Run(how="insists"))
    assert RAN == ["order", "order 2"]


@plan
async def times_out(actor: Worker) -> list[str]:
    try:
        async with asyncio.timeout(None) as limit:
            if "order" in HELD and not HELD["order"].is_set():
                asyncio.get_running_loop().create_task(_end(limit))
            return [str(await charge("order"))]
    except TimeoutError:
        raise ConnectionError("something else") from None


async def _end(limit: asyncio.Timeout) -> None:
    await HELD["order"].wait()
    limit.reschedule(asyncio.get_running_loop().time())


async def test_once_cancelled_it_does_not_run_again_in_another_attempt(bus: Bus, app_name: str) -> None:
    HELD["order"] = asyncio.Event()
    async with system(app_name).host(bus) as node:
        with pytest.raises(AskFailed, match="OutcomeUnknown: charge"):
            await node.ref(Worker, "a").ask(Run(how="times_out"))
    assert RAN == ["order"]


# Retry


@plan
async def retries(actor: Worker) -> list[str]:
    return [str(await flaky("f", 3)), await work("z")]


async def test_attempts_count_across_kills(open_another: OpenBus, app_name: str) -> None:
    bus = await open_another()
    async with killed_at(bus, app_name, "f 2", "retries") as asked, system(app_name).host(await open_another()):
        assert await asked == ["3", "Z"]
        started = [each for each in await entries(bus) if isinstance(each, Started)]
        assert [(each.attempt, each.failure and each.failure.message) for each in started] == [
            (2, "attempt 1"),
            (3, "attempt 2"),
        ]
        assert len({each.since_ms for each in started}) == 1
        assert [each.attempt for each in await recorded(bus)] == [3, 1]
    assert RAN == ["f", "f 2", "f 2", "f 3", "z"]
    assert len(set(KEYS[:4])) == 1


@plan
async def is_in_vain(actor: Worker) -> list[str]:
    for call in (flaky("missing", 1), flaky.using(retry=Retry(attempts=2, backoff=AT_ONCE))("f", 3)):
        try:
            await call
        except StepFailed as failed:
            SEEN.append(str(failed))
    return []


async def test_some_exceptions_are_not_tried_again_and_a_call_may_have_a_retry_of_its_own(
    bus: Bus, app_name: str
) -> None:
    async with system(app_name).host(bus) as node:
        await node.ref(Worker, "a").ask(Run(how="is_in_vain"))
    assert RAN == ["missing", "f", "f 2"]
    assert SEEN == ["KeyError: 'missing'", "ConnectionError: attempt 2"]


async def test_an_attempt_needs_both_limits_and_waits_with_full_jitter() -> None:
    failed = Failure("network", 500, "reset", type="ConnectionResetError")
    retry = Retry(attempts=3, elapsed_s=10.0, backoff=Backoff(first_s=2.0), non_retryable=(LookupError,))
    assert retry.wait_s(1, failed, 0.0, 0.25) == 0.5
    assert retry.wait_s(2, failed, 0.0, 0.5) == 2.0
    assert retry.wait_s(3, failed, 0.0, 0.0) is None
    assert retry.wait_s(2, failed, 8.0, 0.5) == 2.0
    assert retry.wait_s(2, failed, 8.1, 0.5) is None
    assert retry.wait_s(1, Failure("defect", 500, "x", type="KeyError"), 0.0, 0.0) is None
    assert retry.wait_s(1, Failure(DECLARED, 500, "x", type="NoRoute"), 0.0, 0.0) is None
    for wrong in ({"elapsed_s": -1.0}, {"elapsed_s": float("inf")}, {"attempts": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Retry(**wrong)  # pyright: ignore[reportArgumentType]


@plan
async def works(actor: Worker) -> list[str]:
    return [await work("same"), await work("same")]


async def test_every_step_of_every_actor_and_message_has_an_idempotency_key_of_its_own(bus: Bus, app_name: str) -> None:
    async with system(app_name).host(bus) as node:
        for key in ("a", "b", "b"):
            await node.ref(Worker, key).ask(Run(how="works"))
    assert len(set(KEYS)) == 6
    assert {len(each) for each in KEYS} == {32}


# Approval


@plan
async def deploys(actor: Worker) -> list[str]:
    seen: list[str] = []
    for what in ("yes", "no"):
        try:
            seen.append(await deploy(what))
        except NotApproved as no:
            seen.append(str(no))
    return [*seen, await work("z")]


async def test_a_human_is_asked_once_before_a_tool_runs(open_another: OpenBus, app_name: str) -> None:
    bus = await open_another()
    async with killed_at(bus, app_name, "z", "deploys") as asked, system(app_name).host(await open_another()):
        assert await asked == ["YES", "deploy was not approved and did not run", "Z"]
    asked_for_yes, asked_for_no = (f"approve deploy {{'what': '{what}'}} for worker/a" for what in ("yes", "no"))
    assert [asked_for_yes, "yes", asked_for_no, "z", "z"] == RAN
    assert [each.tool for each in await recorded(bus)] == ["approve", "deploy", "approve", "work"]


# Keys


@plan
async def works_twice(actor: Worker) -> list[str]:
    return list(await asyncio.gather(work("a"), work("a")))


@plan
async def works_twice_by_one_key(actor: Worker) -> list[str]:
    return list(await asyncio.gather(work.using(key="k")("a"), work.using(key="k")("b")))


@plan
async def works_by_keys(actor: Worker) -> list[str]:
    async def body() -> int:
        RAN.append("body")
        return 3

    async with asyncio.TaskGroup() as group:
        for each in ("left", "right"):
            group.create_task(work.using(key=each)("a"))
            group.create_task(step("own", None, body, int, key=each))
    return [await work("z")]


async def test_equal_calls_in_two_tasks_are_told_apart_by_their_keys(open_another: OpenBus, app_name: str) -> None:
    bus = await open_another()
    async with killed_at(bus, app_name, "z", "works_by_keys") as asked, system(app_name).host(await open_another()):
        assert await asked == ["Z"]
    assert sorted(RAN) == ["a", "a", "body", "body", "z", "z"]
    assert {each.key for each in (await recorded(bus))[:4]} == {
        *(".0/work/:left/0", ".1/own/:left/0"),
        *(".2/work/:right/0", ".3/own/:right/0"),
    }


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        (
            "works_twice",
            r'write work.using\(key="left"\)\(...\) in one and work.using\(key="right"\)\(...\) in the other',
        ),
        ("works_twice_by_one_key", "work is called with key='k' in two tasks at once"),
    ],
)
async def test_an_ambiguous_step_says_what_to_write(bus: Bus, app_name: str, how: str, sentence: str) -> None:
    async with system(app_name).host(bus) as node:
        with pytest.raises(AskFailed, match=f"AmbiguousStep: .*{sentence}"):
            await node.ref(Worker, "a").ask(Run(how=how))


# Arguments and results


@plan
async def logs_in(actor: Worker) -> list[str]:
    return [await login("anna", token="s3cret"), await login("anna", token="0ther"), await work("z")]


async def test_a_redacted_argument_reaches_the_body_and_never_the_log(open_another: OpenBus, app_name: str) -> None:
    bus = await open_another()
    async with killed_at(bus, app_name, "z", "logs_in") as asked, system(app_name).host(await open_another()):
        assert await asked == ["anna", "anna", "Z"]
    assert RAN == ["anna with s3cret", "anna with 0ther", "z", "z"]
    steps = await recorded(bus)
    assert {bytes(each.arguments) for each in steps[:2]} == {b'{"token":"***","user":"anna"}'}
    assert [each.key[:-1] for each in steps[:1]] == [each.key[:-1] for each in steps[1:2]]
    for stored in await bus.log.read(Address("worker", "a")):
        assert b"s3cret" not in stored.data


@plan
async def gives_what_is_no_json(actor: Worker) -> list[str]:
    given: Any = {"legs": [{"when": 1}, {"when": 2}, {"when": 3j}]}
    await work(given)
    return []


@plan
async def steps_with_what_is_no_json(actor: Worker) -> list[str]:
    async def body() -> int:
        return 1

    return [str(await step("own", Receipt("a", object()), body, int))]  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@plan
async def gets_a_lie(actor: Worker) -> list[str]:
    return [str(await lies("many"))]


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        (
            "gives_what_is_no_json",
            r"an argument of work cannot be recorded: \$\.name\.legs\[2\]\.when is a complex, which is no JSON",
        ),
        ("steps_with_what_is_no_json", r"an argument of own cannot be recorded: \$\.cents is an object"),
        (
            "gets_a_lie",
            r"TypeError: the result of lies is not what it declares: Expected `int`, got `str` - at `\$\[1\]\.cents`",
        ),
    ],
)
async def test_what_cannot_be_recorded_is_named_by_its_path(bus: Bus, app_name: str, how: str, sentence: str) -> None:
    async with system(app_name).host(bus) as node:
        with pytest.raises(AskFailed, match=sentence):
            await node.ref(Worker, "a").ask(Run(how=how))
    assert RAN == []


# Failures, live and replayed


def _noted(error: Exception) -> tuple[str, str, dict[str, Any]]:
    return type(error).__qualname__, repr(error), vars(error)


@plan
async def fails_in_every_way(actor: Worker) -> list[str]:
    holder = actor.ref(Holder, "h")
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: charge("order"),
        lambda: route("declared"),
        lambda: route("other"),
        lambda: lies("many"),
        lambda: flaky("f", 9),
        lambda: deploy("no"),
        lambda: deploy("nobody"),
        lambda: holder.ask(Idle(), timeout_s=0.05),
        lambda: step("own", None, _own_kind, int),
    ]
    seen: list[tuple[str, str, dict[str, Any]]] = []
    for call in calls:
        try:
            await call()
        except Exception as error:
            seen.append(_noted(error))
    SEEN.append(seen)
    return [await work("z")]


class Odd(Exception):
    kind = "outcome_unknown"


async def _own_kind() -> int:
    raise Odd("not the runtime's word")


async def test_what_a_handler_sees_of_a_failure_is_the_same_live_and_replayed(
    open_another: OpenBus, app_name: str
) -> None:
    bus = await open_another()
    async with killed_at(bus, app_name, "order", "fails_in_every_way") as asked:
        await host_until(await open_another(), app_name, "z")
        ran = len(RAN)
        async with system(app_name).host(await open_another()):
            assert await asked == ["Z"]
    live, replayed = SEEN
    assert replayed == live
    assert [each[0] for each in live] == [
        OutcomeUnknown.__name__,
        NoRoute.__name__,
        *[StepFailed.__name__] * 3,
        NotApproved.__name__,
        StepFailed.__name__,
        AskTimeout.__name__,
        StepFailed.__name__,
    ]
    assert RAN[ran:] == ["z"]


# Many steps


class Progress(msgspec.Struct):
    done: int


@plan
async def counts_far(actor: Worker) -> list[str]:
    for _ in range(1_005):
        await count()
    return []


@plan
async def counts_far_in_parts(actor: Worker) -> list[str]:
    for _ in range(3):
        for _ in range(999):
            await count()
        await actor.checkpoint(None)
    return []


@tool
async def count() -> None:
    RAN.append("count")


async def test_a_turn_of_a_thousand_steps_is_named_once(app_name: str, logged: list[MutableMapping[str, Any]]) -> None:
    async with system(app_name).host(MemoryBus(app_name)) as node:
        await node.ref(Worker, "a").ask(Run(how="counts_far"))
        await node.ref(Worker, "b").ask(Run(how="counts_far_in_parts"))
    assert [each["actor"] for each in logged if "self.checkpoint" in each["event"]] == ["worker/a"]


@plan
async def puts_down_where_it_is(actor: Worker) -> list[str]:
    at = actor.checkpointed(Progress) or Progress(0)
    for number in range(at.done, 4):
        await asyncio.gather(work("a"), work("b"))
        await work(f"n{number}")
        if number % 2:
            await actor.checkpoint(Progress(number + 1))
    last = actor.checkpointed(Progress)
    return [str(last.done if last is not None else 0), await work("z")]


@pytest.mark.parametrize(("name", "again"), [("n1", ["n1"]), ("n2", ["n2"]), ("n3", ["n3"]), ("z", ["z"])])
async def test_a_handler_goes_on_from_its_checkpoint(
    open_another: OpenBus, app_name: str, name: str, again: list[str]
) -> None:
    bus = await open_another()
    async with (
        killed_at(bus, app_name, name, "puts_down_where_it_is") as asked,
        system(app_name).host(await open_another()),
    ):
        assert await asked == ["4", "Z"]
    assert sorted(RAN) == sorted([*"ab" * 4, "n0", "n1", "n2", "n3", "z", *again])


async def test_a_checkpoint_makes_the_log_short(open_another: OpenBus, app_name: str) -> None:
    bus = await open_another()
    async with killed_at(bus, app_name, "z", "puts_down_where_it_is"):
        first, *others = await entries(bus)
        assert isinstance(first, Snapshot)
        assert not [each for each in others if isinstance(each, Checkpoint | Steps)]


@plan
async def puts_down_and_fails(actor: Worker) -> list[str]:
    if actor.checkpointed(Progress) is None:
        await work("a")
        await actor.checkpoint(Progress(1))
    if RAN.count("b") < 2:
        await work("b")
        raise ConnectionError("again")
    return [await work("b")]


async def test_another_attempt_goes_on_from_the_checkpoint(bus: Bus, app_name: str) -> None:
    async with system(app_name).host(bus) as node:
        with pytest.raises(AskFailed, match="ConnectionError: again"):
            await node.ref(Worker, "a").ask(Run(how="puts_down_and_fails"))
    assert RAN == ["a", "b"]


@plan
async def puts_down_too_late(actor: Worker) -> list[str]:
    actor.emit(Did(what=[]))
    await actor.checkpoint(Progress(1))
    return []


@plan
async def puts_down_elsewhere(actor: Worker) -> list[str]:
    await asyncio.gather(actor.checkpoint(Progress(1)))
    return []


@plan
async def puts_down_beside_another(actor: Worker) -> list[str]:
    other = asyncio.create_task(work("other"))
    try:
        await actor.checkpoint(Progress(1))
    finally:
        other.cancel()
    return []


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("puts_down_too_late", "a checkpoint comes before anything is emitted"),
        ("puts_down_elsewhere", "a checkpoint is for the handler's own task"),
        ("puts_down_beside_another", "a checkpoint is for the handler's own task"),
    ],
)
async def test_a_checkpoint_that_no_replay_could_follow_is_refused(
    bus: Bus, app_name: str, how: str, sentence: str
) -> None:
    async with system(app_name).host(bus) as node:
        with pytest.raises(AskFailed, match=sentence):
            await node.ref(Worker, "a").ask(Run(how=how))
    assert not [each for each in await entries(bus) if isinstance(each, Checkpoint)]


@plan
async def cleans_up_behind_a_checkpoint(actor: Worker) -> list[str]:
    if actor.checkpointed(Progress) is None:
        await work("a")
        await actor.checkpoint(Progress(1))
    try:
        return [await work("b")]
    except asyncio.CancelledError:
        await work("undo")
        try:
            await actor.checkpoint(Progress(2))
        except ActorError as no:
            SEEN.append(str(no))
        await work("z")
        raise


async def test_a_turn_that_is_cancelled_behind_a_checkpoint_goes_on_there_and_puts_down_no_more(
    open_another: OpenBus, app_name: str
) -> None:
    bus = await open_another()
    HELD["b"], HELD["z"] = asyncio.Event(), asyncio.Event()
    async with system(app_name).host(bus) as node, asyncio.TaskGroup() as tasks:
        asked = asyncio.create_task(node.ref(Worker, "a").ask(Run(how="cleans_up_behind_a_checkpoint")))
        await HELD["b"].wait()
        cancelling = tasks.create_task(Administration(bus).cancel("worker", "a"))
        await HELD["z"].wait()
        cancelling.cancel()
    HELD.clear()
    async with system(app_name).host(await open_another()):
        with pytest.raises(AskFailed) as failed:
            await asked
    assert failed.value.kind == "cancelled"
    assert RAN == ["a", "b", "undo", "z", "z"]
    assert SEEN == ["a handler that was cancelled puts down no checkpoint any more: clean up and end"] * 2


class Count(Message[int]):
    early: bool


class Tally(Actor, persist="fields"):
    total: int = 0

    @command
    async def count(self, msg: Count) -> int:
        if msg.early:
            self.total += 1
        await self.checkpoint(None)
        self.total += 1
        return self.total


async def test_fields_are_assigned_behind_the_last_checkpoint(bus: Bus, app_name: str) -> None:
    async with System(app_name, actors=[Tally]).checked().host(bus) as node:
        assert await node.ref(Tally, "a").ask(Count(early=False)) == 1
        with pytest.raises(AskFailed, match="a checkpoint comes before anything is emitted, sent, timed or assigned"):
            await node.ref(Tally, "a").ask(Count(early=True))
        assert await node.ref(Tally, "a").ask(Count(early=False)) == 2


# Definitions


async def body(a: int) -> int:
    return a


async def other_body(b: int) -> int:
    return b


def plain_body(a: int) -> int:
    return a


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"redact": ("token",)}, r"the tool body redacts 'token' and has no such parameter: \['a'\]"),
        ({"effect": "twice"}, "effect='twice'"),
        ({"effect": "once", "pure": True}, "pure and effect"),
        ({"verify": body}, "has verify= and can be repeated"),
        ({"effect": "once", "verify": plain_body}, "must be an async function"),
        ({"effect": "once", "verify": other_body}, r"must take the same parameters as the tool: \['a'\]"),
    ],
)
async def test_a_policy_that_could_not_work_is_refused_when_the_tool_is_made(
    options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(DefinitionError, match=sentence):
        tool(**options)(body)


async def test_outside_a_handler_a_policy_means_nothing() -> None:
    assert await charge("order") == Receipt("order", 5)
    assert await deploy.using(key="k", retry=Retry(attempts=2))("x") == "X"
    assert await login("anna", "secret") == "anna"
    with pytest.raises(ActorError, match="has a key once it runs"):
        _ = Worker().key
