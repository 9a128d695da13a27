"""dbmigrate/mysql"""
