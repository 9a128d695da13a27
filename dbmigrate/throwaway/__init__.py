"""Throwaway servers and a shop with traffic, for the demo, the tests and rehearsals."""
