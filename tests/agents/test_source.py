from pathlib import Path

import pytest

from regrow.agents.product import Product
from regrow.agents.source import (
    ROW_NUMBER,
    BadRow,
    EmptyCatalogue,
    UnreadableCatalogue,
    WrongColumns,
    WrongEncoding,
    read_batches,
    read_products,
)

USDA_HEADER = (
    "foodName,data_type,food_category,portion_unit_name,portion_gram_weight,number_of_nutrients,Energy,Sodium\n"
)


def read(path: Path, text: str | bytes, **columns: str) -> list[Product | BadRow]:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return list(read_products(path, **columns))


def test_a_shop_catalogue_is_read_by_its_usual_columns(tmp_path: Path) -> None:
    text = "sku,title,category,price,colour\nA1,Blue lamp,Lamps,19.90,blue\nA2,Red lamp,Lamps,,red\n"
    assert read(tmp_path / "shop.csv", text) == [
        Product("A1", "Blue lamp", "Lamps", nutrients={"price": 19.9}, details={"colour": "blue"}),
        Product("A2", "Red lamp", "Lamps", details={"colour": "red"}),
    ]


def test_usda_rows_are_numbered_from_zero(tmp_path: Path) -> None:
    text = USDA_HEADER + "BRIE,branded_food,Cheese,1 ONZ,28.0,2,357.0,600.0\nSALT,branded_food,Spices,,,1,,38000\n"
    assert read(tmp_path / "fooddata.csv", text) == [
        Product("0", "BRIE", "Cheese", "1 ONZ", 28.0, {"Energy": 357.0, "Sodium": 600.0}, "branded_food"),
        Product("1", "SALT", "Spices", nutrients={"Sodium": 38000.0}, data_type="branded_food"),
    ]


def test_usda_numbers_do_not_move_when_a_row_is_bad(tmp_path: Path) -> None:
    text = USDA_HEADER + ",branded_food,Cheese,,,0,,\nSALT,branded_food,Spices,,,1,,38000\n"
    bad, salt = read(tmp_path / "fooddata.csv", text)
    assert bad == BadRow(2, "the column 'foodName' is empty")
    assert isinstance(salt, Product)
    assert salt.id == "1"


def test_columns_can_be_named(tmp_path: Path) -> None:
    text = "id,ref,name,blurb\n1,a,x,Blue lamp\n"
    (product,) = read(tmp_path / "c.csv", text, id_column="ref", text_column="blurb")
    assert isinstance(product, Product)
    assert (product.id, product.name) == ("a", "Blue lamp")


def test_row_numbers_serve_where_there_is_no_identifier(tmp_path: Path) -> None:
    products = read(tmp_path / "c.csv", "name\nlamp\nlamp\n", id_column=ROW_NUMBER)
    assert products == [Product("0", "lamp"), Product("1", "lamp")]


@pytest.mark.parametrize(
    ("text", "columns", "needed"),
    [
        ("a,b\n1,2\n", {}, "a column for the identifier is needed, say which one it is"),
        ("id,b\n1,2\n", {}, "a column for the name is needed, say which one it is"),
        ("id,name\n1,2\n", {"id_column": "sku"}, "the identifier column 'sku' is missing"),
        ("id,name\n1,2\n", {"text_column": "title"}, "the name column 'title' is missing"),
        ("id,name,id\n1,2,3\n", {}, "each column needs a name of its own, 'id' is there twice"),
    ],
)
def test_columns_that_cannot_be_told_are_a_clear_error(
    tmp_path: Path, text: str, columns: dict[str, str], needed: str
) -> None:
    with pytest.raises(WrongColumns, match=needed) as caught:
        read(tmp_path / "c.csv", text, **columns)
    assert caught.value.needed == needed
    assert list(caught.value.found) == text.split("\n")[0].split(",")


def test_a_row_that_does_not_decode_is_shown_and_the_rest_goes_on(tmp_path: Path) -> None:
    rows = "".join(f"{n},lamp {n},{n}.5\n" for n in range(40))
    text = f"id,name,price\n{rows}90,lamp,cheap\n91,lamp\n,lamp,1\n92,,1\n93,lamp,inf\n94,last,2\n"
    items = read(tmp_path / "c.csv", text)
    assert [item for item in items if isinstance(item, BadRow)] == [
        BadRow(42, "in column 'price' 'cheap' is not a number"),
        BadRow(43, "2 cells where the header has 3"),
        BadRow(44, "the column 'id' is empty"),
        BadRow(45, "the column 'name' is empty"),
        BadRow(46, "in column 'price' 'inf' is not a finite number"),
    ]
    assert items[-1] == Product("94", "last", nutrients={"price": 2.0})


def test_a_portion_that_is_no_number_is_named_by_its_column(tmp_path: Path) -> None:
    (bad,) = read(tmp_path / "fooddata.csv", USDA_HEADER + "BRIE,branded_food,Cheese,1 ONZ,inf,1,357.0,\n")
    assert bad == BadRow(2, "in column 'portion_gram_weight' 'inf' is not a finite number")


def test_a_cell_too_large_for_csv_is_a_bad_row_and_empty_lines_are_none(tmp_path: Path) -> None:
    items = read(tmp_path / "c.csv", f"id,name\n1,{'x' * 200_000}\n\n2,lamp\n")
    assert items == [BadRow(2, "field larger than field limit (131072)"), Product("2", "lamp")]


def test_of_equal_identifiers_the_first_counts(tmp_path: Path) -> None:
    assert read(tmp_path / "c.csv", "id,name\n1,first\n2,other\n1,second\n") == [
        Product("1", "first"),
        Product("2", "other"),
        BadRow(4, "the identifier '1' is that of line 2; the first counts"),
    ]


def test_lines_are_counted_in_the_file_even_where_a_cell_spans_several(tmp_path: Path) -> None:
    _, bad = read(tmp_path / "c.csv", 'id,name\n1,"two\nlines"\n,lamp\n')
    assert bad == BadRow(4, "the column 'id' is empty")


def test_json_lines_are_read_with_numbers_text_and_nested_values(tmp_path: Path) -> None:
    text = '{"id": 1, "title": "Lamp", "price": 5, "new": true, "tags": ["a", "b"]}\n\n{"id": 2, "title": "Chair"}\n'
    assert read(tmp_path / "c.jsonl", text) == [
        Product("1", "Lamp", nutrients={"price": 5.0}, details={"new": "true", "tags": '["a","b"]'}),
        Product("2", "Chair"),
    ]


def test_a_line_that_is_no_json_object_is_a_bad_row(tmp_path: Path) -> None:
    first, bad, broken, last = read(tmp_path / "c.jsonl", '{"id":"1","name":"a"}\n[1]\n{"id":\n{"id":"2","name":"b"}\n')
    assert (first, last) == (Product("1", "a"), Product("2", "b"))
    assert isinstance(bad, BadRow)
    assert isinstance(broken, BadRow)
    assert (bad.line, broken.line) == (2, 3)
    assert bad.why.startswith("not a JSON object: ")


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    assert read(tmp_path / "c.csv", b"\xef\xbb\xbfid,name\n1,lamp\n") == [Product("1", "lamp")]


@pytest.mark.parametrize("text", ["", "id,name\n"])
def test_a_file_without_rows_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(EmptyCatalogue):
        read(tmp_path / "c.csv", text)


def test_an_empty_json_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EmptyCatalogue, match="holds no rows"):
        read(tmp_path / "c.jsonl", "\n")


def test_another_encoding_is_named_by_its_byte(tmp_path: Path) -> None:
    with pytest.raises(WrongEncoding, match=r"is not UTF-8 text \(byte 0xe9\); save it as UTF-8"):
        read(tmp_path / "c.csv", "id,name\n1,café\n".encode("latin-1"))


def test_a_missing_file_and_a_folder_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UnreadableCatalogue, match="cannot be read: No such file"):
        list(read_products(tmp_path / "none.csv"))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UnreadableCatalogue, match="cannot be read"):
        list(read_products(tmp_path / "folder.csv"))


def test_an_unknown_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableCatalogue, match=r"ends in '\.xlsx'"):
        read(tmp_path / "c.xlsx", "id,name\n")


def test_batches_count_from_one_and_carry_the_bad_rows_met_among_them() -> None:
    items: list[Product | BadRow] = [Product("1", "a"), BadRow(3, "x"), Product("2", "b"), Product("3", "c")]
    first, second = read_batches(items, size=2)
    assert (first.position, [p.id for p in first.products], first.bad) == (1, ["1", "2"], (BadRow(3, "x"),))
    assert (second.position, [p.id for p in second.products], second.bad) == (2, ["3"], ())


def test_bad_rows_after_the_last_full_batch_are_not_lost() -> None:
    items: list[Product | BadRow] = [Product("1", "a"), BadRow(3, "x")]
    *_, last = read_batches(items, size=1)
    assert (last.position, last.products, last.bad) == (2, (), (BadRow(3, "x"),))


def test_a_nutrient_is_known_however_its_column_is_spelt(tmp_path: Path) -> None:
    text = "id,name,sodium, PROTEIN ,Total Fat\n1,Cheese,600,25,\n"
    assert read(tmp_path / "shop.csv", text) == [Product("1", "Cheese", nutrients={"Sodium": 600.0, "Protein": 25.0})]
