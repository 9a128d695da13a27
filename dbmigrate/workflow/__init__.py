"""dbmigrate/workflow"""
