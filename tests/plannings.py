"""Who plans each way in which rows are written from bytes."""

from __future__ import annotations

from collections.abc import Callable

from dbmigrate.mysql.bulk_load import LoadPlan, Way, plan_load, plan_parameters, plan_placeholders, plan_replace

PLANNINGS: dict[Way, Callable[..., LoadPlan | None]] = {
    Way.LOAD_DATA: plan_load, Way.REPLACE: plan_replace, Way.PARAMETERS: plan_parameters, Way.PLACEHOLDERS: plan_placeholders,
}  # fmt: skip
