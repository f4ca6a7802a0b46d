"""The command line: one file per noun, thin over the rooms; only `main` turns errors into output and an exit."""
