"""Elixir's PartitionSupervisor tests, as far as they are about partitions and keys."""

import asyncio
import os

import pytest
from tests.supervisor.puppet import AT_ONCE, settle

from regrow.supervisor import ChildSpec, DynamicSupervisor, InvalidOption, PartitionSupervisor, Start, Supervisor

pytestmark = pytest.mark.asyncio


class Service:
    """Something with a spec of its own."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.starts = 0
        self.broken = asyncio.Event()

    async def run(self, start: Start) -> None:
        self.starts += 1
        start.ready()
        await self.broken.wait()
        self.broken.clear()
        raise ValueError

    def child_spec(self) -> ChildSpec:
        return ChildSpec(id="service", run=self.run, backoff=AT_ONCE)


async def test_there_are_as_many_partitions_as_processors_unless_said_otherwise() -> None:
    assert len(PartitionSupervisor("pool", Service).partitions) == os.cpu_count()
    pool = PartitionSupervisor("pool", Service, partitions=3)
    assert [service.number for service in pool.partitions] == [0, 1, 2]


async def test_each_partition_is_a_child_whose_id_is_its_number() -> None:
    async with PartitionSupervisor("pool", Service, partitions=3) as pool:
        assert [(child.id, child.state) for child in pool.which_children()] == [(n, "running") for n in "012"]


async def test_a_text_belongs_to_the_same_partition_in_every_process() -> None:
    pool = PartitionSupervisor("pool", Service, partitions=4)
    assert [pool.partition(key).number for key in ("user-1", "user-2", "user-3", "", "Zürich")] == [0, 2, 0, 0, 2]
    assert pool.partition(b"user-1") is pool.partition("user-1")


async def test_a_number_belongs_to_the_partition_of_its_remainder() -> None:
    pool = PartitionSupervisor("pool", Service, partitions=4)
    assert [pool.partition(key).number for key in (0, 1, 5, 7, -1)] == [0, 1, 1, 3, 3]


async def test_keys_are_spread_over_all_partitions() -> None:
    pool = PartitionSupervisor("pool", Service, partitions=4)
    counts = [0, 0, 0, 0]
    for number in range(1000):
        counts[pool.partition(f"user-{number}").number] += 1
    assert min(counts) > 150


async def test_a_partition_that_dies_is_restarted_alone() -> None:
    async with PartitionSupervisor("pool", Service, partitions=3) as pool:
        pool.partition(1).broken.set()
        await settle()
        assert [service.starts for service in pool.partitions] == [1, 2, 1]


async def test_partitions_may_be_supervisors_and_start_children_for_a_key() -> None:
    pool = PartitionSupervisor("pool", lambda n: DynamicSupervisor(f"pool-{n}"), partitions=2)
    async with Supervisor("root", children=[pool.child_spec()]) as root:
        await pool.partition(1).start_child(Service(0).child_spec())
        (inner,) = root.tree().children
        assert [[child.name for child in partition.children] for partition in inner.children] == [[], ["service"]]
        assert pool.count_children().supervisors == 2


async def test_no_partition_at_all_is_refused() -> None:
    with pytest.raises(InvalidOption, match="partitions must be 1 or more, not 0"):
        PartitionSupervisor("pool", Service, partitions=0)
