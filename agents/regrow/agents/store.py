"""The catalogue on disk: rows, full-text index, cards and the positions reached, in one SQLite file.

Whatever is written goes in one transaction together with the position that it brings the store to, and a
position already reached is not written again: a batch that is delivered twice, or torn by a crash, is in
the index exactly once. Any thread may call any method: there is one connection for reading and one for
writing, each behind a lock, and in WAL mode a reader does not wait for the writer's flush. Several
processes may open the same file.
"""

import hashlib
import re
import sqlite3
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import msgspec

from regrow.agents.product import CatalogueError, Product
from regrow.agents.statistics import CategoryStatistics, category_statistics

CATALOG = "catalog"
"""The stream whose position counts batches of products."""

CARDS = "cards"
"""The stream whose position counts batches of cards."""

QUERY_WORDS_MAX = 32
"""Words of a query that are looked for; each costs a walk through its list of rows."""

SCORED_ROWS_MAX = 2_000
"""About as many rows are scored where a query asks for any of its words; scoring takes a microsecond a row."""

_BUSY_TIMEOUT_S = 10.0  # another process may hold the write lock for as long as it takes to flush a large batch

_SCHEMA = """
CREATE TABLE IF NOT EXISTS position (stream TEXT PRIMARY KEY, reached INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS product (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL COLLATE NOCASE,
    category TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS product_name ON product (name);
CREATE INDEX IF NOT EXISTS product_category ON product (category);
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5 (
    name, category, details, shelf, content = '', tokenize = 'porter unicode61 remove_diacritics 2');
CREATE TABLE IF NOT EXISTS card (id TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
"""

# A word in the name says more of a product than the same word in its category or in its details. Names are
# looked up for the rows that remain only: a common word matches a tenth of the catalogue.
_SEARCH = """
SELECT product.id, product.name, product.category, best.score
FROM (SELECT rowid AS number, -bm25(words, 2.0, 1.0, 0.5, 0.0) AS score FROM words WHERE words MATCH ?
      ORDER BY score DESC, rowid LIMIT ?) AS best
JOIN product USING (number) ORDER BY best.score DESC, number
"""


class StoreError(CatalogueError):
    """The index on disk cannot be used."""


class NotAStore(StoreError):
    """The file is there and is no index of products, or a damaged one."""


class StoreNotWritable(StoreError):
    """The file or its folder may not be written, or another process holds it for too long."""


class StoreFull(StoreError):
    """The disk is full, or the limit set is reached. What was being written is not in the store, what was before is."""


class UnknownProduct(StoreError, LookupError):
    """No product has this identifier."""

    def __init__(self, identifier: str) -> None:
        self.identifier = identifier
        super().__init__(f"no product has the identifier {identifier!r}")


class Hit(msgspec.Struct, frozen=True):
    """One result of a search; a higher score is a better match, scores of two searches do not compare."""

    id: str
    name: str
    category: str
    score: float


class Ingested(msgspec.Struct, frozen=True):
    """What one batch did: products added, identifiers that were there already, and whether it was a repeat."""

    position: int
    added: int
    duplicates: tuple[str, ...] = ()
    repeated: bool = False


class CatalogStore:
    """A catalogue in one file; close it, or use it as a context manager."""

    def __init__(self, path: Path, bytes_max: int | None = None) -> None:
        """Open the index at `path`, or make it. Raises `NotAStore`, `StoreNotWritable` or `StoreFull`.

        With `bytes_max` the file grows no larger: a batch that would make it so is a `StoreFull`.
        """
        self.path = path
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder(Product).decode
        self._statistics: dict[str, tuple[int, CategoryStatistics]] = {}
        with _clear_errors(path):
            self._writer = _connect(path)
            try:
                self._writer.executescript(_SCHEMA)
                if bytes_max is not None:
                    (page_bytes,) = self._writer.execute("PRAGMA page_size").fetchone()
                    self._writer.execute(f"PRAGMA max_page_count = {max(1, bytes_max // page_bytes)}")
                self._reader = _connect(path)
            except BaseException:
                self._writer.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close both connections, after whatever is running; closing twice is no error."""
        with self._writing, self._reading:
            self._reader.close()
            self._writer.close()

    def position(self, stream: str = CATALOG) -> int:
        """The last position written to a stream, 0 before the first."""
        rows = self._read("SELECT reached FROM position WHERE stream = ?", (stream,))
        return rows[0][0] if rows else 0

    def ingest(self, batch_position: int, products: Iterable[Product]) -> Ingested:
        """Add a batch and its words to the index, in one transaction with the position (from 1) it stands for.

        A batch at or below the position reached changes nothing. An identifier that is there already keeps
        the product it has, and is reported.
        """
        with self._transaction(CATALOG, batch_position) as cursor:
            if cursor is None:
                return Ingested(batch_position, added=0, repeated=True)
            added = 0
            duplicates: list[str] = []
            for product in products:
                if self._insert(cursor, product):
                    added += 1
                else:
                    duplicates.append(product.id)
            return Ingested(batch_position, added, tuple(duplicates))

    def file_cards(self, position: int, cards: Iterable[tuple[str, bytes]]) -> bool:
        """Keep a batch of finished cards by identifier; False, and nothing changed, if it was filed already.

        A card filed again at a later position replaces the earlier one.
        """
        with self._transaction(CARDS, position) as cursor:
            if cursor is None:
                return False
            cursor.executemany("INSERT OR REPLACE INTO card (id, body) VALUES (?, ?)", cards)
            return True

    def product(self, identifier: str) -> Product:
        """The product of an identifier; raises `UnknownProduct`."""
        rows = self._read("SELECT body FROM product WHERE id = ?", (identifier,))
        if not rows:
            raise UnknownProduct(identifier)
        return self._decode(rows[0][0])

    def products(self, identifiers: Sequence[str]) -> list[Product]:
        """The products of the identifiers, in their order; raises `UnknownProduct` for the first missing one."""
        rows = self._read(
            "SELECT id, body FROM product WHERE id IN (SELECT value FROM json_each(?))",
            (msgspec.json.encode(list(identifiers)).decode(),),
        )
        bodies: dict[str, bytes] = dict(rows)
        for identifier in identifiers:
            if identifier not in bodies:
                raise UnknownProduct(identifier)
        return [self._decode(bodies[identifier]) for identifier in identifiers]

    def search(self, text: str, limit: int = 10, category: str | None = None) -> list[Hit]:
        """The best matches for the words of a text, best first; equals in the order of the catalogue.

        Products that hold every word come before products that hold some; of words that very many products
        hold (`SCORED_ROWS_MAX`) at least one rarer one must be there. Text is only ever words here: no
        character of it is read as query syntax. No word, no hits.
        """
        words = query_words(text)
        if category is not None:
            # Nearly every name of a category says the category's own words again: they tell nothing apart.
            own = query_words(category)
            words = [word for word in words if word not in own] or words
        if not words or limit < 1:
            return []
        hits = self._matches(" AND ".join(words), limit, category)
        if len(hits) < limit and len(words) > 1:
            have = {hit.id for hit in hits}
            more = self._matches(self._any_of(words, category), limit + len(hits), category)
            hits += [hit for hit in more if hit.id not in have][: limit - len(hits)]
        return hits

    def named(self, name: str, limit: int = 10) -> list[Product]:
        """The first products of exactly this name, upper or lower case, in the order of the catalogue."""
        rows = self._read("SELECT body FROM product WHERE name = ? ORDER BY number LIMIT ?", (name, limit))
        return [self._decode(body) for (body,) in rows]

    def category_values(self, category: str, nutrient: str) -> list[tuple[str, float]]:
        """Identifier and amount of each product of a category that gives the nutrient, least first."""
        values = [(p.id, v) for p in self._category(category) if (v := p.amount(nutrient)) is not None]
        return sorted(values, key=lambda pair: (pair[1], pair[0]))

    def statistics(self, category: str) -> CategoryStatistics:
        """How the numbers of a category are spread; computed once for each state of the catalogue, then kept."""
        reached = self.position(CATALOG)
        kept = self._statistics.get(category)
        if kept is None or kept[0] != reached:
            # Two threads may compute the same value; the later one wins, and they are equal.
            kept = (reached, category_statistics(category, self._category(category)))
            self._statistics[category] = kept
        return kept[1]

    def categories(self) -> list[tuple[str, int]]:
        """Each category and its number of products, the largest first."""
        return self._read("SELECT category, count(*) AS n FROM product GROUP BY category ORDER BY n DESC, category")

    def ids(self, after: str | None = None, limit: int = 1_000) -> list[str]:
        """Up to `limit` identifiers that follow `after` (None: from the start), in the order of the catalogue."""
        start = 0
        if after is not None:
            rows = self._read("SELECT number FROM product WHERE id = ?", (after,))
            if not rows:
                raise UnknownProduct(after)
            start = rows[0][0]
        rows = self._read("SELECT id FROM product WHERE number > ? ORDER BY number LIMIT ?", (start, limit))
        return [identifier for (identifier,) in rows]

    def count(self) -> int:
        """Products in the catalogue."""
        return int(self._read("SELECT count(*) FROM product")[0][0])

    def card(self, identifier: str) -> bytes | None:
        """The card filed under an identifier, None if there is none."""
        rows = self._read("SELECT body FROM card WHERE id = ?", (identifier,))
        return rows[0][0] if rows else None

    def card_count(self) -> int:
        """Cards filed."""
        return int(self._read("SELECT count(*) FROM card")[0][0])

    def cards(self, page: int = 500) -> Iterator[tuple[str, bytes]]:
        """Identifier and bytes of each card, sorted by identifier; read in pages, so it may run beside writers."""
        after = ""
        while rows := self._read("SELECT id, body FROM card WHERE id > ? ORDER BY id LIMIT ?", (after, page)):
            yield from rows
            after = rows[-1][0]

    def _category(self, category: str) -> list[Product]:
        rows = self._read("SELECT body FROM product WHERE category = ? ORDER BY number", (category,))
        return [self._decode(body) for (body,) in rows]

    def _any_of(self, words: list[str], category: str | None) -> str:
        """Rows with any of the words, or, where that is too many to score, with any of the rarer ones."""
        found = [(self._rows_with(word, category), word) for word in words]
        rare: list[str] = []
        rows = 0
        for count, word in sorted(found):
            rows += count
            if rare and rows > SCORED_ROWS_MAX:
                break
            if count:
                rare.append(word)
        if len(rare) == sum(count > 0 for count, _ in found):
            return " OR ".join(rare) or words[0]
        # The common words still count for the score of a row that a rarer word has found.
        return f"({' OR '.join(rare)}) AND ({' OR '.join(words)})"

    def _rows_with(self, word: str, category: str | None) -> int:
        statement = "SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ? LIMIT ?)"
        return int(self._read(statement, (_within(word, category), SCORED_ROWS_MAX + 1))[0][0])

    def _matches(self, match: str, limit: int, category: str | None) -> list[Hit]:
        return [Hit(*row) for row in self._read(_SEARCH, (_within(match, category), limit))]

    def _insert(self, cursor: sqlite3.Cursor, product: Product) -> bool:
        cursor.execute(
            "INSERT OR IGNORE INTO product (id, name, category, body) VALUES (?, ?, ?, ?)",
            (product.id, product.name, product.category, self._encode(product)),
        )
        if not cursor.rowcount:
            return False
        cursor.execute(
            "INSERT INTO words (rowid, name, category, details, shelf) VALUES (?, ?, ?, ?, ?)",
            (
                cursor.lastrowid,
                product.name,
                product.category,
                " ".join(product.details.values()),
                _shelf(product.category),
            ),
        )
        return True

    def _read(self, statement: str, values: tuple[object, ...] = ()) -> list[Any]:
        with self._reading, _clear_errors(self.path):
            return self._reader.execute(statement, values).fetchall()

    @contextmanager
    def _transaction(self, stream: str, position: int) -> Generator[sqlite3.Cursor | None]:
        """A cursor inside a transaction that ends at `position`, or None if the stream is there already."""
        if position < 1:
            raise ValueError(f"positions count from 1, not {position}")
        with self._writing, _clear_errors(self.path), self._writer:
            # IMMEDIATE: the position is read under the write lock, or two processes could both find it low.
            cursor = self._writer.execute("BEGIN IMMEDIATE")
            reached = cursor.execute("SELECT reached FROM position WHERE stream = ?", (stream,)).fetchone()
            if reached is not None and position <= reached[0]:
                yield None
                return
            yield cursor
            cursor.execute("INSERT OR REPLACE INTO position (stream, reached) VALUES (?, ?)", (stream, position))


def query_words(text: str) -> list[str]:
    """The words of a text, each quoted so that the full-text engine takes it as nothing but a word."""
    words = dict.fromkeys(word.lower() for word in re.findall(r"\w+", text))
    return [f'"{word}"' for word in list(words)[:QUERY_WORDS_MAX]]


def _shelf(category: str) -> str:
    """The category as one word, so that the full-text index narrows a search down to exactly it."""
    return f"shelf{int.from_bytes(hashlib.blake2b(category.encode(), digest_size=8).digest())}"


def _within(match: str, category: str | None) -> str:
    return match if category is None else f"{{name details}} : ({match}) AND shelf : {_shelf(category)}"


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL flushes the log at each commit: what was reported as written survives a power cut.
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _clear_errors(path: Path) -> Generator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _store_error(path, error) from error


def _store_error(path: Path, error: sqlite3.Error) -> StoreError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary result code
    match code:
        case sqlite3.SQLITE_FULL:
            return StoreFull(
                f"the disk of {path} is full, or its limit is reached; make room and run the same batch again"
            )
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return NotAStore(f"{path} is not an index of products, or it is damaged: {error}")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_IOERR:
            return StoreNotWritable(f"{path} cannot be opened for writing: {error}")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreNotWritable(f"another process has held {path} for {_BUSY_TIMEOUT_S:.0f} s: {error}")
        case _:
            return StoreError(f"{path}: {error}")
