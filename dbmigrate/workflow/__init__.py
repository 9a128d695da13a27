"""The brain: phases' order of work, gates, cutover, preflight and reports.

Composition happens here: the capabilities below never meet except in this package. ``migration`` builds what a run
needs, ``runner`` walks the phases, ``phases`` holds the work of each, ``switch`` changes ownership.
"""
