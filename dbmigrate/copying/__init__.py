"""The bulk copier: every row of every table, in chunks, while the application writes.

``stripes`` cuts a table into parts that workers copy independently, ``sizing`` decides how much one chunk takes,
``in_flight`` tells the stream which chunks it must wait for, ``throttle`` spares the servers, ``copier`` does it.
"""
