"""From the text of a control language to the model IR."""
