"""The lane tighten begins here: a rule over rows that a backfill has made true; every running version must keep it."""

revision = "tighten0"
down_revision = None
branch_labels = ("tighten",)
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
