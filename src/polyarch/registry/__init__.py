"""Registries: who we are to them, what they hold, and how images go in and come out (OCI distribution-spec v1.1).

HTTP is spoken here and nowhere else.
"""
