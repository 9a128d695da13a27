"""The sample store: a small web application with a checkout, that the demo and the tests move while it sells.

It is written as its owner would write it, on SQLAlchemy and FastAPI, and knows of a move only in one place: the
session factory that ``serve`` builds. Its traffic and its judge are here too, because they know its rules.
"""
