"""The dispatcher: what a build's own binfmt_misc calls for each foreign program, and what it noted down."""
