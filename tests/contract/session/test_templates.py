"""Templates: what they hold, who sees them, and sessions that are made from them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from pointsman.errors.v1 import errors_pb2
from pointsman.session.v1 import (
    session_service_pb2,
    template_service_pb2,
    turn_pb2,
    workspace_service_pb2,
)
from servicekit.testing import wait_until
from support.session_house import Client, SessionHouse, failure_of, session_house

Template = template_service_pb2.Template
TEMPLATE_NOT_FOUND = errors_pb2.ERROR_REASON_TEMPLATE_NOT_FOUND


async def make(
    client: Client, name: str = "templates/review", source: str = "", request_id: str = "", **fields: Any
) -> Template:
    request = template_service_pb2.CreateTemplateRequest(
        template=Template(name=name, **fields), source=source, request_id=request_id
    )
    return (await client.templates.CreateTemplate(request, metadata=client.metadata, timeout=60)).template


async def get(client: Client, name: str = "templates/review", account: str = "") -> Template:
    request = template_service_pb2.GetTemplateRequest(name=name, account=account)
    return (await client.templates.GetTemplate(request, metadata=client.metadata, timeout=60)).template


async def page(client: Client, **fields: Any) -> template_service_pb2.ListTemplatesResponse:
    request = template_service_pb2.ListTemplatesRequest(**fields)
    return await client.templates.ListTemplates(request, metadata=client.metadata, timeout=60)


async def listed(client: Client, account: str = "") -> list[tuple[str, str]]:
    return [(found.name, found.account) for found in (await page(client, account=account)).templates]


async def update(client: Client, template: Template, *paths: str) -> Template:
    request = template_service_pb2.UpdateTemplateRequest(
        template=template, update_mask=FieldMask(paths=paths)
    )
    return (await client.templates.UpdateTemplate(request, metadata=client.metadata, timeout=60)).template


async def delete(client: Client, name: str = "templates/review", account: str = "") -> None:
    request = template_service_pb2.DeleteTemplateRequest(name=name, account=account)
    await client.templates.DeleteTemplate(request, metadata=client.metadata, timeout=60)


async def delete_session(client: Client, name: str) -> None:
    request = session_service_pb2.DeleteSessionRequest(name=name)
    await client.sessions.DeleteSession(request, metadata=client.metadata, timeout=60)


async def snapshot(client: Client, session: str) -> str:
    request = workspace_service_pb2.CreateSnapshotRequest(session=session)
    made = await client.workspaces.CreateSnapshot(request, metadata=client.metadata, timeout=60)
    return made.snapshot.name


async def refused(call: Awaitable[object]) -> errors_pb2.ErrorReason.ValueType:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return failure_of(caught.value).reason


async def test_a_session_made_from_a_template_begins_with_its_files_and_settings(house: SessionHouse) -> None:
    client, other = house.client(), house.client(replica=-1)
    source = await client.create()
    made = await make(
        client,
        source=source.name,
        title="Review",
        description="For reviews.",
        preferred_model="demo/other",
        options=turn_pb2.TurnOptions(max_turns=3, allowed_tools=["Read", "Grep"]),
        egress_hosts=["example.org"],
    )
    assert (made.account, made.size_bytes, made.title) == ("", 42, "Review")
    assert await get(other) == made
    session = await other.create(template="templates/review", title="Mine")
    [(restored, snapshot_id)] = house.runner.restored
    assert restored == session.name
    assert house.runner.snapshots[snapshot_id] == source.name
    assert (session.template, session.title, session.preferred_model) == (made.name, "Mine", "demo/other")
    assert session.default_options == made.options
    assert list(session.egress_hosts) == ["example.org"]
    assert await client.session(session.name) == session
    turn = await client.enqueue("say hi", session.name)
    assert (await client.finish(turn)).result == "hi"
    assert turn.model == "demo/other"
    assert (turn.options.max_turns, list(turn.options.allowed_tools)) == (3, ["Read", "Grep"])
    sandbox = house.runner.requests[-1].sandbox
    assert (sandbox.template, list(sandbox.egress_hosts)) == (made.name, ["example.org"])


async def test_what_a_turn_or_session_says_itself_goes_before_its_template(house: SessionHouse) -> None:
    client = house.client()
    defaults = turn_pb2.TurnOptions(max_turns=3, allowed_tools=["Read"], system_prompt="Be brief.")
    await make(client, preferred_model="demo/other", options=defaults, egress_hosts=["example.org"])
    session = await client.create(
        template="templates/review", preferred_model="demo/offline", egress_hosts=["*.example.net"]
    )
    assert session.preferred_model == "demo/offline"
    assert list(session.egress_hosts) == ["*.example.net"]
    asked = turn_pb2.TurnOptions(allowed_tools=["Bash"], max_turns=7, include_partial_messages=False)
    turn = await client.enqueue("say hi", session.name, options=asked)
    assert (turn.options.max_turns, list(turn.options.allowed_tools)) == (7, ["Bash"])
    assert (turn.options.system_prompt, turn.options.include_partial_messages) == ("Be brief.", False)
    await client.finish(turn)


async def test_an_edited_turn_keeps_its_templates_options_where_the_edit_says_nothing(
    house: SessionHouse,
) -> None:
    client = house.client()
    await make(client, options=turn_pb2.TurnOptions(system_prompt="Be brief.", max_turns=3))
    session = await client.create(template="templates/review")
    running = await client.enqueue("wait", session.name)
    queued = await client.enqueue("say hi", session.name, options=turn_pb2.TurnOptions(max_turns=5))
    edited = turn_pb2.Turn(name=queued.name, options=turn_pb2.TurnOptions(append_system_prompt="Thanks."))
    request = session_service_pb2.UpdateTurnRequest(turn=edited, update_mask=FieldMask(paths=["options"]))
    answer = await client.sessions.UpdateTurn(request, metadata=client.metadata, timeout=60)
    options = answer.turn.options
    assert (options.system_prompt, options.append_system_prompt) == ("Be brief.", "Thanks.")
    assert options.max_turns == 3
    await client.cancel(queued.name)
    await client.cancel(running.name)


async def test_a_direct_turn_whose_template_asks_for_what_only_agents_have_is_an_agents(
    house: SessionHouse,
) -> None:
    client = house.client()
    await make(client, options=turn_pb2.TurnOptions(max_budget_usd=0.5))
    session = await client.create(template="templates/review")
    turn = await client.enqueue("say hi", session.name, route=turn_pb2.TURN_ROUTE_DIRECT, may_escalate=True)
    assert turn.route == turn_pb2.TURN_ROUTE_AGENT
    assert (await client.finish(turn)).result == "hi"
    told = [
        event.triage_decided
        for event in await client.events(session.name)
        if event.HasField("triage_decided")
    ]
    assert [(event.route, event.decided_by) for event in told] == [(turn_pb2.TURN_ROUTE_AGENT, "option")]
    assert "max_budget_usd" in told[0].reason
    assert house.models.requests == []


async def test_a_template_outlives_its_session_and_sessions_outlive_their_template(
    house: SessionHouse,
) -> None:
    client = house.client()
    source = await client.create()
    kept = await snapshot(client, source.name)
    await make(client, "templates/now", source=source.name)
    await make(client, "templates/then", source=kept)
    await delete_session(client, source.name)
    sessions = [await client.create(template=f"templates/{name}") for name in ("now", "then")]
    # Each has its own copy, of the deleted session's files.
    assert {house.runner.snapshots[session.name[9:]] for session in sessions} == {source.name}
    for name in ("templates/now", "templates/then"):
        await delete(client, name)
    assert await refused(client.create(template="templates/now")) == TEMPLATE_NOT_FOUND
    # Only what the two sessions began with is left of the files.
    await wait_until(lambda: len(house.runner.snapshots) == 2, 60)
    for session in sessions:
        turn = await client.enqueue("say hi", session.name)
        assert (await client.finish(turn)).result == "hi"
        await delete_session(client, session.name)
    await wait_until(lambda: not house.runner.snapshots, 60)


async def test_a_session_begins_with_the_files_of_a_snapshot(house: SessionHouse) -> None:
    client = house.client()
    source = await client.create()
    kept = await snapshot(client, source.name)
    session = await client.create(snapshot=kept)
    assert house.runner.restored == [(session.name, kept.rpartition("/")[2])]
    assert (session.template, session.forked_from) == ("", "")
    missing = f"{source.name}/snapshots/{uuid.uuid4()}"
    assert await refused(client.create(snapshot=missing)) == errors_pb2.ERROR_REASON_SNAPSHOT_NOT_FOUND
    for stranger in (house.client(tenant="evil"), house.client(account="else")):
        reason = await refused(stranger.create(snapshot=kept))
        assert reason == errors_pb2.ERROR_REASON_SESSION_NOT_FOUND
    # Isolation is by account, also for a caller who sees several.
    assert await refused(client.create("else", snapshot=kept)) == errors_pb2.ERROR_REASON_SESSION_NOT_FOUND
    await make(client)
    both = client.create(snapshot=kept, template="templates/review")
    assert await refused(both) == errors_pb2.ERROR_REASON_INVALID_FIELD


async def test_forks_of_a_session_with_a_template_begin_with_its_files_of_now(
    house: SessionHouse,
) -> None:
    client = house.client()
    source = await client.create()
    await make(client, source=source.name)
    session = await client.create(template="templates/review")
    await client.finish(await client.enqueue("say hi", session.name))
    copies = [session.name]
    for _ in range(2):
        # A fork of the session, and then a fork of the fork.
        request = session_service_pb2.ForkSessionRequest(name=copies[-1])
        answer = await client.sessions.ForkSession(request, metadata=client.metadata, timeout=60)
        copies.append(answer.session.name)
        assert answer.session.template == "templates/review"
    assert [name for name, _ in house.runner.restored] == copies
    # Each fork begins with what was kept for it.
    assert len({origin for _, origin in house.runner.restored}) == len(copies)


async def test_a_session_whose_files_cannot_be_had_is_not_there_and_the_same_request_makes_it_later(
    house: SessionHouse,
) -> None:
    client = house.client()
    source = await client.create()
    made = await make(client, source=source.name)
    [template_id] = house.runner.snapshots
    request_id = str(uuid.uuid4())
    content = house.runner.snapshots.pop(template_id)
    before = len((await sessions_of(client)).sessions)
    reason = await refused(client.create(template=made.name, request_id=request_id))
    assert reason == errors_pb2.ERROR_REASON_SNAPSHOT_NOT_FOUND
    assert len((await sessions_of(client)).sessions) == before
    house.runner.snapshots[template_id] = content
    answers = await asyncio.gather(
        *(client.create(template=made.name, request_id=request_id) for _ in range(5))
    )
    assert len({session.name for session in answers}) == 1
    assert [name for name, _ in house.runner.restored] == [answers[0].name]
    await delete(client)
    # A request that came before needs no template any more.
    again = await client.create(template=made.name, request_id=request_id)
    assert again.name == answers[0].name


async def test_a_request_that_came_before_needs_no_model_any_more(house: SessionHouse) -> None:
    client, models = house.client(), house.models.known
    session_request, template_request = str(uuid.uuid4()), str(uuid.uuid4())
    models.add("demo/brief")
    session = await client.create(request_id=session_request, preferred_model="demo/brief")
    made = await make(client, request_id=template_request, preferred_model="demo/brief")
    models.remove("demo/brief")
    # Nobody remembers that there was such a model.
    async with house.restarted():
        client = house.client()
        again = await client.create(request_id=session_request, preferred_model="demo/brief")
        assert again.name == session.name
        assert await make(client, request_id=template_request, preferred_model="demo/brief") == made


async def sessions_of(client: Client) -> session_service_pb2.ListSessionsResponse:
    request = session_service_pb2.ListSessionsRequest()
    return await client.sessions.ListSessions(request, metadata=client.metadata, timeout=60)


async def test_the_accounts_own_template_goes_before_the_one_for_every_account(house: SessionHouse) -> None:
    everyone, pinned, other = house.client(), house.client(account="one"), house.client(account="two")
    await make(everyone, title="for all")
    own = await make(pinned, title="own")
    assert own.account == "one"
    assert (await get(pinned)).title == (await get(everyone, account="one")).title == "own"
    assert (await get(other)).title == (await get(everyone)).title == "for all"
    await update(pinned, Template(name=own.name, preferred_model="demo/other"), "preferred_model")
    assert (await pinned.create(template=own.name)).preferred_model == "demo/other"
    assert (await other.create(template=own.name)).preferred_model == ""
    assert (await everyone.create("one", template=own.name)).preferred_model == "demo/other"
    name = own.name
    assert await listed(everyone) == [(name, ""), (name, "one")]
    assert await listed(pinned) == await listed(everyone, "one") == [(name, ""), (name, "one")]
    assert await listed(other) == await listed(everyone, "two") == [(name, "")]


async def test_a_pinned_credential_changes_its_accounts_templates_only(house: SessionHouse) -> None:
    everyone, pinned = house.client(), house.client(account="one")
    await make(everyone)
    changed = Template(name="templates/review", title="x")
    pinned_to_one = errors_pb2.ERROR_REASON_ACCOUNT_PINNED
    assert await refused(delete(pinned)) == pinned_to_one
    assert await refused(update(pinned, changed, "title")) == pinned_to_one
    assert await refused(delete(pinned, account="two")) == pinned_to_one
    assert await refused(make(pinned, account="two")) == pinned_to_one
    await make(everyone, "templates/theirs", account="two")
    assert await refused(get(pinned, "templates/theirs")) == TEMPLATE_NOT_FOUND
    assert await refused(pinned.create(template="templates/theirs")) == TEMPLATE_NOT_FOUND
    # An account's template takes its files from that account.
    session = await everyone.create("two")
    foreign = make(everyone, "templates/mixed", source=session.name, account="one")
    assert await refused(foreign) == errors_pb2.ERROR_REASON_SESSION_NOT_FOUND


async def test_a_foreign_template_answers_exactly_like_a_missing_one(house: SessionHouse) -> None:
    client, evil = house.client(), house.client(tenant="evil")
    await make(client)
    for name in ("templates/review", "templates/missing"):
        calls: list[Awaitable[object]] = [
            get(evil, name),
            delete(evil, name),
            update(evil, Template(name=name, title="x"), "title"),
            evil.create(template=name),
        ]
        assert {await refused(call) for call in calls} == {TEMPLATE_NOT_FOUND}
    assert await listed(evil) == []
    session = await client.create()
    stolen = make(evil, "templates/stolen", source=session.name)
    assert await refused(stolen) == errors_pb2.ERROR_REASON_SESSION_NOT_FOUND


async def test_a_template_is_made_once_per_request_and_a_name_is_taken_once(house: SessionHouse) -> None:
    clients = (house.client(), house.client(replica=-1))
    source = await clients[0].create()
    request_id = str(uuid.uuid4())
    made = await asyncio.gather(
        *(make(clients[n % 2], source=source.name, request_id=request_id) for n in range(8))
    )
    assert all(template == made[0] for template in made)
    assert await refused(make(clients[0])) == errors_pb2.ERROR_REASON_TEMPLATE_EXISTS
    other_body = make(clients[0], title="another", request_id=request_id)
    assert await refused(other_body) == errors_pb2.ERROR_REASON_REQUEST_ID_REUSED

    async def race(number: int) -> bool:
        with suppress(grpc.aio.AioRpcError):
            await make(clients[number % 2], "templates/race", source=source.name)
            return True
        return False

    assert sum(await asyncio.gather(*map(race, range(6)))) == 1
    await delete(clients[1])
    await make(clients[0], title="new")
    assert (await get(clients[1])).title == "new"


async def test_a_template_is_changed_without_changing_what_was_made_from_it(house: SessionHouse) -> None:
    client = house.client()
    made = await make(client, title="a", options=turn_pb2.TurnOptions(max_turns=3))
    session = await client.create(template=made.name)
    changed = Template(
        name=made.name, title="b", options=turn_pb2.TurnOptions(max_turns=9), egress_hosts=["example.org"]
    )
    after = await update(client, changed, "title", "options", "egress_hosts")
    assert (after.title, after.options.max_turns, list(after.egress_hosts)) == ("b", 9, ["example.org"])
    assert (await client.session(session.name)).default_options.max_turns == 3
    assert (await client.create(template=made.name)).default_options.max_turns == 9
    for paths in ((), ("name",), ("size_bytes",)):
        assert await refused(update(client, changed, *paths)) == errors_pb2.ERROR_REASON_INVALID_FIELD
    unknown = Template(name=made.name, preferred_model="no/such")
    assert await refused(update(client, unknown, "preferred_model")) == errors_pb2.ERROR_REASON_MODEL_UNKNOWN


@pytest.mark.parametrize(
    "name",
    ["", "review", "templates/", "templates/A", "templates/../x", "templates/-x", f"templates/{'x' * 64}"],
)
async def test_a_name_that_is_none_is_refused(one: SessionHouse, name: str) -> None:
    client = one.client()
    assert await refused(make(client, name)) == errors_pb2.ERROR_REASON_INVALID_FIELD
    assert await refused(get(client, name)) == errors_pb2.ERROR_REASON_INVALID_FIELD
    if name:
        assert await refused(client.create(template=name)) == errors_pb2.ERROR_REASON_INVALID_FIELD


async def test_templates_are_listed_in_pages_and_a_made_up_token_is_refused(house: SessionHouse) -> None:
    client = house.client()
    for number in range(5):
        await make(client, f"templates/t{number}", account="one" if number % 2 else "")
    found, token = [], ""
    while True:
        answer = await page(client, page_size=2, page_token=token)
        found += [template.name for template in answer.templates]
        token = answer.next_page_token
        if not token:
            break
    assert found == [f"templates/t{number}" for number in range(5)]
    begun = (await page(client, page_size=2)).next_page_token
    for stranger in (house.client(tenant="evil"), house.client(account="one")):
        reason = await refused(page(stranger, page_token=begun))
        assert reason == errors_pb2.ERROR_REASON_PAGE_TOKEN_INVALID
    assert await refused(page(client, page_token="x")) == errors_pb2.ERROR_REASON_PAGE_TOKEN_INVALID


async def test_what_was_begun_when_the_runner_went_away_is_made_when_it_is_back(
    tmp_path: Path, database_url: str
) -> None:
    async with session_house(tmp_path, database_url) as house:
        client = house.client()
        source = await client.create()
        made = await make(client, source=source.name)
        await house.stop_runner()
        request_id = str(uuid.uuid4())
        away = errors_pb2.ERROR_REASON_SERVICE_UNAVAILABLE
        assert await refused(client.create(template=made.name, request_id=request_id)) == away
        late = str(uuid.uuid4())
        assert await refused(make(client, "templates/late", source.name, late)) == away
        assert await listed(client) == [(made.name, "")]
        await house.start_runner(house.config.runner_address)

        async def back() -> bool:
            with suppress(grpc.aio.AioRpcError):
                await make(client, "templates/late", source.name, late)
                await client.create(template=made.name, request_id=request_id)
                return True
            return False

        await wait_until(back, 60)
        assert len(await listed(client)) == 2


@pytest.mark.parametrize("item", ["Read,Bash", "Read Bash", "Read(x(y) Bash)"])
async def test_a_list_of_tools_cannot_be_smuggled_into_one_item(house: SessionHouse, item: str) -> None:
    client = house.client()
    asked = turn_pb2.TurnOptions(allowed_tools=[item])
    assert await refused(make(client, options=asked)) == errors_pb2.ERROR_REASON_INVALID_FIELD
    await make(client)
    changed = update(client, Template(name="templates/review", options=asked), "options")
    assert await refused(changed) == errors_pb2.ERROR_REASON_INVALID_FIELD
