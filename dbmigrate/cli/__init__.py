"""dbmigrate/cli"""
