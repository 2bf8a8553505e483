"""The coordinator tier: plans a run over the catalogue, shares it out in lots, keeps count, and passes questions on."""

import asyncio
import hashlib

import msgspec

from regrow.actors import Actor, Event, Message, command, event, query
from regrow.agents.card import Recommendation
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

    @property
    def done(self) -> bool:
        """Whether every planned lot is finished; an empty catalogue has none."""
        return self.lots > 0 and self.lots_done == self.lots


class Index(Message[Status]):
    """Take a catalogue in and research its products. Refused when its file cannot be read. Told twice, it runs once."""

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
    after: str
    size: int


class LotDone(Message[None]):
    """A lot's cards are filed."""

    number: int
    cards: int


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


class Coordinator(Actor):
    """One run over the catalogue, by its key."""

    starts: list[str] = []
    lot_size: int = 0
    lots_at_once: int = 0
    finished: list[int] = []
    status: Status = Status()

    @command
    async def index(self, message: Index) -> Status:
        """Plans the run and sends out its first lots; each finished one sends out the next."""
        if self.starts:
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
        self.emit(LotFinished(number=message.number, cards=message.cards))
        following = len(self.finished) - 1 + self.lots_at_once
        if following < len(self.starts):
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
        )

    def _send_lot(self, number: int) -> None:
        size = min(self.lot_size, self.status.products - number * self.lot_size)
        lot = ResearchLot(run=self.key, number=number, after=self.starts[number], size=size)
        self.send(self.ref(Lot, f"{self.key}-{number}"), lot)


class Lot(Actor):
    """A coordinator's share of a run: plain asyncio over durable asks."""

    @command
    async def research(self, lot: ResearchLot) -> None:
        """Asks one researcher per product, all at once; after a crash those that have answered are not asked again."""
        products = await lot_products(lot.after, lot.size)
        cards = await asyncio.gather(
            *(self.ref(Researcher, product).ask(Research(), timeout_s=LOT_TIMEOUT_S) for product in products)
        )
        catalog = self.ref(Catalog, CATALOG_KEY)
        await catalog.ask(FileCards(lot=lot.number, cards=list(cards)), timeout_s=LOT_TIMEOUT_S)
        self.send(self.ref(Coordinator, lot.run), LotDone(number=lot.number, cards=len(cards)))
