"""The command line: click commands and their rendering, and nothing that decides.

``commands`` holds the commands by what an operator wants, ``rendering`` what they print, ``progress`` what a running
migration shows, ``reference`` writes the documentation pages from all of it.
"""

from dbmigrate.cli.commands import main

__all__ = ["main"]
