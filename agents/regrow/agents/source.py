"""Reading a catalogue: USDA's file, or anybody's CSV or JSON lines, one row at a time.

A file that cannot be read at all raises; a row that cannot be read is yielded as a `BadRow` and the rest
goes on. Nothing is held but the identifiers seen, so a file may be larger than memory. Blocking; call it
in a thread.
"""

import csv
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from regrow.agents.product import UNITS, CatalogueError, Product

ROW_NUMBER = "#"
"""As `id_column`: the zero-based number of the row is its identifier."""

_IDS = ("id", "row", "product_id", "productid", "item_id", "sku", "asin", "gtin", "ean", "upc", "code", "key")
_TEXTS = ("name", "title", "foodname", "product_name", "product_title", "product", "label", "description", "text")
_CATEGORIES = ("category", "food_category", "product_category", "product_type", "department")
_PORTIONS = ("portion", "portion_unit_name", "serving", "serving_size")
_PORTION_GRAMS = ("portion_g", "portion_gram_weight", "serving_g", "serving_size_g")
_USDA = {"foodName", "food_category", "portion_unit_name", "portion_gram_weight", "number_of_nutrients"}
_DERIVED = {"number_of_nutrients"}  # counts the other columns of its row: says nothing of the food

_PEEKED_ROWS = 200
"""Rows looked at to tell columns of numbers from columns of text."""

_NUMERIC_SHARE = 0.95
"""A column is numeric when this share of its peeked cells are numbers; a later cell that is none is a bad row."""


class UnreadableCatalogue(CatalogueError):
    """The file is not there, may not be read, or is of no known format."""


class EmptyCatalogue(CatalogueError):
    """The file holds no rows."""


class WrongEncoding(CatalogueError):
    """The file is not UTF-8 text."""


class WrongColumns(CatalogueError):
    """The column of the identifiers or of the names cannot be told."""

    def __init__(self, found: Sequence[str], needed: str) -> None:
        self.found = tuple(found)
        self.needed = needed
        super().__init__(f"{needed}; the columns found are: {', '.join(found) or 'none'}")


class BadRow(msgspec.Struct, frozen=True):
    """A row that was left out: its line in the file (from 1) and why."""

    line: int
    why: str


class Batch(msgspec.Struct, frozen=True):
    """Up to `size` products that follow each other, and the bad rows met among them.

    `position` counts the batches of the file from 1 and is the same each time the file is read.
    """

    position: int
    products: tuple[Product, ...]
    bad: tuple[BadRow, ...]


class _Columns(msgspec.Struct, frozen=True):
    id: str | None  # None: the row's number
    text: str
    category: str | None
    portion: str | None
    portion_g: str | None
    data_type: str | None
    numbers: frozenset[str]
    texts: tuple[str, ...]


_NUTRIENTS = {name.casefold(): name for name in UNITS}
"""However a file spells a nutrient's column, it is that nutrient."""

_Cells = Mapping[str, Any]
_Row = tuple[int, "_Cells | BadRow"]  # line in the file, and what it holds


def read_products(
    path: Path, id_column: str | None = None, text_column: str | None = None
) -> Iterator[Product | BadRow]:
    """Each product of a `.csv` or `.jsonl` file in its order, and a `BadRow` for each row that is none.

    Columns are found by their usual names unless named here. Of rows with equal identifiers the first
    counts. The errors of the file itself are raised at the first row asked for: `UnreadableCatalogue`,
    `EmptyCatalogue`, `WrongEncoding`, `WrongColumns`.
    """
    rows = _reader(path)(path)
    peeked = list(itertools.islice(rows, _PEEKED_ROWS))
    if not peeked:
        raise EmptyCatalogue(f"{path} holds no rows")
    columns = _columns([cells for _, cells in peeked if not isinstance(cells, BadRow)], id_column, text_column)
    seen: dict[str, int] = {}
    for number, (line, cells) in enumerate(itertools.chain(peeked, rows)):
        if isinstance(cells, BadRow):
            yield cells
            continue
        try:
            product = _product(cells, columns, number)
        except ValueError as why:
            yield BadRow(line, str(why))
            continue
        if seen.setdefault(product.id, line) == line:
            yield product
        else:
            yield BadRow(line, f"the identifier {product.id!r} is that of line {seen[product.id]}; the first counts")


def read_batches(items: Iterable[Product | BadRow], size: int) -> Iterator[Batch]:
    """The rows of a file in batches of up to `size` products, numbered from 1."""
    position = 0
    products: list[Product] = []
    bad: list[BadRow] = []
    for item in items:
        if isinstance(item, BadRow):
            bad.append(item)
            continue
        products.append(item)
        if len(products) == size:
            position += 1
            yield Batch(position, tuple(products), tuple(bad))
            products, bad = [], []
    if products or bad:
        yield Batch(position + 1, tuple(products), tuple(bad))


def _reader(path: Path) -> Callable[[Path], Iterator[_Row]]:
    match path.suffix.lower():
        case ".csv":
            return _csv_rows
        case ".jsonl" | ".ndjson":
            return _json_rows
        case other:
            raise UnreadableCatalogue(f"{path} ends in {other!r}; a catalogue is a .csv or a .jsonl file")


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from file
    except OSError as error:
        raise UnreadableCatalogue(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise WrongEncoding(f"{path} is not UTF-8 text (byte 0x{byte:02x}); save it as UTF-8") from error


def _csv_rows(path: Path) -> Iterator[_Row]:
    reader = csv.reader(_lines(path))
    header = next(reader, None)
    if not header:
        raise EmptyCatalogue(f"{path} is empty")
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise WrongColumns(header, f"each column needs a name of its own, {twice[0]!r} is there twice")
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, BadRow(line, str(error))
            continue
        if not cells:
            continue
        if len(cells) != len(header):
            yield line, BadRow(line, f"{len(cells)} cells where the header has {len(header)}")
        else:
            yield line, dict(zip(header, cells, strict=True))


def _json_rows(path: Path) -> Iterator[_Row]:
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    for line, text in enumerate(_lines(path), start=1):
        if not text.strip():
            continue
        try:
            yield line, decode(text)
        except msgspec.DecodeError as error:
            yield line, BadRow(line, f"not a JSON object: {error}")


def _columns(rows: list[_Cells], id_column: str | None, text_column: str | None) -> _Columns:
    names = list(dict.fromkeys(itertools.chain.from_iterable(rows)))
    if id_column is None and _USDA.issubset(names) and "row" not in names:
        id_column = ROW_NUMBER
    if id_column != ROW_NUMBER:
        id_column = _chosen(names, id_column, _IDS, "identifier")
    text = _chosen(names, text_column, _TEXTS, "name")
    category = _find(names, _CATEGORIES)
    portion, portion_g = _find(names, _PORTIONS), _find(names, _PORTION_GRAMS)
    data_type = _find(names, ("data_type",))
    rest = [n for n in names if n not in {id_column, text, category, portion, portion_g, data_type} | _DERIVED]
    numbers = frozenset(
        n for n in rest if n.strip().casefold() in _NUTRIENTS or _is_numeric([row.get(n) for row in rows])
    )
    return _Columns(
        id=None if id_column == ROW_NUMBER else id_column,
        text=text,
        category=category,
        portion=portion,
        portion_g=portion_g,
        data_type=data_type,
        numbers=numbers,
        texts=tuple(n for n in rest if n not in numbers),
    )


def _chosen(names: list[str], wanted: str | None, usual: tuple[str, ...], what: str) -> str:
    if wanted is not None:
        if wanted not in names:
            raise WrongColumns(names, f"the {what} column {wanted!r} is missing")
        return wanted
    found = _find(names, usual)
    if found is None:
        raise WrongColumns(names, f"a column for the {what} is needed, say which one it is")
    return found


def _find(names: list[str], usual: tuple[str, ...]) -> str | None:
    by_plain = {name.strip().lower().replace(" ", "_"): name for name in reversed(names)}
    return next((by_plain[candidate] for candidate in usual if candidate in by_plain), None)


def _is_numeric(cells: list[Any]) -> bool:
    given = [cell for cell in cells if cell not in (None, "")]
    return bool(given) and sum(_is_number(cell) for cell in given) >= _NUMERIC_SHARE * len(given)


def _is_number(cell: Any) -> bool:
    try:
        _number(cell)
    except ValueError:
        return False
    return True


def _number(cell: Any) -> float:
    if isinstance(cell, bool) or not isinstance(cell, str | int | float):
        raise ValueError(f"{_text(cell)} is not a number")
    try:
        number = float(cell)
    except (ValueError, OverflowError):
        raise ValueError(f"{cell!r} is not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"{cell!r} is not a finite number")
    return number


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    return cell.strip() if isinstance(cell, str) else msgspec.json.encode(cell).decode()


def _product(cells: _Cells, columns: _Columns, number: int) -> Product:
    identifier = str(number) if columns.id is None else _text(cells.get(columns.id))
    name = _text(cells.get(columns.text))
    if not identifier:
        raise ValueError(f"the column {columns.id!r} is empty")
    if not name:
        raise ValueError(f"the column {columns.text!r} is empty")
    portion_g = _optional_number(cells, columns.portion_g)
    return Product(
        id=identifier,
        name=name,
        category=_optional_text(cells, columns.category),
        portion=_optional_text(cells, columns.portion),
        portion_g=portion_g,
        nutrients=_numbers(cells, columns.numbers),
        data_type=_optional_text(cells, columns.data_type),
        details={n: text for n in columns.texts if (text := _text(cells.get(n)))},
    )


def _optional_text(cells: _Cells, column: str | None) -> str:
    return "" if column is None else _text(cells.get(column))


def _optional_number(cells: _Cells, column: str | None) -> float | None:
    if column is None or cells.get(column) in (None, ""):
        return None
    try:
        return _number(cells[column])
    except ValueError as why:
        raise ValueError(f"in column {column!r} {why}") from None


def _numbers(cells: _Cells, columns: frozenset[str]) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for column, cell in cells.items():
        if column not in columns or cell is None or cell == "":
            continue
        try:
            numbers[_NUTRIENTS.get(column.strip().casefold(), column)] = _number(cell)
        except ValueError as why:
            raise ValueError(f"in column {column!r} {why}") from None
    return numbers
