"""From operations and statements to changes: Alembic's objects, SQL through a real parser, a server's definitions.

Whatever is not understood becomes ``Unread``, which the rules refuse. Nothing is left out silently.
"""
