"""The page about failures says what the table in the code says, and its snippet runs."""

import re
from pathlib import Path
from typing import Any

import pytest

from regrow.actors import Repeat, Retry, action_of
from regrow.actors.failure_action import ACTIONS

PAGE = (Path(__file__).parent.parent / "docs" / "failures.md").read_text(encoding="utf-8")
ROW = re.compile(
    r"^\| (?P<kinds>`\w+`(?:, `\w+`)*) \|.*\| `(?P<action>\w+)\((?:attempts=(?P<attempts>\d+))?\)`", re.MULTILINE
)


def rows() -> dict[str, tuple[str, str | None]]:
    return {
        kind: (row["action"], row["attempts"])
        for row in ROW.finditer(PAGE)
        for kind in re.findall(r"\w+", row["kinds"])
    }


def test_every_kind_has_its_row() -> None:
    assert rows().keys() == {*ACTIONS, "network", "defect"}


@pytest.mark.parametrize("kind", sorted({*ACTIONS, "network", "defect"}))
def test_the_row_of_a_kind_names_its_action(kind: str) -> None:
    name, attempts = rows()[kind]
    assert type(action_of(kind)).__name__ == name
    if attempts is not None:
        assert getattr(action_of(kind), "attempts", None) == int(attempts)


def test_the_snippet_s_rule_and_table_are_those_of_its_tool() -> None:
    found = re.search(r"<!-- snippet: brewing.py -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    # A tool is a module-level function, and this code is one.
    module: dict[str, Any] = {"__name__": "brewing"}
    exec(compile(found[1], "brewing.py", "exec"), module)
    retry: Retry = module["brew"].retry
    assert retry.classifier(module["TooHot"]()).retry_after_s == 30.0
    assert retry.action_of("network") == Repeat(attempts=20)
