"""The change stream: what changes on the origin is made equal on the destination.

``pending`` holds the keys that changed, ``cascades`` adds the rows that foreign keys change without events,
``flusher`` makes keys equal, ``stream`` runs both ends and keeps the checkpoint.
"""
