"""polyarch: an application goes in, and comes out running on every architecture that it was asked for, with proof."""

__version__ = "0.1.0"
