"""The researcher tier: one durable actor per product or question, a plain Python loop over model and tool steps."""

import asyncio

from regrow.actors import Event, Message, Refused, StepFailed, command, event
from regrow.agents.agent import Agent
from regrow.agents.card import Alternatives, Choice, NameReading, ProductCard, Recommendation, Summary, Traits
from regrow.agents.food_tools import (
    check_energy,
    compare_candidates,
    convert_portion,
    find_base,
    find_candidates,
    lookup,
    nutrient_claims,
    place_in_category,
    portion_amounts,
    search_similar,
    verify_alternatives,
)
from regrow.agents.question import Wish
from regrow.agents.recommend import NothingLike
from regrow.models import Prompt


class Research(Message[ProductCard]):
    """Research the product whose id is this researcher's key. Refused, with the reason, when a step has failed for good."""


class Answer(Message[Recommendation]):
    """Answer a question about the catalogue. Refused, with the reason, when it cannot be understood or nothing is like it."""

    question: str


class Researched(Event):
    """A product's research is finished; the card itself is the reply and lies in the catalogue."""

    title: str
    alternatives: int


class Answered(Event):
    """A question was answered."""

    recommendation: Recommendation


class Researcher(Agent):
    """Finds out what there is to say about one product, or answers one question, with evidence from the rows."""

    title: str = ""
    answered: Recommendation | None = None

    @command
    async def research(self, message: Research) -> ProductCard:
        """The product's card, or that there is none: a step that has failed for good is for whoever asked to try again."""
        try:
            return await self._card()
        except StepFailed as failed:
            raise Refused(failed.message, error=failed.error) from None

    async def _card(self) -> ProductCard:
        """Thirteen steps, four of them model calls; independent ones run side by side."""
        product = await lookup(self.key)
        reading, portion = await asyncio.gather(
            self.model.complete(_read_name(product.name, product.category), NameReading),
            convert_portion(product.portion, product.portion_g),
        )
        amounts, energy, places, similar = await asyncio.gather(
            portion_amounts(product.id, portion),
            check_energy(product.id, portion),
            place_in_category(product.id),
            search_similar(product.id, reading.keywords),
        )
        claimed, candidates = await asyncio.gather(
            nutrient_claims(amounts, portion), compare_candidates(product.id, similar)
        )
        judged, chosen = await asyncio.gather(
            self.model.complete(
                Prompt(
                    "judge_traits",
                    "Say what marks this product, the strongest first, each with the number that says so.",
                    {"amounts": amounts, "percentiles": places, "claims": claimed},
                ),
                Traits,
            ),
            self.model.complete(
                Prompt(
                    "choose_alternatives",
                    "Choose up to three candidates that are better in one of these nutrients and worse in none.",
                    {"candidates": candidates},
                ),
                Alternatives,
            ),
        )
        verified = await verify_alternatives(product.id, chosen.alternatives)
        summary = await self.model.complete(
            Prompt(
                "summarise",
                "Write one sentence about this product from what was found.",
                {
                    "title": reading.title,
                    "category": product.category,
                    "traits": judged.traits,
                    "alternatives": verified.kept,
                },
            ),
            Summary,
        )
        self.emit(Researched(title=reading.title, alternatives=len(verified.kept)))
        return ProductCard(
            id=product.id,
            title=reading.title,
            category=product.category,
            portion=portion,
            traits=judged.traits,
            percentiles=places,
            energy_check=energy,
            alternatives=verified.kept,
            summary=summary.sentence,
            model=self.model.name,
        )

    @command
    async def answer(self, message: Answer) -> Recommendation:
        """Reads the question, finds what it names and what might answer it, and picks one with the numbers that show it.

        Asked once more, it gives the answer that it has: the catalogue does not change.
        """
        if self.answered is not None:
            return self.answered
        try:
            wish = await self.model.complete(
                Prompt(
                    "read_question",
                    "Say what is wanted: like which product, less and more of what.",
                    {"question": message.question},
                ),
                Wish,
            )
            base = await find_base(wish)
        except NothingLike as nothing:
            raise Refused(str(nothing)) from None
        except StepFailed as failed:
            raise Refused(failed.message) from None
        candidates = await find_candidates(wish, base.id)
        choice = await self.model.complete(
            Prompt(
                "pick_answer",
                "Pick the candidate most like the base that gives all that is wished, with the numbers that show it.",
                {"wish": wish, "base": base, "candidates": candidates},
            ),
            Choice,
        )
        recommendation = Recommendation(
            message.question, wish, base.id, choice.id, choice.name, choice.reason, choice.evidence
        )
        self.emit(Answered(recommendation=recommendation))
        return recommendation

    @event
    def researched(self, fact: Researched) -> None:
        self.title = fact.title

    @event
    def noted(self, fact: Answered) -> None:
        self.answered = fact.recommendation


def _read_name(name: str, category: str) -> Prompt:
    return Prompt(
        "read_name",
        "Give the product a readable name, the words to search its like by, and the words for its form.",
        {"name": name, "category": category},
    )
