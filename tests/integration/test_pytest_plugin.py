"""The fixtures that a team gets with dbmigrate, used as a team would: in a test suite of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

LOCAL = ("-p", "no:cacheprovider", "--dbmigrate-servers=local", "--dbmigrate-target-image=mariadb:10.11")

PAIRS = """
    import pytest

    @pytest.mark.parametrize("number", range(4))
    def test_every_test_has_databases_of_its_own(migration_pair, number):
        assert migration_pair.source.execute("SHOW TABLES") == ()
        assert migration_pair.source.server.port != migration_pair.target.server.port
        for database in (migration_pair.source, migration_pair.target):
            database.execute("CREATE TABLE t (n INT PRIMARY KEY)", f"INSERT INTO t VALUES ({number})")
            assert database.execute("SELECT n FROM t") == ((number,),)
            with open(%r, "a") as log:
                log.write(f"{database.server.port} {database.schema}\\n")
        assert migration_pair.source.url.startswith("mariadb://root@127.0.0.1:")
"""

REHEARSAL = """
    def test_our_move(migration_pair, rehearsal):
        migration_pair.source.execute(
            "CREATE TABLE orders (id INT AUTO_INCREMENT PRIMARY KEY, total DECIMAL(10,2))",
            "INSERT INTO orders (total) VALUES (9.99), (NULL), (5)",
        )
        config = migration_pair.write_config(migration_id="ours")
        report = rehearsal(config, sample=100, soak_seconds=0.5)
        assert report.is_clean, report.verdict
        assert report.migration == "ours"
        assert report.workload.committed
"""


def test_tests_do_not_see_each_other_on_two_workers(pytester: pytest.Pytester, tmp_path: Path) -> None:
    log = tmp_path / "log"
    pytester.makepyfile(PAIRS % str(log))
    result = pytester.runpytest_subprocess(*LOCAL, "-n", "2")
    result.assert_outcomes(passed=4)
    lines = [line.split() for line in log.read_text().splitlines()]
    assert len(lines) == 8
    assert len({(port, schema) for port, schema in lines}) == 8
    assert len({port for port, _ in lines}) == 4  # two servers a worker


@pytest.mark.slow
def test_a_rehearsal_is_one_call(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(REHEARSAL)
    pytester.makeini("[pytest]\ndbmigrate_servers = local\ndbmigrate_target_image = mariadb:10.11\n")
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


@pytest.mark.containers
@pytest.mark.timeout(600)
def test_both_fixtures_work_in_containers(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(REHEARSAL)
    options = ("--dbmigrate-servers=docker", "--dbmigrate-source-image=mariadb:10.11", "--dbmigrate-target-image=mysql:9.7")
    pytester.runpytest_subprocess("-p", "no:cacheprovider", *options).assert_outcomes(passed=1)


def test_a_suite_that_uses_no_fixture_pays_nothing() -> None:
    """pytest loads the plugin everywhere: it must not bring the drivers, or dbmigrate itself, with it."""
    program = "import sys, dbmigrate.pytest_plugin; print([m for m in sys.modules if m.startswith(('dbmigrate.', 'pymysql'))])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['dbmigrate.pytest_plugin']"


def test_a_wrong_option_is_told_with_the_choices(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_pair(migration_pair): pass")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--dbmigrate-servers=cloud")
    result.stdout.fnmatch_lines(["*dbmigrate_servers is 'cloud'; choose one of auto, docker, local*"])


def test_options_are_in_the_help(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--help")
    result.stdout.fnmatch_lines(["*--dbmigrate-servers*", "*--dbmigrate-source-image*", "*--dbmigrate-target-image*"])
