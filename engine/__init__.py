"""The engine: model IR, decoder, objectives, estimation methods and their results."""
