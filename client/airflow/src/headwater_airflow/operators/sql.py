"""SQL on the cluster, its rows to XCom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from headwater_airflow import lineage
from headwater_airflow.client import Client
from headwater_airflow.errors import HeadwaterError, HeadwaterRequestError
from headwater_airflow.hooks.headwater import HeadwaterHook
from headwater_airflow.sql_text import fill

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

ROWS_MAX = 1000
BYTES_MAX = 1 << 20


class HeadwaterSqlOperator(BaseOperator):
    """Runs statements on the cluster; the result is the rows of the last one that has rows, a list of objects.

    Values are plain JSON: times in ISO 8601, decimals as text, bytes in hexadecimal. A result that is too large is an
    error, never cut off. A statement lives as long as the task: killing the task cancels its job. It cannot be deferred for
    that reason.

    :param sql: one or more statements, or the name of a .sql file beside the DAG. (templated)
    :param variables: values of `${name}` in the text, as `--set name=value` of `headwater sql`. (templated)
    :param conf: settings by their Spark names. (templated)
    :param max_rows: more rows are an error.
    :param max_bytes: more bytes of Arrow data are an error.
    :param headwater_conn_id: the connection.
    """

    template_fields: Sequence[str] = ("sql", "variables", "conf", "headwater_conn_id")
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers = {"sql": "sql", "conf": "json", "variables": "json"}
    ui_color = "#d5e8f5"

    def __init__(
        self,
        *,
        sql: str,
        variables: Mapping[str, Any] | None = None,
        conf: Mapping[str, Any] | None = None,
        max_rows: int = ROWS_MAX,
        max_bytes: int = BYTES_MAX,
        headwater_conn_id: str = HeadwaterHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if max_rows < 0 or max_bytes < 0:
            raise ValueError("max_rows and max_bytes are 0 or more")
        self.sql = sql
        self.variables = dict(variables or {})
        self.conf = dict(conf or {})
        self.max_rows = max_rows
        self.max_bytes = max_bytes
        self.headwater_conn_id = headwater_conn_id
        self._client: Client | None = None

    def execute(self, context: Context) -> Any:
        """Runs the statements one after the other."""
        sql = filled(self.sql, self.variables)
        conf = {name: str(value) for name, value in self.conf.items()}
        with HeadwaterHook(self.headwater_conn_id).client as self._client:
            results = self._client.run_sql(sql, conf, rows_max=self.max_rows, bytes_max=self.max_bytes)
        for result in results:
            if result.message:
                self.log.info("%s", result.message)
        with_rows = [result for result in results if result.columns]
        rows = with_rows[-1].rows if with_rows else []
        self.log.info("%d statements, %d rows", len(results), len(rows))
        return rows

    def on_kill(self) -> None:
        """Ends the statement that runs; the scheduler cancels its job."""
        if self._client is not None:
            self._client.cancel_sql()

    # --- OpenLineage ---

    def get_openlineage_facets_on_start(self) -> Any:
        """The statement, and the tables that inlets and outlets of the task name."""
        return lineage.operator_lineage(
            inputs=lineage.of_assets(self.inlets), outputs=lineage.of_assets(self.outlets), sql=self.sql
        )


class HeadwaterSqlCheckOperator(HeadwaterSqlOperator):
    """Fails unless the result's first row has a true value in every column: anything but false, 0, empty and NULL."""

    def execute(self, context: Context) -> Any:
        """Runs the statements and looks at the last result."""
        rows = super().execute(context)
        if not rows:
            raise HeadwaterError(f"the check has no row: {self.sql}")
        if bad := sorted(name for name, value in rows[0].items() if not value):
            raise HeadwaterError(f"the check failed at {', '.join(bad)}: {rows[0]}")
        return rows


def filled(sql: str, variables: Mapping[str, Any]) -> str:
    """The text with its variables; a wrong one is the request's fault."""
    try:
        text = fill(sql, {name: str(value) for name, value in variables.items()})
    except ValueError as error:
        raise HeadwaterRequestError(str(error)) from error
    if not text.strip():
        raise HeadwaterRequestError("the text has no statement")
    return text
