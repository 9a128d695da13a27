"""dbmigrate/streaming"""
