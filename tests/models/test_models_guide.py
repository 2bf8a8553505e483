"""The examples of docs/models.md run as they stand."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "models.md"
EXAMPLES: list[str] = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_the_guide_runs(example: str) -> None:
    names: dict[str, Any] = {}
    exec(compile(example, GUIDE.name, "exec"), names)
    assert len(names) > 1
    if "ask" in names:
        assert asyncio.run(names["ask"]()) == 160
