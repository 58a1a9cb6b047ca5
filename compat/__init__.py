"""What users and tool chains see: the command line and the files other programs read."""
