"""The bus against the holes that were found in its protocol and the traps of its server; the fixtures for both.

Names without a file are in this folder. Others: ``contract`` is tests/bus/port/test_port_contract.py, which runs in memory too;
``faults``, ``mail``, ``log``, ``streams`` are test_….py beside it; ``consumer``, ``headers``, ``connection``, ``server``,
``subjects`` are test_….py in tests/bus; ``three`` is a fact of bench/three_servers.py, outside the test run. What lives in actors
and is not written yet stands as "to come".

Holes
  C1   an outsider empties mailboxes: test_the_outside_mailbox_refuses_an_order_to_the_server_and_keeps_all_mail,
       test_a_mailbox_that_would_obey_its_writers_is_not_served, test_schedules_live_in_the_runtimes_own_mailbox_…,
       mail: test_a_rollup_or_a_schedule_of_an_outsider_is_refused_and_touches_nobody
  C2   no push-back: test_a_full_mailbox_refuses_by_number_…, test_a_mailbox_without_room_for_the_bytes_refuses_too,
       test_the_runtimes_mailbox_has_no_limit_…, contract: test_the_outside_mailbox_pushes_back_per_actor_…
  C3   a hot actor stops its shard: mail: test_messages_that_are_not_acknowledged_hold_nobody_up,
       test_a_thousand_messages_that_wait_leave_the_runtimes_mailbox_open_…,
       test_a_parked_actor_with_a_full_mailbox_holds_nobody_up_…, test_mail_of_the_runtime_that_no_runtime_wrote_…
  C4   order within one consumer: test_the_server_never_redelivers_within_a_consumer_of_ours, test_nothing_of_ours_gives_a_message_back,
       test_a_new_name_brings_order_back_where_one_consumer_has_lost_it,
       contract: test_a_takeover_brings_what_is_not_acknowledged_again_in_order
  C5   watermarks: test_a_relay_that_a_stopped_owner_sends_after_its_window_…, test_a_relay_of_a_sender_without_a_mark_…,
       test_a_mark_that_was_forgotten_for_its_age_…, test_a_stale_copy_that_cannot_note_a_failed_send_…
  C7   image in a snapshot: test_a_death_at_any_append_changes_nothing, test_mail_in_the_middle_of_a_passivation_…,
       test_a_deletion_that_is_seen_again_…, test_a_snapshot_beside_a_whole_log_…
  C8   equal steps swap answers: test_equal_steps_keep_their_answers_whichever_branch_comes_first_on_replay,
       test_equal_calls_in_two_tasks_at_once_are_ambiguous_unless_the_tool_is_pure
  C9   given-up steps run again: test_a_step_that_was_given_up_while_its_record_was_acknowledged_late_stays_given_up,
       test_a_timed_out_step_is_recorded_as_cancelled_and_times_out_again, test_a_cancelled_step_waits_to_be_cancelled_…,
       test_a_tool_that_runs_once_never_runs_again_after_a_kill
  C10  a deploy repeats what was paid for: test_another_build_in_the_middle_of_a_turn_pays_nothing_twice
  C6   guessed ids: test_an_id_counts_in_one_mailbox_only, test_an_epoch_is_nothing_that_can_be_guessed,
       mail: test_a_guessed_message_id_on_the_outside_swallows_nobodys_mail; that relays are named so: tests/actors/test_outbox.py
  C11  one stream for all: test_the_logs_of_many_actors_lie_evenly_in_their_streams,
       test_a_stream_is_asked_by_two_readers_at_once_…, contract: test_logs_in_one_stream_are_fenced_apart
  H1   an unfinished turn is found: test_what_a_killed_process_left_half_done_is_finished_once; poison:
       test_poison_is_given_up_…, test_a_turn_that_records_a_step_…, test_poison_in_one_mailbox_is_counted_…,
       test_mail_that_no_command_handles_…;
  H4   test_an_ask_repeated_under_its_id_is_one_turn_after_a_snapshot_and_a_takeover
  H5   test_asks_side_by_side_to_one_actor_are_each_answered_once, test_an_ask_that_a_failed_attempt_cut_off_…,
       test_an_ask_that_its_receiver_cannot_read_fails_at_once, test_an_ask_that_comes_around_fails_at_once_…,
       test_what_a_killed_process_left_half_done_is_finished_once
  H2   a lost acknowledgement: faults: test_an_append_whose_acknowledgement_is_lost_is_stored_once, …_is_late_…, …_that_never_reached_…,
       …_that_was_overtaken_…, …_across_a_kill_of_the_server_…, and test_a_rollup_whose_acknowledgement_is_lost_…;
       test_an_append_that_is_late_on_its_way_is_stored_once_however_often_it_was_sent_again,
       test_a_server_killed_twice_under_load_…; three: a_killed_leader_loses_and_doubles_nothing, without_a_majority_…
  H3   a paused owner answers: faults: test_a_hold_is_proved_while_the_server_is_silent_…, test_a_look_finds_out_that_the_shard_was_lost;
       test_a_query_that_met_a_node_which_does_not_hold_the_shard_…
  H6   two owners of one name: test_of_two_consumers_with_names_of_their_own_one_is_made, test_of_two_claims_at_once_…,
       test_an_acknowledgement_to_a_consumer_that_is_gone_reaches_nobody, consumer: test_a_name_carries_shard_and_epoch_…,
       contract: test_two_racing_nodes_end_with_one_owner_for_each_shard; three: a_takeover_is_fast_enough
  H7   an empty log: test_no_record_can_be_deleted_and_none_grows_old, test_the_last_word_on_a_deleted_actor_…,
       test_a_log_that_somebody_purged_is_noticed_by_its_writer, test_nothing_that_the_bus_does_takes_a_record_out_of_a_log
  H8   reading beside roll-ups: test_readers_beside_rollups_fold_what_the_writers_meant_…,
       log: test_a_reader_never_sees_what_a_rollup_replaced, test_a_large_log_that_is_rolled_up_between_two_pages_…
  M7   the fence fails open: test_a_fence_that_is_empty_or_misspelt_is_none_to_the_server, test_the_fence_that_we_write_stops_…,
       test_no_sequence_gives_an_empty_fence_…, test_one_module_alone_knows_…, contract: test_a_stale_fence_is_refused_…,
       faults: test_a_node_does_not_start_where_the_fence_does_not_arrive, test_the_fence_is_tried_at_the_start_and_nothing_is_stored

Traps, as numbered in the notes on nats-server
  1 test_a_refused_append_is_heard_on_the_logs_subject_and_never_live   2 contract: test_a_record_that_fits_only_without_its_headers_…,
  test_mail_that_just_fits_with_its_headers_…, test_a_core_message_that_does_not_fit_…   3 test_a_served_subject_hears_the_next_request_…
  4 contract: test_a_request_is_answered_with_headers_both_ways   5 faults: test_a_mail_service_goes_on_when_its_server_was_killed,
  consumer: test_silence_wants_a_new_pull_…   6 test_actors_cost_no_consumers   7 log: test_a_page_that_lacks_a_record_is_not;
  three: a_reader_behind_proves_nothing   8 test_a_timer_that_fires_is_mail_…   9 test_headers_of_any_client_…,
  test_a_line_break_in_a_headers_value_…, headers: test_mail_carries_no_orders_to_the_server   10 subjects,
  mail: test_the_server_files_every_actor_in_the_shard_that_we_compute   11 server: test_only_a_durable_server_syncs_every_append
  12 C3 and M7; three: a_takeover_is_fast_enough (an R1 consumer is refused)   13 tests/cli: test_help_imports_neither_nats_nor_structlog

Security
  1 an answer sent to a victim's log: test_an_acknowledgement_in_a_victims_log_is_no_record_and_stops_its_writer; a Direct Get's: to come;
    reply subjects: tests/actors/test_reply_subject.py   2 streams: test_streams_are_not_made_by_merely_opening,
    test_each_missing_stream_is_named   3 connection: test_refused_subject_reaches_the_owner; at the mailbox: to come

Outages: test_outages.py, test_full_disk.py, faults; three for what needs a cluster
"""

import os
import secrets
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client

from regrow.bus import Bus, EmbeddedServer, MemoryBus, NatsBus, open_bus

OpenBus = Callable[[], Awaitable[Bus]]


@pytest.fixture
def store_dir(tmp_path: Path) -> Path:
    """A store that does not exist yet."""
    return tmp_path / "store"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def nats_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedServer]:
    """A server for all tests of this folder."""
    async with EmbeddedServer(tmp_path_factory.mktemp("protocol") / "store", durability="process") as server:
        yield server
        os.kill(server.pid, signal.SIGKILL)  # with all these streams it would take its time to go


@pytest.fixture
def app() -> str:
    """The name of an application that no other test has."""
    return f"t{secrets.token_hex(5)}"


@pytest_asyncio.fixture
async def client(nats_server: EmbeddedServer) -> AsyncGenerator[Client]:
    """A connection of this test: the node's own, and what anybody else may send."""
    client = await nats.connect(nats_server.url)
    yield client
    await client.close()


@pytest_asyncio.fixture
async def watcher(nats_server: EmbeddedServer) -> AsyncGenerator[Client]:
    """Another connection, of somebody who looks on."""
    client = await nats.connect(nats_server.url)
    yield client
    await client.close()


@pytest_asyncio.fixture
async def nats_bus(client: Client, app: str) -> AsyncGenerator[NatsBus]:
    """A new application's bus."""
    async with open_bus(client, app, create=True) as bus:
        yield bus


@pytest_asyncio.fixture
async def open_nats(nats_server: EmbeddedServer, app: str) -> AsyncGenerator[OpenBus]:
    """Opens one more connection of its own to this test's application on the real server."""
    async with AsyncExitStack() as stack:

        async def open_one() -> Bus:
            client = await nats.connect(nats_server.url)
            stack.push_async_callback(client.close)
            return await stack.enter_async_context(open_bus(client, app, create=True))

        yield open_one


@pytest.fixture(params=["memory", "nats"])
def open_another(request: pytest.FixtureRequest, app: str) -> OpenBus:
    """Opens the bus of this test's application, as another process would."""
    if request.param == "nats":
        open_one: OpenBus = request.getfixturevalue("open_nats")
        return open_one
    shared = MemoryBus(app)

    async def same() -> Bus:
        return shared

    return same


@pytest_asyncio.fixture
async def bus(open_another: OpenBus) -> Bus:
    """A new application's bus, once in memory and once on the real server."""
    return await open_another()
