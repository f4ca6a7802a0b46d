"""What this machine can do: found out by trying, kept until something changes, told with the command that mends."""
