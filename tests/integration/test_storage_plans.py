"""A hundred thousand messages change nothing: every query that people wait for goes through an index."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import event

from app.domain.models import MessageState, ReviewState
from app.domain.verdicts import NOTHING
from storage.database import SqlStorage, SqlUnit, open_storage

AT = datetime(2026, 1, 1, tzinfo=UTC)


async def plans_of(storage: SqlStorage) -> dict[str, list[str]]:
    """Run the queries, and ask for the plan of every statement that they made."""
    statements: dict[str, Any] = {}

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.setdefault(statement, parameters)

    async with storage.write() as unit:
        connection = unit._connection
        event.listen(connection.sync_connection, "before_cursor_execute", note)
        await _use(unit)
        event.remove(connection.sync_connection, "before_cursor_execute", note)
        plans = {}
        for statement, parameters in statements.items():
            if statement.startswith(("SELECT", "UPDATE", "DELETE", "WITH")):
                rows = (await connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, parameters)).all()
                plans[statement] = [str(row.detail) for row in rows]
        return plans


async def _use(unit: SqlUnit) -> None:
    await unit.accounts.session("t")
    await unit.accounts.key("k")
    await unit.accounts.end_sessions("a")
    await unit.accounts.failed_sign_ins(name="a", address="b", since=AT)
    await unit.conversations.get("c7")
    await unit.conversations.page("a", before=AT)
    await unit.conversations.purge(deleted_before=AT)
    await unit.messages.get("m7")
    await unit.messages.thread("c7")
    await unit.messages.branch("m7")
    await unit.messages.children("c7", "m7")
    await unit.messages.children("c7", None)
    await unit.templates.get("t")
    await unit.messages.finish("m7", state=MessageState.STOPPED, text=NOTHING, finished_at=AT)
    await unit.messages.interrupt_running(AT)
    await unit.messages.counts(since=AT)
    await unit.shares.get("s")
    await unit.shares.by_token("t")
    await unit.shares.of_owner("a")
    await unit.shares.remove("s")
    await unit.shares.purge(expired_before=AT)
    await unit.hits.page()
    await unit.hits.counts_by_rule(since=AT)
    await unit.hits.of_decision("d")
    await unit.reviews.get("d")
    await unit.reviews.of(["d"])
    await unit.reviews.page()
    await unit.reviews.page(state=ReviewState.OPEN)
    await unit.reviews.count_open()
    await unit.reviews.count_open("a")
    await unit.strikes.counting("a", since=AT)
    await unit.strikes.break_row("a")
    await unit.strikes.of_suspension("s")
    await unit.strikes.suspended(["a"], at=AT)
    await unit.evidence.get("d")
    await unit.evidence.purge(created_before=AT)
    await unit.audit.page()
    await unit.audit.page(subject="d")


async def test_no_query_reads_a_whole_table_or_sorts_one(sqlite_url: str) -> None:
    storage = await open_storage(sqlite_url)
    try:
        async with storage.write() as unit:
            await _fill(unit)
            await unit.commit()
        plans = await plans_of(storage)
    finally:
        await storage.close()
    assert len(plans) >= 30
    slow = {
        statement: [step for step in steps if step.startswith("SCAN") and "INDEX" not in step and step != "SCAN path"]
        for statement, steps in plans.items()
    }
    assert {statement: steps for statement, steps in slow.items() if steps} == {}
    sorting = [statement for statement, steps in plans.items() if any("FOR ORDER BY" in step for step in steps)]
    # The path of one branch, and the counts of a few rules.
    assert all("WITH RECURSIVE" in one or "count(*)" in one for one in sorting), sorting


async def _fill(unit: SqlUnit) -> None:
    run = unit._connection.exec_driver_sql
    await run(
        """INSERT INTO accounts (id, name, name_key, role, created_at, is_suspended)
        VALUES ('a', 'a', 'a', 'user', '2026-01-01 00:00:00.000000', false)"""
    )
    await run(
        """INSERT INTO conversations
        (id, owner_id, title, title_key, created_at, updated_at, variables, is_titled_by_owner, source)
        WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 1000)
        SELECT 'c' || n, 'a', 't', 't', '2025-01-01 00:00:00.000000', '2025-01-01 00:00:00.000000', '{}', false, 'page'
        FROM i"""
    )
    await run(
        """INSERT INTO messages (id, conversation_id, role, text, state, created_at)
        WITH RECURSIVE i(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM i WHERE n < 99999)
        SELECT 'm' || n, 'c' || (1 + n % 1000), 'assistant', 'x', 'complete', '2025-01-01 00:00:00.000000' FROM i"""
    )
