"""dbmigrate/rehearsal"""
