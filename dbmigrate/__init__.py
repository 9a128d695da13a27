"""dbmigrate"""
