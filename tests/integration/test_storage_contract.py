"""What every storage promises: run on the fake that services are tested with, on SQLite and on PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from app.domain.errors import Conflict, NotFound, StorageFailure, StorageReadOnly
from app.domain.models import (
    Account,
    AccountRole,
    ApiKey,
    AuditAction,
    AuditEntry,
    Conversation,
    ErrorData,
    Evidence,
    Hit,
    Message,
    MessageState,
    PolicyVersion,
    Receipt,
    Review,
    ReviewState,
    Role,
    Sampling,
    Session,
    Share,
    Strike,
    Suspension,
    Template,
    TemplateDraft,
    TemplateFile,
    TemplateVersion,
    Variable,
    VariableKind,
    new_id,
)
from app.domain.ports import AnswerPart, Storage
from app.domain.verdicts import NOTHING, Action, ReleasedText, Stage
from storage.database import open_storage
from tests.fakes.memory_storage import MemoryStorage

AT = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    return "" if request.param == "memory" else str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
async def storage(url: str) -> AsyncIterator[Storage]:
    opened: Storage = await open_storage(url) if url else MemoryStorage()
    yield opened
    await opened.close()


def account(name: str = "ann", **changes: object) -> Account:
    return replace(Account(id=f"id-{name}", name=name, role=AccountRole.USER, created_at=AT), **changes)  # type: ignore[arg-type]


def conversation(name: str = "c", **changes: object) -> Conversation:
    made = Conversation(id=name, owner_id="id-ann", title=ReleasedText(name), created_at=AT, updated_at=AT)
    return replace(made, **changes)  # type: ignore[arg-type]


def question(name: str = "q", *, parent_id: str | None = None, conversation_id: str = "c") -> Message:
    return Message(
        id=name,
        conversation_id=conversation_id,
        parent_id=parent_id,
        role=Role.USER,
        text=ReleasedText(f"text of {name}"),
        state=MessageState.COMPLETE,
        created_at=AT,
        finished_at=AT,
    )


def answer(name: str = "a", *, parent_id: str = "q", conversation_id: str = "c", **changes: object) -> Message:
    made = Message(
        id=name,
        conversation_id=conversation_id,
        parent_id=parent_id,
        role=Role.ASSISTANT,
        text=NOTHING,
        state=MessageState.RUNNING,
        created_at=AT,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def part(message_id: str, n: int, text: str) -> AnswerPart:
    return AnswerPart(message_id, n, ReleasedText(text))


def hit(name: str, **changes: object) -> Hit:
    made = Hit(
        id=name,
        decision_id="d",
        created_at=AT,
        stage=Stage.OUTPUT,
        action=Action.REFUSE,
        category="test",
        rule="phrases:test",
        detector="phrases",
        policy="general@0123456789ab",
        start=3,
        end=7,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def share(name: str, **changes: object) -> Share:
    made = Share(
        id=name,
        token_hash=f"hash-of-{name}",
        owner_id="id-ann",
        conversation_id="c",
        leaf_id="q",
        title=ReleasedText("去杭州"),
        created_at=AT,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def version(number: int, *, template_id: str = "t", content: TemplateDraft | None = None) -> TemplateVersion:
    return TemplateVersion(
        id=f"{template_id}-v{number}",
        template_id=template_id,
        number=number,
        content=content or TemplateDraft(system="你是助手"),
        content_hash="0" * 64,
        message="why",
        author="ann",
        created_at=AT,
    )


def template(name: str = "t") -> Template:
    return Template(
        id=name,
        name=name,
        title={"en": "Title", "zh": "标题"},
        description={"en": "", "zh": ""},
        language="zh",
        tags=("a", "b"),
        live_version_id=f"{name}-v1",
        created_at=AT,
    )


def policy(number: int, *, layer: str = "site", **changes: object) -> PolicyVersion:
    fields: dict[str, object] = {
        "id": f"{layer}-{number}",
        "layer": layer,
        "number": number,
        "text": f"# {number}\n海纳",
        "message": "why",
        "author": "root",
        "created_at": AT + number * MINUTE,
    }
    return PolicyVersion(**(fields | changes))  # type: ignore[arg-type]


async def seed(storage: Storage, *messages: Message) -> None:
    async with storage.write() as unit:
        await unit.accounts.add(account())
        await unit.conversations.add(conversation())
        await unit.messages.add(question(), *messages)
        await unit.commit()


class TestStorage:
    async def test_what_is_not_committed_never_was(self, storage: Storage) -> None:
        async with storage.write() as unit:
            await unit.accounts.add(account())
            assert await unit.accounts.get("id-ann") == account()
        async with storage.read() as unit:
            assert await unit.accounts.get("id-ann") is None

    async def test_an_error_inside_rolls_back_and_lets_the_next_writer_in(self, storage: Storage) -> None:
        with pytest.raises(RuntimeError):
            await self._fail_in_the_middle(storage)
        async with storage.write() as unit:
            await unit.accounts.add(account())
            await unit.commit()

    async def _fail_in_the_middle(self, storage: Storage) -> None:
        async with storage.write() as unit:
            await unit.accounts.add(account())
            raise RuntimeError

    async def test_after_a_commit_the_rest_is_rolled_back(self, storage: Storage) -> None:
        async with storage.write() as unit:
            await unit.accounts.add(account("ann"))
            await unit.commit()
            await unit.accounts.add(account("bob"))
        async with storage.read() as unit:
            assert [one.name for one in await unit.accounts.page()] == ["ann"]

    async def test_a_reader_cannot_write(self, storage: Storage) -> None:
        with pytest.raises(StorageReadOnly):
            async with storage.read() as unit:
                await unit.accounts.add(account())

    async def test_a_reader_sees_one_moment_and_the_next_one_sees_more(self, storage: Storage) -> None:
        async with storage.read() as reader:
            assert not await reader.accounts.has_admin()
            async with storage.write() as unit:
                await unit.accounts.add(account(role=AccountRole.ADMIN))
                await unit.commit()
            assert not await reader.accounts.has_admin()
        async with storage.read() as reader:
            assert await reader.accounts.has_admin()

    async def test_many_writers_and_readers_at_once_all_succeed(self, storage: Storage) -> None:
        async def write(n: int) -> None:
            async with storage.write() as unit:
                await unit.accounts.add(account(f"name-{n}"))
                await unit.commit()

        async def read() -> None:
            async with storage.read() as unit:
                await unit.accounts.page()

        await asyncio.gather(*(write(n) for n in range(40)), *(read() for _ in range(40)))
        async with storage.read() as unit:
            assert len(await unit.accounts.page(limit=100)) == 40

    async def test_a_cancelled_writer_leaves_nothing_and_holds_up_nobody(self, storage: Storage) -> None:
        is_in, never = asyncio.Event(), asyncio.Event()

        async def write() -> None:
            async with storage.write() as unit:
                await unit.accounts.add(account("ann"))
                is_in.set()
                await never.wait()

        writer = asyncio.create_task(write())
        await is_in.wait()
        writer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writer
        async with storage.write() as unit:
            assert await unit.accounts.get("id-ann") is None
            await unit.accounts.add(account("bob"))
            await unit.commit()

    async def test_text_that_no_database_can_hold_is_looked_up_in_vain_not_an_error(self, storage: Storage) -> None:
        async with storage.read() as unit:
            for text in ("a\0b", "\ud800", ""):
                assert await unit.conversations.get(text) is None
                assert await unit.accounts.by_name(text) is None
                assert list(await unit.conversations.page("id-ann", query=text)) == []


class TestAccounts:
    async def test_an_account_comes_back_as_it_was(self, storage: Storage) -> None:
        kept = account(role=AccountRole.ADMIN, last_seen_at=AT + MINUTE, is_suspended=True)
        async with storage.write() as unit:
            await unit.accounts.add(kept, password_hash="hash")
            await unit.commit()
        async with storage.read() as unit:
            assert await unit.accounts.get(kept.id) == kept
            assert await unit.accounts.password_hash(kept.id) == "hash"
            assert await unit.accounts.get("nobody") is None
            assert await unit.accounts.password_hash("nobody") is None

    async def test_times_come_back_aware_and_in_utc(self, storage: Storage) -> None:
        elsewhere = AT.astimezone(timezone(timedelta(hours=8)))
        async with storage.write() as unit:
            await unit.accounts.add(account(created_at=elsewhere))
            await unit.commit()
        async with storage.read() as unit:
            found = await unit.accounts.get("id-ann")
        assert found is not None
        assert found.created_at == AT
        assert found.created_at.tzinfo is not None

    @pytest.mark.parametrize(("first", "second"), [("Ann", "aNN"), ("Łukasz", "łUKASZ"), ("李", "李")])
    async def test_a_name_is_taken_whatever_its_case(self, storage: Storage, first: str, second: str) -> None:
        async with storage.write() as unit:
            await unit.accounts.add(account(first))
            await unit.commit()
        async with storage.write() as unit:
            assert (await unit.accounts.by_name(second)) == account(first)
            with pytest.raises(Conflict) as caught:
                await unit.accounts.add(account(second, id="other"))
        assert caught.value.data == {"kind": "name"}

    async def test_changes_reach_one_account_only(self, storage: Storage) -> None:
        async with storage.write() as unit:
            await unit.accounts.add(account("ann"))
            await unit.accounts.add(account("bob"))
            await unit.accounts.set_password_hash("id-ann", "new")
            await unit.accounts.set_suspended("id-ann", is_suspended=True)
            await unit.accounts.touch("id-ann", AT + MINUTE)
            await unit.accounts.touch("nobody", AT)
            assert await unit.accounts.get("id-ann") == account("ann", is_suspended=True, last_seen_at=AT + MINUTE)
            assert await unit.accounts.get("id-bob") == account("bob")
            assert await unit.accounts.password_hash("id-ann") == "new"
            assert await unit.accounts.password_hash("id-bob") is None

    async def test_accounts_are_listed_newest_first_without_guests(self, storage: Storage) -> None:
        async with storage.write() as unit:
            for n, name in enumerate(["ann", "B_b", "b%b", "guest-1"]):
                role = AccountRole.GUEST if name.startswith("guest") else AccountRole.USER
                await unit.accounts.add(account(name, created_at=AT + n * MINUTE, role=role))
            page = unit.accounts.page
            assert [one.name for one in await page()] == ["b%b", "B_b", "ann"]
            assert [one.name for one in await page(with_guests=True, limit=2)] == ["guest-1", "b%b"]
            assert [one.name for one in await page(limit=1, offset=1)] == ["B_b"]
            assert [one.name for one in await page(query="b_B")] == ["B_b"]
            assert [one.name for one in await page(query="%")] == ["b%b"]

    async def test_sessions_end_one_by_one_all_at_once_and_when_they_expire(self, storage: Storage) -> None:
        def session(name: str, owner: str = "id-ann", *, minutes: int = 1) -> Session:
            expires_at = AT + minutes * MINUTE
            return Session(token_hash=name, account_id=owner, created_at=AT, expires_at=expires_at, user_agent="浏览器")

        async with storage.write() as unit:
            await unit.accounts.add(account("ann"))
            await unit.accounts.add(account("bob"))
            for one in (session("a"), session("b"), session("c", "id-bob", minutes=5), session("d", "id-bob")):
                await unit.accounts.add_session(one)
            assert await unit.accounts.session("a") == session("a")
            await unit.accounts.end_session("a")
            assert await unit.accounts.session("a") is None
            await unit.accounts.end_sessions("id-ann")
            assert await unit.accounts.session("b") is None
            assert await unit.accounts.purge_sessions(expired_before=AT + 2 * MINUTE) == 1
            assert await unit.accounts.session("c") == session("c", "id-bob", minutes=5)
            assert await unit.accounts.session("d") is None

    async def test_a_session_of_nobody_is_refused(self, storage: Storage) -> None:
        with pytest.raises(StorageFailure):
            async with storage.write() as unit:
                await unit.accounts.add_session(Session(token_hash="t", account_id="x", created_at=AT, expires_at=AT))

    async def test_keys_are_found_by_hash_used_and_revoked_once(self, storage: Storage) -> None:
        key = ApiKey(id="k", account_id="id-ann", name="laptop", key_hash="h", prefix="hn-123", created_at=AT)
        newer = replace(key, id="k2", key_hash="h2", account_id="id-bob", created_at=AT + MINUTE)
        async with storage.write() as unit:
            await unit.accounts.add(account("ann"))
            await unit.accounts.add(account("bob"))
            await unit.accounts.add_key(key)
            await unit.accounts.add_key(newer)
            assert await unit.accounts.key("h") == key
            assert await unit.accounts.key("unknown") is None
            assert list(await unit.accounts.keys()) == [newer, key]
            assert list(await unit.accounts.keys("id-ann")) == [key]
            await unit.accounts.touch_key("k", AT + MINUTE)
            await unit.accounts.revoke_key("k", AT + MINUTE)
            await unit.accounts.revoke_key("k", AT + 2 * MINUTE)
            assert await unit.accounts.key("h") == replace(key, last_used_at=AT + MINUTE, revoked_at=AT + MINUTE)
            assert await unit.accounts.key("h2") == newer

    async def test_failed_sign_ins_count_for_a_name_from_an_address(self, storage: Storage) -> None:
        async with storage.write() as unit:
            for minute in (2, 0, 1):
                await unit.accounts.add_failed_sign_in(name="ann", address="::1", at=AT + minute * MINUTE)
            await unit.accounts.add_failed_sign_in(name="ann", address="::2", at=AT)
            await unit.accounts.add_failed_sign_in(name="bob", address="::1", at=AT)
            found = await unit.accounts.failed_sign_ins(name="ann", address="::1", since=AT + MINUTE)
            assert list(found) == [AT + MINUTE, AT + 2 * MINUTE]
            await unit.accounts.clear_failed_sign_ins(name="ann", address="::1")
            assert list(await unit.accounts.failed_sign_ins(name="ann", address="::1", since=AT)) == []
            assert list(await unit.accounts.failed_sign_ins(name="ann", address="::2", since=AT)) == [AT]
            await unit.accounts.purge_sessions(expired_before=AT + timedelta(days=2))
            assert list(await unit.accounts.failed_sign_ins(name="ann", address="::2", since=AT)) == []


class TestConversations:
    async def test_a_conversation_comes_back_as_it_was(self, storage: Storage) -> None:
        nasty = {"姓名": "李\n\"'\\%_", "nul": "a\0b", "emoji": "👩‍🔬"}
        async with storage.write() as unit:
            await unit.accounts.add(account())
            await unit.templates.add(template(), version(1))
            kept = conversation(
                variables=nasty, template_version_id="t-v1", leaf_id="m", is_titled_by_owner=True, source="api"
            )
            await unit.conversations.add(kept)
            await unit.commit()
        async with storage.read() as unit:
            assert await unit.conversations.get("c") == kept

    async def test_a_conversation_of_nobody_or_of_no_template_is_refused(self, storage: Storage) -> None:
        for wrong in (conversation(owner_id="nobody"), conversation(template_version_id="none")):
            async with storage.write() as unit:
                await unit.accounts.add(account())
                with pytest.raises(StorageFailure):
                    await unit.conversations.add(wrong)

    async def test_the_page_lists_ones_own_latest_first(self, storage: Storage) -> None:
        async with storage.write() as unit:
            await unit.accounts.add(account("ann"))
            await unit.accounts.add(account("bob"))
            for n, name in enumerate(["one", "two", "three"]):
                await unit.conversations.add(conversation(name, updated_at=AT + n * MINUTE))
            await unit.conversations.add(conversation("api", source="api"))
            await unit.conversations.add(conversation("gone", deleted_at=AT))
            await unit.conversations.add(conversation("bobs", owner_id="id-bob"))
            page = unit.conversations.page
            assert [one.id for one in await page("id-ann")] == ["three", "two", "one"]
            assert [one.id for one in await page("id-ann", limit=2)] == ["three", "two"]
            assert [one.id for one in await page("id-ann", before=AT + MINUTE)] == ["one"]
            await unit.conversations.set_leaf("one", "leaf", AT + 9 * MINUTE)
            first, *_ = await page("id-ann")
            assert first == conversation("one", leaf_id="leaf", updated_at=AT + 9 * MINUTE)

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("WEATHER", ["Weather 100%"]),
            ("100%", ["Weather 100%"]),
            ("%", ["Weather 100%"]),
            ("a_b", ["a_b"]),
            ("\\", ["back\\slash"]),
            ("/", []),
            ("погода", ["Погода"]),
            ("天气", ["北京天气"]),
        ],
    )
    async def test_the_search_is_for_a_part_of_a_title_whatever_its_case(
        self, storage: Storage, query: str, found: list[str]
    ) -> None:
        async with storage.write() as unit:
            await unit.accounts.add(account())
            for title in ("Weather 100%", "a_b", "axb", "back\\slash", "Погода", "北京天气"):
                await unit.conversations.add(conversation(new_id(), title=ReleasedText(title)))
            assert [one.title for one in await unit.conversations.page("id-ann", query=query)] == found

    async def test_a_new_title_is_shown_and_found(self, storage: Storage) -> None:
        async with storage.write() as unit:
            await unit.accounts.add(account())
            await unit.conversations.add(conversation())
            await unit.conversations.set_title("c", ReleasedText("New"), is_by_owner=True)
            expected = [conversation(title=ReleasedText("New"), is_titled_by_owner=True)]
            assert list(await unit.conversations.page("id-ann", query="new")) == expected

    async def test_what_is_deleted_can_be_brought_back_until_it_is_purged(self, storage: Storage) -> None:
        await seed(storage, answer())
        async with storage.write() as unit:
            await unit.messages.add_parts([part("a", 0, "x")])
            await unit.conversations.delete("c", AT)
            assert await unit.conversations.get("c") is None
            assert await unit.conversations.get("c", with_deleted=True) == conversation(deleted_at=AT)
            assert list(await unit.conversations.page("id-ann")) == []
            assert await unit.conversations.purge(deleted_before=AT) == 0
            await unit.conversations.restore("c")
            assert await unit.conversations.get("c") == conversation()
            assert await unit.conversations.purge(deleted_before=AT + MINUTE) == 0
            await unit.conversations.delete("c", AT)
            assert await unit.conversations.purge(deleted_before=AT + MINUTE) == 1
            assert await unit.conversations.get("c", with_deleted=True) is None
            assert list(await unit.messages.thread("c")) == []
            assert await unit.messages.get("a") is None


class TestMessages:
    async def test_a_thread_is_told_oldest_first_and_a_branch_from_its_root(self, storage: Storage) -> None:
        second = question("q2", parent_id="a1")
        await seed(storage, answer("a1"), answer("a2"), second, answer("a3", parent_id="q2"))
        async with storage.read() as unit:
            assert [one.id for one in await unit.messages.thread("c")] == ["q", "a1", "a2", "q2", "a3"]
            assert [one.id for one in await unit.messages.branch("a3")] == ["q", "a1", "q2", "a3"]
            assert [one.id for one in await unit.messages.branch("a2")] == ["q", "a2"]
            assert list(await unit.messages.branch("unknown")) == []
            assert list(await unit.messages.thread("unknown")) == []
            assert await unit.messages.get("q") == question()

    async def test_a_message_of_no_conversation_or_parent_is_refused(self, storage: Storage) -> None:
        await seed(storage)
        for wrong in (question("x", conversation_id="none"), question("x", parent_id="none"), question("q")):
            with pytest.raises(StorageFailure):
                async with storage.write() as unit:
                    await unit.messages.add(wrong)

    async def test_a_running_answer_is_read_with_its_parts(self, storage: Storage) -> None:
        await seed(storage, answer("a1"), answer("a2"))
        async with storage.write() as unit:
            await unit.messages.add_parts([part("a1", 0, "海"), part("a2", 0, "x")])
            await unit.messages.add_parts([part("a1", n, str(n)) for n in range(1, 12)])
            await unit.commit()
        async with storage.read() as unit:
            filled = answer("a1", text=ReleasedText("海1234567891011"))
            assert await unit.messages.get("a1") == filled
            assert filled in await unit.messages.thread("c")
            assert filled in await unit.messages.branch("a1")

    async def test_the_same_part_twice_or_of_no_message_is_an_error(self, storage: Storage) -> None:
        await seed(storage, answer())
        async with storage.write() as unit:
            await unit.messages.add_parts([part("a", 0, "x")])
            await unit.commit()
        for wrong in (part("a", 0, "x"), part("nobody", 0, "x")):
            with pytest.raises(StorageFailure):
                async with storage.write() as unit:
                    await unit.messages.add_parts([wrong])

    async def test_nothing_to_add_is_fine(self, storage: Storage) -> None:
        async with storage.write() as unit:
            await unit.messages.add()
            await unit.messages.add_parts([])
            await unit.hits.add()

    async def test_an_answer_is_closed_once_with_its_receipt(self, storage: Storage) -> None:
        await seed(storage, answer())
        receipt = Receipt(
            model="default",
            sampling=Sampling(temperature=0.3, seed=7, stop=("。", "\n")),
            policy="general@0",
            prompt_tokens=12,
            first_token_s=0.25,
            finish_reason="stop",
        )
        async with storage.write() as unit:
            await unit.messages.add_parts([part("a", 0, "unfinished")])
            assert await unit.messages.finish(
                "a", state=MessageState.COMPLETE, text=ReleasedText("done"), finished_at=AT, receipt=receipt
            )
            again = await unit.messages.finish(
                "a", state=MessageState.FAILED, text=NOTHING, finished_at=AT + MINUTE, error_code="engine_died"
            )
            assert not again
            await unit.commit()
        async with storage.read() as unit:
            assert await unit.messages.get("a") == answer(
                text=ReleasedText("done"), state=MessageState.COMPLETE, finished_at=AT, receipt=receipt
            )

    async def test_children_have_the_same_parent_oldest_first(self, storage: Storage) -> None:
        await seed(storage, answer(), answer("a2"), question("q2"))
        async with storage.read() as unit:
            assert list(await unit.messages.children("c", "q")) == ["a", "a2"]
            assert list(await unit.messages.children("c", None)) == ["q", "q2"]
            assert list(await unit.messages.children("c", "a")) == []

    async def test_an_answer_keeps_what_its_error_said(self, storage: Storage) -> None:
        await seed(storage, answer())
        data: ErrorData = {"after_s": 60.5, "limit": 4096, "is_empty": True, "category": "“x”"}
        async with storage.write() as unit:
            assert await unit.messages.finish(
                "a", state=MessageState.FAILED, text=NOTHING, finished_at=AT, error_code="x", error_data=data
            )
            await unit.commit()
        async with storage.read() as unit:
            closed = await unit.messages.get("a")
        assert closed is not None
        assert closed.error_data == data

    async def test_a_question_or_an_unknown_message_cannot_be_closed(self, storage: Storage) -> None:
        await seed(storage)
        async with storage.write() as unit:
            for name in ("q", "unknown"):
                assert not await unit.messages.finish(name, state=MessageState.STOPPED, text=NOTHING, finished_at=AT)
            assert await unit.messages.get("q") == question()

    async def test_what_a_killed_process_left_running_is_closed_with_its_parts(self, storage: Storage) -> None:
        await seed(storage, answer("a1"), answer("a2"), answer("a3", state=MessageState.STOPPED))
        async with storage.write() as unit:
            await unit.messages.add_parts([part("a1", 0, "hal"), part("a1", 1, "f")])
            assert await unit.messages.interrupt_running(AT + MINUTE) == 2
            assert await unit.messages.interrupt_running(AT + 2 * MINUTE) == 0
            await unit.commit()
        async with storage.read() as unit:
            closed = replace(answer("a2"), state=MessageState.INTERRUPTED, finished_at=AT + MINUTE)
            assert await unit.messages.get("a1") == replace(closed, id="a1", text=ReleasedText("half"))
            assert await unit.messages.get("a2") == closed
            assert await unit.messages.get("a3") == answer("a3", state=MessageState.STOPPED)

    async def test_answers_are_counted_by_state(self, storage: Storage) -> None:
        late = replace(answer("a1"), created_at=AT + MINUTE)
        await seed(storage, answer("old"), late, replace(late, id="a2", state=MessageState.BLOCKED))
        async with storage.read() as unit:
            counts = await unit.messages.counts(since=AT + MINUTE)
        assert dict(counts) == {MessageState.RUNNING: 1, MessageState.BLOCKED: 1}


class TestHits:
    async def test_hits_are_listed_newest_first_and_counted(self, storage: Storage) -> None:
        first = hit("1", account_id="gone", conversation_id="gone", message_id="gone", is_degraded=True)
        hits = [first, *(hit(str(n), rule="patterns:id", category="privacy") for n in (2, 3))]
        hits = [replace(one, created_at=AT + n * MINUTE) for n, one in enumerate(hits)]
        async with storage.write() as unit:
            await unit.hits.add(*hits)
            assert list(await unit.hits.page()) == hits[::-1]
            assert list(await unit.hits.page(limit=1, offset=1)) == [hits[1]]
            assert list(await unit.hits.page(rule="phrases:test")) == [hits[0]]
            assert list(await unit.hits.page(category="privacy", rule="phrases:test")) == []
            counts = await unit.hits.counts_by_rule(since=AT)
            assert list(counts) == [("privacy", "patterns:id", 2), ("test", "phrases:test", 1)]
            assert list(await unit.hits.counts_by_rule(since=AT + 9 * MINUTE)) == []

    async def test_a_hit_comes_back_with_all_that_is_kept_of_its_text(self, storage: Storage) -> None:
        kept = hit("1", score=0.4, digest="0123456789abcdef" * 2, text_length=1200, language="zh", is_shadow=True)
        async with storage.write() as unit:
            await unit.hits.add(kept)
            await unit.commit()
        async with storage.read() as unit:
            assert list(await unit.hits.page()) == [kept]

    async def test_the_hits_of_a_decision_come_in_the_order_of_the_text(self, storage: Storage) -> None:
        first, second = hit("2", start=1), hit("1", start=9, end=12)
        async with storage.write() as unit:
            await unit.hits.add(second, hit("3", decision_id="other"), first)
            assert list(await unit.hits.of_decision("d")) == [first, second]
            assert list(await unit.hits.of_decision("none")) == []

    async def test_rules_on_trial_are_listed_and_not_counted(self, storage: Storage) -> None:
        async with storage.write() as unit:
            await unit.hits.add(hit("1", is_shadow=True), hit("2", rule="phrases:real"))
            assert len(await unit.hits.page()) == 2
            assert list(await unit.hits.counts_by_rule(since=AT)) == [("test", "phrases:real", 1)]


def review(name: str, **changes: object) -> Review:
    made = Review(decision_id=name, created_at=AT, account_id="id-ann", account_name="ann", is_handoff=True)
    return replace(made, **changes)  # type: ignore[arg-type]


class TestReviews:
    async def test_a_row_comes_back_as_it_was_and_is_there_once(self, storage: Storage) -> None:
        kept = review(
            "d",
            is_appealed=True,
            comment=ReleasedText("误判\n第二行"),
            state=ReviewState.UPHELD,
            decided_at=AT + MINUTE,
            decided_by="root",
            note=ReleasedText("好的"),
        )
        async with storage.write() as unit:
            await unit.reviews.add(kept)
            await unit.commit()
        async with storage.write() as unit:
            assert await unit.reviews.get("d") == kept
            assert await unit.reviews.get("none") is None
            with pytest.raises(Conflict) as caught:
                await unit.reviews.add(kept)
        assert caught.value.data == {"kind": "review"}

    async def test_the_queue_is_read_by_state_newest_first(self, storage: Storage) -> None:
        rows = [review(str(n), created_at=AT + n * MINUTE) for n in range(4)]
        rows[2] = replace(rows[2], state=ReviewState.OVERTURNED)
        async with storage.write() as unit:
            for row in rows:
                await unit.reviews.add(row)
            assert list(await unit.reviews.page()) == rows[::-1]
            assert list(await unit.reviews.page(limit=1, offset=1)) == [rows[2]]
            assert list(await unit.reviews.page(state=ReviewState.OPEN)) == [rows[3], rows[1], rows[0]]
            assert list(await unit.reviews.page(state=ReviewState.UPHELD)) == []
            found = await unit.reviews.of(["1", "3", "none", "1"])
            assert {one.decision_id for one in found} == {"1", "3"}
            assert list(await unit.reviews.of([])) == []

    async def test_open_rows_are_counted_and_open_appeals_of_one_account(self, storage: Storage) -> None:
        async with storage.write() as unit:
            await unit.reviews.add(review("handed-over"))
            await unit.reviews.add(review("appealed", is_appealed=True))
            await unit.reviews.add(review("closed", is_appealed=True, state=ReviewState.UPHELD))
            await unit.reviews.add(review("bob's", is_appealed=True, account_id="id-bob"))
            assert await unit.reviews.count_open() == 3
            assert await unit.reviews.count_open("id-ann") == 1

    async def test_an_appeal_opens_a_row_again_once(self, storage: Storage) -> None:
        closed = review("d", state=ReviewState.UPHELD, decided_at=AT, decided_by="root", note=ReleasedText("no"))
        async with storage.write() as unit:
            await unit.reviews.add(closed)
            await unit.reviews.add(review("other"))
            assert await unit.reviews.appeal("d", comment=ReleasedText("但是"), at=AT + MINUTE)
            assert not await unit.reviews.appeal("d", comment=ReleasedText("again"), at=AT + 2 * MINUTE)
            assert not await unit.reviews.appeal("none", comment=NOTHING, at=AT)
            expected = review("d", created_at=AT + MINUTE, is_appealed=True, comment=ReleasedText("但是"))
            assert await unit.reviews.get("d") == expected
            assert await unit.reviews.get("other") == review("other")

    async def test_a_row_is_decided_once(self, storage: Storage) -> None:
        note = ReleasedText("right")
        async with storage.write() as unit:
            await unit.reviews.add(review("d"))
            await unit.reviews.add(review("other"))
            decide = unit.reviews.decide
            assert await decide("d", state=ReviewState.OVERTURNED, by="root", note=note, at=AT)
            assert not await decide("d", state=ReviewState.UPHELD, by="bob", note=NOTHING, at=AT)
            assert not await decide("none", state=ReviewState.UPHELD, by="bob", note=NOTHING, at=AT)
            expected = review("d", state=ReviewState.OVERTURNED, decided_at=AT, decided_by="root", note=note)
            assert await unit.reviews.get("d") == expected
            assert await unit.reviews.get("other") == review("other")


def strike(name: str, *, minutes: int = 0, **changes: object) -> Strike:
    made = Strike(decision_id=name, account_id="id-ann", at=AT + minutes * MINUTE)
    return replace(made, **changes)  # type: ignore[arg-type]


def suspension(name: str = "s", **changes: object) -> Suspension:
    made = Suspension(id=name, account_id="id-ann", began_at=AT, ends_at=AT + 60 * MINUTE)
    return replace(made, **changes)  # type: ignore[arg-type]


class TestStrikes:
    async def test_what_is_in_the_row_or_recent_counts_until_it_is_undone_or_used(self, storage: Storage) -> None:
        async with storage.write() as unit:
            await unit.accounts.add(account("ann"))
            await unit.accounts.add(account("bob"))
            rows = [strike(name, minutes=n) for n, name in enumerate("abcd")]
            for one in (*rows[::-1], strike("bob's", account_id="id-bob")):
                await unit.strikes.add(one)
            counting = unit.strikes.counting
            assert list(await counting("id-ann", since=AT + 9 * MINUTE)) == rows
            await unit.strikes.break_row("id-ann")
            assert list(await counting("id-ann", since=AT + 9 * MINUTE)) == []
            rows = [replace(one, is_in_row=False) for one in rows]
            assert list(await counting("id-ann", since=AT + 2 * MINUTE)) == rows[2:]
            assert list(await counting("id-bob", since=AT + 9 * MINUTE)) == [strike("bob's", account_id="id-bob")]
            assert await unit.strikes.undo("c", AT + MINUTE)
            assert not await unit.strikes.undo("c", AT + 2 * MINUTE)
            assert not await unit.strikes.undo("none", AT)
            assert await unit.strikes.get("c") == replace(rows[2], undone_at=AT + MINUTE)
            await unit.strikes.suspend(suspension())
            await unit.strikes.use(["d"], "s")
            assert list(await counting("id-ann", since=AT)) == rows[:2]

    async def test_used_strikes_keep_their_row_and_are_released(self, storage: Storage) -> None:
        async with storage.write() as unit:
            await unit.accounts.add(account())
            rows = [strike(name, minutes=n) for n, name in enumerate("abc")]
            for one in rows:
                await unit.strikes.add(one)
            await unit.strikes.suspend(suspension())
            await unit.strikes.use(["b", "a"], "s")
            await unit.strikes.break_row("id-ann")
            used = [replace(one, suspension_id="s") for one in rows[:2]]
            assert list(await unit.strikes.of_suspension("s")) == used
            assert await unit.strikes.get("c") == replace(rows[2], is_in_row=False)
            await unit.strikes.release("s")
            assert list(await unit.strikes.of_suspension("s")) == []
            assert await unit.strikes.get("a") == rows[0]

    async def test_a_suspension_is_in_force_until_it_ends_or_is_lifted(self, storage: Storage) -> None:
        short = suspension("short", ends_at=AT + 30 * MINUTE)
        async with storage.write() as unit:
            await unit.accounts.add(account("ann"))
            await unit.accounts.add(account("bob"))
            long, other = suspension("long"), suspension("bob's", account_id="id-bob")
            for one in (long, short, other):
                await unit.strikes.suspend(one)
            suspended = unit.strikes.suspended
            assert list(await suspended(["id-ann"], at=AT)) == [short, long]
            assert list(await suspended(["id-ann", "id-bob"], at=AT + 30 * MINUTE)) == [other, long]
            assert list(await suspended(["id-ann", "id-bob"], at=AT + 60 * MINUTE)) == []
            assert list(await suspended([], at=AT)) == []
            assert await unit.strikes.lift("long", by="root", at=AT + MINUTE)
            assert not await unit.strikes.lift("long", by="bob", at=AT + 2 * MINUTE)
            assert not await unit.strikes.lift("none", by="root", at=AT)
            assert list(await suspended(["id-ann"], at=AT)) == [short]
            assert await unit.strikes.suspension("long") == replace(long, lifted_at=AT + MINUTE, lifted_by="root")
            assert await unit.strikes.suspension("none") is None

    async def test_who_holds_an_account_counts_alone(self, storage: Storage) -> None:
        """Without the lock PostgreSQL lets each transaction see its own strike only, and none the limit."""
        async with storage.write() as unit:
            await unit.accounts.add(account())
            await unit.commit()

        async def refuse(n: int) -> int:
            async with storage.write() as unit:
                await unit.accounts.hold("id-ann")
                await unit.strikes.add(strike(str(n)))
                await asyncio.sleep(0)
                seen = len(await unit.strikes.counting("id-ann", since=AT))
                await unit.commit()
                return seen

        assert sorted(await asyncio.gather(*(refuse(n) for n in range(8)))) == list(range(1, 9))

    async def test_a_strike_of_nobody_and_the_use_of_no_suspension_are_refused(self, storage: Storage) -> None:
        for wrong in (strike("x", account_id="nobody"), suspension(account_id="nobody")):
            with pytest.raises(StorageFailure):
                async with storage.write() as unit:
                    await (unit.strikes.add(wrong) if isinstance(wrong, Strike) else unit.strikes.suspend(wrong))
        async with storage.write() as unit:
            await unit.accounts.add(account())
            await unit.strikes.add(strike("a"))
            with pytest.raises(StorageFailure):
                await unit.strikes.use(["a"], "none")


class TestEvidence:
    async def test_bytes_come_back_as_they_were_until_they_are_too_old(self, storage: Storage) -> None:
        old = Evidence(decision_id="old", created_at=AT, key_id="0123abcd", start=7, sealed=bytes(range(256)))
        new = replace(old, decision_id="new", created_at=AT + MINUTE, sealed=b"")
        async with storage.write() as unit:
            await unit.evidence.add(old, new)
            await unit.evidence.add()
            await unit.commit()
        async with storage.write() as unit:
            assert await unit.evidence.get("old") == old
            assert await unit.evidence.get("none") is None
            assert await unit.evidence.purge(created_before=AT + MINUTE) == 1
            assert await unit.evidence.get("old") is None
            assert await unit.evidence.get("new") == new
            with pytest.raises(StorageFailure):
                await unit.evidence.add(new)


class TestAudit:
    async def test_entries_are_listed_newest_first_and_by_what_they_are_about(self, storage: Storage) -> None:
        entries = [
            AuditEntry(
                id=str(n),
                at=AT + n * MINUTE,
                actor_id="gone",
                actor_name="root",
                action=action,
                subject="d" if n else "ann",
                reason="为什么",
            )
            for n, action in enumerate(AuditAction)
        ]
        async with storage.write() as unit:
            for entry in entries:
                await unit.audit.add(entry)
            await unit.commit()
        async with storage.read() as unit:
            assert list(await unit.audit.page()) == entries[::-1]
            assert list(await unit.audit.page(limit=1, offset=1)) == [entries[-2]]
            assert list(await unit.audit.page(subject="ann")) == [entries[0]]


class TestShares:
    async def test_a_link_is_found_by_its_tokens_hash_and_is_gone_once_it_is_removed(self, storage: Storage) -> None:
        await seed(storage)
        kept = share("s", expires_at=AT + MINUTE)
        async with storage.write() as unit:
            await unit.shares.add(kept)
            await unit.shares.add(share("other"))
            await unit.commit()
        async with storage.write() as unit:
            assert await unit.shares.by_token("hash-of-s") == kept == await unit.shares.get("s")
            assert await unit.shares.by_token("s") is None
            await unit.shares.remove("s")
            await unit.shares.remove("s")
            assert await unit.shares.by_token("hash-of-s") is None
            assert await unit.shares.by_token("hash-of-other") == share("other")

    async def test_ones_own_links_are_listed_newest_first(self, storage: Storage) -> None:
        await seed(storage)
        async with storage.write() as unit:
            await unit.accounts.add(account("bob"))
            for name, minutes in (("a", 1), ("b", 3), ("c", 2), ("d", 2)):
                await unit.shares.add(share(name, created_at=AT + minutes * MINUTE))
            await unit.shares.add(share("bobs", owner_id="id-bob"))
            await unit.commit()
        async with storage.read() as unit:
            assert [one.id for one in await unit.shares.of_owner("id-ann")] == ["b", "d", "c", "a"]
            assert await unit.shares.of_owner("id-eve") == []

    @pytest.mark.parametrize(
        "wrong", [{"owner_id": "nobody"}, {"conversation_id": "none"}, {"token_hash": "hash-of-s"}, {"id": "s"}]
    )
    async def test_a_link_of_nobody_to_nothing_or_twice_is_refused(
        self, storage: Storage, wrong: dict[str, str]
    ) -> None:
        await seed(storage)
        async with storage.write() as unit:
            await unit.shares.add(share("s"))
            await unit.commit()
        async with storage.write() as unit:
            with pytest.raises(StorageFailure):
                await unit.shares.add(share("other", **wrong))

    async def test_a_link_goes_with_its_conversation(self, storage: Storage) -> None:
        await seed(storage)
        async with storage.write() as unit:
            await unit.shares.add(share("s"))
            await unit.conversations.delete("c", AT)
            assert await unit.shares.get("s") is not None
            await unit.conversations.purge(deleted_before=AT + MINUTE)
            assert await unit.shares.get("s") is None

    async def test_expired_links_are_purged_and_no_others(self, storage: Storage) -> None:
        await seed(storage)
        async with storage.write() as unit:
            for name, expires_at in (("old", AT - MINUTE), ("now", AT), ("new", AT + MINUTE), ("ever", None)):
                await unit.shares.add(share(name, expires_at=expires_at, created_at=AT))
            assert await unit.shares.purge(expired_before=AT) == 1
            assert {one.id for one in await unit.shares.of_owner("id-ann")} == {"now", "new", "ever"}


class TestTemplates:
    async def test_a_template_and_its_content_come_back_as_they_were(self, storage: Storage) -> None:
        content = TemplateDraft(
            system="{{topic}} 海纳\0百川",
            variables=(
                Variable(
                    name="topic", label={"en": "Topic"}, kind=VariableKind.SELECT, choices=("a", "b"), is_required=True
                ),
            ),
            sampling=Sampling(temperature=0.0, top_k=-1),
            examples=("一", "二"),
        )
        async with storage.write() as unit:
            await unit.templates.add(template(), version(1, content=content))
            await unit.commit()
        async with storage.read() as unit:
            assert await unit.templates.by_name("t") == template()
            assert await unit.templates.version("t-v1") == version(1, content=content)
            assert await unit.templates.by_name("none") is None
            assert await unit.templates.version("none") is None

    async def test_templates_are_listed_by_name_and_versions_newest_first(self, storage: Storage) -> None:
        async with storage.write() as unit:
            for name in ("b", "a-2", "a"):
                await unit.templates.add(template(name), version(1, template_id=name))
            await unit.templates.add_version(version(2, template_id="a"))
            assert [one.name for one in await unit.templates.all()] == ["a", "a-2", "b"]
            assert [one.number for one in await unit.templates.versions("a")] == [2, 1]

    async def test_a_name_and_a_number_are_taken_once(self, storage: Storage) -> None:
        async with storage.write() as unit:
            await unit.templates.add(template(), version(1))
            await unit.commit()
        same_name = replace(template("x"), name="t")
        same_number = replace(version(1), id="other")
        async with storage.write() as unit:
            with pytest.raises(Conflict) as caught:
                await unit.templates.add(same_name, version(1, template_id="x"))
        assert caught.value.data == {"kind": "name"}
        async with storage.write() as unit:
            with pytest.raises(Conflict) as caught:
                await unit.templates.add_version(same_number)
        assert caught.value.data == {"kind": "version"}

    async def test_only_a_version_of_its_own_can_go_live(self, storage: Storage) -> None:
        async with storage.write() as unit:
            await unit.templates.add(template("t"), version(1))
            await unit.templates.add(template("u"), version(1, template_id="u"))
            await unit.templates.add_version(version(2))
            await unit.templates.set_live("t", "t-v2")
            found = await unit.templates.by_name("t")
            assert found is not None
            assert found.live_version_id == "t-v2"
            for wrong in ("u-v1", "unknown"):
                with pytest.raises(NotFound):
                    await unit.templates.set_live("t", wrong)

    async def test_a_templates_head_is_taken_over_and_nothing_else(self, storage: Storage) -> None:
        head = TemplateFile(
            name="other", title={"en": "Letter\0", "zh": "书信"}, description={"en": "X"}, language="en", tags=("c",),
            content=TemplateDraft(system="other"),
        )  # fmt: skip
        async with storage.write() as unit:
            for name in ("t", "u"):
                await unit.templates.add(template(name), version(1, template_id=name))
            await unit.templates.set_head("t", head)
            with pytest.raises(NotFound):
                await unit.templates.set_head("unknown", head)
            await unit.commit()
        async with storage.read() as unit:
            expected = replace(template(), title=head.title, description=head.description, language="en", tags=("c",))
            assert await unit.templates.all() == [expected, template("u")]
            assert await unit.templates.version("t-v1") == version(1)


class TestRecentMessages:
    async def test_they_are_everybody_s_with_a_text_and_final_newest_first(self, storage: Storage) -> None:
        messages = [
            question("q1"),
            answer("a1", parent_id="q1", state=MessageState.COMPLETE, text=ReleasedText("one")),
            question("q2", parent_id="a1"),
            answer("a2", parent_id="q2", state=MessageState.BLOCKED, text=NOTHING),
            question("q3", parent_id="a2"),
            answer("a3", parent_id="q3", state=MessageState.RUNNING),
        ]
        await seed(storage, *messages)
        async with storage.write() as unit:
            await unit.messages.add_parts([part("a3", 0, "still")])
            await unit.commit()
        async with storage.read() as unit:
            recent = unit.messages.recent
            assert [one.id for one in await recent(since=AT - MINUTE)] == ["q3", "q2", "a1", "q1", "q"]
            assert [one.id for one in await recent(since=AT - MINUTE, limit=2)] == ["q3", "q2"]
            assert [one.id for one in await recent(since=AT - MINUTE, before="q2")] == ["a1", "q1", "q"]
            assert [one.id for one in await recent(since=AT - MINUTE, before="unknown")] == []
            assert [one.id for one in await recent(since=AT + timedelta(days=1))] == []


class TestPolicies:
    async def test_versions_come_back_newest_first_and_the_live_ones_by_layer(self, storage: Storage) -> None:
        async with storage.write() as unit:
            await unit.policies.add(policy(1, is_live=True))
            await unit.policies.add(policy(2))
            await unit.policies.add(policy(1, layer="demo", is_live=True))
            await unit.commit()
        async with storage.read() as unit:
            assert await unit.policies.versions("site") == [policy(2), policy(1, is_live=True)]
            assert await unit.policies.live() == [policy(1, layer="demo", is_live=True), policy(1, is_live=True)]
            assert await unit.policies.versions("none") == []

    async def test_one_version_of_a_layer_is_live(self, storage: Storage) -> None:
        async with storage.write() as unit:
            for version in (policy(1, is_live=True), policy(2, is_live=True), policy(1, layer="demo", is_live=True)):
                await unit.policies.add(version)
            assert [one.id for one in await unit.policies.live()] == ["demo-1", "site-2"]
            await unit.policies.set_live("site", "site-1")
            assert [one.id for one in await unit.policies.live()] == ["demo-1", "site-1"]
            for wrong in ("demo-1", "unknown"):
                with pytest.raises(NotFound):
                    await unit.policies.set_live("site", wrong)
            assert [one.id for one in await unit.policies.live()] == ["demo-1", "site-1"]

    async def test_a_number_is_taken_once(self, storage: Storage) -> None:
        async with storage.write() as unit:
            await unit.policies.add(policy(1, is_live=True))
            await unit.commit()
        async with storage.write() as unit:
            with pytest.raises(Conflict) as caught:
                await unit.policies.add(policy(1, id="other"))
        assert caught.value.data == {"kind": "version"}

    async def test_accounts_and_keys_are_given_layers(self, storage: Storage) -> None:
        key = ApiKey(id="k", account_id="id-ann", name="n", key_hash="h", prefix="hn-", created_at=AT)
        async with storage.write() as unit:
            await unit.accounts.add(account("ann"))
            await unit.accounts.add_key(key)
            await unit.accounts.set_policy_layers("id-ann", "demo")
            await unit.accounts.set_key_policy_layers("k", "strict demo")
            await unit.commit()
        async with storage.read() as unit:
            assert await unit.accounts.get("id-ann") == account("ann", policy_layers="demo")
            assert await unit.accounts.key("h") == replace(key, policy_layers="strict demo")
