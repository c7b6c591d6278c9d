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
    Conversation,
    ErrorData,
    Hit,
    Message,
    MessageState,
    Receipt,
    Role,
    Sampling,
    Session,
    Share,
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
