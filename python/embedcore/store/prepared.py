"""Statements of the write path: written with SQLAlchemy, compiled once for a database, and given to its
driver as text.

For rows of this size, building a statement anew and running it through SQLAlchemy costs more than the
database does: 45 us for a select of one row, 330 us for one by 64 keys; as here 3 and 30 us. Values and rows
are as the driver has them: numbers, text, bytes, in a fixed order. Errors are the driver's
(``dialect.DATABASE_ERRORS``). All classes are thread-safe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import BindParameter, Column, Connection, Executable, Select, Table, bindparam

from embedcore.store.dialect import insert, upsert

# Values of one statement: below the 999 that every SQLite allows.
MOST_KEYS: Final = 900

Values = Sequence[Any]
Row = tuple[Any, ...]


class Statement:
    """Any statement; its values are given in the order of ``names``, those of its bind parameters."""

    def __init__(self, statement: Executable, *names: str) -> None:
        self._statement = statement
        self._names = names
        self._texts: dict[str, str] = {}

    def rows(self, connection: Connection, values: Values = ()) -> list[Row]:
        with closing(connection.connection.cursor()) as cursor:
            cursor.execute(self._text(connection), values)
            return list(cursor.fetchall())

    def many(self, connection: Connection, rows: Sequence[Values]) -> None:
        """Executes it for each of the rows; no rows: nothing."""
        if rows:
            with closing(connection.connection.cursor()) as cursor:
                cursor.executemany(self._text(connection), rows)

    def _text(self, connection: Connection) -> str:
        dialect = connection.dialect
        text = self._texts.get(dialect.name)
        if text is None:
            compiled = self._statement.compile(dialect=dialect)  # type: ignore[attr-defined]
            assert tuple(compiled.positiontup or ()) == self._names, compiled.positiontup
            text = self._texts[dialect.name] = str(compiled)
        return text


class ByKeys:
    """A SELECT by any number of keys. Numbers of keys are rounded up to powers of two, the last key standing
    for those that are not there, so that few texts are prepared."""

    def __init__(self, build: Callable[[Sequence[BindParameter[Any]]], Select[Any]], *first: str) -> None:
        """``build``: the statement for the parameters of the keys; ``first``: other parameters, before."""
        self._build = build
        self._first = first
        self._statements: dict[int, Statement] = {}

    def rows(self, connection: Connection, keys: Sequence[Any], first: Values = ()) -> list[Row]:
        """Of at most MOST_KEYS keys."""
        if not keys:
            return []
        count = min(1 << (len(keys) - 1).bit_length(), MOST_KEYS)
        statement = self._statements.get(count)
        if statement is None:
            names = [f"key_{number}" for number in range(count)]
            built = self._build([bindparam(name) for name in names])
            statement = self._statements[count] = Statement(built, *self._first, *names)
        return statement.rows(connection, [*first, *keys, *[keys[-1]] * (count - len(keys))])


class Insert(Statement):
    """INSERT of many rows."""

    def __init__(self, table: Table, *, without: Sequence[Column[Any]] = ()) -> None:
        """``without``: columns that the database fills."""
        names = _columns(table, without)
        super().__init__(insert(table, names), *names)
        self._ordered = _getter(names)

    def execute(self, connection: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
        """Rows by column name; :meth:`many` takes them in the table's order of columns, which is quicker."""
        self.many(connection, [self._ordered(row) for row in rows])


class Upsert(Insert):
    """An Insert; where ``keys`` exist, sets ``update`` to the new values."""

    def __init__(
        self,
        table: Table,
        *,
        keys: Sequence[Column[Any]],
        update: Sequence[Column[Any]],
        without: Sequence[Column[Any]] = (),
    ) -> None:
        super().__init__(table, without=without)
        self._statement = upsert(table, self._names, [key.name for key in keys], [c.name for c in update])


def _columns(table: Table, without: Sequence[Column[Any]]) -> list[str]:
    left_out = {column.name for column in without}
    return [column.name for column in table.columns if column.name not in left_out]


def _getter(names: Sequence[str]) -> Callable[[Mapping[str, Any]], Row]:
    assert len(names) > 1  # a getter of one name would give a bare value
    return itemgetter(*names)
