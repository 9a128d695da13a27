"""A configuration that cuts a small shop into many pieces, so that it has as many places to fail at as a large one."""

SMALL_PIECES = """
[cutover]
approval = "auto"
max_write_pause_seconds = 20.0
max_attempts = 100
retry_seconds = 0.2
[copy]
workers = 3
target_chunk_seconds = 0.05
max_chunk_bytes = 65536
[throttle]
max_rows_per_second = 800
[verify]
chunk_rows = 100
"""

READ_IN_PIECES = SMALL_PIECES.replace("[throttle]\n", "[throttle]\nmax_source_write_factor = 0\n")
"""The same where chunks are not held back for the application: read in pieces, each while the one before is loaded."""
