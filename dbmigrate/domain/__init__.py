"""The vocabulary: phases, positions, keys, schemas and errors as plain values, without any I/O or clock."""
