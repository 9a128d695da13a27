"""Everything that talks to a server: sessions, introspection, literals, statements, binlog, fence, control tables."""
