"""Whole revisions: their lane, their order, what they cannot be, and what a history without a server tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbmigrate.domain.errors import ConfigurationError
from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.lanes import Lane, Undecided
from dbmigrate.lanes.environment import load_environment
from dbmigrate.lanes.ladder import Rung
from dbmigrate.lanes.lint import LintedRevision, find_applied, is_refused, lint
from dbmigrate.lanes.plan import plan_lanes
from dbmigrate.lanes.tables import Tables

VERSION = ServerVersion.parse("10.11.6-MariaDB")
STORE = Path(__file__).parents[3] / "migrations"


class Project:
    """An environment with three lanes in a directory, and revisions as they are added."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "versions").mkdir()
        (directory / "alembic.ini").write_text("[alembic]\nscript_location = %(here)s\n")
        for lane in Lane:
            self.add(f"{lane.value}0", None, labels=(lane.value,))

    def add(self, revision: str, after: str | None, *upgrade: str, labels: object = None, depends_on: object = None) -> None:
        body = "\n    ".join(upgrade) or "pass"
        (self.directory / "versions" / f"{revision}.py").write_text(
            f"import sqlalchemy as sa\nfrom alembic import op\nrevision = {revision!r}\ndown_revision = {after!r}\n"
            f"branch_labels = {labels!r}\ndepends_on = {depends_on!r}\n\n\ndef upgrade():\n    {body}\n"
        )

    def lint(self, **options: object) -> dict[str, LintedRevision]:
        found = lint(load_environment(self.directory), VERSION, **options)  # type: ignore[arg-type]
        return {revision.revision: revision for revision in found}

    def order(self) -> list[str]:
        return [script.revision for script in load_environment(self.directory).walk()]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


CREATE = 'op.create_table("t", sa.Column("id", sa.Integer, primary_key=True), sa.Column("a", sa.Integer))'


def rules(revision: LintedRevision) -> list[str]:
    return [verdict.rule for verdict in revision.refusals]


def test_store_is_clean() -> None:
    """The sample store's own revisions, on every flavour."""
    for text in ("8.0.40", "9.7.0", "10.6.20-MariaDB", "10.11.6-MariaDB"):
        found = lint(load_environment(STORE), ServerVersion.parse(text))
        assert {revision.lane for revision in found} == set(Lane)
        assert not is_refused(found)


def test_revisions_in_their_lanes_are_clean(project: Project) -> None:
    project.add("expand1", "expand0", CREATE)
    project.add("tighten1", "tighten0", 'op.alter_column("t", "a", existing_type=sa.Integer, nullable=False)')
    project.add("contract1", "contract0", 'op.drop_column("t", "a")')
    found = project.lint()
    assert [revision.refusals for revision in found.values()] == [()] * 6


def test_lanes_are_ordered_where_nothing_else_says_so(project: Project) -> None:
    """Expand before tighten before contract, but a dependency is stronger."""
    project.add("contract1", "contract0")
    project.add("tighten1", "tighten0")
    project.add("expand1", "expand0")
    assert project.order() == ["expand0", "expand1", "tighten0", "tighten1", "contract0", "contract1"]
    project.add("expand2", "expand1", depends_on=("contract1",))
    assert project.order()[-2:] == ["contract1", "expand2"]


def test_lanes_may_not_be_mixed_in_one_revision(project: Project) -> None:
    project.add("expand1", "expand0", CREATE)
    project.add("expand2", "expand1", 'op.add_column("t", sa.Column("b", sa.Integer))', 'op.drop_column("t", "a")')
    (fault,) = project.lint()["expand2"].faults
    assert fault.rule == "mixed-lanes"


def test_wrong_lane_is_refused(project: Project) -> None:
    project.add("expand1", "expand0", 'op.drop_table("t")')
    project.add("contract1", "contract0", CREATE)
    found = project.lint()
    assert rules(found["expand1"]) == ["wrong-lane"]
    assert rules(found["contract1"]) == ["wrong-lane"]


def test_revision_without_a_lane_is_refused(project: Project) -> None:
    project.add("lost", None, CREATE)
    assert rules(project.lint()["lost"]) == ["no-lane"]


def test_revision_that_reads_is_refused_with_its_reason(project: Project) -> None:
    project.add("expand1", "expand0", 'op.get_bind().execute(sa.text("SELECT 1"))')
    (fault,) = project.lint()["expand1"].faults
    assert fault.rule == "not-recordable"
    assert "reads from the database" in getattr(fault, "breaks", "")


def test_what_follows_an_unknown_statement_is_not_guessed(project: Project) -> None:
    """It may have changed any table."""
    project.add("expand1", "expand0", CREATE)
    project.add("expand2", "expand1", 'op.execute("CALL migrate_everything()")')
    project.add("tighten1", "tighten0", 'op.alter_column("t", "a", existing_type=sa.Integer, nullable=False)')
    found = project.lint()
    assert rules(found["expand2"]) == ["unknown"]
    assert isinstance(found["tighten1"].refusals[0], Undecided)


def test_applied_revisions_are_not_judged(project: Project) -> None:
    """Nor what they depend on; the tables are those of the database."""
    project.add("expand1", "expand0", 'op.execute("CALL anything()")')
    project.add("tighten1", "tighten0", depends_on=("expand1",))
    found = project.lint(tables=Tables(), heads=["tighten1"])
    assert {revision.revision for revision in found.values() if revision.is_applied} == {
        "expand0", "expand1", "tighten0", "tighten1",
    }  # fmt: skip
    assert not is_refused(found.values())


def test_database_of_another_project_is_told(project: Project) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        find_applied(load_environment(project.directory), ["elsewhere"])


def test_plan_is_by_lane_and_leaves_out_what_is_applied(project: Project) -> None:
    project.add("expand1", "expand0", CREATE)
    project.add("expand2", "expand1", 'op.rename_table("t", "u")')
    project.add("lost", None, CREATE)
    plan = plan_lanes(project.lint(tables=Tables(), heads=["expand0"]).values(), VERSION)
    assert [one.linted.revision for one in plan[Lane.EXPAND]] == ["expand1", "expand2"]
    assert [one.linted.revision for one in plan[None]] == ["lost"]
    first, second = plan[Lane.EXPAND]
    assert first.statements[0][0].sql.startswith("CREATE TABLE t")
    assert first.statements[0][0].rungs == (Rung.PLAIN,)
    assert second.statements[0][0].rungs == ()
