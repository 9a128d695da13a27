"""``python -m dbmigrate`` is the command line."""

from dbmigrate.cli import main

main()
