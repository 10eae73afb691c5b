"""(see modules)"""
