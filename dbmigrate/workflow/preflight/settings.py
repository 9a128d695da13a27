"""Settings in which the two servers differ, to the data's harm."""

from __future__ import annotations

from dbmigrate.workflow.preflight.finding import Finding, Severity, Surroundings
from dbmigrate.workflow.preflight.reading import read_variables

_NAMES = ("lower_case_table_names", "max_allowed_packet", "innodb_page_size")


def check_settings(s: Surroundings) -> list[Finding]:
    """Case of names, size of packets and pages."""
    source, target = read_variables(s.source, _NAMES), read_variables(s.target, _NAMES)
    findings = []
    if source["lower_case_table_names"] != target["lower_case_table_names"]:
        findings.append(
            Finding(
                "settings", Severity.WARNING, s.target.place,
                f"lower_case_table_names is {target['lower_case_table_names']} here and "
                f"{source['lower_case_table_names']} on the source: statements may spell names that only one side finds",
                "initialise the target with the source's value",
            )
        )  # fmt: skip
    if int(target["max_allowed_packet"]) < int(source["max_allowed_packet"]):
        findings.append(
            Finding(
                "settings", Severity.WARNING, s.target.place,
                "max_allowed_packet is smaller than the source's: the largest rows may not fit",
                f"SET GLOBAL max_allowed_packet = {source['max_allowed_packet']}",
            )
        )  # fmt: skip
    if int(target["innodb_page_size"]) < int(source["innodb_page_size"]):
        findings.append(
            Finding(
                "settings", Severity.WARNING, s.target.place, "innodb_page_size is smaller than the source's: wide rows may not fit",
                "initialise the target with the source's value",
            )
        )  # fmt: skip
    return findings
