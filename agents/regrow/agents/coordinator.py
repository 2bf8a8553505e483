"""The coordinator tier: plans a run over the catalogue, shares it out in lots, keeps count, and passes questions on."""

import asyncio
import hashlib

import msgspec

from regrow.actors import Actor, AskFailed, AskTimeout, Event, Message, Refused, command, event, query
from regrow.agents.card import ProductCard, Recommendation
from regrow.agents.catalog import Catalog, FileCards, Load
from regrow.agents.food_tools import Loaded, Source, lot_products, plan_lots
from regrow.agents.researcher import Answer, Research, Researcher

CATALOG_KEY = "main"
LOT_TIMEOUT_S = 3600.0


class Status(msgspec.Struct, frozen=True):
    """How far a run has come."""

    lots: int = 0
    lots_done: int = 0
    products: int = 0
    products_done: int = 0
    bad_rows: int = 0
    first_bad: tuple[str, ...] = ()
    products_failed: int = 0
    first_failed: str = ""
    """The first product whose research failed for good, and why."""

    @property
    def done(self) -> bool:
        """Whether every planned lot is finished, failed products or not; an empty catalogue has none."""
        return self.lots > 0 and self.lots_done == self.lots


class Index(Message[Status]):
    """Take a catalogue in and research its products. Refused when its file cannot be read.

    Told again, it runs once; told after the end, it tries those products again whose research had failed.
    """

    source: Source
    products_max: int
    lot_size: int = 50
    lots_at_once: int = 6


class Progress(Message[Status]):
    """How far is the run?"""


class Recommend(Message[Recommendation]):
    """Answer a question about the catalogue."""

    question: str


class ResearchLot(Message[None]):
    """Research a lot's products, file their cards, report to the run's coordinator."""

    run: str
    number: int
    after: str = ""
    size: int = 0
    products: list[str] = []
    """These, where any are named; else ``size`` of the catalogue's that follow ``after``."""


class LotDone(Message[None]):
    """A lot's cards are filed; some products may have failed."""

    number: int
    cards: int
    failed: list[str] = []
    why: str = ""


class RunPlanned(Event):
    """The catalogue is in, and this is how its products are shared out."""

    starts: list[str]
    lot_size: int
    lots_at_once: int
    products: int
    loaded: Loaded


class LotFinished(Event):
    """One lot less to do."""

    number: int
    cards: int
    failed: list[str] = []
    why: str = ""


class FailedTriedAgain(Event):
    """The products that had failed are shared out once more."""

    lots: list[list[str]]


class Coordinator(Actor):
    """One run over the catalogue, by its key."""

    starts: list[str] = []
    lot_size: int = 0
    lots_at_once: int = 0
    finished: list[int] = []
    failed: list[str] = []
    again: list[list[str]] = []
    """The lots of products that had failed, numbered after the planned ones."""
    status: Status = Status()

    @command
    async def index(self, message: Index) -> Status:
        """Plans the run and sends out its first lots; each finished one sends out the next."""
        if self.starts:
            self._try_failed_again()
            return self.status
        loaded = await self.ref(Catalog, CATALOG_KEY).ask(Load(source=message.source), timeout_s=LOT_TIMEOUT_S)
        starts = await plan_lots(message.lot_size, message.products_max)
        products = min(loaded.products, message.products_max)
        self.emit(
            RunPlanned(
                starts=starts,
                lot_size=message.lot_size,
                lots_at_once=message.lots_at_once,
                products=products,
                loaded=loaded,
            )
        )
        for number in range(min(self.lots_at_once, len(starts))):
            self._send_lot(number)
        return self.status

    @command
    async def lot_done(self, message: LotDone) -> None:
        """Counts a lot and sends out the next one."""
        if message.number in self.finished:
            return
        self.emit(LotFinished(number=message.number, cards=message.cards, failed=message.failed, why=message.why))
        following = len(self.finished) - 1 + self.lots_at_once
        if following < self.status.lots:
            self._send_lot(following)

    @command
    async def recommend(self, message: Recommend) -> Recommendation:
        """Passes a question to a researcher of its own; the same question finds its recorded answer there."""
        key = hashlib.blake2b(message.question.encode(), digest_size=8).hexdigest()
        return await self.ref(Researcher, f"question-{key}").ask(Answer(question=message.question))

    @query
    async def progress(self, message: Progress) -> Status:
        """Also while a turn runs."""
        return self.status

    @event
    def planned(self, fact: RunPlanned) -> None:
        self.starts, self.lot_size, self.lots_at_once = fact.starts, fact.lot_size, fact.lots_at_once
        self.status = Status(
            lots=len(fact.starts),
            products=fact.products,
            bad_rows=fact.loaded.bad_rows,
            first_bad=fact.loaded.first_bad,
        )

    @event
    def lot_finished(self, fact: LotFinished) -> None:
        self.finished = [*self.finished, fact.number]
        self.status = msgspec.structs.replace(
            self.status,
            lots_done=self.status.lots_done + 1,
            products_done=self.status.products_done + fact.cards,
            products_failed=self.status.products_failed + len(fact.failed),
            first_failed=self.status.first_failed or fact.why,
        )
        self.failed = [*self.failed, *fact.failed]

    @event
    def tried_again(self, fact: FailedTriedAgain) -> None:
        self.again, self.failed = [*self.again, *fact.lots], []
        self.status = msgspec.structs.replace(
            self.status, lots=self.status.lots + len(fact.lots), products_failed=0, first_failed=""
        )

    def _try_failed_again(self) -> None:
        if not self.status.done or not self.failed:
            return
        first = self.status.lots
        lots = [self.failed[i : i + self.lot_size] for i in range(0, len(self.failed), self.lot_size)]
        self.emit(FailedTriedAgain(lots=lots))
        for number in range(first, min(first + self.lots_at_once, self.status.lots)):
            self._send_lot(number)

    def _send_lot(self, number: int) -> None:
        if number < len(self.starts):
            size = min(self.lot_size, self.status.products - number * self.lot_size)
            lot = ResearchLot(run=self.key, number=number, after=self.starts[number], size=size)
        else:
            lot = ResearchLot(run=self.key, number=number, products=self.again[number - len(self.starts)])
        self.send(self.ref(Lot, f"{self.key}-{number}"), lot)


class Lot(Actor):
    """A coordinator's share of a run: plain asyncio over durable asks."""

    @command
    async def research(self, lot: ResearchLot) -> None:
        """Asks one researcher per product, all at once; after a crash those that have answered are not asked again.

        A product that fails does not hold up its lot: its neighbours' cards are filed, and it is reported.
        """
        products = lot.products or await lot_products(lot.after, lot.size)
        outcomes = await asyncio.gather(*(self._card(product) for product in products))
        cards = [each for each in outcomes if isinstance(each, ProductCard)]
        failed = {product: each for product, each in zip(products, outcomes, strict=True) if isinstance(each, str)}
        if cards and (unfiled := await self._file(lot, cards)):
            cards, failed = [], failed | {each.id: unfiled for each in cards}
        why = next((f"{product}: {reason}" for product, reason in failed.items()), "")
        self.send(
            self.ref(Coordinator, lot.run), LotDone(number=lot.number, cards=len(cards), failed=list(failed), why=why)
        )

    async def _file(self, lot: ResearchLot, cards: list[ProductCard]) -> str:
        """Why the cards could not be filed; empty when they are."""
        filing = FileCards(lot=lot.number, cards=cards)
        try:
            await self.ref(Catalog, CATALOG_KEY).ask(filing, timeout_s=LOT_TIMEOUT_S)
        except (Refused, AskFailed, AskTimeout) as failed:
            return str(failed)
        return ""

    async def _card(self, product: str) -> ProductCard | str:
        """A product's card, or why there is none."""
        try:
            return await self.ref(Researcher, product).ask(Research(), timeout_s=LOT_TIMEOUT_S)
        except (Refused, AskFailed, AskTimeout) as failed:
            return str(failed)
