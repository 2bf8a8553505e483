"""Logs written quickly: the records of many actors by turns, as they would lie after a long time of use."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from regrow.bench.log import record
from regrow.bench.raw import Append
from regrow.bus import Address
from regrow.bus.subjects import Subjects, log_number


def interleaved(subjects: Subjects, actors: Sequence[Address], rounds: int) -> Iterator[Append]:
    """One record of each actor in each round, with its fence, for log streams that are empty and that nobody else writes to."""
    stored: defaultdict[int, int] = defaultdict(int)
    last: defaultdict[Address, int] = defaultdict(int)
    for number in range(rounds):
        for address in actors:
            yield subjects.log(address), record(number)[1], last[address]
            stored[log_number(address)] += 1
            last[address] = stored[log_number(address)]
