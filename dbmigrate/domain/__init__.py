"""dbmigrate/domain"""
