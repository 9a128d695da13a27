"""dbmigrate/verifying"""
