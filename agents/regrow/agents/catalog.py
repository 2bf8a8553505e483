"""The catalog tier: one durable actor that takes rows into the index and files finished cards, each exactly once."""

from regrow.actors import Actor, Event, Message, Refused, StepFailed, command, event
from regrow.agents.card import ProductCard
from regrow.agents.food_tools import Loaded, Source, file_cards, ingest
from regrow.agents.product import CatalogueError


class Load(Message[Loaded]):
    """Take this file into the catalogue. Refused, with the reason and the ``error``'s class, when it cannot be read."""

    source: Source


class FileCards(Message[int]):
    """File the cards of one lot; the answer is how many cards have been filed so far."""

    lot: int
    cards: list[ProductCard]


class RowsLoaded(Event):
    """A file was taken into the index."""

    source: Source
    loaded: Loaded


class CardsFiled(Event):
    """The cards of a lot were filed under a position."""

    lot: int
    position: int
    cards: int


class Catalog(Actor):
    """Owns the catalogue's file: nobody else writes to it, and each batch goes in with the position it stands for."""

    position: int = 0
    """Batches of cards filed so far; the next batch gets the next position, whatever lot it comes from."""
    cards: int = 0

    @command
    async def load(self, load: Load) -> Loaded:
        """Takes the rows in, exactly once: a row batch and the position it has reached are one transaction."""
        try:
            loaded = await ingest(load.source)
        except CatalogueError as unreadable:
            raise Refused(str(unreadable), error=type(unreadable).__name__) from None
        except StepFailed as failed:
            raise Refused(failed.message, error=failed.error) from None
        self.emit(RowsLoaded(source=load.source, loaded=loaded))
        return loaded

    @command
    async def file(self, batch: FileCards) -> int:
        """Files a lot's cards. Killed after the transaction and before the record, it runs again and changes nothing."""
        filed = await file_cards(self.position + 1, batch.cards)
        self.emit(CardsFiled(lot=batch.lot, position=self.position + 1, cards=filed))
        return self.cards

    @event
    def loaded(self, fact: RowsLoaded) -> None:
        """The rows themselves are in the file; the log keeps what was taken and when."""

    @event
    def filed(self, fact: CardsFiled) -> None:
        self.position = fact.position
        self.cards += fact.cards
