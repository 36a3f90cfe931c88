"""Statements that are built once give what SQLAlchemy's own way gives."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from servicekit.statement import Statement
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError, OperationalError

metadata = sa.MetaData()
things = sa.Table(
    "things",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False, server_default="7"),
    sa.Column("data", sa.LargeBinary, nullable=False),
)
INSERT = Statement(sa.insert(things).returning(things))
ADD = Statement(sa.insert(things))
LARGER = Statement(
    sa.select(things).where(things.c.size > sa.bindparam("than"), things.c.id != "b").order_by(things.c.id)
)
GROW = Statement(
    sa.update(things)
    .where(things.c.id == sa.bindparam("of_thing"))
    .values(size=things.c.size + sa.bindparam("more", type_=sa.BigInteger))
)


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        metadata.create_all(connection)
        yield connection
    engine.dispose()


def test_values_are_given_by_name_and_the_rest_is_the_databases_default(connection: Connection) -> None:
    assert tuple(INSERT.run(connection, {"id": "a", "data": b"\0\xff"}).one()) == ("a", 7, b"\0\xff")
    assert tuple(INSERT.run(connection, {"size": 2**60, "data": b"", "id": "ä"}).one()) == ("ä", 2**60, b"")
    assert [row[0] for row in LARGER.run(connection, {"than": 1})] == ["a", "ä"]
    assert LARGER.run(connection, {"than": 2**61}).first() is None


def test_a_statement_runs_for_every_one_of_several_values(connection: Connection) -> None:
    assert ADD.run(connection, [{"id": id_, "data": b""} for id_ in "abc"]).rowcount == 3
    assert GROW.run(connection, [{"of_thing": id_, "more": 3} for id_ in "ac"]).rowcount == 2
    assert list(LARGER.run(connection, {"than": 7})) == list(connection.execute(LARGER.clause, {"than": 7}))


def test_columns_that_are_only_named_with_the_values_are_set(connection: Connection) -> None:
    ADD.run(connection, {"id": "a", "data": b""})
    assert GROW.run(connection, {"of_thing": "a", "more": 1, "data": b"new"}).rowcount == 1
    assert tuple(LARGER.run(connection, {"than": 0}).one()) == ("a", 8, b"new")


def test_errors_are_sqlalchemys_and_tell_nothing_of_the_values(connection: Connection) -> None:
    ADD.run(connection, {"id": "secret", "data": b""})
    with pytest.raises(IntegrityError) as caught:
        ADD.run(connection, {"id": "secret", "data": b"hidden"})
    assert "secret" not in str(caught.value)
    assert "hidden" not in str(caught.value)
    metadata.drop_all(connection)
    with pytest.raises(OperationalError, match="no such table"):
        LARGER.run(connection, {"than": 0})


def test_a_value_that_is_missing_is_an_error_and_not_a_null(connection: Connection) -> None:
    ADD.run(connection, {"id": "a", "data": b""})
    with pytest.raises(KeyError, match="than"):
        LARGER.run(connection, {})
    with pytest.raises(KeyError, match="data"):
        ADD.run(connection, [{"id": "b", "data": b""}, {"id": "c"}])
