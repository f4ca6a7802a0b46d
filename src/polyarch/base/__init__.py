"""Base images: made of a distribution's packages, or found in the store or a registry."""
