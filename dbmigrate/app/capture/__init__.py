"""Which rows a transaction writes, by key: noted as its statements pass the engine.

``statements`` says what one SQLAlchemy construct writes, ``raw`` what plain SQL may do, ``touched`` remembers it with
savepoints, ``listening`` connects them to the engines.
"""
