"""``python -m dbmigrate.store`` runs the sample store; its settings come from the environment (see ``serve``)."""

from dbmigrate.store.serve import main

main()
