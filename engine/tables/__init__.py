"""What tables show: the items they may ask for, the variables of the model, and the table of all records."""
