"""xlsx, through openpyxl: the first visible sheet of a workbook, its first row that is not empty being the header."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from hybrid.errors import ConfigError, DataError
from hybrid.files.formats.dialect import column_name
from hybrid.files.formats.records import (
    BATCH_ROWS,
    AddedColumns,
    Batch,
    Cell,
    Record,
    Table,
    check_header,
    in_batches,
    location_of,
    value_of,
)

Row = tuple[object, ...]


class Xlsx:
    """A workbook of Excel, to be read alone; needs openpyxl. Formulas have the value that Excel last computed."""

    suffixes = (".xlsx", ".xlsm")
    can_write = False

    @contextmanager
    def open(
        self,
        path: Path,
        *,
        name: str,
        columns: Collection[str],
        batch_rows: int = BATCH_ROWS,
        with_originals: bool = False,
    ) -> Iterator[Table]:
        """Open a workbook; the numbers of records are those of the sheet's rows."""
        assert not with_originals, "a workbook is read and not written"
        with closing(_workbook(path, name)) as book:
            sheets = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"] or book.worksheets
            if not sheets:
                raise DataError(f"{name}: no sheet in it; expected one with a header and rows")
            rows = _rows(sheets[0], name)
            number, cells = next(rows, (1, ()))
            header = tuple("" if cell is None else column_name(str(cell)) for cell in cells)
            check_header(header, location_of(name, number, has_lines=False))
            others = f"its first sheet, {sheets[0].title!r}, is read, and {len(sheets) - 1} more are not"
            yield Table(
                name=name,
                header=header,
                batches=in_batches(_records(rows, name, header, columns), batch_rows),
                has_lines=False,
                note=others if len(sheets) > 1 else "",
            )

    def render(
        self, table: Table, batch: Batch, cells: Sequence[Sequence[Cell]], added: AddedColumns, *, first: bool
    ) -> bytes:
        """Raise `NotImplementedError`: see `can_write`."""
        raise NotImplementedError

    def join(self, parts: Sequence[Path], target: Path) -> None:
        """Raise `NotImplementedError`: see `can_write`."""
        raise NotImplementedError


def _workbook(path: Path, name: str) -> Any:
    try:
        import openpyxl
    except ImportError as error:
        raise ConfigError(
            "xlsx: openpyxl is not installed; run `pip install 'hybrid-cascade[xlsx]'`, or save the sheet as CSV UTF-8"
        ) from error
    try:
        return openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as error:
        # A damaged workbook raises whatever its zip file, its XML or openpyxl's own checks raise.
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: Exception) -> DataError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return DataError(
        f"{name}: cannot be read as a workbook ({reason}); name an .xlsx file without a password, or save the sheet as CSV "
        "UTF-8"
    )


def _rows(sheet: Any, name: str) -> Iterator[tuple[int, Row]]:
    """Yield number and cells of each row that is not empty."""
    # The size that the file states may be wrong.
    sheet.reset_dimensions()
    try:
        for number, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
            if any(cell is not None and cell != "" for cell in cells):
                yield number, cells
    except Exception as error:
        # As in `_workbook`: the sheet is read only now.
        raise _unreadable(name, error) from error


def _records(
    rows: Iterator[tuple[int, Row]], name: str, header: tuple[str, ...], columns: Collection[str]
) -> Iterator[tuple[Record, None]]:
    places = [(column, header.index(column)) for column in dict.fromkeys(columns) if column and column in header]
    for number, cells in rows:
        beyond = next((cell for cell in cells[len(header) :] if cell is not None and cell != ""), None)
        where = location_of(name, number, has_lines=False)
        problem = f"{where}: a cell beyond the header ({beyond!r:.40}); name its column or remove it" if beyond else ""
        values = {column: value_of(cells[at]) if at < len(cells) else None for column, at in places}
        yield Record(number, header, values, problem), None
