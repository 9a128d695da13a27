"""dbmigrate/copying"""
