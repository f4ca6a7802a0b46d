"""Dockerfiles as data: stages, scopes of arguments, what each needs of a platform, and the text a builder gets."""
