"""dbmigrate moves a live MySQL or MariaDB database to another server while the application keeps selling.

``dbmigrate.cli`` is what operators run. The layers below it, each importing only those further down, are
``workflow``, the capabilities (``copying``, ``streaming``, ``verifying``, ``rehearsal``), ``mysql``, ``config`` and
``telemetry``, and ``domain``; docs/architecture.md explains them.
"""
