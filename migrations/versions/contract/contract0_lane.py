"""The lane contract begins here: destructive: only after soak, and only when nothing still uses what goes."""

revision = "contract0"
down_revision = None
branch_labels = ("contract",)
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
